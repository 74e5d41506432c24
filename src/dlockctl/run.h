/* run.h - what the two processes of dlockctl run share.
 *
 * The front is the one that was started: it passes signals on and says what came of it. The guardian below it has the lock,
 * renews it, and has the command below itself. Each of both can stop everything alone: the guardian when the front dies, and on time when
 * the lock is lost; the front when the guardian dies, or does nothing when it should. */
#pragma once

#include <signal.h>
#include <stdatomic.h>
#include <string.h>

#include "tool.h"

/* Beside those of the command. */
enum run_exit {
        RUN_EXIT_HELD = 119,
        RUN_EXIT_LOST = 120,
        RUN_EXIT_UNKNOWN = 121,
        RUN_EXIT_UNREACHABLE = 122,
        RUN_EXIT_FAILED = EXIT_USAGE_BESIDE, /* also refused, or something on this side */
        RUN_EXIT_NOT_RUN = 126,
        RUN_EXIT_NOT_FOUND = 127,
};

enum run_phase {
        RUN_ASKING,
        RUN_WITHDRAWN,                       /* by the front: nothing is to be run any more */
        RUN_HELD,                            /* by the guardian: the command is run */
        RUN_OVER,                            /* nothing is left of it */
};

/* In memory of both: what each can read also when the other one stands still. */
struct run_shared {
        _Atomic enum run_phase phase;        /* whoever takes it from RUN_ASKING decides */
        _Atomic uint64_t token;              /* 0: none was granted yet */
        _Atomic uint64_t deadline_ms;        /* CLOCK_BOOTTIME, moved with every renewal */
};

struct run_plan {
        const struct tool *tool;
        const char *lock;
        char **command;
        const char *on_lost;                 /* "term", "kill", or a command line */
        uint32_t ttl_ms;
        uint32_t grace_ms;                   /* from SIGTERM to SIGKILL */
        uint32_t margin_ms;                  /* from SIGKILL to the deadline; the front acts after half of it */
        char client[37];
        pid_t front, group;
        sigset_t mask;                       /* signals, as the command shall find them */
        bool ignores_child;
        struct run_shared *shared;
};

/* Guardian to front: first that the command is about to begin, then the end. */
struct run_report {
        bool final;
        int code;                            /* to exit with */
        char text[1024];                     /* to say; "": nothing */
};

/* Front to guardian: a signal for the command. */
struct run_order {
        int number;
        bool of_terminal;                    /* which sends to a whole process group at once */
};

/* --on-lost kill: there is no SIGTERM that needs its time. */
static inline bool run_kills_at_once(const struct run_plan *plan)
{
        return strcmp(plan->on_lost, "kill") == 0;
}

/* What the options say; 0, or what to exit with after a line on standard error. */
int run_make_plan(struct run_plan *plan, const struct tool *tool, char **operands);

uint64_t run_now_ms(void);                   /* CLOCK_BOOTTIME, which goes on while the host is suspended */
/* A timer of that clock; it wakes poll(2) at once after a suspend. -errno. */
int run_new_timer(void);
void run_set_timer(int timer, uint64_t at_ms);

/* A handle of the client that this run is. 0, or -errno, and a line for people in text. */
int run_open(const struct run_plan *plan, struct dlock **ret_dlock, char *text, size_t size);

/* The life of the guardian, on its end of a SOCK_SEQPACKET. What the process exits with, which nobody asks. */
int run_guard(const struct run_plan *plan, int front);
