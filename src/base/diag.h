/* diag.h - what a node says to people: one line, with structured fields.
 *
 * Without a sink a line goes to stderr with systemd's "<N>" priority prefix
 * when stderr is the journal, and plainly when it is a terminal. dlockd
 * installs a sink that sends the fields to the journal. Thread-safe. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"

/* The numbers are syslog's, RFC 5424. */
enum diag_level { DIAG_ERROR = 3, DIAG_WARNING = 4, DIAG_NOTICE = 5, DIAG_INFO = 6, DIAG_DEBUG = 7 };

/* A field of the journal, e.g. { "DLOCK_LOCK", "backup" }. */
struct diag_field {
        const char *name;
        const char *value;
};

typedef void (*diag_sink)(enum diag_level level, const char *text, const struct diag_field *fields, size_t count);

/* NULL: back to stderr. Call before threads start. */
void diag_set_sink(diag_sink sink);
/* Lines less urgent than level are dropped. The default is DIAG_INFO. */
void diag_set_level(enum diag_level level);
enum diag_level diag_get_level(void);

void diag_fields(enum diag_level level, const struct diag_field *fields, size_t count, const char *format, ...) _printf_(4, 5);

#define diag_error(...) diag_fields(DIAG_ERROR, NULL, 0, __VA_ARGS__)
#define diag_warning(...) diag_fields(DIAG_WARNING, NULL, 0, __VA_ARGS__)
#define diag_notice(...) diag_fields(DIAG_NOTICE, NULL, 0, __VA_ARGS__)
#define diag_info(...) diag_fields(DIAG_INFO, NULL, 0, __VA_ARGS__)
#define diag_debug(...) diag_fields(DIAG_DEBUG, NULL, 0, __VA_ARGS__)
