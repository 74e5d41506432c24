/* name.h - short texts by value: lock names, client ids, principals.
 *
 * Checked once where they enter (wire, command line, log entry); inside they
 * are known to be well formed. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/limits.h"

/* Zero-terminated for printing; size does not count the zero. */
struct lock_name {
        uint8_t size;
        char text[LIMIT_LOCK_NAME_BYTES + 1];
};

struct client_id {
        uint8_t size;
        char text[LIMIT_CLIENT_ID_BYTES + 1];
};

struct principal {
        uint8_t size;
        char text[LIMIT_PRINCIPAL_BYTES + 1];
};

/* More names of locks, behind a first one: bytes somewhere else, valid as long as those are. Each is greater than the one before it (bytewise), so
 * none is there twice. */
struct names_view {
        const uint8_t *data;
        uint16_t size;
        uint8_t count;                       /* less than LIMIT_LOCKS_AT_ONCE */
};

/* True for UTF-8 (RFC 3629: shortest form, no surrogates) without control characters (C0, DEL, C1). Empty is fine. */
bool name_is_clean_utf8(const char *text, size_t size);

/* 1 to 255 bytes of clean UTF-8. False: *ret_name is untouched. */
bool lock_name_set(struct lock_name *ret_name, const char *text, size_t size);
/* 1 to 64 bytes of printable ASCII without spaces. False: untouched. */
bool client_id_set(struct client_id *ret_id, const char *text, size_t size);
/* As client_id_set. */
bool principal_set(struct principal *ret_principal, const char *text, size_t size);
/* A node's name: 1 to 64 bytes of letters, digits, '.', '_', '-'. */
bool node_name_is_valid(const char *text, size_t size);

bool client_id_equal(const struct client_id *a, const struct client_id *b);
bool lock_name_equal(const struct lock_name *a, const struct lock_name *b);
/* Bytewise; of two of which one begins with the other, the shorter comes first. */
int lock_name_compare(const struct lock_name *a, const struct lock_name *b);
bool principal_equal(const struct principal *a, const struct principal *b);

void lock_name_put(struct bytes *bytes, const struct lock_name *name);
/* With their number before them. */
void names_view_put(struct bytes *bytes, struct names_view names);
/* In place; makes the reader bad when they are not well formed, or not in order behind first. */
void names_view_get(struct bytes_reader *reader, const struct lock_name *first, struct names_view *ret_names);
/* Takes the first of them away. False: there is none. */
bool names_view_take(struct names_view *names, struct lock_name *ret_name);
void client_id_put(struct bytes *bytes, const struct client_id *id);
void principal_put(struct bytes *bytes, const struct principal *principal);
/* Each makes the reader bad when the text is not a well-formed one; empty is accepted where the flag says so. */
void lock_name_get(struct bytes_reader *reader, bool may_be_empty, struct lock_name *ret_name);
void client_id_get(struct bytes_reader *reader, bool may_be_empty, struct client_id *ret_id);
void principal_get(struct bytes_reader *reader, bool may_be_empty, struct principal *ret_principal);
