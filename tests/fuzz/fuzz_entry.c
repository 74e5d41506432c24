/* Whatever a log entry, a record of the state, or a message between replicas may hold. The first byte says
 * which decoder reads the rest. What is accepted is written again and must be the same bytes. */
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "lock/change.h"
#include "lock/table.h"
#include "raft/configuration.h"
#include "replica/directory.h"
#include "replica/entry.h"
#include "replica/message.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool condition)
{
        if (!condition)
                abort();
}

static void must_be_same(struct bytes *out, const uint8_t *data, size_t size)
{
        must(out->size == size && (size == 0 || memcmp(out->data, data, size) == 0));
        bytes_done(out);
}

static void as_entry(const uint8_t *data, size_t size)
{
        struct raft_entry *entry = alloc_zeroed(1, sizeof(*entry) + size);
        struct entry_columns columns;
        struct lock_change change;
        struct bytes out = { 0 };

        *entry = (struct raft_entry){ .index = 7, .term = 1, .size = (uint32_t)size, .kind = (enum raft_entry_kind)(size ? data[0] : 0) };
        if (size > 1) {
                entry->size = (uint32_t)size - 1;
                memcpy(entry->body, data + 1, size - 1);
        }
        if (size > 0 && entry_describe(entry, &columns)) {
                must(columns.kind && raft_entry_kind_name(entry->kind));
                if (entry->kind >= RAFT_ENTRY_CLIENT) {
                        must(lock_change_get((enum lock_change_kind)entry->kind, entry->body, entry->size, &change));
                        lock_change_put(&out, &change);
                        must_be_same(&out, entry->body, entry->size);
                }
        }
        free(entry);
}

static void as_configuration(const uint8_t *data, size_t size)
{
        struct raft_configuration *configuration = raft_configuration_get(5, data, size);
        struct bytes out = { 0 };

        if (!configuration)
                return;
        must(configuration->count <= LIMIT_MEMBERS && configuration->index == 5);
        raft_configuration_put(&out, configuration);
        must_be_same(&out, data, size);
        free(configuration);
}

static void as_address(const uint8_t *data, size_t size)
{
        struct directory_change change;
        struct bytes out = { 0 };

        if (!directory_change_get(data, size, &change))
                return;
        directory_change_put(&out, &change);
        must_be_same(&out, data, size);
}

static void as_message(const uint8_t *data, size_t size)
{
        struct node_message message;
        struct bytes out = { 0 };

        if (!node_message_get(data, size, &message))
                return;
        node_message_put(&out, &message);
        must_be_same(&out, data, size);
}

/* key, label: texts of a length each; number; the rest is the body. */
static void as_record(const uint8_t *data, size_t size)
{
        struct bytes_reader reader = bytes_reader_of(data, size);
        struct lock_table *table = lock_table_new();
        char key[256], label[256];
        static const enum lock_image_kind kinds[] = { LOCK_IMAGE_LOCK, LOCK_IMAGE_CLIENT, LOCK_IMAGE_RESULT, LOCK_IMAGE_SESSION, LOCK_IMAGE_PERIOD,
                                                       LOCK_IMAGE_WAITER, LOCK_IMAGE_PROMISE, LOCK_IMAGE_DELAY, LOCK_IMAGE_SHARE };
        enum lock_image_kind kind = kinds[bytes_get_u8(&reader) % (sizeof(kinds) / sizeof(kinds[0]))];
        uint64_t number;

        (void)bytes_get_text8(&reader, key, sizeof(key));
        (void)bytes_get_text8(&reader, label, sizeof(label));
        number = bytes_get_u64(&reader);
        if (!reader.bad && lock_table_load(table, kind, key, label, number, reader.data, reader.left))
                (void)lock_table_load_finish(table);
        lock_table_free(table);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        if (size == 0 || size > LIMIT_ENTRY_BYTES)
                return 0;
        switch (data[0] % 5) {
        case 0:
                as_entry(data + 1, size - 1);
                return 0;
        case 1:
                as_configuration(data + 1, size - 1);
                return 0;
        case 2:
                as_address(data + 1, size - 1);
                return 0;
        case 3:
                as_message(data + 1, size - 1);
                return 0;
        default:
                as_record(data + 1, size - 1);
                return 0;
        }
}
