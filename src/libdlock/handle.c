/* handle.c - life of a handle, and its calls that block. */
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/clock.h"
#include "libdlock/internal.h"

#define INI_PATH "/etc/dlock/client.ini"
/* poll(2) does not count a suspended machine's time, deadlines do: look again so often. */
#define POLL_MS 1000
/* Between two tries to find somebody who can tell who leads. */
#define OBSERVE_REST_MS 200
/* There is no time for an answer in less. */
#define OBSERVE_LAST_MS 100

int set_error(struct dlock *dlock, int error, const char *format, ...)
{
        va_list values;

        va_start(values, format);
        (void)vsnprintf(dlock->error, sizeof(dlock->error), format, values);
        va_end(values);
        return error;
}

static int find_servers(struct dlock *dlock, const char *text, char problem[SERVERS_ERROR_BYTES])
{
        char wrong[SERVERS_ERROR_BYTES];
        int r;

        if (text && *text)
                return servers_set(&dlock->servers, text, problem);
        text = secure_getenv("DLOCK_SERVER");
        if (text && *text) {
                r = servers_set(&dlock->servers, text, wrong);
                if (r < 0)
                        (void)snprintf(problem, SERVERS_ERROR_BYTES, "DLOCK_SERVER: %.480s", wrong);
                return r;
        }
        return servers_load(&dlock->servers, INI_PATH, problem);
}

/* See is_forked(). One for all handles: each page of its own is another one to be found at every call. */
static struct {
        _Atomic(struct fork_mark *) page;
        atomic_uint processes;               /* since the first, from parent to child, that made a handle */
        atomic_bool stays;                   /* the kernel does not empty it */
} mark;

static struct fork_mark *make_page(void)
{
        size_t size = (size_t)sysconf(_SC_PAGESIZE);
        struct fork_mark *page = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), *other = NULL;

        if (page == MAP_FAILED)
                return NULL;
        if (madvise(page, size, MADV_WIPEONFORK) < 0)
                mark.stays = true;
        if (atomic_compare_exchange_strong(&mark.page, &other, page))
                return page;
        (void)munmap(page, size);            /* another thread was first */
        return other;
}

/* Whose handle it is from here on: no lock is taken, since a child may be made while another thread has it. */
static bool set_mark(struct dlock *dlock)
{
        struct fork_mark *page = mark.page ? mark.page : make_page();
        unsigned process = 0;

        if (!page)
                return false;
        if (page->process == 0)
                (void)atomic_compare_exchange_strong(&page->process, &process, ++mark.processes);
        dlock->mark = page;
        dlock->process = page->process;
        dlock->pid = mark.stays ? getpid() : 0;
        return true;
}

static int start(struct dlock *dlock, const char *servers, char problem[SERVERS_ERROR_BYTES])
{
        int r;

        r = set_mark(dlock) ? find_servers(dlock, servers, problem) : -ENOMEM;
        if (r < 0)
                return r;
        dlock->epoll = epoll_create1(EPOLL_CLOEXEC);
        if (dlock->epoll >= 0)
                return 0;
        r = -errno;
        (void)snprintf(problem, SERVERS_ERROR_BYTES, "no descriptor for another handle: %s", strerror(-r));
        return r;
}

int dlock_new(struct dlock **ret_dlock, const char *servers, char *error, size_t error_size)
{
        char problem[SERVERS_ERROR_BYTES] = "out of memory";
        struct dlock *dlock = calloc(1, sizeof(*dlock));
        int r = -ENOMEM;

        if (dlock) {
                dlock->epoll = dlock->link.fd = -1;
                dlock->timeout_ms = DLOCK_TIMEOUT_DEFAULT;
                dlock->first_free = UINT32_MAX;
                dlock->next_deadline = UINT64_MAX;
                TAILQ_INIT(&dlock->queued);
                TAILQ_INIT(&dlock->sent);
                TAILQ_INIT(&dlock->listening);
                TAILQ_INIT(&dlock->answered);
                TAILQ_INIT(&dlock->renewals);
                TAILQ_INIT(&dlock->holds);
                TAILQ_INIT(&dlock->watches);
                TAILQ_INIT(&dlock->waits);
                dlock->hold_wake = dlock->watch_wake = dlock->wait_wake = UINT64_MAX;
                dlock->hold_tenth = UINT32_MAX;
                r = start(dlock, servers, problem);
        }
        if (r < 0) {
                if (error && error_size > 0)
                        (void)snprintf(error, error_size, "%s", problem);
                dlock_free(dlock);
                return r;
        }
        *ret_dlock = dlock;
        return 0;
}

