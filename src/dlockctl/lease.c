#include "lease.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/random.h>
#include <sys/timerfd.h>
#include <time.h>

#define TTL_MS 30000
/* A lock that somebody else has ended may be another's already: what is stopped then does not take a share of a day. */
#define GRACE_MS_MAX 10000
#define MARGIN_MS_MAX 5000

/* --- times --- */

/* Two renewals must fit in before the stop: ttl * 0.99 - stop > ttl * 2 / 3. With a ttl of 30 s and its margin of 1.5 s that leaves up to
 * 8.1 s for the grace: 29.7 - 8.1 - 1.5 = 20.1 s, and renewals go out after 10 s and, when those are not answered, after 13, 16 and 19 s. */
static uint64_t margin_of(uint64_t ttl_ms)
{
        return ttl_ms / 20 < MARGIN_MS_MAX ? ttl_ms / 20 : MARGIN_MS_MAX;
}

static uint64_t most_grace(uint64_t ttl_ms)
{
        return (ttl_ms * 97 - 1) / 300 - margin_of(ttl_ms);
}

/* In whole seconds. */
static uint64_t least_ttl(uint64_t grace_ms)
{
        uint64_t ttl_ms = (grace_ms * 300 / 97 / 1000 + 1) * 1000;

        while (most_grace(ttl_ms) < grace_ms)
                ttl_ms += 1000;
        return ttl_ms;
}

int lease_plan_times(const struct tool *tool, bool kills_at_once, struct lease_times *ret_times)
{
        uint64_t ttl_ms = tool->ttl_ms ? tool->ttl_ms : TTL_MS, usual_ms = ttl_ms / 5 < GRACE_MS_MAX ? ttl_ms / 5 : GRACE_MS_MAX;
        uint64_t grace_ms = tool->kill_after_ms >= 0 ? (uint64_t)tool->kill_after_ms : usual_ms;
        char grace[48], ttl[48], most[48], least[48];

        *ret_times = (struct lease_times){ .ttl_ms = (uint32_t)ttl_ms, .lock_delay_ms = tool_lock_delay_ms(tool, ttl_ms, grace_ms + margin_of(ttl_ms)), .grace_ms = (uint32_t)grace_ms, .margin_ms = (uint32_t)margin_of(ttl_ms) };
        if (grace_ms <= most_grace(ttl_ms) || kills_at_once)
                return 0;
        return tool_fail(LEASE_EXIT_FAILED, "--kill-after %s is too long for --ttl %s: up to %s, or --ttl from %s on, would be right", tool_duration(grace_ms, grace),
                         tool_duration(ttl_ms, ttl), tool_duration(most_grace(ttl_ms), most), tool_duration(least_ttl(grace_ms), least));
}

uint64_t lease_now_ms(void)
{
        struct timespec now;

        (void)clock_gettime(CLOCK_BOOTTIME, &now);
        return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

int lease_new_timer(void)
{
        int fd = timerfd_create(CLOCK_BOOTTIME, TFD_CLOEXEC | TFD_NONBLOCK);

        return fd < 0 ? -errno : fd;
}

void lease_set_timer(int timer, uint64_t at_ms)
{
        const struct itimerspec at = { .it_value = { .tv_sec = (time_t)(at_ms / 1000), .tv_nsec = (long)(at_ms % 1000) * 1000000 + 1 } };

        (void)timerfd_settime(timer, TFD_TIMER_ABSTIME, &at, NULL);
}

/* --- who asks --- */

/* A UUID of version 4. */
bool lease_make_client(char client[LEASE_CLIENT_SIZE])
{
        unsigned char id[16];

        if (getrandom(id, sizeof(id), 0) != (ssize_t)sizeof(id))
                return false;
        id[6] = (unsigned char)((id[6] & 0x0f) | 0x40);
        id[8] = (unsigned char)((id[8] & 0x3f) | 0x80);
        for (size_t i = 0, at = 0; i < sizeof(id); i++)
                at += (size_t)snprintf(client + at, LEASE_CLIENT_SIZE - at, "%02x%s", id[i], i == 3 || i == 5 || i == 7 || i == 9 ? "-" : "");
        return true;
}

int lease_open(const struct tool *tool, const char *client, struct dlock **ret_dlock, char *text, size_t size)
{
        int r = dlock_new(ret_dlock, tool->servers, text, size);

        if (r < 0)
                return r;
        r = dlock_set_timeout(*ret_dlock, tool->timeout_ms ? tool->timeout_ms : DLOCK_TIMEOUT_DEFAULT);
        if (r >= 0)
                r = dlock_set_client(*ret_dlock, client);
        if (r < 0) {
                (void)snprintf(text, size, "%s", dlock_get_error(*ret_dlock));
                *ret_dlock = dlock_free(*ret_dlock);
        }
        return r;
}

bool lease_give_back_request(const struct tool *tool, const char *lock, uint64_t token, uint64_t session, size_t number, struct dlock_request *ret_request)
{
        const char *one = tool_lock_of(tool, lock, number);

        if (session != 0)
                *ret_request = (struct dlock_request){ .operation = DLOCK_OP_CLOSE, .session = session };
        else
                *ret_request = (struct dlock_request){ .operation = DLOCK_OP_RELEASE, .lock = one, .token = token };
        return session != 0 ? number == 0 : one != NULL;
}

/* --- who holds it --- */

/* Whoever says the same as those who hold it together is not refused for them, but for those who wait already. */
static const char *who_waits(const struct dlock_row *row, char buffer[48])
{
        buffer[0] = 0;
        if (row->slots != 0 && row->waiting > 0)
                (void)snprintf(buffer, 48, "; %" PRIu32 " wait%s for it", row->waiting, row->waiting > 1 ? "" : "s");
        return buffer;
}

void lease_tell_holder(const char *lock, const struct dlock_row *row, char *text, size_t size)
{
        char held[48], process[32] = "", mode[24], others[32], waiters[48];
        bool together;

        if (!row) {
                (void)snprintf(text, size, "%s is held by another", lock);
                return;
        }
        together = row->holders > 1;
        if (row->pid != 0)
                (void)snprintf(process, sizeof(process), ", process %" PRIu32, row->pid);
        (void)snprintf(text, size, "%s is held%s by %s%s%s%s%s%s%s%s, %sfor %s%s%s%s", lock, tool_mode(row->slots, mode), *row->user ? row->user : row->owner, *row->host ? " on " : "", row->host,
                       *row->unit ? ", unit " : "", row->unit, process, together ? "," : "", tool_others(row->holders, others), together ? "the first " : "",
                       tool_duration(row->held_ms, held), who_waits(row, waiters), *row->note ? ": " : "", row->note);
}
