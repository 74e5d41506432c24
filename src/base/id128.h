/* id128.h - 128 random bits: cluster ids, node incarnations, request handles. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"

struct id128 {
        uint8_t bytes[16];
};

/* "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx" and its end. */
#define ID128_TEXT_BYTES 37

bool id128_equal(struct id128 a, struct id128 b);
/* Less than, equal to or greater than zero, as memcmp(3). */
int id128_compare(struct id128 a, struct id128 b);
bool id128_is_null(struct id128 id);
/* Writes the canonical lower-case form; returns buffer. */
char *id128_format(struct id128 id, char buffer[ID128_TEXT_BYTES]);
/* Accepts the canonical form in either case. False: it is not one, *ret_id is untouched. */
bool id128_parse(const char *text, struct id128 *ret_id);
void id128_put(struct bytes *bytes, struct id128 id);
struct id128 id128_get(struct bytes_reader *reader);
