#include "dlockd/notify.h"

/* The place in the source that sends is always the same. */
#define SD_JOURNAL_SUPPRESS_LOCATION

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <systemd/sd-daemon.h>
#include <systemd/sd-journal.h>

#include "base/clock.h"
#include "base/limits.h"

#define FIELDS_MAX (LIMIT_LOCKS_AT_ONCE + 2u)

static void send_to_journal(enum diag_level level, const char *text, const struct diag_field *fields, size_t count)
{
        char message[1100], priority[16], lines[FIELDS_MAX][400];
        struct iovec vectors[FIELDS_MAX + 2];
        size_t used = 0;

        vectors[used++] = (struct iovec){ message, (size_t)snprintf(message, sizeof(message), "MESSAGE=%s", text) };
        vectors[used++] = (struct iovec){ priority, (size_t)snprintf(priority, sizeof(priority), "PRIORITY=%d", (int)level) };
        for (size_t i = 0; i < count && i < FIELDS_MAX; i++) {
                int size = snprintf(lines[i], sizeof(lines[i]), "%s=%s", fields[i].name, fields[i].value);

                vectors[used++] = (struct iovec){ lines[i], MIN((size_t)size, sizeof(lines[i]) - 1) };
        }
        if (sd_journal_sendv(vectors, (int)used) < 0)
                (void)fprintf(stderr, "<%d>%s\n", (int)level, text);
}

void notify_use_journal(void)
{
        const char *stream = getenv("JOURNAL_STREAM");
        unsigned long long device, inode;
        struct stat status;

        /* The variable may be inherited: it counts only when it names this very stderr. */
        if (!stream || sscanf(stream, "%llu:%llu", &device, &inode) != 2 || fstat(STDERR_FILENO, &status) < 0)
                return;
        if (status.st_dev == device && status.st_ino == inode)
                diag_set_sink(send_to_journal);
}

void notify_ready(void)
{
        (void)sd_notify(0, "READY=1");
}

void notify_stopping(void)
{
        (void)sd_notify(0, "STOPPING=1");
}

void notify_reloading(void)
{
        (void)sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%" PRIu64, clock_monotonic_ns() / 1000);
}

void notify_status(const char *format, ...)
{
        static char last[512];
        char text[512];
        va_list arguments;

        va_start(arguments, format);
        (void)vsnprintf(text, sizeof(text), format, arguments);
        va_end(arguments);
        if (strcmp(text, last) == 0)
                return;
        (void)snprintf(last, sizeof(last), "%s", text);
        (void)sd_notifyf(0, "STATUS=%s", text);
}

void notify_watchdog(uint64_t now)
{
        static uint64_t interval_ms = UINT64_MAX, fed;
        uint64_t usec;

        if (interval_ms == UINT64_MAX)
                interval_ms = sd_watchdog_enabled(0, &usec) > 0 ? usec / 1000 : 0;
        if (interval_ms == 0 || now - fed < interval_ms / 3)
                return;
        fed = now;
        (void)sd_notify(0, "WATCHDOG=1");
}
