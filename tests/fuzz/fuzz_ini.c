/* An ini file as it may lie in /etc/dlock. The first byte picks the role. What is accepted is printed and read
 * again, and must be the same settings; what is refused has one line that says why. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/config.h"
#include "config/settings.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool condition)
{
        if (!condition)
                abort();
}

static bool load(const void *data, size_t size, enum config_role role, struct config *config)
{
        static struct config_settings settings;
        char error[512] = "";
        FILE *file = fmemopen((void *)(uintptr_t)data, size, "r");
        int r;

        must(file != NULL);
        r = config_settings_load_stream(file, "fuzz.ini", role, role == CONFIG_FOLLOWER ? 3 : 0, &settings, config, error);
        (void)fclose(file);
        must(r == 0 ? error[0] == 0 : error[0] != 0 && !strchr(error, '\n'));
        return r == 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        enum config_role role;
        struct config config = { 0 }, again = { 0 };
        char *text = NULL;
        size_t text_size = 0;
        FILE *printed;

        if (size < 2 || size > 65536)
                return 0;
        role = data[0] % 2 ? CONFIG_FOLLOWER : CONFIG_LEADER;
        if (!load(data + 1, size - 1, role, &config))
                return 0;
        printed = open_memstream(&text, &text_size);
        must(printed != NULL);
        config_print(&config, printed);
        (void)fclose(printed);
        must(load(text, text_size, role, &again));
        must(strcmp(config.name, again.name) == 0 && strcmp(config.directory, again.directory) == 0);
        must(config.clients.count == again.clients.count && config.join.count == again.join.count);
        must(config.timeout_ms == again.timeout_ms && config.heartbeat_ms == again.heartbeat_ms && config.keep_entries == again.keep_entries);
        must(config.allow_insecure == again.allow_insecure && config.max_voters == again.max_voters && config.log_level == again.log_level);
        free(text);
        return 0;
}