static void free_requests(struct dlock *dlock, struct request_list *list)
{
        struct request *request;

        while ((request = TAILQ_FIRST(list))) {
                TAILQ_REMOVE(list, request, link);
                request_free(dlock, request);
        }
}

struct dlock *dlock_free(struct dlock *dlock)
{
        if (!dlock)
                return NULL;
        if (dlock->mark)
                link_close(dlock);
        if (dlock->epoll >= 0)
                (void)close(dlock->epoll);
        holds_forget(dlock);
        waits_forget(dlock);
        watches_forget(dlock);
        free_requests(dlock, &dlock->queued);
        free_requests(dlock, &dlock->renewals);
        free_requests(dlock, &dlock->sent);
        free_requests(dlock, &dlock->listening);
        free_requests(dlock, &dlock->answered);
        request_free(dlock, dlock->current);
        request_free_spare(dlock);
        servers_done(&dlock->servers);
        free(dlock->slots);
        free(dlock);
        return NULL;
}

int dlock_set_timeout(struct dlock *dlock, uint32_t timeout_ms)
{
        if (is_forked(dlock))
                return -ECHILD;
        if (timeout_ms == 0 || timeout_ms > LIMIT_DEADLINE_MS)
                return set_error(dlock, -EINVAL, "a timeout of 1 ms to 1 hour would be right");
        dlock->timeout_ms = timeout_ms;
        return 0;
}

const char *dlock_get_error(const struct dlock *dlock)
{
        return is_forked(dlock) ? "after a fork a handle is that of the process that made it" : dlock->error;
}

const char *dlock_version(void)
{
        return DLOCK_VERSION;
}

const char *dlock_outcome_name(enum dlock_outcome outcome)
{
        switch (outcome) {
        case DLOCK_YES:
                return "yes";
        case DLOCK_NO:
                return "no";
        case DLOCK_UNKNOWN:
                return "unknown";
        case DLOCK_UNREACHABLE:
                return "unreachable";
        case DLOCK_REJECTED:
                return "rejected";
        case DLOCK_REENTERED:
                return "reentered";
        }
        return "";
}

/* --- event loop --- */

int dlock_get_fd(const struct dlock *dlock)
{
        return is_forked(dlock) ? -ECHILD : dlock->epoll;
}

int dlock_get_events(const struct dlock *dlock)
{
        return is_forked(dlock) ? -ECHILD : POLLIN;
}

/* When there is something to do; UINT64_MAX: not before something comes. */
static uint64_t next_wake(const struct dlock *dlock)
{
        uint64_t wake = dlock->pending > 0 ? MIN(link_wake(dlock), dlock->next_deadline) : UINT64_MAX;

        wake = MIN(wake, dlock->watch_wake);
        wake = MIN(wake, dlock->wait_wake);
        return MIN(wake, dlock->hold_wake);
}

static int time_until(uint64_t wake, uint64_t most)
{
        uint64_t now = clock_boottime_ms();

        return wake <= now ? 0 : (int)MIN(wake - now, most);
}

int dlock_get_timeout(const struct dlock *dlock)
{
        uint64_t wake;

        if (is_forked(dlock))
                return -ECHILD;
        if (!TAILQ_EMPTY(&dlock->answered))
                return 0;
        wake = next_wake(dlock);
        if (wake == UINT64_MAX)
                return -1;
        /* Who holds something must see soon that the machine was suspended. */
        return time_until(wake, dlock->hold_tenth == UINT32_MAX ? (uint64_t)LIMIT_DEADLINE_MS : (uint64_t)POLL_MS);
}

static void forget_current(struct dlock *dlock)
{
        request_free(dlock, dlock->current);
        dlock->current = NULL;
}

int dlock_process(struct dlock *dlock)
{
        uint64_t now;

        if (is_forked(dlock))
                return -ECHILD;
        forget_current(dlock);
        now = clock_boottime_ms();
        link_receive(dlock, now);
        if (now >= dlock->next_deadline)
                request_expire(dlock, now);
        holds_turn(dlock, now);
        waits_turn(dlock, now);
        watches_turn(dlock, now);
        link_send(dlock, now);
        return 0;
}

