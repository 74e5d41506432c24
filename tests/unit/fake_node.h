/* fake_node.h - nodes that say what a test wants them to say, and a client of them.
 *
 * Both ends run in one process: the handle through its event loop calls, the
 * nodes by hand. Time is the test's: however long something takes, it goes on
 * when the test says so, and by what was waited for. For one test program each. */
#pragma once

#include <check.h>
#include <errno.h>
#include <ftw.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/random.h"
#include "dlock.h"
#include "wire/wire.h"
#include "unit/suite.h"

#define NODES 3
/* Of the test's time: nothing here takes a tenth of it. */
#define PATIENCE_MS 8000

static char directory[64];
static struct id128 cluster;
static struct dlock *dlock;

/* --- time: nobody's but the test's --- */

/* What a client measures with; some time after the machine's start. */
static uint64_t clock_ms = 1000000;
/* While it is stopped, only pass_ms moves it. */
static bool clock_stopped;
/* What the nodes do while a call of the library's blocks. */
static void (*while_blocked)(void);

int clock_gettime(clockid_t clock, struct timespec *ret_time)
{
        if (clock != CLOCK_BOOTTIME)
                return (int)syscall(SYS_clock_gettime, clock, ret_time);
        *ret_time = (struct timespec){ .tv_sec = (time_t)(clock_ms / 1000), .tv_nsec = (long)(clock_ms % 1000) * 1000000 };
        return 0;
}

static inline void stop_clock(void)
{
        clock_stopped = true;
}

static inline void pass_ms(uint64_t ms)
{
        clock_ms += ms;
}

static inline void pass_s(unsigned seconds)
{
        pass_ms(seconds * UINT64_C(1000));
}

/* Waits in the test's time: all who could do something meanwhile are in this process. It is poll(2) for the linker only: a header that
 * makes that inline has it inline here, too. */
int poll_in_test(struct pollfd *fds, nfds_t count, int timeout) __asm__("poll");
int poll_in_test(struct pollfd *fds, nfds_t count, int timeout)
{
        for (int waited = 0;; waited++) {
                int r = ppoll(fds, count, &(const struct timespec){ 0 }, NULL);

                if (r != 0 || waited == timeout)
                        return r;
                if (!clock_stopped)
                        pass_ms(1);
                if (while_blocked)
                        while_blocked();
        }
}

/* --- nodes --- */

static struct node {
        int listener, fd;
        struct bytes in;
        size_t taken;
} nodes[NODES];

static inline void node_path(unsigned n, char path[108])
{
        (void)snprintf(path, 108, "%s/%u.sock", directory, n);
}

static inline void node_start(unsigned n)
{
        struct sockaddr_un address = { .sun_family = AF_UNIX };

        node_path(n, address.sun_path);
        (void)unlink(address.sun_path);
        nodes[n].listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        ck_assert_int_ge(nodes[n].listener, 0);
        ck_assert_int_eq(bind(nodes[n].listener, (struct sockaddr *)&address, sizeof(address)), 0);
        ck_assert_int_eq(listen(nodes[n].listener, 8), 0);
}

static inline void node_hang_up(unsigned n)
{
        if (nodes[n].fd >= 0)
                (void)close(nodes[n].fd);
        nodes[n].fd = -1;
        bytes_clear(&nodes[n].in);
        nodes[n].taken = 0;
}

static inline void node_stop(unsigned n)
{
        node_hang_up(n);
        if (nodes[n].listener >= 0)
                (void)close(nodes[n].listener);
        nodes[n].listener = -1;
}

static inline void node_say(unsigned n, struct bytes *out)
{
        ck_assert_int_eq(send(nodes[n].fd, out->data, out->size, MSG_NOSIGNAL), (ssize_t)out->size);
        bytes_done(out);
}

