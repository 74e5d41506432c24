/* hold.c - holds a lock in the foreground; as a service, with units that are bound to it.
 *
 * systemd stops what is bound to a service as soon as that stops, or says that it does. Until all of it is over the lock is kept, and
 * renewed if it can be; at deadline - margin what is left is ended here, whether or not systemd does anything. When this process is
 * killed, systemd calls "dlockctl hold --finish", which does the same by what the record says. */
#include "hold.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "notify.h"

#define LOOK_MS 5000                         /* who is bound may change while the lock is held */
#define LOOK_AT_END_MS 100
#define PATIENCE_MS_MAX 500                  /* with systemd */
#define PING_MS_MAX 2000
#define GIVE_BACK_MS 5000

const char hold_details[] =
        "\nWaits until the lock is free, takes it as a lease that is renewed, tells so in a line, and holds it until a signal comes. The lock\n"
        "is owned by an id of its own, so that two of one user exclude each other. dlock-hold@.service(8) is made of it.\n"
        "  -n, --try                    do not wait for a lock that is held, or for a server\n"
        "  -w TIME, --wait[=TIME]       wait for so long, or for as long as it takes: the default; first come, first served\n"
        "  --shared                     together with others who say so, as readers do: who wants it alone, or in another way, waits for all of them\n"
        "  --slots N                    together with others who say the same N, N of them at most; up to 4096; 1: alone\n"
        "  --also NAME                  one lock more, all of them or none, up to 8; they are lost all at once, too\n"
        "  --ttl TIME                   of the lease, 1s to 24h (30s)\n"
        "  --lock-delay TIME            when the lease is lost nobody gets the lock for so long, 0 to 10min (1 s more than what stops all of it\n"
        "                               takes, or than a hundredth of the ttl)\n"
        "  --kill-after TIME            what is bound to the unit has so long from SIGTERM to SIGKILL when the lock is lost, up to about a\n"
        "                               quarter of the ttl (a fifth of it, at most 10s); without a unit: loss is told so long before\n"
        "  --note TEXT                  what for, in up to 255 bytes, for people\n"
        "  --unit UNIT                  the service that this is the main process of: the lock is kept until all that is bound to it is\n"
        "                               stopped, and in time that is killed\n"
        "  --finish                     what is left to do when the one that held it was killed: for ExecStopPost=\n"
        "--json: lock, held, token, deadline_boottime_ms, in a line when it is held and another when it is not any more.\n"
        "Exit status: 0 it was held, and was given back upon a signal; 128+N signal N came before it was held; 118 it was not granted in\n"
        "time; 119 it is held by another; 120 it was lost; 121 outcome unknown; 122 no server could be reached; 125 usage, refused, or something on this side.\n";

/* --- waiting --- */

static void take_signals(struct hold *hold)
{
        struct signalfd_siginfo info;

        while (hold->signals >= 0 && read(hold->signals, &info, sizeof(info)) == (ssize_t)sizeof(info))
                if (!hold->stopped_by)
                        hold->stopped_by = (int)info.ssi_signo;
}

void hold_wait(struct hold *hold, uint64_t at_ms)
{
        struct pollfd ready[] = { { .fd = dlock_get_fd(hold->dlock), .events = (short)dlock_get_events(hold->dlock) },
                                  { .fd = hold->signals, .events = POLLIN },
                                  { .fd = hold->timer, .events = POLLIN } };
        uint64_t times;

        lease_set_timer(hold->timer, at_ms == UINT64_MAX ? lease_now_ms() + DLOCK_TTL_MAX : at_ms);
        (void)poll(ready, 3, dlock_get_timeout(hold->dlock));
        (void)!read(hold->timer, &times, sizeof(times));
        take_signals(hold);
        (void)dlock_process(hold->dlock);
}

/* --- words --- */

static void tell(const struct hold *hold, bool held)
{
        const struct hold_record *record = &hold->record;

        if (hold->tool->json) {
                struct json_object *object = json_object_new_object();

                json_object_object_add(object, "lock", json_object_new_string(record->lock));
                tool_json_locks(object, hold->tool, record->lock);
                json_object_object_add(object, "held", json_object_new_boolean(held));
                json_object_object_add(object, "token", tool_json_token(record->token));
                json_object_object_add(object, "deadline_boottime_ms", held ? json_object_new_int64((int64_t)record->deadline_ms) : NULL);
                tool_put_json(object);
        } else {
                tool_print(stdout, hold->label);
                (void)printf(held ? ": held, token %" PRIu64 "\n" : ": given back, token %" PRIu64 "\n", record->token);
        }
        (void)fflush(stdout);
}

/* Once for each. */
static void warn_of_slow(const struct hold *hold)
{
        char stop[48], grace[48];

        for (size_t i = 0; i < hold->bound.count; i++) {
                const struct bound_unit *unit = hold->bound.units + i;

                if (unit->stop_us / 1000 <= hold->times.grace_ms)
                        continue;
                (void)tool_fail(0, "%s has TimeoutStopSec=%s, but when the lock is lost it is killed after %s", unit->name,
                                unit->stop_us == UINT64_MAX ? "infinity" : tool_duration(unit->stop_us / 1000, stop), tool_duration(hold->times.grace_ms, grace));
        }
}

