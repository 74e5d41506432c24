/* dlock-generator - a systemd.generator(7): where an ini file names other
 * addresses than the socket units, it writes drop-ins that name the same.
 *
 * It writes nowhere but below the first directory it is given. A file that
 * dlockd would refuse gives no drop-in and one line in the log, and never an
 * exit status: a mistake in /etc/dlock must not show up as a broken boot.
 * DLOCK_CONFIG_DIR names another place for the ini files, for tests. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "config/settings.h"

/* One socket unit, or the template or an instance of one. */
struct unit {
        const char *key;                     /* in [listen] */
        const char *format;                  /* the unit's name around the instance */
        enum config_role role;
};

static const struct unit units[] = {
        { "clients", "dlock-leader%s.socket", CONFIG_LEADER },
        { "peers", "dlock-leader-peer%s.socket", CONFIG_LEADER },
        { "clients", "dlock-follower@%s.socket", CONFIG_FOLLOWER },
        { "peers", "dlock-follower-peer@%s.socket", CONFIG_FOLLOWER },
};

/* systemd gives a generator no journal yet, but the kernel's log; without systemd there is stderr. */
static void _printf_(1, 2) say(const char *format, ...)
{
        char text[1024];
        _cleanup_close_ int fd = -1;
        va_list values;

        va_start(values, format);
        (void)vsnprintf(text, sizeof(text), format, values);
        va_end(values);
        if (getenv("SYSTEMD_SCOPE"))
                fd = open("/dev/kmsg", O_WRONLY | O_CLOEXEC | O_NOCTTY);
        if (fd < 0 || dprintf(fd, "<3>dlock-generator: %s\n", text) < 0)
                (void)fprintf(stderr, "dlock-generator: %s\n", text);
}

/* --- what a drop-in says --------------------------------------------------- */

struct listen {
        char lines[CONFIG_VALUE_BYTES];
        size_t used;
};

static void listen_add(struct listen *listen, const char *address)
{
        listen->used += (size_t)snprintf(listen->lines + listen->used, sizeof(listen->lines) - listen->used, "ListenStream=%s\n", address);
}

/* The text of one item as systemd wants it: with its port; %i and %% mean the same there. */
static void listen_add_item(struct listen *listen, const struct config *config, const struct config_key *key, const char *item)
{
        char expanded[1024], text[LIMIT_ADDRESS_BYTES + 16];
        struct address address;
        bool complete;

        complete = config_expand(config->role, config->instance, item, expanded, sizeof(expanded)) == NULL && address_parse(expanded, 0, &address);
        (void)snprintf(text, sizeof(text), complete ? "%s" : "%s:%u", item, (unsigned)key->port);
        listen_add(listen, text);
}

static void listen_take(struct listen *listen, const struct config *config, const struct config_key *key, const char *text)
{
        char item[LIMIT_ADDRESS_BYTES];

        *listen = (struct listen){ .used = 0 };
        if (strcmp(text, "none") == 0)
                return;
        for (const char *cursor = text; config_list_next(&cursor, item, sizeof(item));)
                listen_add_item(listen, config, key, item);
}
