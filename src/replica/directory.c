#include "replica/directory.h"

#include <assert.h>
#include <string.h>

#include "base/parse.h"

/* First byte of every body. */
#define DIRECTORY_FORMAT 1

void directory_change_put(struct bytes *bytes, const struct directory_change *change)
{
        bytes_put_u8(bytes, DIRECTORY_FORMAT);
        bytes_put_u64(bytes, change->node);
        bytes_put_u8(bytes, change->away);
        bytes_put_text16(bytes, change->address, strlen(change->address));
}

bool directory_change_get(const void *body, size_t size, struct directory_change *ret_change)
{
        struct bytes_reader reader = bytes_reader_of(body, size);
        uint8_t format = bytes_get_u8(&reader), away;
        struct address address;
        size_t length;

        ret_change->node = bytes_get_u64(&reader);
        away = bytes_get_u8(&reader);
        ret_change->away = away;
        length = bytes_get_text16(&reader, ret_change->address, sizeof(ret_change->address));
        return bytes_reader_finished(&reader) && format == DIRECTORY_FORMAT && away <= 1 && ret_change->node > 0 && length == strlen(ret_change->address) &&
               address_parse(ret_change->address, 0, &address) && address.kind == ADDRESS_TCP;
}

static struct directory_item *find(const struct directory *directory, uint64_t node)
{
        for (size_t i = 0; i < directory->count; i++)
                if (directory->items[i].change.node == node)
                        return (struct directory_item *)&directory->items[i];
        return NULL;
}

const struct directory_change *directory_find(const struct directory *directory, uint64_t node)
{
        const struct directory_item *item = find(directory, node);

        return item ? &item->change : NULL;
}

uint64_t directory_index(const struct directory *directory, uint64_t node)
{
        const struct directory_item *item = find(directory, node);

        return item ? item->index : 0;
}

/* Who is still a member and loses its place announces itself again. */
static struct directory_item *give_way(struct directory *directory)
{
        struct directory_item *oldest = &directory->items[0];

        for (size_t i = 1; i < directory->count; i++)
                if (directory->items[i].index < oldest->index)
                        oldest = &directory->items[i];
        if (oldest->persisted) {
                assert(directory->gone_count < LIMIT_MEMBERS);
                directory->gone[directory->gone_count++] = oldest->change.node;
        }
        oldest->persisted = false;
        return oldest;
}

void directory_apply(struct directory *directory, uint64_t index, const struct directory_change *change)
{
        struct directory_item *item = find(directory, change->node);

        if (!item && directory->count < LIMIT_MEMBERS)
                item = &directory->items[directory->count++];
        if (!item)
                item = give_way(directory);
        *item = (struct directory_item){ .change = *change, .index = index, .dirty = true, .persisted = item->persisted };
}
