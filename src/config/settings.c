#include "config/settings.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"

struct loader {
        struct config_settings *settings;
        struct config *config;
};

static bool _printf_(2, 3) problem_set(char problem[READER_ERROR_BYTES], const char *format, ...)
{
        va_list values;

        va_start(values, format);
        (void)vsnprintf(problem, READER_ERROR_BYTES, format, values);
        va_end(values);
        return false;
}

/* --- one file ------------------------------------------------------------ */

static bool loader_section(void *user, const char *section, char problem[READER_ERROR_BYTES])
{
        const struct loader *loader = user;
        char known[256];

        if (config_section_exists(loader->config->role, section))
                return true;
        config_sections_list(loader->config->role, known);
        return problem_set(problem, "unknown section [%s]; %s would be accepted", section, known);
}

static bool loader_value(void *user, unsigned line, const char *section, const char *name, const char *value, char problem[READER_ERROR_BYTES])
{
        struct loader *loader = user;
        const struct config_key *key = config_key_find(loader->config->role, section, name);
        struct config_setting *setting;
        unsigned file = (unsigned)loader->settings->files;
        char known[256];

        if (!key) {
                config_names_list(loader->config->role, section, known);
                return problem_set(problem, "unknown key %s in [%s]; %s would be accepted", name, section, known);
        }
        setting = &loader->settings->items[key - config_keys];
        if (setting->line > 0 && setting->file == file)
                return problem_set(problem, "%s was already set in line %u; one value would be accepted", name, setting->line);
        if (!config_key_apply(key, value, loader->config, problem))
                return false;
        *setting = (struct config_setting){ .file = file, .line = line };
        (void)snprintf(setting->text, sizeof(setting->text), "%s", value);
        return true;
}

static int loader_read(struct loader *loader, FILE *file, const char *path, char error[512])
{
        const struct reader_target target = { loader_section, loader_value, loader };
        int r;

        assert(loader->settings->files < ARRAY_SIZE(loader->settings->paths));
        (void)snprintf(loader->settings->paths[loader->settings->files], CONFIG_PATH_BYTES, "%s", path);
        r = ini_read(file, path, &target, error);
        loader->settings->files++;
        return r;
}

/* A file that is not there says nothing; a link to one was meant to say something. */
static int loader_read_path(struct loader *loader, const char *path, char error[512])
{
        struct stat status;
        int r;
        _cleanup_fclose_ FILE *file = ini_open(path, &r, error);

        if (!file)
                return r == -ENOENT && lstat(path, &status) < 0 ? 0 : r;
        return loader_read(loader, file, path, error);
}

/* --- keys against each other ---------------------------------------------- */

/* The place to name: of the first of the two keys that was written down. */
static int settings_refuse(const struct config_settings *settings, const void *first, const void *second, const struct config *config, const char *what, char error[512])
{
        const struct config_setting *setting = NULL;

        for (size_t i = 0; i < config_keys_count; i++)
                if ((const char *)config + config_keys[i].offset == first && settings->items[i].line > 0)
                        setting = &settings->items[i];
        for (size_t i = 0; i < config_keys_count && !setting; i++)
                if ((const char *)config + config_keys[i].offset == second && settings->items[i].line > 0)
                        setting = &settings->items[i];
        if (setting)
                (void)snprintf(error, 512, "%s:%u: %s", settings->paths[setting->file], setting->line, what);
        else
                (void)snprintf(error, 512, "%s", what);
        return -EINVAL;
}

static int check_numbers(const struct config_settings *settings, const struct config *config, char error[512])
{
        if (config->heartbeat_ms > config->timeout_ms / 3)
                return settings_refuse(settings, &config->heartbeat_ms, &config->timeout_ms, config,
                                       "heartbeat is more than a third of timeout; a shorter heartbeat or a longer timeout would be accepted", error);
        if (config->min_voters > config->max_voters)
                return settings_refuse(settings, &config->min_voters, &config->max_voters, config,
                                       "min_voters is more than max_voters; a smaller min_voters would be accepted", error);
        return 0;
}

static int check_local(const struct config_settings *settings, const struct config *config, const void *member, const struct address *address, char error[512])
{
        char name[LIMIT_ADDRESS_BYTES + 16], what[512];

        if (config->allow_insecure || address_is_local(address))
                return 0;
        (void)snprintf(what, sizeof(what), "%s is beyond this host and TCP is not encrypted; a loopback address or a socket path, or allow_insecure = yes in [listen], would be accepted",
                       address_format(address, name));
        return settings_refuse(settings, member, NULL, config, what, error);
}

static int check_insecure(const struct config_settings *settings, const struct config *config, char error[512])
{
        int r = 0;

        for (size_t i = 0; i < config->clients.count && r == 0; i++)
                r = check_local(settings, config, &config->clients, &config->clients.items[i], error);
        if (r == 0)
                r = check_local(settings, config, &config->peers, &config->peers, error);
        for (size_t i = 0; i < config->join.count && r == 0; i++)
                r = check_local(settings, config, &config->join, &config->join.items[i], error);
        return r;
}

