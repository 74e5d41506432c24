#include "follow.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio_ext.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "lease.h"

/* What a pipe that is ready takes without blocking, and of that what is left for a line. */
#define OUT_BYTES 4096
#define LINE_BYTES 2560

struct follower {
        struct tool *tool;
        struct dlock_watch *watch;
        follow_tell tell;
        void *state;
        int signals;
        uint64_t begun, until;               /* UNTIL UINT64_MAX: no end */
        uint64_t counted;
        bool heard;                          /* a server has answered */
        bool silent;                         /* and now none does, which was said */
        bool ended;                          /* by a signal, or by who reads */
};

void follow_put_json(const struct dlock_change *change)
{
        struct json_object *object = json_object_new_object();

        json_object_object_add(object, "kind", json_object_new_string(dlock_change_name(change->kind)));
        json_object_object_add(object, "lock", tool_json_text(change->lock));
        json_object_object_add(object, "owner", tool_json_text(change->owner));
        json_object_object_add(object, "token", tool_json_token(change->token));
        json_object_object_add(object, "slots", tool_json_slots(change->token != 0, change->slots));
        json_object_object_add(object, "session", tool_json_token(change->session));
        json_object_object_add(object, "ttl_ms", tool_json_token(change->ttl_ms));
        json_object_object_add(object, "host", tool_json_text(change->host));
        json_object_object_add(object, "unit", tool_json_text(change->unit));
        json_object_object_add(object, "pid", tool_json_token(change->pid));
        json_object_object_add(object, "note", tool_json_text(change->note));
        json_object_object_add(object, "index", tool_json_token(change->index));
        json_object_object_add(object, "wall_ms", tool_json_token(change->wall_ms));
        json_object_object_add(object, "after", tool_json_token(change->after));
        tool_put_json(object);
}

/* SIGINT and SIGTERM are an end like any other; and so is a pipe whose reader has gone. */
static int hear_signals(void)
{
        sigset_t ends;

        (void)signal(SIGPIPE, SIG_IGN);
        (void)sigemptyset(&ends);
        (void)sigaddset(&ends, SIGINT);
        (void)sigaddset(&ends, SIGTERM);
        (void)sigprocmask(SIG_BLOCK, &ends, NULL);
        return signalfd(-1, &ends, SFD_CLOEXEC | SFD_NONBLOCK);
}

/* Nobody will read it. */
static void give_up_output(struct follower *follower)
{
        __fpurge(stdout);
        follower->tool->reader_gone = follower->ended = true;
}

/* A reader that stands still keeps nobody from ending this. */
static bool wait_for_reader(struct follower *follower)
{
        struct pollfd ready[] = { { .fd = follower->signals, .events = POLLIN }, { .fd = STDOUT_FILENO, .events = POLLOUT } };

        while (poll(ready, 2, -1) < 0 && errno == EINTR)
                ;
        if (ready[1].revents & POLLERR || !(ready[1].revents & POLLOUT))
                give_up_output(follower);
        return !follower->ended;
}

static void write_out(struct follower *follower)
{
        if (__fpending(stdout) == 0 || !wait_for_reader(follower))
                return;
        errno = 0;
        if (!ferror(stdout) && fflush(stdout) == 0)
                return;
        follower->ended = true;
        if (errno == EPIPE)
                give_up_output(follower);
}

static bool is_counted_out(const struct follower *follower)
{
        return follower->tool->count > 0 && follower->counted >= follower->tool->count;
}

/* False: that was the last. */
static bool tell_all(struct follower *follower)
{
        struct dlock_change change;

        while (!follower->ended && !is_counted_out(follower) && dlock_watch_next(follower->watch, &change) > 0) {
                follower->counted += follower->tell(follower->tool, &change, follower->state);
                if (__fpending(stdout) > OUT_BYTES - LINE_BYTES)
                        write_out(follower);
        }
        write_out(follower);
        return !follower->ended && !is_counted_out(follower);
}

