/* keys.h - the table of keys and the kinds of their values: text to struct config and back.
 *
 * Reads no file and knows nothing of other keys' values. */
#pragma once

#include "config/config.h"

/* A value as text, with everything escaped and written out. */
#define CONFIG_VALUE_BYTES 12288
#define CONFIG_KEYS_MAX 20

struct config_key;

/* How one kind of value is read, written and described. */
struct config_kind {
        /* NULL, or what is wrong as the end of the sentence "KEY = VALUE ...". */
        const char *(*parse)(const struct config_key *key, const char *text, struct config *config);
        /* compact: as short as parse takes it. */
        void (*format)(const struct config_key *key, const struct config *config, bool compact, char text[CONFIG_VALUE_BYTES]);
        /* What parse takes, as the start of the sentence "... would be accepted". */
        void (*describe)(const struct config_key *key, char text[256]);
};

struct config_key {
        const char *section;
        const char *name;
        const char *meaning;
        const char *defaults[2];             /* by enum config_role; NULL: that role has no such key */
        const struct config_kind *kind;
        size_t offset;                       /* in struct config */
        size_t size;
        uint64_t minimum;                    /* of a number, of a duration in ms */
        uint64_t maximum;                    /* the same; the count of a list */
        const char *const *words;            /* of a choice, ending with NULL */
        uint16_t port;                       /* of an address that names none */
        bool numeric;                        /* an address to listen on */
        bool expands;                        /* %i and %% */
        bool needs_restart;
};

/* All rows, sections together, in the order of the shipped files. */
extern const struct config_key config_keys[];
extern const size_t config_keys_count;

/* NULL: the role has no such section, or key in it. */
const struct config_key *config_key_find(enum config_role role, const char *section, const char *name);
bool config_section_exists(enum config_role role, const char *section);
/* "[a], [b]" of the role, and "a, b" of the keys of a section. */
void config_sections_list(enum config_role role, char text[256]);
void config_names_list(enum config_role role, const char *section, char text[256]);

/* Expands and parses text into config, whose role and instance are set. False: problem says what is wrong and what would be
 * accepted, and config is as it was. */
bool config_key_apply(const struct config_key *key, const char *text, struct config *config, char problem[512]);
/* The value in force, as config_key_apply takes it. */
void config_key_format(const struct config_key *key, const struct config *config, bool compact, char text[CONFIG_VALUE_BYTES]);

/* %i and %% replaced. NULL, or what is wrong as config_kind.parse. */
const char *config_expand(enum config_role role, unsigned instance, const char *text, char *expanded, size_t capacity);

/* Takes the next item of a list "a, b, c" off *cursor, without spaces around it; false at the end. */
bool config_list_next(const char **cursor, char *item, size_t capacity);
