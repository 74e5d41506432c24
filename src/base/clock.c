#include "base/clock.h"

#include <stdlib.h>
#include <time.h>

static uint64_t read_ns(clockid_t clock)
{
        struct timespec now;

        if (clock_gettime(clock, &now) < 0)
                abort();
        return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

uint64_t clock_monotonic_ns(void)
{
        return read_ns(CLOCK_MONOTONIC);
}

uint64_t clock_monotonic_ms(void)
{
        return read_ns(CLOCK_MONOTONIC) / 1000000;
}

uint64_t clock_boottime_ms(void)
{
        return read_ns(CLOCK_BOOTTIME) / 1000000;
}

uint64_t clock_wall_ms(void)
{
        return read_ns(CLOCK_REALTIME) / 1000000;
}
