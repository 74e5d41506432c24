/* settings.h - what the files said, key by key, before it is a struct config.
 *
 * For messages about keys that contradict each other, for the systemd generator,
 * which hands texts with %i on, and for tests that read from memory. */
#pragma once

#include "config/config.h"
#include "config/keys.h"
#include "config/reader.h"

#define CONFIG_PATH_BYTES 4096

struct config_setting {
        char text[READER_LINE_BYTES_MAX + 1];        /* as written: %i stays */
        unsigned file;                               /* of settings.paths */
        unsigned line;                               /* 0: the default */
};

/* In the order of config_keys. */
struct config_settings {
        struct config_setting items[CONFIG_KEYS_MAX];
        char paths[2][CONFIG_PATH_BYTES];
        size_t files;                                /* read so far */
};

/* As config_load, and what was said. shared_only: without follower-N.ini. */
int config_settings_load(const char *directory, enum config_role role, unsigned instance, bool shared_only, struct config_settings *ret_settings,
                         struct config *ret_config, char error[512]);

/* As config_load, from one open file. */
int config_settings_load_stream(FILE *file, const char *path, enum config_role role, unsigned instance, struct config_settings *ret_settings,
                                struct config *ret_config, char error[512]);
