/* A batch is copied once, into one piece of memory: the caller's arrays are free
 * again when store_write returns, and the writer frees one pointer. */
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "store/internal.h"

/* First counts, then copies: with memory NULL only the size is added up. */
struct arena {
        uint8_t *memory;
        size_t size;
};

static void *arena_copy(struct arena *arena, const void *data, size_t size)
{
        uint8_t *place = arena->memory ? arena->memory + arena->size : NULL;

        /* Everything is aligned for the structs that follow. */
        arena->size += (size + 7) & ~(size_t)7;
        if (place && size > 0)
                memcpy(place, data, size);
        return place;
}

static void copy_entries(struct arena *arena, const struct store_batch *from, struct store_batch *to)
{
        const struct raft_entry **entries = arena_copy(arena, from->entries, from->entry_count * sizeof(*entries));

        for (size_t i = 0; i < from->entry_count; i++) {
                const struct raft_entry *entry = from->entries[i];
                void *copy = arena_copy(arena, entry, sizeof(*entry) + entry->size);

                if (entries)
                        entries[i] = copy;
        }
        to->entries = entries;
}

static void copy_records(struct arena *arena, const struct store_batch *from, struct store_batch *to)
{
        struct raft_record *records = arena_copy(arena, from->records, from->record_count * sizeof(*records));

        for (size_t i = 0; i < from->record_count; i++) {
                const struct raft_record *record = &from->records[i];
                const char *key = arena_copy(arena, record->key, strlen(record->key) + 1);
                const char *label = record->body ? arena_copy(arena, record->label, strlen(record->label) + 1) : NULL;
                const uint8_t *body = record->body ? arena_copy(arena, record->body, record->body_size) : NULL;

                if (!records)
                        continue;
                records[i].key = key;
                records[i].label = label;
                records[i].body = body;
        }
        to->records = records;
}

static void copy_base(struct arena *arena, const struct store_batch *from, struct store_batch *to)
{
        struct raft_base *base = arena_copy(arena, from->base, sizeof(*base));
        const uint8_t *configuration = arena_copy(arena, from->base->configuration, from->base->configuration_size);

        if (base)
                base->configuration = configuration;
        to->base = base;
}

static void copy_batch(struct arena *arena, const struct store_batch *from, struct store_batch *to)
{
        *to = *from;
        if (from->identity)
                to->identity = arena_copy(arena, from->identity, sizeof(*from->identity));
        if (from->hard)
                to->hard = arena_copy(arena, from->hard, sizeof(*from->hard));
        if (from->base)
                copy_base(arena, from, to);
        copy_entries(arena, from, to);
        copy_records(arena, from, to);
}

struct write_job *write_job_copy(enum write_kind kind, const struct store_batch *batch, const void *chunk, size_t chunk_size)
{
        struct write_job job = { .kind = kind }, *copy;
        struct arena arena = {};

        (void)arena_copy(&arena, &job, sizeof(job));
        copy_batch(&arena, batch, &job.batch);
        (void)arena_copy(&arena, chunk, chunk_size);

        arena = (struct arena){ .memory = alloc_zeroed(1, arena.size) };
        copy = arena_copy(&arena, &job, sizeof(job));
        copy_batch(&arena, batch, &copy->batch);
        copy->chunk = arena_copy(&arena, chunk, chunk_size);
        copy->chunk_size = chunk_size;
        return copy;
}
