#include "config/kinds.h"

#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/diag.h"
#include "base/name.h"

/* The members that rows point to. Rows and members are matched by hand in keys.c, once. */
#define MEMBER(type, config, key) ((type *)(void *)((char *)(config) + (key)->offset))
#define CONST_MEMBER(type, config, key) ((const type *)(const void *)((const char *)(config) + (key)->offset))

/* --- name ---------------------------------------------------------------- */

static const char *name_parse(const struct config_key *key, const char *text, struct config *config)
{
        if (!node_name_is_valid(text, strlen(text)))
                return "is not a node's name";
        (void)snprintf(MEMBER(char, config, key), key->size, "%s", text);
        return NULL;
}

static void text_format(const struct config_key *key, const struct config *config, _unused_ bool compact, char text[CONFIG_VALUE_BYTES])
{
        (void)snprintf(text, CONFIG_VALUE_BYTES, "%s", CONST_MEMBER(char, config, key));
}

static void name_describe(_unused_ const struct config_key *key, char text[256])
{
        (void)snprintf(text, 256, "1 to %d letters, digits, '.', '_' and '-'", LIMIT_NODE_NAME_BYTES);
}

const struct config_kind config_kind_name = { name_parse, text_format, name_describe };

/* --- directory ----------------------------------------------------------- */

static const char *directory_resolve(const struct config *config, char *directory, size_t capacity)
{
        const char *given = getenv("STATE_DIRECTORY");
        int size;

        if (given && *given)
                size = snprintf(directory, capacity, "%s", given);
        else if (config->role == CONFIG_LEADER)
                size = snprintf(directory, capacity, "/var/lib/dlock/leader");
        else
                size = snprintf(directory, capacity, "/var/lib/dlock/follower-%u", config->instance);
        if (size < 0 || (size_t)size >= capacity)
                return "is not usable, $STATE_DIRECTORY is too long";
        directory[strcspn(directory, ":")] = '\0';        /* systemd.exec(5): the directories of the unit, separated by colons */
        return directory[0] == '/' ? NULL : "is not usable, $STATE_DIRECTORY is not an absolute path";
}

static const char *directory_parse(const struct config_key *key, const char *text, struct config *config)
{
        char directory[sizeof(config->directory)] = "";
        const char *wrong;

        if (strcmp(text, "auto") == 0) {
                wrong = directory_resolve(config, directory, sizeof(directory));
                if (wrong)
                        return wrong;
        } else {
                if (text[0] != '/')
                        return "is not an absolute path";
                (void)snprintf(directory, sizeof(directory), "%s", text);
        }
        memcpy(MEMBER(char, config, key), directory, key->size);
        return NULL;
}

static void directory_describe(_unused_ const struct config_key *key, char text[256])
{
        (void)snprintf(text, 256, "auto, or an absolute path");
}

const struct config_kind config_kind_directory = { directory_parse, text_format, directory_describe };

/* --- addresses ----------------------------------------------------------- */

/* Socket units take the text of a path as it is: no blanks, no quotes, no line's end escaped. */
static bool path_is_plain(const char *path)
{
        for (; *path; path++)
                if (*path <= ' ' || *path > '~' || strchr("\"'\\,", *path))
                        return false;
        return true;
}

static const char *address_take(const struct config_key *key, const char *text, struct address *ret_address)
{
        struct address address;

        if (!address_parse(text, key->port, &address))
                return text[0] == '/' ? "has a socket path longer than 107 bytes" : "is not an address";
        if (!key->numeric && address.kind == ADDRESS_UNIX)
                return "is a socket path, which other hosts cannot reach";
        if (!key->numeric && address_is_any(&address))
                return "has an address that leads to no host in particular";
        if (!address_is_numeric(&address) && key->numeric)
                return "is not a numeric address";
        if (address.kind == ADDRESS_UNIX && !path_is_plain(address.host))
                return "is a path with more than plain characters";
        *ret_address = address;
        return NULL;
}

/* compact: without a port that parsing would add. */
static void address_print(const struct config_key *key, const struct address *address, bool compact, char text[LIMIT_ADDRESS_BYTES + 16])
{
        (void)address_format(address, text);
        if (compact && address->kind == ADDRESS_TCP && address->port == key->port)
                *strrchr(text, ':') = '\0';
}