/* True: a whole frame of the client's is in *ret_frame, valid until the next call. */
static inline bool node_hears(unsigned n, struct wire_frame *ret_frame)
{
        struct node *node = &nodes[n];
        ssize_t size;

        if (node->fd < 0)
                node->fd = accept4(node->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (node->fd < 0)
                return false;
        size = recv(node->fd, bytes_reserve(&node->in, 65536), 65536, MSG_DONTWAIT);
        if (size > 0)
                node->in.size += (size_t)size;
        if (wire_frame_parse(node->in.data + node->taken, node->in.size - node->taken, LIMIT_CLIENT_REQUEST_BYTES, ret_frame) != WIRE_FRAME_READY)
                return false;
        node->taken += ret_frame->total;
        return true;
}

static inline struct wire_frame node_wait(unsigned n)
{
        struct wire_frame frame;

        for (int i = 0; i < PATIENCE_MS; i++) {
                ck_assert_int_eq(dlock_process(dlock), 0);
                if (node_hears(n, &frame))
                        return frame;
                (void)poll(NULL, 0, 1);
        }
        ck_abort_msg("node %u hears nothing; the client says: %s", n, dlock_get_error(dlock));
}

static inline struct wire_hello node_wait_hello(unsigned n)
{
        struct wire_frame frame = node_wait(n);
        struct wire_hello hello;

        ck_assert(wire_read_hello(&frame, &hello));
        return hello;
}

static inline void node_welcome(unsigned n, struct id128 of, const char *client)
{
        struct wire_welcome welcome = { .version = 1, .cluster = of, .node = "node" };
        struct bytes out = { 0 };

        if (client)
                ck_assert(client_id_set(&welcome.client, client, strlen(client)));
        wire_write_welcome(&out, &welcome);
        node_say(n, &out);
}

static inline void node_greet(unsigned n)
{
        (void)node_wait_hello(n);
        node_welcome(n, cluster, NULL);
}

static inline struct wire_request node_wait_request(unsigned n)
{
        struct wire_frame frame = node_wait(n);
        struct wire_request request;

        ck_assert(wire_read_request(&frame, &request));
        return request;
}

static inline void node_answer(unsigned n, const struct wire_request *request, enum wire_outcome outcome, uint64_t index)
{
        struct wire_result result = { .tag = request->tag, .outcome = outcome, .token = outcome == WIRE_YES ? index : 3, .index = index, .leader_age_ms = -1 };
        struct bytes out = { 0 };

        if (outcome != WIRE_UNKNOWN && outcome != WIRE_REJECTED)
                ck_assert(client_id_set(&result.owner, "somebody", 8));
        else
                (void)strcpy(result.reason, "because");
        wire_write_result(&out, &result);
        node_say(n, &out);
}

static inline void node_refuse(unsigned n, enum wire_refusal_code code)
{
        struct wire_refusal refusal = { .code = code, .cluster = cluster, .reason = "the node's reason" };
        struct bytes out = { 0 };

        wire_write_refusal(&out, &refusal);
        node_say(n, &out);
}

/* --- the client --- */

static inline void make_handle(unsigned servers)
{
        char list[512] = "", path[108];

        for (unsigned n = 0; n < servers; n++) {
                node_path(n, path);
                (void)strcat(strcat(list, n ? "," : ""), path);
        }
        ck_assert_int_eq(dlock_new(&dlock, list, NULL, 0), 0);
        ck_assert_int_eq(dlock_set_client(dlock, "me"), 0);
}

static inline uint64_t ask(enum dlock_operation operation, const char *lock)
{
        struct dlock_request request = { .operation = operation, .lock = lock, .token = operation == DLOCK_OP_RELEASE ? 5 : 0 };
        int64_t id = dlock_submit(dlock, &request);

        ck_assert_int_gt(id, 0);
        return (uint64_t)id;
}

static inline struct dlock_answer wait_answer(void)
{
        struct dlock_answer answer;

        for (int i = 0; i < PATIENCE_MS; i++) {
                ck_assert_int_eq(dlock_process(dlock), 0);
                if (dlock_next(dlock, &answer) == 1)
                        return answer;
                (void)poll(NULL, 0, 1);
        }
        ck_abort_msg("no answer");
}

/* Goes on for a while; nothing is answered. */
static inline void go_on(int ms)
{
        struct dlock_answer answer;

        for (int i = 0; i < ms; i++) {
                ck_assert_int_eq(dlock_process(dlock), 0);
                ck_assert_int_eq(dlock_next(dlock, &answer), 0);
                (void)poll(NULL, 0, 1);
        }
}

static inline int remove_one(const char *path, const struct stat *status _unused_, int kind _unused_, struct FTW *walk _unused_)
{
        return remove(path);
}

static inline void set_up(void)
{
        (void)strcpy(directory, "/tmp/dlock-test-client-XXXXXX");
        ck_assert_ptr_nonnull(mkdtemp(directory));
        ck_assert_int_eq(setenv("XDG_STATE_HOME", directory, 1), 0);
        ck_assert_int_eq(unsetenv("DLOCK_CLIENT"), 0);
        cluster = id128_random();
        for (unsigned n = 0; n < NODES; n++)
                nodes[n] = (struct node){ .listener = -1, .fd = -1 };
}

static inline void tear_down(void)
{
        dlock = dlock_free(dlock);
        for (unsigned n = 0; n < NODES; n++) {
                node_stop(n);
                bytes_done(&nodes[n].in);
        }
        (void)nftw(directory, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

/* A node and a handle that know each other. */
static inline void greeted_handle(void)
{
        struct wire_request request;

        node_start(0);
        make_handle(1);
        (void)ask(DLOCK_OP_CHECK, "x");
        node_greet(0);
        request = node_wait_request(0);
        node_answer(0, &request, WIRE_NO, 0);
        (void)wait_answer();
}
