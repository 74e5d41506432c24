/* lease.h - what the commands share that keep a lock as a lease: run and hold. */
#pragma once

#include "tool.h"

#define LEASE_CLIENT_SIZE 37

/* What run and hold exit with; run has those of its command beside them. */
enum lease_exit {
        LEASE_EXIT_TIMED_OUT = 118,
        LEASE_EXIT_HELD = 119,
        LEASE_EXIT_LOST = 120,
        LEASE_EXIT_UNKNOWN = 121,
        LEASE_EXIT_UNREACHABLE = 122,
        LEASE_EXIT_FAILED = EXIT_USAGE_BESIDE, /* also refused, or something on this side */
};

struct lease_times {
        uint32_t ttl_ms;
        uint32_t lock_delay_ms;
        uint32_t grace_ms;                   /* from SIGTERM to SIGKILL */
        uint32_t margin_ms;                  /* from SIGKILL to the deadline */
};

/* What the options say. kills_at_once: there is no SIGTERM that needs its time. 0, or what to exit with after a line on standard error. */
int lease_plan_times(const struct tool *tool, bool kills_at_once, struct lease_times *ret_times);

/* A client id of its own, so that two jobs of one user exclude each other. False: there are no random numbers. */
bool lease_make_client(char client[LEASE_CLIENT_SIZE]);
/* A handle of that client. 0, or -errno, and a line for people in text. */
int lease_open(const struct tool *tool, const char *client, struct dlock **ret_dlock, char *text, size_t size);

/* What gives back all that was had with lock. session, when it is not 0: in one entry; else one lock after the other, by token, or with that 0 whatever
 * the client has. Request of that number; false: there are no more. */
bool lease_give_back_request(const struct tool *tool, const char *lock, uint64_t token, uint64_t session, size_t number, struct dlock_request *ret_request);

/* "NAME is held by ..., for 3 min", as a node told it; row NULL: nothing is known of the holder. */
void lease_tell_holder(const char *lock, const struct dlock_row *row, char *text, size_t size);

uint64_t lease_now_ms(void);                 /* CLOCK_BOOTTIME, which goes on while the host is suspended */
/* A timer of that clock; it wakes poll(2) at once after a suspend. -errno. */
int lease_new_timer(void);
void lease_set_timer(int timer, uint64_t at_ms);
