/* bus.h - a way to systemd that never waits for longer than was said. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-bus.h>

#define BUS_SYSTEMD "org.freedesktop.systemd1"

uint64_t bus_now_us(void);                   /* CLOCK_MONOTONIC */
/* The bus of the system, or that of this user's own manager. 0, or -errno. */
int bus_open(bool of_user, uint64_t end_us, sd_bus **ret_bus);