static bool address_equal(const struct address *a, const struct address *b)
{
        return a->kind == b->kind && a->port == b->port && strcmp(a->host, b->host) == 0;
}

static const char *addresses_parse(const struct config_key *key, const char *text, struct config *config)
{
        struct config_addresses list = { .count = 0 };
        struct address address;
        char item[LIMIT_ADDRESS_BYTES];
        const char *wrong;

        if (strcmp(text, "none") != 0)
                for (const char *cursor = text; config_list_next(&cursor, item, sizeof(item));) {
                        wrong = address_take(key, item, &address);
                        if (wrong)
                                return wrong;
                        for (size_t i = 0; i < list.count; i++)
                                if (address_equal(&list.items[i], &address))
                                        return "names an address twice";
                        if (list.count == key->maximum)
                                return "has too many addresses";
                        list.items[list.count++] = address;
                }
        *MEMBER(struct config_addresses, config, key) = list;
        return NULL;
}

static void addresses_format(const struct config_key *key, const struct config *config, bool compact, char text[CONFIG_VALUE_BYTES])
{
        const struct config_addresses *list = CONST_MEMBER(struct config_addresses, config, key);
        char item[LIMIT_ADDRESS_BYTES + 16];
        size_t used = 0;

        (void)snprintf(text, CONFIG_VALUE_BYTES, "none");
        for (size_t i = 0; i < list->count; i++) {
                address_print(key, &list->items[i], compact, item);
                used += (size_t)snprintf(text + used, CONFIG_VALUE_BYTES - used, "%s%s", i == 0 ? "" : compact ? "," : ", ", item);
        }
}

static void addresses_describe(const struct config_key *key, char text[256])
{
        (void)snprintf(text, 256, "none, or up to %u %s, separated by commas", (unsigned)key->maximum,
                       key->numeric ? "socket paths and numeric addresses with their ports" : "addresses or host names with their ports");
}

const struct config_kind config_kind_addresses = { addresses_parse, addresses_format, addresses_describe };

static const char *one_address_parse(const struct config_key *key, const char *text, struct config *config)
{
        struct address address;
        const char *wrong = address_take(key, text, &address);

        if (wrong)
                return wrong;
        if (address.kind == ADDRESS_UNIX)
                return "is a socket path, which other hosts cannot reach";
        *MEMBER(struct address, config, key) = address;
        return NULL;
}

static void one_address_format(const struct config_key *key, const struct config *config, bool compact, char text[CONFIG_VALUE_BYTES])
{
        address_print(key, CONST_MEMBER(struct address, config, key), compact, text);
}

static void one_address_describe(_unused_ const struct config_key *key, char text[256])
{
        (void)snprintf(text, 256, "one numeric address with its port");
}

const struct config_kind config_kind_address = { one_address_parse, one_address_format, one_address_describe };

static const char *advertise_parse(const struct config_key *key, const char *text, struct config *config)
{
        struct address address = { .kind = ADDRESS_TCP };
        bool none = strcmp(text, "none") == 0;
        const char *wrong = none ? NULL : address_take(key, text, &address);

        if (wrong)
                return wrong;
        config->has_advertise = !none;
        config->advertise = address;
        return NULL;
}

static void advertise_format(const struct config_key *key, const struct config *config, bool compact, char text[CONFIG_VALUE_BYTES])
{
        if (config->has_advertise)
                address_print(key, &config->advertise, compact, text);
        else
                (void)snprintf(text, CONFIG_VALUE_BYTES, "none");
}

static void advertise_describe(_unused_ const struct config_key *key, char text[256])
{
        (void)snprintf(text, 256, "none, or one address or host name with its port");
}

const struct config_kind config_kind_advertise = { advertise_parse, advertise_format, advertise_describe };

/* --- choices ------------------------------------------------------------- */

static bool word_find(const struct config_key *key, const char *text, unsigned *ret_index)
{
        for (unsigned i = 0; key->words[i]; i++)
                if (strcmp(key->words[i], text) == 0) {
                        *ret_index = i;
                        return true;
                }
        return false;
}

