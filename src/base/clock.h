/* clock.h - the three clocks, by what they are for (DESIGN D10). Not for the pure rooms. */
#pragma once

#include <stdint.h>

/* CLOCK_MONOTONIC: what a server measures with; stands still in suspend. */
uint64_t clock_monotonic_ms(void);
uint64_t clock_monotonic_ns(void);
/* CLOCK_BOOTTIME: what a client measures with; goes on in suspend. */
uint64_t clock_boottime_ms(void);
/* CLOCK_REALTIME: for display only, no decision reads it. */
uint64_t clock_wall_ms(void);
