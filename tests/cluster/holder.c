/* Takes a lease and holds it, as a program would: "holder SERVERS LOCK TTL_MS STOP_MS [bound [LOCK_DELAY_MS]]". On standard output, a line for each:
 * "granted TOKEN DEADLINE", "bound", "renewed DEADLINE", "at-risk NOW REASON", "held NOW", "lost NOW REASON"; times are of CLOCK_BOOTTIME. Ends
 * with standard input, and gives nothing back. */
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "dlock.h"

static uint64_t boottime_ms(void)
{
        struct timespec now;

        if (clock_gettime(CLOCK_BOOTTIME, &now) < 0)
                abort();
        return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void on_state(struct dlock_hold *hold, enum dlock_hold_state state, void *userdata)
{
        static const char *const names[] = { [DLOCK_HELD] = "held", [DLOCK_AT_RISK] = "at-risk", [DLOCK_LOST] = "lost" };

        (void)userdata;
        (void)printf("%s %" PRIu64 " %s\n", names[state], boottime_ms(), dlock_hold_get_reason(hold));
}

static int fail(const char *what, const char *why)
{
        (void)fprintf(stderr, "holder: %s: %s\n", what, why);
        return 1;
}

static int hold_on(struct dlock *dlock, struct dlock_hold *hold)
{
        uint64_t deadline = dlock_hold_get_deadline(hold);

        for (;;) {
                struct pollfd waits[] = { { .fd = STDIN_FILENO, .events = POLLIN }, { .fd = dlock_get_fd(dlock), .events = (short)dlock_get_events(dlock) } };

                (void)poll(waits, 2, dlock_get_timeout(dlock));
                if (waits[0].revents)
                        return 0;
                if (dlock_process(dlock) < 0)
                        return fail("process", dlock_get_error(dlock));
                if (dlock_hold_get_deadline(hold) != deadline) {
                        deadline = dlock_hold_get_deadline(hold);
                        (void)printf("renewed %" PRIu64 "\n", deadline);
                }
        }
}

int main(int argc, char **argv)
{
        char error[512] = "";
        struct dlock_request request = { .operation = DLOCK_OP_PREEMPT };
        struct dlock_answer answer;
        struct dlock_hold *hold;
        struct dlock *dlock;
        int r;

        if (argc < 5 || argc > 7)
                return fail("usage", "holder SERVERS LOCK TTL_MS STOP_MS [bound [LOCK_DELAY_MS]] would be right");
        (void)setvbuf(stdout, NULL, _IOLBF, 0);
        request.lock = argv[2];
        request.ttl_ms = (uint32_t)strtoul(argv[3], NULL, 10);
        request.lock_delay_ms = argc == 7 ? (uint32_t)strtoul(argv[6], NULL, 10) : 0;
        if (dlock_new(&dlock, argv[1], error, sizeof(error)) < 0)
                return fail(argv[1], error);
        if (dlock_ask(dlock, &request, &answer) < 0)
                return fail(argv[2], dlock_get_error(dlock));
        if (answer.outcome != DLOCK_YES)
                return fail(dlock_outcome_name(answer.outcome), answer.reason);
        (void)printf("granted %" PRIu64 " %" PRIu64 "\n", answer.token, answer.deadline_ms);
        if (dlock_hold_new(&hold, dlock, &answer, (uint32_t)strtoul(argv[4], NULL, 10), on_state, NULL) < 0)
                return fail("hold", dlock_get_error(dlock));
        if (argc > 5) {
                /* Both go out together. */
                if (dlock_hold_bind(hold) < 0 || dlock_check(dlock, argv[2], &answer) < 0)
                        return fail("bind", dlock_get_error(dlock));
                (void)printf("bound\n");
        }
        r = hold_on(dlock, hold);
        (void)dlock_hold_free(hold);
        (void)dlock_free(dlock);
        return r;
}