static int exit_of(const struct follower *follower)
{
        const char *reason = dlock_watch_get_reason(follower->watch);

        switch (dlock_watch_get_outcome(follower->watch)) {
        case DLOCK_YES:
        case DLOCK_NO:
        case DLOCK_REENTERED:
                return EXIT_YES;
        case DLOCK_UNREACHABLE:
                return tool_fail(EXIT_UNREACHABLE, "%s", reason);
        case DLOCK_REJECTED:
                return tool_fail(EXIT_USAGE, "refused: %s", reason);
        case DLOCK_UNKNOWN:
                break;
        }
        return tool_fail(EXIT_UNKNOWN, "what has happened is not known: %s", reason);
}

/* In milliseconds, before anybody has answered. */
static int64_t patience_of(const struct tool *tool)
{
        return tool->timeout_ms ? tool->timeout_ms : DLOCK_TIMEOUT_DEFAULT;
}

/* True: it is no use to go on. */
static bool look_at_server(struct follower *follower, uint64_t now)
{
        enum dlock_outcome outcome = dlock_watch_get_outcome(follower->watch);
        uint64_t patience = (uint64_t)patience_of(follower->tool);

        if (outcome == DLOCK_YES) {
                if (follower->silent)
                        (void)fputs("dlockctl: a server answers again\n", stderr);
                follower->silent = false;
                follower->heard = true;
        } else if (follower->heard && !follower->silent) {
                follower->silent = true;
                (void)tool_fail(0, "nothing is known at the moment, and it is tried again: %s", dlock_watch_get_reason(follower->watch));
        }
        return outcome == DLOCK_REJECTED || (!follower->heard && now - follower->begun >= patience);
}

static int time_left(const struct follower *follower, uint64_t now)
{
        int library = dlock_get_timeout(follower->tool->dlock);
        uint64_t left = follower->until > now ? follower->until - now : 0;

        /* Whether a server answers is looked at while nobody has: and a suspended host's clock goes on. */
        if (library < 0 || library > 1000)
                library = 1000;
        return left < (uint64_t)library ? (int)left : library;
}

static int follow_all(struct follower *follower)
{
        struct dlock *dlock = follower->tool->dlock;

        for (;;) {
                struct pollfd ready[] = { { .fd = dlock_get_fd(dlock), .events = POLLIN }, { .fd = follower->signals, .events = POLLIN }, { .fd = STDOUT_FILENO } };
                uint64_t now;

                (void)dlock_process(dlock);
                if (!tell_all(follower))
                        return EXIT_YES;
                now = lease_now_ms();
                if (look_at_server(follower, now) || now >= follower->until)
                        return exit_of(follower);
                (void)poll(ready, 3, time_left(follower, now));
                if (ready[2].revents & POLLERR)
                        give_up_output(follower);
                if (ready[1].revents || follower->ended)
                        return EXIT_YES;
        }
}

int follow(struct tool *tool, const char *lock, bool exact, follow_tell tell, void *state)
{
        struct follower follower = { .tool = tool, .tell = tell, .state = state, .until = UINT64_MAX, .signals = hear_signals() };
        int code = tool_open(tool);

        if (code)
                return code;
        if (follower.signals < 0)
                return tool_fail(EXIT_USAGE, "no descriptor for signals: %s", strerror(errno));
        (void)setvbuf(stdout, NULL, _IOFBF, 4 * OUT_BYTES);
        if (tool->for_ms > 0 && tool->for_ms < patience_of(tool))
                (void)dlock_set_timeout(tool->dlock, (uint32_t)tool->for_ms);
        if (dlock_watch_new(&follower.watch, tool->dlock, lock, exact, tool->after_index) < 0)
                return tool_call_failed(tool);
        /* Not before that of the first question, which ends with a reason. */
        follower.begun = lease_now_ms();
        if (tool->for_ms >= 0)
                follower.until = follower.begun + (uint64_t)tool->for_ms;
        code = follow_all(&follower);
        dlock_watch_free(follower.watch);
        (void)close(follower.signals);
        return code;
}
