/* guardian.h - the guardian of dlockctl run, for the files that it is made of. */
#pragma once

#include "run.h"
#include "tree.h"

enum stage {
        STAGE_RUNNING,
        STAGE_STOPPING,                      /* everybody got SIGTERM, or what --on-lost names is at work */
        STAGE_KILLING,
        STAGE_KEEPING,                       /* nobody is left; --hold-at-least */
};

struct guardian {
        const struct run_plan *plan;
        struct tree tree;
        struct dlock *dlock;
        struct dlock_hold *hold;
        int front, signals, timer;
        bool alone;                          /* the front is gone */
        pid_t command;                       /* 0: not begun */
        bool ended;
        bool told_to_end;                    /* by a signal: then the lock is kept no longer than the command */
        bool gives_back;                     /* from then on a signal that tells to end makes it hurry */
        uint64_t keep_until_ms;              /* --hold-at-least */
        int status;                          /* when ended: as of wait(2) */
        enum stage stage;
        uint64_t kill_at_ms;
        uint32_t pause_ms;
        bool lost;
        bool cut_short;                      /* lost while the command ran */
        char reason[256];                    /* when cut short */
        struct run_report report;
};

/* What the front shall exit with and say, unless something else comes of it. */
void guardian_conclude(struct guardian *guardian, int code, const char *format, ...) TOOL_PRINTF(3, 4);
/* Takes what the front says, and notices when it is gone. */
void guardian_hear_front(struct guardian *guardian);

/* --- guardian_lock.c --- */

/* False: concluded without the lock. */
bool guardian_take_lock(struct guardian *guardian, struct dlock_answer *ret_answer);
/* True: the lock is not this client's any more. token 0: whatever it may have. Else *ret_reason is why not, until the next question.
 * timeout_ms 0: the usual. */
bool guardian_give_back(struct guardian *guardian, uint64_t token, uint32_t timeout_ms, const char **ret_reason);
