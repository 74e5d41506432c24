#include "raft/log.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/limits.h"

void raft_log_init(struct raft_log *log, uint64_t index, uint64_t term, uint64_t cluster_ms)
{
        *log = (struct raft_log){ .first = index + 1, .last = index, .previous_term = term, .previous_cluster_ms = cluster_ms };
}

void raft_log_done(struct raft_log *log)
{
        if (log->last >= log->first)
                raft_log_truncate(log, log->first);
        free(log->entries);
        log->entries = NULL;
        log->capacity = 0;
}

static struct raft_entry **slot(const struct raft_log *log, uint64_t index)
{
        return &log->entries[(log->head + (index - log->first)) & (log->capacity - 1)];
}

static void grow(struct raft_log *log)
{
        size_t capacity = log->capacity ? log->capacity * 2 : 64;
        struct raft_entry **entries = alloc_zeroed(capacity, sizeof(struct raft_entry *));

        for (uint64_t index = log->first; index <= log->last; index++)
                entries[index - log->first] = *slot(log, index);
        free(log->entries);
        log->entries = entries;
        log->capacity = capacity;
        log->head = 0;
}

void raft_log_append(struct raft_log *log, struct raft_entry *entry)
{
        assert(entry->index == log->last + 1);
        assert(entry->term >= raft_log_last_term(log));
        if (log->last + 1 - log->first == log->capacity)
                grow(log);
        log->last++;
        *slot(log, log->last) = entry;
        log->bytes += sizeof(*entry) + entry->size;
}

static void drop(struct raft_log *log, struct raft_entry *entry)
{
        log->bytes -= sizeof(*entry) + entry->size;
        free(entry);
}

void raft_log_truncate(struct raft_log *log, uint64_t index)
{
        assert(index >= log->first);
        for (; log->last >= index; log->last--)
                drop(log, *slot(log, log->last));
}

void raft_log_trim(struct raft_log *log, uint64_t index)
{
        assert(index <= log->last);
        while (log->first <= index) {
                struct raft_entry *entry = *slot(log, log->first);

                log->previous_term = entry->term;
                log->previous_cluster_ms = entry->cluster_ms;
                log->head = (log->head + 1) & (log->capacity - 1);
                log->first++;
                drop(log, entry);
        }
}

const struct raft_entry *raft_log_at(const struct raft_log *log, uint64_t index)
{
        return index >= log->first && index <= log->last ? *slot(log, index) : NULL;
}

bool raft_log_term(const struct raft_log *log, uint64_t index, uint64_t *ret_term)
{
        const struct raft_entry *entry = raft_log_at(log, index);

        if (!entry && index != log->first - 1)
                return false;
        *ret_term = entry ? entry->term : log->previous_term;
        return true;
}

uint64_t raft_log_last_term(const struct raft_log *log)
{
        const struct raft_entry *entry = raft_log_at(log, log->last);

        return entry ? entry->term : log->previous_term;
}

uint64_t raft_log_last_cluster_ms(const struct raft_log *log)
{
        const struct raft_entry *entry = raft_log_at(log, log->last);

        return entry ? entry->cluster_ms : log->previous_cluster_ms;
}

struct raft_entry *raft_entry_new(uint64_t index, uint64_t term, enum raft_entry_kind kind, uint64_t cluster_ms, uint64_t wall_ms,
                                  const void *body, size_t size)
{
        struct raft_entry *entry = alloc_zeroed(1, sizeof(*entry) + size);

        assert(size <= LIMIT_ENTRY_BYTES);
        entry->index = index;
        entry->term = term;
        entry->kind = kind;
        entry->cluster_ms = cluster_ms;
        entry->wall_ms = wall_ms;
        entry->size = (uint32_t)size;
        if (size > 0)
                memcpy(entry->body, body, size);
        return entry;
}
