/* bench.c - closed-loop clients, each a handle of its own, all in one thread: a
 * client asks again when it has its answer. Every one takes and releases a lock
 * of its own; each answer is one operation. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#include "tool.h"

#define CLIENTS_MAX 10000
#define EVENTS 256
/* How often handles are looked at whose descriptors are quiet: deadlines, retries. */
#define LOOK_MS 100

const char bench_details[] =
        "\nTakes and releases locks of its own, one per client, named PREFIX/N, and prints operations per second\n"
        "and how long they took; preempt and release count one each. With --json: one object per line.\n"
        "\n"
        "Options of bench:\n"
        "      --clients N[,N...]       how many at the same time, one measurement each (1,16,64,256)\n"
        "      --seconds TIME           how long each measurement takes (5s)\n"
        "      --prefix NAME            of the locks (bench and a number)\n"
        "      --spread                 clients begin with different servers of --server, in turn\n";

struct samples {
        uint64_t *values;                    /* ns */
        size_t count, capacity;
};

struct runner {
        struct dlock *dlock;
        char lock[DLOCK_NAME_MAX + 1];
        uint64_t began;                      /* ns; 0: nothing is asked */
        bool holds;
        uint64_t token;                      /* of what it holds; 0: not known */
};

struct bench {
        const struct tool *tool;
        struct runner *runners;
        unsigned count;
        int epoll;
        struct samples samples;
        uint64_t failures, until;            /* until: ns, then nothing new is asked */
        unsigned busy;
        int code;
};

