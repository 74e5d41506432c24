/* The client library against nodes that say what a test wants them to say. Both
 * ends run in one process: the handle through its event loop calls, the nodes
 * by hand; time passes when a test says so. */
#include <check.h>
#include <errno.h>
#include <ftw.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/random.h"
#include "dlock.h"
#include "wire/wire.h"

#define NODES 3
/* Real time: nothing here takes a tenth of it. */
#define PATIENCE_MS 8000

static char directory[64];
static struct id128 cluster;
static struct dlock *dlock;

/* --- time: what a client measures with goes on when a test says so --- */

static uint64_t skipped_ms;

int clock_gettime(clockid_t clock, struct timespec *ret_time)
{
        int r = (int)syscall(SYS_clock_gettime, clock, ret_time);

        if (clock == CLOCK_BOOTTIME)
                ret_time->tv_sec += (time_t)(skipped_ms / 1000);
        return r;
}

static void pass_s(unsigned seconds)
{
        skipped_ms += seconds * UINT64_C(1000);
}

/* --- nodes --- */

static struct node {
        int listener, fd;
        struct bytes in;
        size_t taken;
} nodes[NODES];

static void node_path(unsigned n, char path[108])
{
        (void)snprintf(path, 108, "%s/%u.sock", directory, n);
}

static void node_start(unsigned n)
{
        struct sockaddr_un address = { .sun_family = AF_UNIX };

        node_path(n, address.sun_path);
        (void)unlink(address.sun_path);
        nodes[n].listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        ck_assert_int_ge(nodes[n].listener, 0);
        ck_assert_int_eq(bind(nodes[n].listener, (struct sockaddr *)&address, sizeof(address)), 0);
        ck_assert_int_eq(listen(nodes[n].listener, 8), 0);
}

static void node_hang_up(unsigned n)
{
        if (nodes[n].fd >= 0)
                (void)close(nodes[n].fd);
        nodes[n].fd = -1;
        bytes_clear(&nodes[n].in);
        nodes[n].taken = 0;
}

static void node_stop(unsigned n)
{
        node_hang_up(n);
        if (nodes[n].listener >= 0)
                (void)close(nodes[n].listener);
        nodes[n].listener = -1;
}

static void node_say(unsigned n, struct bytes *out)
{
        ck_assert_int_eq(send(nodes[n].fd, out->data, out->size, MSG_NOSIGNAL), (ssize_t)out->size);
        bytes_done(out);
}

/* True: a whole frame of the client's is in *ret_frame, valid until the next call. */
static bool node_hears(unsigned n, struct wire_frame *ret_frame)
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

static struct wire_frame node_wait(unsigned n)
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

static struct wire_hello node_wait_hello(unsigned n)
{
        struct wire_frame frame = node_wait(n);
        struct wire_hello hello;

        ck_assert(wire_read_hello(&frame, &hello));
        return hello;
}

static void node_welcome(unsigned n, struct id128 of, const char *client)
{
        struct wire_welcome welcome = { .version = 1, .cluster = of, .node = "node" };
        struct bytes out = { 0 };

        if (client)
                ck_assert(client_id_set(&welcome.client, client, strlen(client)));
        wire_write_welcome(&out, &welcome);
        node_say(n, &out);
}

static void node_greet(unsigned n)
{
        (void)node_wait_hello(n);
        node_welcome(n, cluster, NULL);
}

static struct wire_request node_wait_request(unsigned n)
{
        struct wire_frame frame = node_wait(n);
        struct wire_request request;

        ck_assert(wire_read_request(&frame, &request));
        return request;
}

static void node_answer(unsigned n, const struct wire_request *request, enum wire_outcome outcome, uint64_t index)
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

static void node_refuse(unsigned n, enum wire_refusal_code code)
{
        struct wire_refusal refusal = { .code = code, .cluster = cluster, .reason = "the node's reason" };
        struct bytes out = { 0 };

        wire_write_refusal(&out, &refusal);
        node_say(n, &out);
}

/* --- the client --- */

static void make_handle(unsigned servers)
{
        char list[512] = "", path[108];

        for (unsigned n = 0; n < servers; n++) {
                node_path(n, path);
                (void)strcat(strcat(list, n ? "," : ""), path);
        }
        ck_assert_int_eq(dlock_new(&dlock, list, NULL, 0), 0);
        ck_assert_int_eq(dlock_set_client(dlock, "me"), 0);
}

static uint64_t ask(enum dlock_operation operation, const char *lock)
{
        struct dlock_request request = { .operation = operation, .lock = lock };
        int64_t id = dlock_submit(dlock, &request);

        ck_assert_int_gt(id, 0);
        return (uint64_t)id;
}

