/* run.h - what the processes of dlockctl run share.
 *
 * The front is the one that was started: it passes signals on and says what came of it. The guardian below it has the lock,
 * renews it, and has the command below itself. Each of both can stop everything alone: the guardian when the front dies, and on time when
 * the lock is lost; the front when the guardian dies, or does nothing when it should. The watcher, which is nobody's child, does so when both are
 * dead or stand still: it makes the command's cgroup, where there may be one, and can do nothing without. */
#pragma once

#include <signal.h>
#include <stdatomic.h>
#include <string.h>

#include "cgroup.h"
#include "lease.h"

/* Beside those of a lease, and of the command. */
enum run_exit {
        RUN_EXIT_NOT_RUN = 126,
        RUN_EXIT_NOT_FOUND = 127,
};

enum run_phase {
        RUN_ASKING,
        RUN_WITHDRAWN,                       /* by the front: nothing is to be run any more */
        RUN_HELD,                            /* by the guardian: the command is run */
        RUN_KEPT,                            /* nothing is left of it, and --hold-at-least is not over */
        RUN_OVER,
};

/* In memory of both: what each can read also when the other one stands still. */
struct run_shared {
        _Atomic enum run_phase phase;        /* whoever takes it from RUN_ASKING decides */
        _Atomic uint64_t token;              /* 0: none was granted yet */
        _Atomic uint64_t session;            /* of the lease, when it is of several locks; else 0 */
        _Atomic uint64_t deadline_ms;        /* CLOCK_BOOTTIME, moved with every renewal */
        _Atomic int code;                    /* what the command has ended with, from RUN_KEPT on */
        _Atomic bool has_cgroup;             /* then, and not before: */
        char cgroup[CGROUP_PATH_SIZE];       /* of the command */
};

struct run_plan {
        const struct tool *tool;
        const char *lock;                    /* the first, of several */
        const char *label;                   /* all of them, for people */
        char **command;
        const char *on_lost;                 /* "term", "kill", or a command line */
        struct lease_times times;            /* of the margin, the front acts after half */
        char client[LEASE_CLIENT_SIZE];
        pid_t front, group;
        sigset_t mask;                       /* signals, as the command shall find them */
        bool ignores_child;
        struct run_shared *shared;
        int watcher;                         /* that hears when all who have it are dead; -1: there is none */
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

/* "": there is none, or none yet. */
static inline const char *run_cgroup(const struct run_plan *plan)
{
        return atomic_load(&plan->shared->has_cgroup) ? plan->shared->cgroup : "";
}

/* What the options say; 0, or what to exit with after a line on standard error. */
int run_make_plan(struct run_plan *plan, const struct tool *tool, char **operands);

/* The life of the guardian, on its end of a SOCK_SEQPACKET. What the process exits with, which nobody asks. */
int run_guard(const struct run_plan *plan, int front);

/* Before anybody takes orphans, so that the watcher is none of them. Without one all goes on as if there were no cgroups. */
void run_start_watcher(struct run_plan *plan);
/* Puts what is about to be the command into a cgroup, if that is to be had soon. data: the plan. */
void run_confine(const void *data, pid_t pid);
/* In place of a guardian that cannot: by the same client id; a token that is not known yet is whichever it has. False, and why, in text. */
bool run_give_back(const struct run_plan *plan, char *text, size_t size);