static void hand_out(struct dlock *dlock, struct request *request, struct dlock_answer *ret_answer)
{
        TAILQ_REMOVE(&dlock->answered, request, link);
        dlock->current = request;
        if (ret_answer)
                *ret_answer = request->answer;
}

int dlock_next(struct dlock *dlock, struct dlock_answer *ret_answer)
{
        struct request *request;

        if (is_forked(dlock))
                return -ECHILD;
        forget_current(dlock);
        request = TAILQ_FIRST(&dlock->answered);
        if (!request)
                return 0;
        hand_out(dlock, request, ret_answer);
        return 1;
}

/* --- blocking --- */

static bool take_answer(struct dlock *dlock, uint64_t id, struct dlock_answer *ret_answer)
{
        struct request *request;

        TAILQ_FOREACH(request, &dlock->answered, link)
                if (request->id == id) {
                        hand_out(dlock, request, ret_answer);
                        return true;
                }
        return false;
}

int dlock_ask(struct dlock *dlock, const struct dlock_request *request, struct dlock_answer *ret_answer)
{
        int64_t id = dlock_submit(dlock, request);

        if (id < 0)
                return (int)id;
        for (;;) {
                struct pollfd wait = { .fd = dlock->epoll, .events = POLLIN };
                int r = dlock_process(dlock);

                if (r < 0)
                        return r;
                if (take_answer(dlock, (uint64_t)id, ret_answer))
                        return 0;
                /* Answers to other requests do not shorten the wait: they are for dlock_next. */
                (void)poll(&wait, 1, time_until(next_wake(dlock), POLL_MS));
        }
}

int dlock_preempt(struct dlock *dlock, const char *lock, struct dlock_answer *ret_answer)
{
        return dlock_ask(dlock, &(struct dlock_request){ .operation = DLOCK_OP_PREEMPT, .lock = lock }, ret_answer);
}

int dlock_release(struct dlock *dlock, const char *lock, struct dlock_answer *ret_answer)
{
        return dlock_ask(dlock, &(struct dlock_request){ .operation = DLOCK_OP_RELEASE, .lock = lock }, ret_answer);
}

int dlock_release_token(struct dlock *dlock, const char *lock, uint64_t token, struct dlock_answer *ret_answer)
{
        return dlock_ask(dlock, &(struct dlock_request){ .operation = DLOCK_OP_RELEASE, .lock = lock, .token = token }, ret_answer);
}

int dlock_check(struct dlock *dlock, const char *lock, struct dlock_answer *ret_answer)
{
        return dlock_ask(dlock, &(struct dlock_request){ .operation = DLOCK_OP_CHECK, .lock = lock }, ret_answer);
}

int dlock_check_consistent(struct dlock *dlock, const char *lock, struct dlock_answer *ret_answer)
{
        return dlock_ask(dlock, &(struct dlock_request){ .operation = DLOCK_OP_CHECK, .lock = lock, .consistent = 1 }, ret_answer);
}

int dlock_show(struct dlock *dlock, const char *lock, int consistent, struct dlock_answer *ret_answer)
{
        return dlock_ask(dlock, &(struct dlock_request){ .operation = DLOCK_OP_SHOW, .lock = lock, .consistent = consistent }, ret_answer);
}

int dlock_list(struct dlock *dlock, const char *prefix, const char *after, uint32_t limit, struct dlock_answer *ret_answer)
{
        return dlock_ask(dlock, &(struct dlock_request){ .operation = DLOCK_OP_LIST, .lock = prefix, .after = after, .limit = limit }, ret_answer);
}

int dlock_history(struct dlock *dlock, const char *lock, uint64_t after_index, uint32_t limit, struct dlock_answer *ret_answer)
{
        return dlock_ask(dlock, &(struct dlock_request){ .operation = DLOCK_OP_HISTORY, .lock = lock, .after_index = after_index, .limit = limit }, ret_answer);
}

int dlock_watch_wait(struct dlock_watch *watch, uint32_t timeout_ms, struct dlock_change *ret_change)
{
        uint64_t end = clock_boottime_ms() + timeout_ms;
        struct dlock *dlock = watch_get_handle(watch);
        uint64_t wake;
        int r;

        for (;;) {
                struct pollfd wait = { .fd = -1, .events = POLLIN };

                r = dlock ? dlock_watch_next(watch, ret_change) : -ECHILD;
                if (r == 0)
                        r = dlock_process(dlock);
                else
                        return r;
                if (r == 0)
                        r = dlock_watch_next(watch, ret_change);
                if (r != 0 || clock_boottime_ms() >= end)
                        return r;
                wait.fd = dlock->epoll;
                wake = next_wake(dlock);
                (void)poll(&wait, 1, time_until(MIN(end, wake), POLL_MS));
        }
}

