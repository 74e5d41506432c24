/* dlock-generator - a systemd.generator(7): where an ini file names other
 * addresses than the socket units, it writes drop-ins that name the same; where
 * it names another directory, one that lets the service write there.
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

/* One unit, or the template or an instance of one. */
struct unit {
        const char *section, *key;
        const char *name, *suffix;           /* the unit's, before and after the instance */
        enum config_role role;
};

static const struct unit units[] = {
        { "listen", "clients", "dlock-leader", ".socket", CONFIG_LEADER },
        { "listen", "peers", "dlock-leader-peer", ".socket", CONFIG_LEADER },
        { "node", "directory", "dlock-leader", ".service", CONFIG_LEADER },
        { "listen", "clients", "dlock-follower@", ".socket", CONFIG_FOLLOWER },
        { "listen", "peers", "dlock-follower-peer@", ".socket", CONFIG_FOLLOWER },
        { "node", "directory", "dlock-follower@", ".service", CONFIG_FOLLOWER },
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

/* What a drop-in says, all of it. */
struct text {
        char bytes[2 * CONFIG_VALUE_BYTES];
};

/* A socket unit must listen somewhere: one that shall not is kept from starting. */
static void text_of_addresses(struct text *text, const struct config *config, const struct config_key *key, const char *value)
{
        struct listen listen;

        listen_take(&listen, config, key, value);
        if (listen.used == 0)
                (void)snprintf(text->bytes, sizeof(text->bytes), "[Unit]\nConditionPathExists=!/\n");
        else
                (void)snprintf(text->bytes, sizeof(text->bytes), "[Socket]\nListenStream=\n%sFreeBind=yes\n", listen.lines);
}

/* The unit protects all of the system. Not there yet is no reason to keep the service from saying so itself. */
static void text_of_directory(struct text *text, const char *value)
{
        char *end = stpcpy(text->bytes, "[Service]\nReadWritePaths=\"-");

        if (strcmp(value, "auto") == 0) {
                text->bytes[0] = '\0';
                return;
        }
        for (const char *cursor = value; *cursor; cursor++) {
                if (*cursor == '"' || *cursor == '\\')
                        *end++ = '\\';
                *end++ = *cursor;
        }
        (void)strcpy(end, "\"\n");
}

/* --- writing it -------------------------------------------------------------- */

#define DROP_IN "50-dlock.conf"

/* Below directory, which exists; makes UNIT.d/50-dlock.conf. */
static void write_drop_in(const char *directory, const char *unit, const char *source, const struct text *text)
{
        char path[CONFIG_PATH_BYTES];
        _cleanup_fclose_ FILE *file = NULL;

        if (snprintf(path, sizeof(path), "%s/%s.d", directory, unit) >= (int)sizeof(path) - (int)sizeof("/" DROP_IN)) {
                say("%s: the path is too long", directory);
                return;
        }
        if (mkdir(path, 0755) < 0 && errno != EEXIST) {
                say("cannot make %s: %s", path, strerror(errno));
                return;
        }
        (void)strcat(path, "/" DROP_IN);
        file = fopen(path, "we");
        if (!file) {
                say("cannot write %s: %s", path, strerror(errno));
                return;
        }
        (void)fprintf(file, "# Made by dlock-generator from %s.\n%s", source, text->bytes);
        if (fflush(file) != 0 || ferror(file))
                say("cannot write %s: %s", path, strerror(errno));
}

static bool is_of_instance(const char *path)
{
        const char *slash = strrchr(path, '/');

        return slash && strncmp(slash, "/follower-", strlen("/follower-")) == 0;
}

/* What decides where a unit listens: the key itself, or for the clients of a follower that it is a witness. */
static const struct config_setting *deciding(const struct config_settings *settings, const struct config *config, const struct config_key *key)
{
        const struct config_key *witness = config_key_find(config->role, "node", "witness");
        const struct config_setting *setting = &settings->items[key - config_keys], *other = witness ? &settings->items[witness - config_keys] : setting;
        bool of_clients = strcmp(key->name, "clients") == 0;

        if (!of_clients || other->line == 0)
                return setting;
        return config->witness || setting->line == 0 || setting->file < other->file ? other : setting;
}

/* The units of one set of files. */
static void make_units(const char *directory, const struct config_settings *settings, const struct config *config, bool instance_only)
{
        for (size_t i = 0; i < ARRAY_SIZE(units); i++) {
                const struct config_key *key = config_key_find(config->role, units[i].section, units[i].key);
                const struct config_setting *by = deciding(settings, config, key);
                const char *value = settings->items[key - config_keys].text;
                char unit[128], number[16] = "";
                static struct text text;

                if (config->witness && strcmp(key->name, "clients") == 0)
                        value = "none";
                if (units[i].role != config->role || by->line == 0 || (instance_only && !is_of_instance(settings->paths[by->file])))
                        continue;
                if (!instance_only && strcmp(value, key->defaults[config->role]) == 0)
                        continue;
                if (instance_only)
                        (void)snprintf(number, sizeof(number), "%u", config->instance);
                (void)snprintf(unit, sizeof(unit), "%s%s%s", units[i].name, number, units[i].suffix);
                if (strcmp(units[i].section, "listen") == 0)
                        text_of_addresses(&text, config, key, value);
                else
                        text_of_directory(&text, value);
                write_drop_in(directory, unit, settings->paths[by->file], &text);
        }
}

static void make_role(const char *directory, const char *config_directory, enum config_role role, unsigned instance, bool shared_only)
{
        static struct config_settings settings;
        struct config config;
        char error[512];

        if (config_settings_load(config_directory, role, instance, shared_only, &settings, &config, error) < 0)
                say("%s; its units stay as they are shipped", error);
        else
                make_units(directory, &settings, &config, role == CONFIG_FOLLOWER && !shared_only);
}

/* follower-N.ini: N, or 0. */
static unsigned instance_of(const char *name)
{
        static const char prefix[] = "follower-", suffix[] = ".ini";
        size_t size = strlen(name);
        char number[8];
        uint64_t value;

        if (strncmp(name, prefix, sizeof(prefix) - 1) != 0 || size < sizeof(prefix) + sizeof(suffix) - 1 ||
            strcmp(name + size - (sizeof(suffix) - 1), suffix) != 0 || size - sizeof(prefix) - sizeof(suffix) + 2 >= sizeof(number))
                return 0;
        (void)snprintf(number, sizeof(number), "%.*s", (int)(size - (sizeof(prefix) - 1) - (sizeof(suffix) - 1)), name + sizeof(prefix) - 1);
        if (number[0] == '0' || !parse_u64(number, &value) || value > CONFIG_INSTANCE_MAX)
                return 0;
        return (unsigned)value;
}

int main(int argc, char **argv)
{
        const char *directory = argc > 1 ? argv[1] : "/tmp", *config_directory = getenv("DLOCK_CONFIG_DIR");
        const struct dirent *entry;
        DIR *files;

        if (argc != 2 && argc != 4) {
                (void)fputs("Usage: dlock-generator NORMAL-DIR [EARLY-DIR LATE-DIR]; see dlock-generator(8)\n", stderr);
                return EXIT_FAILURE;
        }
        if (!config_directory)
                config_directory = "/etc/dlock";
        make_role(directory, config_directory, CONFIG_LEADER, 0, false);
        make_role(directory, config_directory, CONFIG_FOLLOWER, 1, true);
        files = opendir(config_directory);
        while (files && (entry = readdir(files)))
                if (instance_of(entry->d_name) != 0)
                        make_role(directory, config_directory, CONFIG_FOLLOWER, instance_of(entry->d_name), false);
        if (files)
                (void)closedir(files);
        return EXIT_SUCCESS;
}
