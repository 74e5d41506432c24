/* bound.h - the units that systemd stops when a unit stops, and their processes.
 *
 * Who they are is asked of systemd, over its bus. That they end is seen, and done if need be, in their cgroups, without systemd, which
 * may be busy, or hang. Nothing here waits for longer than its patience. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BOUND_UNITS_MAX 256
#define BOUND_NAME_MAX 255                   /* bytes of a unit's name, as systemd has it */

struct bound_unit {
        char name[BOUND_NAME_MAX + 1];
        char *cgroup;                        /* below the root of cgroups; NULL: it has no processes of its own */
        uint64_t stop_us;                    /* TimeoutStopSec=; UINT64_MAX: infinity; 0: it has none */
        bool active;                         /* or on its way from or to it, as systemd knew */
};

struct bound {
        const char *unit;                    /* that all of them are bound to */
        struct bound_unit *units;
        size_t count;
        bool stopping;                       /* systemd has begun to stop the unit, so that nothing bound to it is started any more */
        uint32_t patience_ms;
        struct sd_bus *bus;
        char problem[256];                   /* of the last look that failed */
};

/* unit: NULL when there is none, and then nobody is bound to it. */
void bound_begin(struct bound *bound, const char *unit, uint32_t patience_ms);
void bound_end(struct bound *bound);

/* Asks systemd who they are now, and how. False, and problem: no answer in time; what was known is known still. */
bool bound_look(struct bound *bound);
/* Takes one from elsewhere, as if it had been seen active. False: its name or cgroup is none, or there are too many. */
bool bound_add(struct bound *bound, const char *name, const char *cgroup);

/* The first that is not over: it is active, or has processes. When looked is false, that it was active once counts for mounts only. NULL:
 * all are over. */
const struct bound_unit *bound_first_alive(const struct bound *bound, bool looked);
/* SIGKILL to all processes of those that are left behind by a unit that is inactive, or to all of them. */
void bound_kill(const struct bound *bound, bool all);