static int check_overlap(const struct config_settings *settings, const struct config *config, char error[512])
{
        char clients[LIMIT_ADDRESS_BYTES + 16], peers[LIMIT_ADDRESS_BYTES + 16];

        for (size_t i = 0; i < config->clients.count; i++)
                if (strcmp(address_format(&config->clients.items[i], clients), address_format(&config->peers, peers)) == 0)
                        return settings_refuse(settings, &config->peers, &config->clients, config,
                                               "peers is also one of clients; two different addresses would be accepted", error);
        return 0;
}

/* config_print promises lines that can be read back. */
static int check_lengths(const struct config_settings *settings, const struct config *config, char error[512])
{
        char text[CONFIG_VALUE_BYTES], what[512];

        for (size_t i = 0; i < config_keys_count; i++) {
                const struct config_key *key = &config_keys[i];

                config_key_format(key, config, true, text);
                if (strlen(key->name) + strlen(" = ") + strlen(text) <= READER_LINE_BYTES_MAX)
                        continue;
                (void)snprintf(what, sizeof(what), "the value of %s is too long; %s = value in %d bytes would be accepted", key->name, key->name, READER_LINE_BYTES_MAX);
                return settings_refuse(settings, (const char *)config + key->offset, NULL, config, what, error);
        }
        return 0;
}

/* A witness has no clients; the shipped file names the usual addresses, and that is nobody's wish. */
static int take_clients_from_witness(const struct config_settings *settings, struct config *config, char error[512])
{
        const struct config_key *key = config_key_find(config->role, "listen", "clients");
        const char *text = settings->items[key - config_keys].text;

        if (!config->witness || config->clients.count == 0)
                return 0;
        if (strcmp(text, key->defaults[config->role]) != 0)
                return settings_refuse(settings, &config->clients, NULL, config,
                                       "clients names addresses, but a witness serves no clients; clients = none, or witness = no in [node], would be accepted", error);
        config->clients.count = 0;
        return 0;
}

static int settings_check(const struct config_settings *settings, const struct config *config, char error[512])
{
        static int (*const checks[])(const struct config_settings *, const struct config *, char[512]) = {
                check_numbers, check_insecure, check_overlap, check_lengths,
        };
        int r = 0;

        for (size_t i = 0; i < ARRAY_SIZE(checks) && r == 0; i++)
                r = checks[i](settings, config, error);
        return r;
}

/* --- all of it ------------------------------------------------------------- */

static int loader_begin(struct loader *loader, enum config_role role, unsigned instance, char error[512])
{
        if (role == CONFIG_FOLLOWER && (instance < 1 || instance > CONFIG_INSTANCE_MAX)) {
                (void)snprintf(error, 512, "follower %u; a number from 1 to %d would be accepted", instance, CONFIG_INSTANCE_MAX);
                return -EINVAL;
        }
        *loader->settings = (struct config_settings){ .files = 0 };
        *loader->config = (struct config){ .role = role, .instance = role == CONFIG_LEADER ? 0 : instance };
        for (size_t i = 0; i < config_keys_count; i++) {
                const char *text = config_keys[i].defaults[role];

                if (!text)
                        continue;
                (void)snprintf(loader->settings->items[i].text, sizeof(loader->settings->items[i].text), "%s", text);
                if (!config_key_apply(&config_keys[i], text, loader->config, error))
                        return -EINVAL;
        }
        return 0;
}

/* All is read: what belongs together is compared, and handed over when it is right. */
static int loader_end(struct loader *loader, struct config_settings *ret_settings, struct config *ret_config, char error[512])
{
        int r = take_clients_from_witness(loader->settings, loader->config, error);

        if (r == 0)
                r = settings_check(loader->settings, loader->config, error);
        if (r < 0)
                return r;
        *ret_settings = *loader->settings;
        *ret_config = *loader->config;
        return 0;
}

int config_settings_load(const char *directory, enum config_role role, unsigned instance, bool shared_only, struct config_settings *ret_settings,
                         struct config *ret_config, char error[512])
{
        struct config_settings settings;
        struct config config;
        struct loader loader = { &settings, &config };
        char path[CONFIG_PATH_BYTES - 64];
        int r;

        r = loader_begin(&loader, role, instance, error);
        if (r < 0)
                return r;
        (void)snprintf(path, sizeof(path), "%s/%s.ini", directory, role == CONFIG_LEADER ? "leader" : "follower");
        r = loader_read_path(&loader, path, error);
        if (r == 0 && role == CONFIG_FOLLOWER && !shared_only) {
                (void)snprintf(path, sizeof(path), "%s/follower-%u.ini", directory, instance);
                r = loader_read_path(&loader, path, error);
        }
        return r < 0 ? r : loader_end(&loader, ret_settings, ret_config, error);
}

int config_settings_load_stream(FILE *file, const char *path, enum config_role role, unsigned instance, struct config_settings *ret_settings,
                                struct config *ret_config, char error[512])
{
        struct config_settings settings;
        struct config config;
        struct loader loader = { &settings, &config };
        int r;

        r = loader_begin(&loader, role, instance, error);
        if (r == 0)
                r = loader_read(&loader, file, path, error);
        return r < 0 ? r : loader_end(&loader, ret_settings, ret_config, error);
}