/* Who could not be asked now can be asked soon. */
static void rest(struct dlock *dlock, uint64_t until)
{
        struct pollfd wait = { .fd = dlock->epoll, .events = POLLIN };

        uint64_t wake;

        (void)dlock_process(dlock);
        wake = next_wake(dlock);
        (void)poll(&wait, 1, time_until(MIN(until, wake), OBSERVE_REST_MS));
}

/* Who holds a lock together with others leads nobody. */
static bool is_led(const struct dlock_answer *answer)
{
        return answer->outcome == DLOCK_YES && answer->rows[0].slots == 0;
}

int dlock_observe(struct dlock *dlock, const char *lock, int consistent, uint32_t timeout_ms, struct dlock_answer *ret_answer)
{
        uint64_t end = clock_boottime_ms() + (timeout_ms ? timeout_ms : dlock->timeout_ms), now;
        struct dlock_request request = { .operation = DLOCK_OP_SHOW, .lock = lock, .consistent = consistent, .exact = 1 };
        struct dlock_answer answer = { .id = 0 };
        bool show = true, nobody_then;
        int r;

        if (timeout_ms > LIMIT_DEADLINE_MS)
                return set_error(dlock, -EINVAL, "a timeout of 1 ms to 1 hour would be right");
        for (;;) {
                now = clock_boottime_ms();
                request.operation = show ? DLOCK_OP_SHOW : DLOCK_OP_WATCH;
                request.timeout_ms = now < end ? (uint32_t)(end - now) : 1;
                r = dlock_ask(dlock, &request, &answer);
                if (r < 0)
                        return r;
                if (answer.outcome == DLOCK_REJECTED || (show && is_led(&answer)))
                        break;
                nobody_then = show ? answer.outcome == DLOCK_NO || answer.outcome == DLOCK_YES : answer.outcome == DLOCK_YES && answer.count == 0;
                /* Too late for another question. */
                if (clock_boottime_ms() + (nobody_then ? OBSERVE_LAST_MS : 0) >= end) {
                        answer.outcome = nobody_then ? DLOCK_NO : answer.outcome == DLOCK_UNREACHABLE ? DLOCK_UNREACHABLE : DLOCK_UNKNOWN;
                        answer.operation = DLOCK_OP_SHOW;
                        answer.owner = NULL;
                        answer.rows = NULL;
                        answer.token = 0;
                        answer.slots = answer.holders = 0;
                        answer.count = 0;
                        break;
                }
                if (answer.outcome == DLOCK_UNKNOWN || answer.outcome == DLOCK_UNREACHABLE)
                        rest(dlock, end);
                request.after_index = answer.index;
                show = !(show && nobody_then);
        }
        if (ret_answer)
                *ret_answer = answer;
        return 0;
}

int dlock_status(struct dlock *dlock, struct dlock_answer *ret_answer)
{
        return dlock_ask(dlock, &(struct dlock_request){ .operation = DLOCK_OP_STATUS }, ret_answer);
}

int dlock_members(struct dlock *dlock, struct dlock_answer *ret_answer)
{
        return dlock_ask(dlock, &(struct dlock_request){ .operation = DLOCK_OP_MEMBERS }, ret_answer);
}

int dlock_transfer(struct dlock *dlock, const char *node, struct dlock_answer *ret_answer)
{
        return dlock_ask(dlock, &(struct dlock_request){ .operation = DLOCK_OP_TRANSFER, .node = node }, ret_answer);
}

int dlock_remove(struct dlock *dlock, const char *node, struct dlock_answer *ret_answer)
{
        return dlock_ask(dlock, &(struct dlock_request){ .operation = DLOCK_OP_REMOVE, .node = node }, ret_answer);
}

int dlock_backup(struct dlock *dlock, uint64_t backup, uint64_t offset, struct dlock_answer *ret_answer)
{
        return dlock_ask(dlock, &(struct dlock_request){ .operation = DLOCK_OP_BACKUP, .backup = backup, .offset = offset }, ret_answer);
}
