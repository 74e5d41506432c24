#include "bus.h"

#include <errno.h>
#include <time.h>

uint64_t bus_now_us(void)
{
        struct timespec now;

        (void)clock_gettime(CLOCK_MONOTONIC, &now);
        return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

/* sd_bus_call() alone would wait for as long as the bus does not let anybody in. */
int bus_open(bool of_user, uint64_t end_us, sd_bus **ret_bus)
{
        sd_bus *bus = NULL;
        int r = of_user ? sd_bus_open_user(&bus) : sd_bus_open_system(&bus);

        while (r >= 0 && (r = sd_bus_is_ready(bus)) == 0) {
                uint64_t now = bus_now_us();

                if (now >= end_us)
                        r = -ETIMEDOUT;
                else if ((r = sd_bus_process(bus, NULL)) == 0)
                        r = sd_bus_wait(bus, end_us - now);
        }
        if (r < 0) {
                (void)sd_bus_close_unref(bus);
                return r;
        }
        *ret_bus = bus;
        return 0;
}