static void words_describe(const struct config_key *key, char text[256])
{
        size_t used = 0;

        for (size_t i = 0; key->words[i]; i++)
                used += (size_t)snprintf(text + used, 256 - used, "%s%s", i == 0 ? "" : key->words[i + 1] ? ", " : " or ", key->words[i]);
}

static const char *flag_parse(const struct config_key *key, const char *text, struct config *config)
{
        unsigned index;

        if (!word_find(key, text, &index))
                return "is not one of its words";
        *MEMBER(bool, config, key) = index == 1;
        return NULL;
}

static void flag_format(const struct config_key *key, const struct config *config, _unused_ bool compact, char text[CONFIG_VALUE_BYTES])
{
        (void)snprintf(text, CONFIG_VALUE_BYTES, "%s", key->words[*CONST_MEMBER(bool, config, key) ? 1 : 0]);
}

const struct config_kind config_kind_flag = { flag_parse, flag_format, words_describe };

static const char *level_parse(const struct config_key *key, const char *text, struct config *config)
{
        unsigned index;

        if (!word_find(key, text, &index))
                return "is not one of its words";
        *MEMBER(unsigned, config, key) = DIAG_ERROR + index;
        return NULL;
}

static void level_format(const struct config_key *key, const struct config *config, _unused_ bool compact, char text[CONFIG_VALUE_BYTES])
{
        (void)snprintf(text, CONFIG_VALUE_BYTES, "%s", key->words[*CONST_MEMBER(unsigned, config, key) - DIAG_ERROR]);
}

const struct config_kind config_kind_level = { level_parse, level_format, words_describe };

/* --- numbers ------------------------------------------------------------- */

static void number_store(const struct config_key *key, uint64_t value, struct config *config)
{
        if (key->size == sizeof(uint64_t))
                *MEMBER(uint64_t, config, key) = value;
        else
                *MEMBER(unsigned, config, key) = (unsigned)value;
}

static const char *number_parse(const struct config_key *key, const char *text, struct config *config)
{
        uint64_t value;

        if (!parse_u64(text, &value))
                return "is not a number";
        if (value < key->minimum || value > key->maximum)
                return "is out of range";
        number_store(key, value, config);
        return NULL;
}

static void number_format(const struct config_key *key, const struct config *config, _unused_ bool compact, char text[CONFIG_VALUE_BYTES])
{
        uint64_t value = key->size == sizeof(uint64_t) ? *CONST_MEMBER(uint64_t, config, key) : *CONST_MEMBER(unsigned, config, key);

        (void)snprintf(text, CONFIG_VALUE_BYTES, "%llu", (unsigned long long)value);
}

static void number_describe(const struct config_key *key, char text[256])
{
        (void)snprintf(text, 256, "%llu to %llu", (unsigned long long)key->minimum, (unsigned long long)key->maximum);
}

const struct config_kind config_kind_number = { number_parse, number_format, number_describe };

static const char *duration_print(uint64_t ms, char text[32])
{
        bool seconds = ms > 0 && ms % 1000 == 0;

        (void)snprintf(text, 32, "%llu%s", (unsigned long long)(seconds ? ms / 1000 : ms), seconds ? "s" : "ms");
        return text;
}

static const char *duration_parse(const struct config_key *key, const char *text, struct config *config)
{
        uint64_t ms;

        if (!parse_duration_ms(text, &ms))
                return "is not a time";
        if (ms < key->minimum || ms > key->maximum)
                return "is out of range";
        number_store(key, ms, config);
        return NULL;
}

static void duration_format(const struct config_key *key, const struct config *config, _unused_ bool compact, char text[CONFIG_VALUE_BYTES])
{
        (void)duration_print(*CONST_MEMBER(uint64_t, config, key), text);
}

static void duration_describe(const struct config_key *key, char text[256])
{
        char minimum[32], maximum[32];

        (void)snprintf(text, 256, "%s to %s", duration_print(key->minimum, minimum), duration_print(key->maximum, maximum));
}

const struct config_kind config_kind_duration = { duration_parse, duration_format, duration_describe };
