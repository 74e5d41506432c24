#include "config/config.h"

#include <string.h>

#include "config/keys.h"
#include "config/settings.h"

int config_load(const char *directory, enum config_role role, unsigned instance, struct config *ret_config, char error[512])
{
        struct config_settings settings;

        return config_settings_load(directory, role, instance, false, &settings, ret_config, error);
}

static void print_section(const struct config_key *key, const char **last, FILE *file)
{
        if (*last && strcmp(*last, key->section) == 0)
                return;
        (void)fprintf(file, "%s[%s]\n", *last ? "\n" : "", key->section);
        *last = key->section;
}

void config_print(const struct config *config, FILE *file)
{
        char text[CONFIG_VALUE_BYTES];
        const char *section = NULL;

        for (size_t i = 0; i < config_keys_count; i++) {
                const struct config_key *key = &config_keys[i];

                if (!key->defaults[config->role])
                        continue;
                print_section(key, &section, file);
                config_key_format(key, config, false, text);
                if (strlen(key->name) + strlen(" = ") + strlen(text) > READER_LINE_BYTES_MAX)
                        config_key_format(key, config, true, text);
                (void)fprintf(file, "%s = %s\n", key->name, text);
        }
}

static const char *const defaults_title[] = {
        [CONFIG_LEADER] = "; leader.ini - the settings of dlock-leader.service. Every key is here at its default.\n"
                          "; %% in a name, path or address is a percent sign.\n",
        [CONFIG_FOLLOWER] = "; follower.ini - the settings of every dlock-follower@N.service on this host. Every key is here at its default.\n"
                            "; %i in a name, path or address is the N of the instance, %% a percent sign. What differs for one instance goes into\n"
                            "; follower-N.ini beside this file: the same sections, and only the keys that differ.\n",
};

void config_print_defaults(enum config_role role, FILE *file)
{
        char accepted[256];
        const char *section = NULL;

        (void)fprintf(file, "%s; Comments stand on lines of their own. See dlock.ini(5).\n\n", defaults_title[role]);
        for (size_t i = 0; i < config_keys_count; i++) {
                const struct config_key *key = &config_keys[i];

                if (!key->defaults[role])
                        continue;
                print_section(key, &section, file);
                key->kind->describe(key, accepted);
                (void)fprintf(file, "; %s (%s).\n%s = %s\n", key->meaning, accepted, key->name, key->defaults[role]);
        }
}

size_t config_needs_restart(const struct config *running, const struct config *loaded, char names[256])
{
        char before[CONFIG_VALUE_BYTES], after[CONFIG_VALUE_BYTES];
        size_t count = 0, used = 0;

        names[0] = '\0';
        for (size_t i = 0; i < config_keys_count; i++) {
                const struct config_key *key = &config_keys[i];

                if (!key->needs_restart)
                        continue;
                config_key_format(key, running, false, before);
                config_key_format(key, loaded, false, after);
                if (strcmp(before, after) == 0)
                        continue;
                used += (size_t)snprintf(names + used, 256 - used, "%s%s", count == 0 ? "" : ", ", key->name);
                count++;
        }
        return count;
}
