/* directory.h - where each member is reached, as replicated. Pure.
 *
 * An address is its own kind of entry: it is refreshed at every start of a node
 * and marked at every clean stop, and never a change of voters. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/limits.h"

struct directory_change {
        uint64_t node;
        bool away;                                   /* it stopped on purpose: a connection would start it again */
        char address[LIMIT_ADDRESS_BYTES + 1];       /* "host:port", numeric or not */
};

struct directory_item {
        struct directory_change change;
        uint64_t index;                              /* of the entry */
        bool dirty, persisted;                       /* PERSISTED: the database has a record of the node */
};

struct directory {
        size_t count;
        struct directory_item items[LIMIT_MEMBERS];
        size_t gone_count;
        uint64_t gone[LIMIT_MEMBERS];                /* nodes that gave way, whose records are still in the database: each once */
};

void directory_change_put(struct bytes *bytes, const struct directory_change *change);
bool directory_change_get(const void *body, size_t size, struct directory_change *ret_change);

/* NULL: none known. Valid until the directory changes. */
const struct directory_change *directory_find(const struct directory *directory, uint64_t node);
/* The index of the entry that the change came with; 0: none known. */
uint64_t directory_index(const struct directory *directory, uint64_t node);
/* Applies a committed entry. When the directory is full the oldest address gives way. */
void directory_apply(struct directory *directory, uint64_t index, const struct directory_change *change);