static uint64_t now_ns(void)
{
        struct timespec now;

        (void)clock_gettime(CLOCK_MONOTONIC, &now);
        return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

static bool samples_add(struct samples *samples, uint64_t value)
{
        if (samples->count == samples->capacity) {
                size_t capacity = samples->capacity ? samples->capacity * 2 : 65536;
                uint64_t *values = reallocarray(samples->values, capacity, sizeof(values[0]));

                if (!values)
                        return false;
                samples->values = values;
                samples->capacity = capacity;
        }
        samples->values[samples->count++] = value;
        return true;
}

static int compare_values(const void *a, const void *b)
{
        const uint64_t *left = a, *right = b;

        return (*left > *right) - (*left < *right);
}

/* Of sorted samples: the least value that permille of them do not exceed. */
static double percentile_us(const struct samples *samples, unsigned permille)
{
        size_t rank = (samples->count * permille + 999) / 1000;

        return samples->count == 0 ? 0 : (double)samples->values[rank ? rank - 1 : 0] / 1000;
}

/* --- the servers of one client: all, beginning with another one for each --- */

static char *rotate(const char *servers, unsigned by)
{
        size_t size = strlen(servers);
        const char *start = servers;
        unsigned count = 1;
        char *result = malloc(size + 2);

        if (!result)
                return NULL;
        for (const char *s = servers; *s; s++)
                count += *s == ',';
        for (by %= count; by > 0; by--)
                start = strchr(start, ',') + 1;
        (void)snprintf(result, size + 2, "%s%s%.*s", start, start > servers ? "," : "", start > servers ? (int)(start - servers - 1) : 0, servers);
        return result;
}

static const char *named_servers(const struct tool *tool)
{
        const char *servers = tool->servers ? tool->servers : getenv("DLOCK_SERVER");

        return servers && *servers ? servers : NULL;
}

/* --- one client --- */

static int fail_call(struct bench *bench, const struct runner *runner)
{
        bench->code = tool_fail(EXIT_USAGE, "%s", dlock_get_error(runner->dlock));
        bench->until = 0;
        return -1;
}

static int ask(struct bench *bench, struct runner *runner)
{
        struct dlock_request request = { .operation = runner->holds ? DLOCK_OP_RELEASE : DLOCK_OP_PREEMPT, .lock = runner->lock, .token = runner->holds ? runner->token : 0 };

        runner->began = now_ns();
        if (dlock_submit(runner->dlock, &request) < 0 || dlock_process(runner->dlock) < 0) {
                runner->began = 0;
                return fail_call(bench, runner);
        }
        bench->busy++;
        return 0;
}

static void note_failure(struct bench *bench, const struct dlock_answer *answer)
{
        bench->failures++;
        /* The first is told, the others are counted; without a server, or with a lock of somebody else, there is nothing to measure. */
        if (answer->outcome == DLOCK_NO && bench->failures == 1)
                bench->code = tool_fail(EXIT_NO, "%s is held already; a --prefix that nobody else uses would be right", answer->lock);
        else if (bench->failures == 1)
                bench->code = tool_outcome(answer);
        if (answer->outcome == DLOCK_UNREACHABLE || answer->outcome == DLOCK_REJECTED ||
            (answer->outcome == DLOCK_NO && answer->operation == DLOCK_OP_PREEMPT))
                bench->until = 0;
}

static void take(struct bench *bench, struct runner *runner, const struct dlock_answer *answer, uint64_t now)
{
        bench->busy--;
        if (answer->outcome != DLOCK_YES) {
                note_failure(bench, answer);
                /* Whether it is held is not known: a release finds out. */
                runner->holds = answer->outcome == DLOCK_UNKNOWN;
                runner->token = 0;
        } else {
                if (now < bench->until && !samples_add(&bench->samples, now - runner->began))
                        bench->until = 0;
                runner->holds = answer->operation == DLOCK_OP_PREEMPT;
                runner->token = answer->token;
        }
        runner->began = 0;
}

/* Takes what has come for a client and asks again, until nothing is left to release. */
static void turn(struct bench *bench, struct runner *runner)
{
        struct dlock_answer answer;
        uint64_t now;

        if (dlock_process(runner->dlock) < 0)
                return;
        while (dlock_next(runner->dlock, &answer) > 0) {
                now = now_ns();
                take(bench, runner, &answer, now);
                if (now < bench->until || (runner->holds && answer.outcome == DLOCK_YES))
                        (void)ask(bench, runner);
        }
}

/* --- one measurement --- */

static void stop(struct bench *bench)
{
        for (unsigned i = 0; i < bench->count; i++)
                bench->runners[i].dlock = dlock_free(bench->runners[i].dlock);
        free(bench->runners);
        free(bench->samples.values);
        if (bench->epoll >= 0)
                (void)close(bench->epoll);
}

static int start_runner(struct bench *bench, unsigned i)
{
        const char *servers = named_servers(bench->tool);
        char *rotated = bench->tool->spread && servers ? rotate(servers, i) : NULL;
        struct runner *runner = &bench->runners[i];
        struct epoll_event event = { .events = EPOLLIN, .data.u32 = i };
        int code = tool_new_handle(bench->tool, rotated ? rotated : servers, &runner->dlock), size;

        free(rotated);
        if (code)
                return code;
        if (bench->tool->prefix) {
                size = snprintf(runner->lock, sizeof(runner->lock), "%s/%u", bench->tool->prefix, i);
                if (size >= (int)sizeof(runner->lock))
                        return tool_fail(EXIT_USAGE, "--prefix of %zu bytes: with /%u behind it a lock name of at most %d bytes would be right", strlen(bench->tool->prefix), i,
                                         DLOCK_NAME_MAX);
        } else {
                (void)snprintf(runner->lock, sizeof(runner->lock), "bench-%d-%" PRIx64 "/%u", (int)getpid(), now_ns() & 0xffffffff, i);
        }
        if (epoll_ctl(bench->epoll, EPOLL_CTL_ADD, dlock_get_fd(runner->dlock), &event) < 0)
                return tool_fail(EXIT_USAGE, "client %u: %s", i, strerror(errno));
        return 0;
}

static int start(struct bench *bench)
{
        int code = 0;

        bench->runners = calloc(bench->count, sizeof(bench->runners[0]));
        bench->epoll = epoll_create1(EPOLL_CLOEXEC);
        if (!bench->runners || bench->epoll < 0) {
                bench->count = 0;
                return tool_fail(EXIT_USAGE, "%s", strerror(errno));
        }
        for (unsigned i = 0; code == 0 && i < bench->count; i++)
                code = start_runner(bench, i);
        return code;
}

/* Connections are made before the clock starts. */
static int warm_up(struct bench *bench)
{
        struct dlock_answer answer;

        for (unsigned i = 0; i < bench->count; i++) {
                int code;

                if (dlock_check(bench->runners[i].dlock, bench->runners[i].lock, &answer) < 0)
                        return tool_fail(EXIT_USAGE, "%s", dlock_get_error(bench->runners[i].dlock));
                code = tool_outcome(&answer);
                if (code > EXIT_NO)
                        return code;
        }
        return 0;
}

static void run(struct bench *bench)
{
        uint64_t look = now_ns() + LOOK_MS * UINT64_C(1000000);
        struct epoll_event ready[EVENTS];

        for (unsigned i = 0; i < bench->count && bench->until; i++)
                (void)ask(bench, &bench->runners[i]);
        while (bench->busy > 0) {
                int count = epoll_wait(bench->epoll, ready, EVENTS, LOOK_MS);

                for (int i = 0; i < count; i++)
                        turn(bench, &bench->runners[ready[i].data.u32]);
                if (now_ns() < look)
                        continue;
                look = now_ns() + LOOK_MS * UINT64_C(1000000);
                for (unsigned i = 0; i < bench->count; i++)
                        turn(bench, &bench->runners[i]);
        }
}

/* first: of the rows, which has the titles above it. */
static void show(const struct bench *bench, double seconds, bool first)
{
        static const struct {
                const char *name;
                unsigned permille;
        } columns[] = { { "p50_us", 500 }, { "p99_us", 990 }, { "p999_us", 999 } };
        const struct samples *samples = &bench->samples;
        double rate = (double)samples->count / seconds;
        struct json_object *object;

        if (samples->count > 0)
                qsort(samples->values, samples->count, sizeof(samples->values[0]), compare_values);
        if (!bench->tool->json) {
                if (first)
                        (void)printf("%8s  %10s  %10s  %10s  %10s  %9s\n", "CLIENTS", "OPS/S", "P50 us", "P99 us", "P99.9 us", "FAILURES");
                (void)printf("%8u  %10.0f  %10.0f  %10.0f  %10.0f  %9" PRIu64 "\n", bench->count, rate, percentile_us(samples, 500),
                             percentile_us(samples, 990), percentile_us(samples, 999), bench->failures);
                (void)fflush(stdout);
                return;
        }
        object = json_object_new_object();
        json_object_object_add(object, "clients", json_object_new_int64(bench->count));
        json_object_object_add(object, "seconds", json_object_new_double(seconds));
        json_object_object_add(object, "operations", json_object_new_uint64(samples->count));
        json_object_object_add(object, "ops_per_second", json_object_new_int64((int64_t)rate));
        for (size_t i = 0; i < sizeof(columns) / sizeof(columns[0]); i++)
                json_object_object_add(object, columns[i].name, json_object_new_int64((int64_t)percentile_us(samples, columns[i].permille)));
        json_object_object_add(object, "failures", json_object_new_uint64(bench->failures));
        tool_put_json(object);
}

static int measure(const struct tool *tool, unsigned clients, bool first)
{
        struct bench bench = { .tool = tool, .count = clients, .epoll = -1 };
        uint64_t began;
        int code;

        code = start(&bench);
        if (code == 0)
                code = warm_up(&bench);
        if (code == 0) {
                began = now_ns();
                bench.until = began + tool->seconds * UINT64_C(1000000000);
                run(&bench);
                code = bench.code;
                if (bench.until)
                        show(&bench, (double)tool->seconds, first);
        }
        stop(&bench);
        return code;
}

/* The next number of "N,N,..."; 0: it is none. */
static unsigned next_number(const char **cursor)
{
        char *end;
        unsigned long number;

        if (**cursor < '0' || **cursor > '9')
                return 0;
        number = strtoul(*cursor, &end, 10);
        if ((*end && *end != ',') || (*end == ',' && !end[1]) || number > CLIENTS_MAX)
                return 0;
        *cursor = *end ? end + 1 : end;
        return (unsigned)number;
}

static bool numbers_are_right(const char *cursor)
{
        do {
                if (next_number(&cursor) == 0)
                        return false;
        } while (*cursor);
        return true;
}

int command_bench(struct tool *tool, char **operands)
{
        int code = EXIT_YES;

        (void)operands;
        if (!numbers_are_right(tool->clients))
                return tool_fail(EXIT_USAGE, "--clients %s: numbers from 1 to %d, separated by commas, would be right", tool->clients, CLIENTS_MAX);
        if (tool->spread && !named_servers(tool))
                return tool_fail(EXIT_USAGE, "--spread wants servers to spread over: --server ADDR,ADDR... would be right");
        for (const char *cursor = tool->clients; code == EXIT_YES && *cursor;) {
                bool first = cursor == tool->clients;

                code = measure(tool, next_number(&cursor), first);
        }
        return code;
}