/* --- holding --- */

/* So that systemd, when this process stands still, notices it early enough for all to be stopped, and killed by --finish, in time:
 * half of what is left is waited for the next sign of life. */
static void ping(struct hold *hold)
{
        uint64_t now_ms = lease_now_ms(), last_ms = hold->record.deadline_ms - hold->record.margin_ms;
        uint64_t half_ms = last_ms > now_ms + 2 ? (last_ms - now_ms) / 2 : 1;

        hold->pinged_ms = now_ms;
        (void)notify(hold->systemd, "WATCHDOG=1\nWATCHDOG_USEC=%" PRIu64 "000", half_ms);
}

static uint64_t next_ping_ms(const struct hold *hold)
{
        uint64_t eighth_ms = (hold->record.deadline_ms - hold->record.margin_ms - hold->pinged_ms) / 8;

        return hold->pinged_ms + (eighth_ms < PING_MS_MAX ? eighth_ms + 1 : PING_MS_MAX);
}

static void take_state(struct hold *hold, enum dlock_hold_state *state)
{
        enum dlock_hold_state now = dlock_hold_get_state(hold->hold);

        if (hold->record.deadline_ms != dlock_hold_get_deadline(hold->hold)) {
                hold->record.deadline_ms = dlock_hold_get_deadline(hold->hold);
                (void)hold_write_record(hold);
        }
        if (now == *state)
                return;
        *state = now;
        if (now == DLOCK_HELD)
                (void)notify(hold->systemd, "STATUS=holds %s, token %" PRIu64, hold->label, hold->record.token);
        else
                (void)snprintf(hold->reason, sizeof(hold->reason), "%s", dlock_hold_get_reason(hold->hold));
        if (now == DLOCK_AT_RISK)
                (void)notify(hold->systemd, "STATUS=holds %s, token %" PRIu64 ", but may lose it: %s", hold->label, hold->record.token, hold->reason);
        hold->lost = now == DLOCK_LOST;
}

static void look(struct hold *hold)
{
        if (bound_look(&hold->bound))
                (void)hold_write_record(hold);
}

/* Until it is lost, or a signal comes. */
static void keep(struct hold *hold)
{
        enum dlock_hold_state state = DLOCK_HELD;
        uint64_t look_ms = lease_now_ms() + LOOK_MS / 5;

        for (;;) {
                uint64_t now_ms = lease_now_ms(), lost_ms = hold->record.deadline_ms - hold->record.margin_ms - hold->times.grace_ms, next_ms;

                take_state(hold, &state);
                if (hold->lost || hold->stopped_by)
                        return;
                if (hold->bound.unit && now_ms >= look_ms) {
                        look(hold);
                        look_ms = now_ms + LOOK_MS;
                }
                if (hold->systemd >= 0 && now_ms >= next_ping_ms(hold))
                        ping(hold);
                next_ms = hold->bound.unit && look_ms < lost_ms ? look_ms : lost_ms;
                if (hold->systemd >= 0 && next_ping_ms(hold) < next_ms)
                        next_ms = next_ping_ms(hold);
                hold_wait(hold, next_ms);
        }
}

/* --- seeing off what is bound to it --- */

static uint64_t last_moment_ms(const struct hold *hold)
{
        uint64_t deadline_ms = hold->hold ? dlock_hold_get_deadline(hold->hold) : hold->record.deadline_ms;

        return deadline_ms - hold->record.margin_ms;
}

static void wait_at_end(struct hold *hold)
{
        if (hold->dlock)
                hold_wait(hold, lease_now_ms() + LOOK_AT_END_MS);
        else
                (void)poll(NULL, 0, LOOK_AT_END_MS);
}

/* It is over when systemd starts nothing more, and nobody is left; or, while systemd does not answer, when nobody is left. */
static bool is_over(struct hold *hold, bool looked, const char **ret_who)
{
        const struct bound_unit *unit = bound_first_alive(&hold->bound, looked);

        *ret_who = unit ? unit->name : "what is bound to it";
        return !unit && (!looked || !hold->bound.unit || hold->bound.stopping);
}

/* While it can be renewed, systemd stops all in its own time. Nobody is left when this returns, or it is said that it is too late. */
static void see_off(struct hold *hold)
{
        const char *who;
        bool told = false;

        for (;;) {
                bool looked = bound_look(&hold->bound);

                if (hold->hold && !hold->lost)
                        hold->lost = dlock_hold_get_state(hold->hold) == DLOCK_LOST;
                bound_kill(&hold->bound, lease_now_ms() >= last_moment_ms(hold));
                if (is_over(hold, looked, &who))
                        return;
                if (!told && lease_now_ms() >= last_moment_ms(hold) + hold->record.margin_ms) {
                        (void)tool_fail(0, "%s: %s is not over, and the lock has ended", hold->label, who);
                        told = true;
                }
                /* Again, since it may have been dropped. */
                (void)notify(hold->systemd, "STOPPING=1\nEXTEND_TIMEOUT_USEC=10000000\nSTATUS=%s %s until %s is stopped", hold->lost ? "has lost" : "keeps", hold->label, who);
                wait_at_end(hold);
        }
}

