/* notify.h - what the service manager and the journal are told. */
#pragma once

#include <stdint.h>

#include "base/diag.h"

/* Sends diagnostics to the journal, with their fields, when stderr is connected to it. */
void notify_use_journal(void);

/* sd_notify(3): no-ops without systemd. */
void notify_ready(void);
void notify_stopping(void);
void notify_reloading(void);
/* Sent only when the text differs from the last one. */
void notify_status(const char *format, ...) _printf_(1, 2);
/* Feeds the watchdog, at most once per third of its interval. now: monotonic ms. */
void notify_watchdog(uint64_t now);
