/* hold.h - what dlockctl hold is made of: getting the lock, keeping it, and seeing off what is bound to it. */
#pragma once

#include "bound.h"
#include "lease.h"

/* What has to be known when the process that has the lock is gone: a file in $RUNTIME_DIRECTORY. */
struct hold_record {
        char lock[DLOCK_NAME_MAX + 1];
        char client[LEASE_CLIENT_SIZE];
        uint64_t token;
        uint64_t session;                    /* of the lease, when it is of several locks; else 0 */
        uint64_t deadline_ms, margin_ms;
};

struct hold {
        const struct tool *tool;
        struct lease_times times;
        struct hold_record record;
        struct dlock *dlock;
        struct dlock_hold *hold;             /* NULL: the lock is not had, or, at the end, nobody renews it */
        struct bound bound;
        int systemd;                         /* see notify.h */
        int signals, timer;
        int stopped_by;                      /* a signal; 0: none yet */
        bool hopeless;                       /* it cannot even be asked for: a wrong name, and the like */
        bool lost;
        uint64_t pinged_ms;                  /* the watchdog */
        char label[TOOL_LABEL_SIZE];         /* of the locks, for people */
        char told[DLOCK_LOCKS_MAX][1024];    /* what was said last of why the lock is not had, of each of several */
        char reason[512];                    /* why it was lost */
};

/* --- hold_get.c --- */

/* -1: it is held, by record.token and hold. Else what to exit with; that was said. */
int hold_get(struct hold *hold);
/* Gives back what record.token names, or, when that is 0, whatever the client has, in at most timeout_ms. */
bool hold_give_back(struct hold *hold, uint32_t timeout_ms);

/* --- hold_record.c --- */

/* Without $RUNTIME_DIRECTORY nothing is written. False: it could not be; that was said. */
bool hold_write_record(const struct hold *hold);
/* Fills record and bound. False: there is none. */
bool hold_read_record(struct hold *hold);
void hold_remove_record(void);

/* --- hold.c --- */

/* Until at_ms, a signal, or something to do for the handle. */
void hold_wait(struct hold *hold, uint64_t at_ms);