static bool return_lock(struct hold *hold)
{
        uint64_t now_ms = lease_now_ms(), deadline_ms = hold->hold ? dlock_hold_get_deadline(hold->hold) : hold->record.deadline_ms;
        uint64_t left_ms = deadline_ms > now_ms ? deadline_ms - now_ms : 0;
        bool done;

        hold->hold = dlock_hold_free(hold->hold);
        /* It may be another's already, or free. */
        if (left_ms == 0)
                return hold->lost;
        done = hold_give_back(hold, left_ms < GIVE_BACK_MS ? (uint32_t)left_ms : GIVE_BACK_MS);
        if (!done && !hold->lost)
                (void)tool_fail(0, "%s could not be given back; its lease ends by itself", hold->label);
        return done || hold->lost;
}

/* --- the command --- */

static int hold_it(struct hold *hold)
{
        int code = hold_get(hold);

        if (code >= 0)
                return code;
        tell(hold, true);
        warn_of_slow(hold);
        (void)notify(hold->systemd, "READY=1\nSTATUS=holds %s, token %" PRIu64, hold->record.lock, hold->record.token);
        ping(hold);
        keep(hold);
        (void)notify(hold->systemd, "STOPPING=1");
        if (hold->lost)
                (void)tool_fail(0, "%s was lost: %s", hold->label, *hold->reason ? hold->reason : "it was not renewed in time");
        see_off(hold);
        code = return_lock(hold) ? 0 : LEASE_EXIT_UNKNOWN;
        hold_remove_record();
        /* Otherwise it was said what became of it. */
        if (hold->tool->json || (code == 0 && !hold->lost))
                tell(hold, false);
        return hold->lost ? LEASE_EXIT_LOST : code;
}

/* Whoever held it is dead. */
static int finish(struct hold *hold)
{
        char text[512];

        if (!hold_read_record(hold))
                return 0;
        (void)tool_fail(0, "%s: the one that held it was killed: what is bound to it is stopped, then it is given back", hold->record.lock);
        see_off(hold);
        if (lease_now_ms() < hold->record.deadline_ms && lease_open(hold->tool, hold->record.client, &hold->dlock, text, sizeof(text)) == 0)
                (void)return_lock(hold);
        hold_remove_record();
        return 0;
}

static int catch_signals(struct hold *hold)
{
        sigset_t set;

        hold->signals = tool_catch_signals(&set);
        hold->timer = lease_new_timer();
        return hold->signals < 0 || hold->timer < 0 ? tool_fail(LEASE_EXIT_FAILED, "%s", strerror(errno)) : 0;
}

static int begin(struct hold *hold, const char *lock)
{
        char text[512];
        int code = lease_plan_times(hold->tool, false, &hold->times);

        if (code)
                return code;
        if (strlen(lock) > DLOCK_NAME_MAX)
                return tool_fail(LEASE_EXIT_FAILED, "a lock's name of up to %d bytes would be right", DLOCK_NAME_MAX);
        (void)snprintf(hold->record.lock, sizeof(hold->record.lock), "%s", lock);
        (void)snprintf(hold->label, sizeof(hold->label), "%s", tool_label(hold->tool, lock, (char[TOOL_LABEL_SIZE]){ 0 }));
        if (!lease_make_client(hold->record.client))
                return tool_fail(LEASE_EXIT_FAILED, "no random numbers: %s", strerror(errno));
        bound_begin(&hold->bound, hold->tool->unit, hold->times.ttl_ms / 20 < PATIENCE_MS_MAX ? hold->times.ttl_ms / 20 : PATIENCE_MS_MAX);
        hold->systemd = notify_open();
        if (hold->tool->finish)
                return 0;
        if (hold->tool->unit && hold->systemd < 0)
                return tool_fail(LEASE_EXIT_FAILED, "--unit is for the main process of a service of systemd with Type=notify; without it would be right");
        code = catch_signals(hold);
        if (code)
                return code;
        return lease_open(hold->tool, hold->record.client, &hold->dlock, text, sizeof(text)) < 0 ? tool_fail(LEASE_EXIT_FAILED, "%s", text) : 0;
}

int command_hold(struct tool *tool, char **operands)
{
        struct hold hold = { .tool = tool, .systemd = -1, .signals = -1, .timer = -1 };
        int code;

        if (tool->client)
                return tool_fail(LEASE_EXIT_FAILED, "--client and hold: each owns its lock by an id of its own");
        code = begin(&hold, operands[0]);
        if (code == 0)
                code = tool->finish ? finish(&hold) : hold_it(&hold);
        hold.hold = dlock_hold_free(hold.hold);
        hold.dlock = dlock_free(hold.dlock);
        bound_end(&hold.bound);
        return code;
}