static struct dlock_answer wait_answer(void)
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

/* Goes on for a while of real time; nothing is answered. */
static void go_on(int ms)
{
        struct dlock_answer answer;

        for (int i = 0; i < ms; i++) {
                ck_assert_int_eq(dlock_process(dlock), 0);
                ck_assert_int_eq(dlock_next(dlock, &answer), 0);
                (void)poll(NULL, 0, 1);
        }
}

static int remove_one(const char *path, const struct stat *status _unused_, int kind _unused_, struct FTW *walk _unused_)
{
        return remove(path);
}

static void set_up(void)
{
        (void)strcpy(directory, "/tmp/dlock-test-client-XXXXXX");
        ck_assert_ptr_nonnull(mkdtemp(directory));
        ck_assert_int_eq(setenv("XDG_STATE_HOME", directory, 1), 0);
        ck_assert_int_eq(unsetenv("DLOCK_CLIENT"), 0);
        cluster = id128_random();
        for (unsigned n = 0; n < NODES; n++)
                nodes[n] = (struct node){ .listener = -1, .fd = -1 };
}

static void tear_down(void)
{
        dlock = dlock_free(dlock);
        for (unsigned n = 0; n < NODES; n++) {
                node_stop(n);
                bytes_done(&nodes[n].in);
        }
        (void)nftw(directory, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

/* --- one request --- */

START_TEST(request_carries_all_that_the_node_needs)
{
        struct wire_hello hello;
        struct wire_request request;

        node_start(0);
        make_handle(1);
        (void)ask(DLOCK_OP_PREEMPT, "db/backup");
        hello = node_wait_hello(0);
        ck_assert_uint_eq(hello.version_min, WIRE_VERSION_MIN);
        ck_assert_uint_eq(hello.version_max, WIRE_VERSION_MAX);
        ck_assert(id128_is_null(hello.cluster));
        ck_assert_str_eq(hello.client.text, "me");
        ck_assert(!hello.assign);
        node_welcome(0, cluster, "me");
        request = node_wait_request(0);
        ck_assert_int_eq(request.type, WIRE_PREEMPT);
        ck_assert_str_eq(request.name.text, "db/backup");
        ck_assert_str_eq(request.client.text, "me");
        ck_assert(!id128_is_null(request.handle));
        ck_assert_uint_eq(request.seq, 1);
        ck_assert_uint_gt(request.deadline_ms, DLOCK_TIMEOUT_DEFAULT - 1500);
        ck_assert_uint_lt(request.deadline_ms, DLOCK_TIMEOUT_DEFAULT);
}
END_TEST

START_TEST(answer_tells_what_the_node_said)
{
        struct wire_request request;
        struct dlock_answer answer;
        uint64_t id;

        node_start(0);
        make_handle(1);
        id = ask(DLOCK_OP_PREEMPT, "a");
        node_greet(0);
        request = node_wait_request(0);
        node_answer(0, &request, WIRE_YES, 12);
        answer = wait_answer();
        ck_assert_uint_eq(answer.id, id);
        ck_assert_int_eq(answer.operation, DLOCK_OP_PREEMPT);
        ck_assert_int_eq(answer.outcome, DLOCK_YES);
        ck_assert_str_eq(answer.lock, "a");
        ck_assert_str_eq(answer.owner, "somebody");
        ck_assert_uint_eq(answer.token, 12);
        ck_assert_uint_eq(answer.index, 12);
        ck_assert_str_eq(answer.reason, "");
        ck_assert_ptr_nonnull(strstr(answer.server, "0.sock"));
        ck_assert_int_eq(dlock_get_timeout(dlock), -1);

        (void)ask(DLOCK_OP_RELEASE, "b");
        request = node_wait_request(0);
        ck_assert_int_eq(request.type, WIRE_RELEASE);
        node_answer(0, &request, WIRE_NO, 13);
        ck_assert_int_eq(wait_answer().outcome, DLOCK_NO);

        (void)ask(DLOCK_OP_CHECK, "c");
        request = node_wait_request(0);
        node_answer(0, &request, WIRE_REJECTED, 0);
        answer = wait_answer();
        ck_assert_int_eq(answer.outcome, DLOCK_REJECTED);
        ck_assert_str_eq(answer.reason, "because");
        ck_assert_ptr_null(answer.owner);
}
END_TEST

START_TEST(bad_requests_are_told_and_not_sent)
{
        char name[DLOCK_NAME_MAX + 2];
        struct dlock_request request = { .operation = DLOCK_OP_PREEMPT };

        memset(name, 'n', sizeof(name) - 1);
        name[sizeof(name) - 1] = 0;
        make_handle(1);
        ck_assert_int_eq(dlock_submit(dlock, &request), -EINVAL);
        ck_assert_ptr_nonnull(strstr(dlock_get_error(dlock), "1 to 255 bytes"));
        request.lock = "";
        ck_assert_int_eq(dlock_submit(dlock, &request), -EINVAL);
        request.lock = name;
        ck_assert_int_eq(dlock_submit(dlock, &request), -EINVAL);
        request.lock = "a\nb";
        ck_assert_int_eq(dlock_submit(dlock, &request), -EINVAL);
        request.lock = "\xc3\x28";
        ck_assert_int_eq(dlock_submit(dlock, &request), -EINVAL);
        request = (struct dlock_request){ .operation = DLOCK_OP_LIST, .limit = DLOCK_PAGE_MAX + 1 };
        ck_assert_int_eq(dlock_submit(dlock, &request), -EINVAL);
        request = (struct dlock_request){ .operation = DLOCK_OP_STATUS, .timeout_ms = 3600001 };
        ck_assert_int_eq(dlock_submit(dlock, &request), -EINVAL);
        request.operation = (enum dlock_operation)9;
        ck_assert_int_eq(dlock_submit(dlock, &request), -EINVAL);
        ck_assert_int_eq(dlock_set_timeout(dlock, 0), -EINVAL);
        ck_assert_int_eq(dlock_get_timeout(dlock), -1);
        /* Nothing was asked: the id may still change. */
        ck_assert_int_eq(dlock_set_client(dlock, "other"), 0);
        (void)ask(DLOCK_OP_CHECK, "x");
        ck_assert_int_eq(dlock_set_client(dlock, "third"), -EBUSY);
}
END_TEST

START_TEST(so_many_requests_at_once_and_no_more)
{
        struct dlock_request request = { .operation = DLOCK_OP_PREEMPT, .lock = "x" };

        node_start(0);
        make_handle(1);
        for (int i = 0; i < 1024; i++)
                ck_assert_int_gt(dlock_submit(dlock, &request), 0);
        ck_assert_int_eq(dlock_submit(dlock, &request), -EAGAIN);
        node_greet(0);
        /* Fewer than make a node stop reading are on the connection; the others follow when answers come. */
        for (int i = 0; i < 1024; i++) {
                struct wire_request asked = node_wait_request(0);

                node_answer(0, &asked, WIRE_NO, 1);
        }
        for (int i = 0; i < 1024; i++)
                (void)wait_answer();
        ck_assert_int_eq(dlock_get_timeout(dlock), -1);
}
END_TEST

START_TEST(answers_may_come_in_any_order_and_requests_have_handles_of_their_own)
{
        uint64_t first = 0, second = 0;
        struct wire_request a, b;
        struct dlock_answer answer;

        node_start(0);
        make_handle(1);
        first = ask(DLOCK_OP_PREEMPT, "a");
        second = ask(DLOCK_OP_PREEMPT, "b");
        node_greet(0);
        a = node_wait_request(0);
        b = node_wait_request(0);
        ck_assert(!id128_equal(a.handle, b.handle));
        node_answer(0, &b, WIRE_YES, 5);
        node_answer(0, &a, WIRE_YES, 6);
        answer = wait_answer();
        ck_assert_uint_eq(answer.id, second);
        ck_assert_str_eq(answer.lock, "b");
        ck_assert_uint_eq(wait_answer().id, first);
}
END_TEST

/* --- request ids --- */

static struct wire_request preempt_answered(enum wire_outcome outcome, enum dlock_outcome seen)
{
        struct wire_request request;

        (void)ask(DLOCK_OP_PREEMPT, "x");
        request = node_wait_request(0);
        node_answer(0, &request, outcome, 9);
        ck_assert_int_eq(wait_answer().outcome, seen);
        return request;
}

/* A node and a handle that know each other. */
static void greeted_handle(void)
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

START_TEST(sequence_goes_on_only_after_what_the_nodes_remember)
{
        struct wire_request first, next;

        greeted_handle();
        /* A refusal is not remembered for long: another handle. */
        first = preempt_answered(WIRE_NO, DLOCK_NO);
        next = preempt_answered(WIRE_YES, DLOCK_YES);
        ck_assert(!id128_equal(first.handle, next.handle));
        ck_assert_uint_eq(next.seq, 1);
        first = next;
        next = preempt_answered(WIRE_YES, DLOCK_YES);
        ck_assert(id128_equal(first.handle, next.handle));
        ck_assert_uint_eq(next.seq, 2);
        /* A refusal in between uses its number up. */
        next = preempt_answered(WIRE_NO, DLOCK_NO);
        ck_assert_uint_eq(next.seq, 3);
        next = preempt_answered(WIRE_YES, DLOCK_YES);
        ck_assert(id128_equal(first.handle, next.handle));
        ck_assert_uint_eq(next.seq, 4);
        /* What may still be on its way is not followed by another under the same handle. */
        next = preempt_answered(WIRE_UNKNOWN, DLOCK_UNKNOWN);
        ck_assert_uint_eq(next.seq, 5);
        next = preempt_answered(WIRE_YES, DLOCK_YES);
        ck_assert(!id128_equal(first.handle, next.handle));
        ck_assert_uint_eq(next.seq, 1);
        /* And what the nodes will soon have forgotten is not built upon. */
        first = next;
        pass_s(301);
        next = preempt_answered(WIRE_YES, DLOCK_YES);
        ck_assert(!id128_equal(first.handle, next.handle));
        ck_assert_uint_eq(next.seq, 1);
}
END_TEST

START_TEST(lost_connection_sends_the_same_request_to_the_next_node)
{
        struct wire_request first, again;

        node_start(0);
        node_start(1);
        make_handle(2);
        (void)ask(DLOCK_OP_PREEMPT, "x");
        node_greet(0);
        first = node_wait_request(0);
        node_stop(0);
        node_greet(1);
        again = node_wait_request(1);
        ck_assert(id128_equal(first.handle, again.handle));
        ck_assert_uint_eq(first.seq, again.seq);
        ck_assert_str_eq(again.name.text, "x");
        node_answer(1, &again, WIRE_YES, 4);
        ck_assert_int_eq(wait_answer().outcome, DLOCK_YES);
}
END_TEST

START_TEST(half_an_answer_is_none)
{
        struct wire_request first, again;
        struct wire_result result = { .outcome = WIRE_YES, .leader_age_ms = -1 };
        struct bytes out = { 0 };

        node_start(0);
        make_handle(1);
        (void)ask(DLOCK_OP_PREEMPT, "x");
        node_greet(0);
        first = node_wait_request(0);
        result.tag = first.tag;
        wire_write_result(&out, &result);
        out.size--;
        node_say(0, &out);
        go_on(20);
        node_hang_up(0);
        node_greet(0);
        again = node_wait_request(0);
        ck_assert(id128_equal(first.handle, again.handle));
        ck_assert_uint_eq(again.seq, 1);
        node_answer(0, &again, WIRE_NO, 4);
        ck_assert_int_eq(wait_answer().outcome, DLOCK_NO);
}
END_TEST

START_TEST(nothing_is_sent_again_after_a_minute)
{
        struct wire_frame frame;
        struct dlock_answer answer;

        node_start(0);
        make_handle(1);
        ck_assert_int_eq(dlock_set_timeout(dlock, 3600000), 0);
        (void)ask(DLOCK_OP_PREEMPT, "x");
        (void)ask(DLOCK_OP_CHECK, "x");
        node_greet(0);
        (void)node_wait_request(0);
        (void)node_wait_request(0);
        pass_s(59);
        node_hang_up(0);
        node_greet(0);
        (void)node_wait_request(0);
        (void)node_wait_request(0);
        pass_s(2);
        node_hang_up(0);
        answer = wait_answer();
        ck_assert_int_eq(answer.operation, DLOCK_OP_PREEMPT);
        ck_assert_int_eq(answer.outcome, DLOCK_UNKNOWN);
        ck_assert_ptr_nonnull(strstr(answer.reason, "it may have happened or not"));
        node_greet(0);
        frame = node_wait(0);
        ck_assert_uint_eq(frame.type, WIRE_CHECK);
}
END_TEST

START_TEST(request_that_nobody_saw_may_still_be_sent_after_a_minute)
{
        make_handle(1);
        ck_assert_int_eq(dlock_set_timeout(dlock, 3600000), 0);
        node_start(0);
        (void)ask(DLOCK_OP_PREEMPT, "x");
        (void)node_wait_hello(0);
        pass_s(90);
        node_welcome(0, cluster, NULL);
        ck_assert_int_eq(node_wait_request(0).type, WIRE_PREEMPT);
}
END_TEST

START_TEST(deadline_of_what_was_sent_is_unknown)
{
        struct dlock_answer answer;
        struct wire_request request;

        node_start(0);
        make_handle(1);
        (void)ask(DLOCK_OP_RELEASE, "x");
        node_greet(0);
        request = node_wait_request(0);
        pass_s(11);
        answer = wait_answer();
        ck_assert_int_eq(answer.outcome, DLOCK_UNKNOWN);
        ck_assert_uint_eq(answer.token, 0);
        ck_assert_ptr_null(answer.owner);
        /* The late answer of the node is for nobody, and no reason to doubt the node. */
        node_answer(0, &request, WIRE_YES, 3);
        go_on(20);
        (void)ask(DLOCK_OP_CHECK, "x");
        request = node_wait_request(0);
        node_answer(0, &request, WIRE_NO, 3);
        ck_assert_int_eq(wait_answer().outcome, DLOCK_NO);
}
END_TEST

START_TEST(answer_that_is_there_counts_although_the_deadline_is_over)
{
        struct wire_request request;

        node_start(0);
        make_handle(1);
        (void)ask(DLOCK_OP_PREEMPT, "x");
        node_greet(0);
        request = node_wait_request(0);
        node_answer(0, &request, WIRE_YES, 3);
        pass_s(3600);
        ck_assert_int_eq(wait_answer().outcome, DLOCK_YES);
}
END_TEST

/* --- servers that are not there, or cannot --- */

START_TEST(nobody_there_is_unreachable_within_seconds)
{
        struct dlock_answer answer;

        make_handle(3);
        (void)ask(DLOCK_OP_PREEMPT, "x");
        (void)ask(DLOCK_OP_CHECK, "x");
        for (int i = 0; i < 2; i++) {
                answer = wait_answer();
                ck_assert_int_eq(answer.outcome, DLOCK_UNREACHABLE);
                ck_assert_ptr_nonnull(strstr(answer.reason, "2.sock: No such file"));
                ck_assert_str_eq(answer.server, "");
        }
}
END_TEST

START_TEST(server_that_is_just_starting_is_waited_for)
{
        struct wire_request request;

        make_handle(1);
        (void)ask(DLOCK_OP_PREEMPT, "x");
        go_on(300);
        node_start(0);
        node_greet(0);
        request = node_wait_request(0);
        node_answer(0, &request, WIRE_YES, 4);
        ck_assert_int_eq(wait_answer().outcome, DLOCK_YES);
}
END_TEST

START_TEST(what_was_sent_is_never_called_unreachable)
{
        struct dlock_answer answer;

        node_start(0);
        make_handle(1);
        (void)ask(DLOCK_OP_PREEMPT, "x");
        (void)ask(DLOCK_OP_CHECK, "x");
        node_greet(0);
        (void)node_wait_request(0);
        (void)node_wait_request(0);
        node_stop(0);
        /* A read that nobody answered has not happened; a change may have. */
        answer = wait_answer();
        ck_assert_int_eq(answer.operation, DLOCK_OP_CHECK);
        ck_assert_int_eq(answer.outcome, DLOCK_UNREACHABLE);
        pass_s(11);
        answer = wait_answer();
        ck_assert_int_eq(answer.operation, DLOCK_OP_PREEMPT);
        ck_assert_int_eq(answer.outcome, DLOCK_UNKNOWN);
}
END_TEST

START_TEST(busy_or_stopping_nodes_are_left_for_the_next)
{
        node_start(0);
        node_start(1);
        make_handle(2);
        (void)ask(DLOCK_OP_PREEMPT, "x");
        (void)node_wait_hello(0);
        node_refuse(0, _i == 0 ? WIRE_REFUSAL_BUSY : WIRE_REFUSAL_STOPPING);
        node_greet(1);
        ck_assert_int_eq(node_wait_request(1).type, WIRE_PREEMPT);
}
END_TEST

START_TEST(node_that_stops_hands_its_requests_to_the_next)
{
        struct wire_request first, again;

        node_start(0);
        node_start(1);
        make_handle(2);
        (void)ask(DLOCK_OP_PREEMPT, "x");
        node_greet(0);
        first = node_wait_request(0);
        node_refuse(0, WIRE_REFUSAL_STOPPING);
        node_greet(1);
        again = node_wait_request(1);
        ck_assert(id128_equal(first.handle, again.handle));
}
END_TEST

START_TEST(node_that_cannot_tell_is_left_for_the_next)
{
        struct wire_request first, again;
        struct dlock_answer answer;

        node_start(0);
        node_start(1);
        make_handle(2);
        (void)ask(DLOCK_OP_PREEMPT, "x");
        node_greet(0);
        first = node_wait_request(0);
        /* It does not get all the time there is. */
        ck_assert_uint_le(first.deadline_ms, DLOCK_TIMEOUT_DEFAULT / 2);
        node_answer(0, &first, WIRE_UNKNOWN, 0);
        node_greet(1);
        again = node_wait_request(1);
        ck_assert(id128_equal(first.handle, again.handle));
        ck_assert_uint_eq(again.seq, 1);
        /* The last one's word is final. */
        ck_assert_uint_gt(again.deadline_ms, DLOCK_TIMEOUT_DEFAULT / 2);
        node_answer(1, &again, WIRE_UNKNOWN, 0);
        answer = wait_answer();
        ck_assert_int_eq(answer.outcome, DLOCK_UNKNOWN);
        ck_assert_str_eq(answer.reason, "because");
}
END_TEST

START_TEST(silent_node_is_asked_how_it_is_and_then_left)
{
        struct wire_request first, ping, again;

        node_start(0);
        node_start(1);
        make_handle(2);
        ck_assert_int_eq(dlock_set_timeout(dlock, 60000), 0);
        (void)ask(DLOCK_OP_PREEMPT, "x");
        node_greet(0);
        first = node_wait_request(0);
        pass_s(3);
        ping = node_wait_request(0);
        ck_assert_int_eq(ping.type, WIRE_STATUS);
        pass_s(3);
        node_greet(1);
        again = node_wait_request(1);
        ck_assert(id128_equal(first.handle, again.handle));
}
END_TEST

START_TEST(slow_node_that_says_how_it_is_is_kept)
{
        struct wire_request first, ping;
        struct wire_state state = { .node = "n", .role = "follower", .version = "1" };
        struct bytes out = { 0 };

        node_start(0);
        node_start(1);
        make_handle(2);
        ck_assert_int_eq(dlock_set_timeout(dlock, 60000), 0);
        (void)ask(DLOCK_OP_PREEMPT, "x");
        node_greet(0);
        first = node_wait_request(0);
        for (int i = 0; i < 5; i++) {
                pass_s(3);
                ping = node_wait_request(0);
                ck_assert_int_eq(ping.type, WIRE_STATUS);
                state.tag = ping.tag;
                wire_write_state(&out, &state);
                node_say(0, &out);
                go_on(10);
        }
        node_answer(0, &first, WIRE_YES, 8);
        ck_assert_int_eq(wait_answer().outcome, DLOCK_YES);
}
END_TEST

START_TEST(node_that_takes_connections_only_is_left_for_the_next)
{
        node_start(0);
        node_start(1);
        make_handle(2);
        (void)ask(DLOCK_OP_PREEMPT, "x");
        (void)node_wait_hello(0);
        pass_s(2);
        node_greet(1);
        ck_assert_int_eq(node_wait_request(1).type, WIRE_PREEMPT);
}
END_TEST

START_TEST(only_server_gets_all_the_time_to_say_hello)
{
        node_start(0);
        make_handle(1);
        ck_assert_int_eq(dlock_set_timeout(dlock, 60000), 0);
        (void)ask(DLOCK_OP_PREEMPT, "x");
        (void)node_wait_hello(0);
        pass_s(50);
        go_on(20);
        node_welcome(0, cluster, NULL);
        ck_assert_int_eq(node_wait_request(0).type, WIRE_PREEMPT);
}
END_TEST

START_TEST(idle_connection_that_ended_is_replaced_unnoticed)
{
        struct wire_request request;

        node_start(0);
        make_handle(1);
        (void)ask(DLOCK_OP_CHECK, "x");
        node_greet(0);
        request = node_wait_request(0);
        node_answer(0, &request, WIRE_NO, 4);
        (void)wait_answer();
        if (_i == 0) {
                node_refuse(0, WIRE_REFUSAL_STOPPING);
                go_on(10);
        }
        node_hang_up(0);
        pass_s(1);
        (void)ask(DLOCK_OP_PREEMPT, "x");
        node_greet(0);
        request = node_wait_request(0);
        ck_assert_int_eq(request.type, WIRE_PREEMPT);
        node_answer(0, &request, WIRE_YES, 4);
        ck_assert_int_eq(wait_answer().outcome, DLOCK_YES);
}
END_TEST

/* --- what the client has seen --- */

static uint64_t min_index_of_check(uint64_t answered)
{
        struct wire_request request;

        (void)ask(DLOCK_OP_CHECK, "x");
        request = node_wait_request(0);
        node_answer(0, &request, WIRE_YES, answered);
        (void)wait_answer();
        return request.min_index;
}

START_TEST(reads_name_the_highest_index_that_was_seen)
{
        greeted_handle();
        ck_assert_uint_eq(min_index_of_check(5), 0);
        (void)preempt_answered(WIRE_YES, DLOCK_YES);
        ck_assert_uint_eq(min_index_of_check(40), 9);
        ck_assert_uint_eq(min_index_of_check(39), 40);
        ck_assert_uint_eq(min_index_of_check(41), 40);
        ck_assert_uint_eq(min_index_of_check(50), 41);
}
END_TEST

/* --- the cluster --- */

START_TEST(first_cluster_is_pinned_and_another_is_refused)
{
        struct dlock_answer answer;
        struct wire_request request;
        struct wire_hello hello;
        char text[ID128_TEXT_BYTES], kept[ID128_TEXT_BYTES];

        node_start(0);
        make_handle(1);
        ck_assert_int_eq(dlock_get_cluster(dlock, kept, sizeof(kept)), -ENOENT);
        (void)ask(DLOCK_OP_CHECK, "x");
        node_greet(0);
        request = node_wait_request(0);
        node_answer(0, &request, WIRE_NO, 30);
        (void)wait_answer();
        ck_assert_int_eq(dlock_get_cluster(dlock, kept, sizeof(kept)), 0);
        ck_assert_str_eq(kept, id128_format(cluster, text));
        /* Another program of this user, and a node of another cluster. */
        dlock = dlock_free(dlock);
        node_hang_up(0);
        make_handle(1);
        (void)ask(DLOCK_OP_CHECK, "x");
        hello = node_wait_hello(0);
        ck_assert(id128_equal(hello.cluster, cluster));
        node_welcome(0, id128_random(), NULL);
        node_hang_up(0);
        for (int i = 0; i < 200 && dlock_next(dlock, &answer) == 0; i++) {
                struct wire_frame frame;

                /* It tries again for a second, and is never asked about the lock. */
                ck_assert_int_eq(dlock_process(dlock), 0);
                if (node_hears(0, &frame)) {
                        ck_assert_uint_eq(frame.type, WIRE_HELLO);
                        node_refuse(0, WIRE_REFUSAL_CLUSTER);
                        node_hang_up(0);
                }
                (void)poll(NULL, 0, 10);
        }
        ck_assert_int_eq(answer.outcome, DLOCK_UNREACHABLE);
        ck_assert_ptr_nonnull(strstr(answer.reason, text));
        ck_assert_ptr_nonnull(strstr(answer.reason, "forget-cluster"));
        ck_assert_int_eq(dlock_forget_cluster(dlock), 0);
        ck_assert_int_eq(dlock_get_cluster(dlock, kept, sizeof(kept)), -ENOENT);
        (void)ask(DLOCK_OP_CHECK, "x");
        node_hang_up(0);
        hello = node_wait_hello(0);
        ck_assert(id128_is_null(hello.cluster));
        cluster = id128_random();
        node_welcome(0, cluster, NULL);
        ck_assert_uint_eq(node_wait_request(0).min_index, 0);
        ck_assert_int_eq(dlock_get_cluster(dlock, kept, sizeof(kept)), 0);
        ck_assert_str_eq(kept, id128_format(cluster, text));
}
END_TEST

START_TEST(node_without_a_cluster_is_asked_for_status_only_once_a_cluster_is_known)
{
        struct wire_request request;
        struct wire_frame frame;

        node_start(0);
        make_handle(1);
        (void)ask(DLOCK_OP_CHECK, "x");
        node_greet(0);
        request = node_wait_request(0);
        node_answer(0, &request, WIRE_NO, 30);
        (void)wait_answer();
        /* The node comes back with an emptied disk. */
        node_hang_up(0);
        go_on(5);
        (void)ask(DLOCK_OP_PREEMPT, "x");
        (void)ask(DLOCK_OP_STATUS, NULL);
        (void)node_wait_hello(0);
        node_welcome(0, (struct id128){ 0 }, NULL);
        frame = node_wait(0);
        ck_assert_uint_eq(frame.type, WIRE_STATUS);
        go_on(20);
        ck_assert(!node_hears(0, &frame));
        /* Some time later it is a member. */
        node_hang_up(0);
        node_greet(0);
        ck_assert_int_eq(node_wait_request(0).type, WIRE_STATUS);
        ck_assert_int_eq(node_wait_request(0).type, WIRE_PREEMPT);
}
END_TEST

START_TEST(node_without_a_cluster_is_good_enough_for_a_newcomer)
{
        node_start(0);
        make_handle(1);
        (void)ask(DLOCK_OP_PREEMPT, "x");
        (void)node_wait_hello(0);
        node_welcome(0, (struct id128){ 0 }, NULL);
        ck_assert_int_eq(node_wait_request(0).type, WIRE_PREEMPT);
}
END_TEST

START_TEST(id_is_assigned_when_it_is_wanted)
{
        struct wire_request request;
        struct wire_hello hello;

        node_start(0);
        make_handle(1);
        ck_assert_int_eq(dlock_set_client(dlock, ""), 0);
        ck_assert_ptr_null(dlock_get_client(dlock));
        /* A read needs none. */
        (void)ask(DLOCK_OP_CHECK, "x");
        hello = node_wait_hello(0);
        ck_assert(!hello.assign);
        node_welcome(0, cluster, NULL);
        request = node_wait_request(0);
        node_answer(0, &request, WIRE_NO, 3);
        (void)wait_answer();
        (void)ask(DLOCK_OP_PREEMPT, "x");
        go_on(5);
        node_hang_up(0);
        hello = node_wait_hello(0);
        ck_assert(hello.assign);
        ck_assert_uint_eq(hello.client.size, 0);
        node_welcome(0, cluster, "assigned-7");
        request = node_wait_request(0);
        ck_assert_str_eq(request.client.text, "assigned-7");
        ck_assert_str_eq(dlock_get_client(dlock), "assigned-7");
        /* And kept for the handle's life. */
        node_hang_up(0);
        hello = node_wait_hello(0);
        ck_assert(!hello.assign);
        ck_assert_str_eq(hello.client.text, "assigned-7");
}
END_TEST

static Suite *suite(void)
{
        Suite *s = suite_create("client");
        TCase *c = tcase_create("conversation");

        tcase_add_checked_fixture(c, set_up, tear_down);
        tcase_set_timeout(c, 30);
        suite_add_tcase(s, c);
        tcase_add_test(c, request_carries_all_that_the_node_needs);
        tcase_add_test(c, answer_tells_what_the_node_said);
        tcase_add_test(c, bad_requests_are_told_and_not_sent);
        tcase_add_test(c, so_many_requests_at_once_and_no_more);
        tcase_add_test(c, answers_may_come_in_any_order_and_requests_have_handles_of_their_own);
        tcase_add_test(c, sequence_goes_on_only_after_what_the_nodes_remember);
        tcase_add_test(c, lost_connection_sends_the_same_request_to_the_next_node);
        tcase_add_test(c, half_an_answer_is_none);
        tcase_add_test(c, nothing_is_sent_again_after_a_minute);
        tcase_add_test(c, request_that_nobody_saw_may_still_be_sent_after_a_minute);
        tcase_add_test(c, deadline_of_what_was_sent_is_unknown);
        tcase_add_test(c, answer_that_is_there_counts_although_the_deadline_is_over);
        tcase_add_test(c, nobody_there_is_unreachable_within_seconds);
        tcase_add_test(c, server_that_is_just_starting_is_waited_for);
        tcase_add_test(c, what_was_sent_is_never_called_unreachable);
        tcase_add_loop_test(c, busy_or_stopping_nodes_are_left_for_the_next, 0, 2);
        tcase_add_test(c, node_that_stops_hands_its_requests_to_the_next);
        tcase_add_test(c, node_that_cannot_tell_is_left_for_the_next);
        tcase_add_test(c, silent_node_is_asked_how_it_is_and_then_left);
        tcase_add_test(c, slow_node_that_says_how_it_is_is_kept);
        tcase_add_test(c, node_that_takes_connections_only_is_left_for_the_next);
        tcase_add_test(c, only_server_gets_all_the_time_to_say_hello);
        tcase_add_loop_test(c, idle_connection_that_ended_is_replaced_unnoticed, 0, 2);
        tcase_add_test(c, reads_name_the_highest_index_that_was_seen);
        tcase_add_test(c, first_cluster_is_pinned_and_another_is_refused);
        tcase_add_test(c, node_without_a_cluster_is_asked_for_status_only_once_a_cluster_is_known);
        tcase_add_test(c, node_without_a_cluster_is_good_enough_for_a_newcomer);
        tcase_add_test(c, id_is_assigned_when_it_is_wanted);
        return s;
}

int main(void)
{
        SRunner *runner = srunner_create(suite());
        int failed;

        srunner_run_all(runner, CK_ENV);
        failed = srunner_ntests_failed(runner);
        srunner_free(runner);
        return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
