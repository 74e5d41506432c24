/* rescue.h - a cluster that begins anew from what is left of another: a backup, or a survivor's database.
 *
 * Offline: no node runs on the directory. The new cluster has this node alone, another id, and goes on with
 * numbers so much higher that its tokens are above all of the old one's (DESIGN D11). */
#pragma once

#include "config/config.h"

struct rescue {
        const struct config *config;
        const char *backup;                  /* the file to restore; NULL: recover what is in the directory */
        uint64_t tokens_above;               /* those of another cluster that was made of the same; 0: there was none */
        int64_t quiet_ms;                    /* for how long nothing is granted; -1: the longest time to live of a lease so far */
        bool accept_loss;                    /* false: only tells what would be done */
};

/* Says what it does on stdout, or on stderr in one line why not. What to exit with: 0 done, 1 failed, 2 not without accept_loss. */
int rescue_run(const struct rescue *rescue);
