/* state.c - what is committed becomes the state, and the state the base on disk. */
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/mutation.h"
#include "replica/internal.h"

/* The base follows the applied index at this distance, or after this time. */
#define FLUSH_ENTRIES 1024
#define FLUSH_MS 1000

/* First byte of an address record. */
#define ADDRESS_FORMAT 1

/* The session that the change may end; a lease goes with what is given up. */
static uint64_t session_of(const struct replica *replica, const struct lock_change *change)
{
        struct lock_waiter_view waiter;
        struct lock_view lock;

        if (lock_change_ends(change->kind))
                return change->session;
        if (change->token == 0 || replica->timed_term == 0 || lock_table_session_count(replica->table) == 0)
                return 0;
        if (lock_table_find_waiter(replica->table, change->token, &waiter))
                return waiter.session;
        return lock_table_find_hold(replica->table, &change->name, change->token, &lock) ||
               lock_table_find_waited(replica->table, &change->name, change->token, &lock) ? lock.session : 0;
}

static void apply_change(struct replica *replica, const struct lock_moment *moment, const struct lock_change *change)
{
        uint64_t session = session_of(replica, change);
        struct lock_session_view view;
        const uint64_t *settled;
        size_t count;

        lock_table_apply(replica->table, moment, change);
        if (change->ttl_ms != 0)
                replica_session_opened(replica, moment->index, change->ttl_ms);
        else if (session != 0 && (lock_change_ends(change->kind) || !lock_table_find_session(replica->table, session, &view)))
                replica_session_over(replica, session);
        count = lock_table_settled(replica->table, &settled);
        replica_awaits_settled(replica, settled, count);
}

static void apply_entry(struct replica *replica, const struct raft_entry *entry)
{
        struct lock_moment moment = { .index = entry->index, .cluster_ms = entry->cluster_ms, .wall_ms = entry->wall_ms };
        struct directory_change address;
        struct lock_change change;
        bool valid = true;

        switch (entry->kind) {
        case RAFT_ENTRY_NOOP:
        case RAFT_ENTRY_CONFIGURATION:
#if RAFT_FEATURE_LEVEL > 1
        case RAFT_ENTRY_NEXT:
#endif
                break;
        case RAFT_ENTRY_ADDRESS:
                valid = directory_change_get(entry->body, entry->size, &address);
                if (valid)
                        directory_apply(&replica->directory, entry->index, &address);
                break;
        case RAFT_ENTRY_CLIENT:
        case RAFT_ENTRY_PREEMPT:
        case RAFT_ENTRY_RELEASE:
        case RAFT_ENTRY_CANCEL:
        case RAFT_ENTRY_OPEN:
        case RAFT_ENTRY_CLOSE:
        case RAFT_ENTRY_EXPIRE:
        case RAFT_ENTRY_WAIT:
        case RAFT_ENTRY_LEAVE:
        case RAFT_ENTRY_KEEP:
        case RAFT_ENTRY_GRANT:
        case RAFT_ENTRY_BREAK:
                valid = lock_change_get((enum lock_change_kind)entry->kind, entry->body, entry->size, &change);
                if (valid)
                        apply_change(replica, &moment, &change);
                break;
        }
        assert(valid);                       /* checked before it was appended */
}

static const struct raft_entry *apply_next(struct replica *replica)
{
        const struct raft_entry *entry = raft_entry_at(replica->raft, replica->applied + 1);

        assert(entry);
        assert(entry->index == replica->applied + 1);
        apply_entry(replica, entry);
        replica->applied = entry->index;
        replica->applied_term = entry->term;
        replica->applied_cluster_ms = entry->cluster_ms;
        return entry;
}

void replica_apply_committed(struct replica *replica)
{
        uint64_t commit = MUTATED(APPLY_AHEAD) ? raft_last(replica->raft) : raft_commit(replica->raft);

        for (unsigned i = 0; i < LIMIT_APPLY_PER_TURN && replica->applied < commit; i++) {
                const struct raft_entry *entry = apply_next(replica);

                lock_overlay_applied(replica->overlay, entry->index);
                if (entry->term == raft_term(replica->raft) && raft_leader(replica->raft) != 0)
                        replica->settled = true;
                if (lock_table_dirty_count(replica->table) >= LIMIT_DIRTY_RECORDS)
                        break;               /* first hand these to the writer */
        }
        raft_applied(replica->raft, MUTATED(APPLY_AHEAD) ? raft_commit(replica->raft) : replica->applied);
}

/* --- D6: after-images of what committed entries dirtied, as of applied --- */

static void image_address(struct directory_item *item, struct lock_image *image, struct raft_record *record)
{
        bytes_clear(&image->body);
        bytes_put_u8(&image->body, ADDRESS_FORMAT);
        bytes_put_u64(&image->body, item->index);
        directory_change_put(&image->body, &item->change);
        (void)snprintf(image->key, sizeof(image->key), "%" PRIu64, item->change.node);
        item->dirty = false;
        item->persisted = true;
        *record = (struct raft_record){
                .table = RAFT_TABLE_ADDRESS,
                .key = image->key,
                .label = item->change.address,
                .number = item->index,
                .body = image->body.data,
                .body_size = image->body.size,
        };
}

static void image_gone_address(uint64_t node, struct lock_image *image, struct raft_record *record)
{
        (void)snprintf(image->key, sizeof(image->key), "%" PRIu64, node);
        *record = (struct raft_record){ .table = RAFT_TABLE_ADDRESS, .key = image->key };
}

static void image_record(const struct lock_image *image, struct raft_record *record)
{
        static_assert((int)LOCK_IMAGE_LOCK == (int)RAFT_TABLE_LOCK, "one numbering");
        static_assert((int)LOCK_IMAGE_CLIENT == (int)RAFT_TABLE_CLIENT, "one numbering");
        static_assert((int)LOCK_IMAGE_RESULT == (int)RAFT_TABLE_REQUEST, "one numbering");
        static_assert((int)LOCK_IMAGE_SESSION == (int)RAFT_TABLE_SESSION, "one numbering");
        static_assert((int)LOCK_IMAGE_PERIOD == (int)RAFT_TABLE_PERIOD, "one numbering");
        static_assert((int)LOCK_IMAGE_WAITER == (int)RAFT_TABLE_WAITER, "one numbering");
        static_assert((int)LOCK_IMAGE_DELAY == (int)RAFT_TABLE_DELAY, "one numbering");
        static_assert((int)LOCK_IMAGE_SHARE == (int)RAFT_TABLE_SHARE, "one numbering");
        static_assert((int)LOCK_IMAGE_PROMISE == (int)RAFT_TABLE_PROMISE, "one numbering");
        *record = (struct raft_record){ .table = (enum raft_table)image->kind, .key = image->key };
        if (image->deleted)
                return;
        record->label = image->label;
        record->number = image->number;
        record->body = image->body.data;
        record->body_size = image->body.size;
}

static void reserve_images(struct replica *replica, size_t count)
{
        if (count <= replica->image_capacity)
                return;
        replica->images = alloc_resized(replica->images, count, sizeof(replica->images[0]));
        memset(replica->images + replica->image_capacity, 0, (count - replica->image_capacity) * sizeof(replica->images[0]));
        replica->records = alloc_resized(replica->records, count, sizeof(replica->records[0]));
        replica->image_capacity = count;
}

/* The table as it is now is the state as of applied, exactly: all that is dirty goes in one transaction. */
static size_t take_images(struct replica *replica)
{
        size_t count = 0;

        reserve_images(replica, lock_table_dirty_count(replica->table) + replica->directory.gone_count + replica->directory.count);
        for (size_t i = 0; i < replica->directory.gone_count; i++, count++)
                image_gone_address(replica->directory.gone[i], &replica->images[count], &replica->records[count]);
        replica->directory.gone_count = 0;
        for (size_t i = 0; i < replica->directory.count; i++)
                if (replica->directory.items[i].dirty) {
                        image_address(&replica->directory.items[i], &replica->images[count], &replica->records[count]);
                        count++;
                }
        while (count < replica->image_capacity && lock_table_take_image(replica->table, &replica->images[count])) {
                image_record(&replica->images[count], &replica->records[count]);
                count++;
        }
        assert(lock_table_dirty_count(replica->table) == 0);
        return count;
}

/* S4: behind the base the log keeps a window, and what a follower with a snapshot on its way will need. */
static uint64_t trim_target(struct replica *replica)
{
        uint64_t keep = replica->settings.keep_entries, base = replica->base_index;
        uint64_t target = base >= keep ? base - keep + 1 : 1;

        target = MIN(target, raft_wants_log_from(replica->raft));
        return MIN(target, replica->log_first + LIMIT_TRIM_PER_BATCH);
}

static bool flush_is_due(const struct replica *replica)
{
        if (replica->applied == replica->base_index)
                return false;
        return replica->applied - replica->base_index >= FLUSH_ENTRIES ||
               lock_table_dirty_count(replica->table) >= LIMIT_DIRTY_RECORDS || replica->now - replica->last_flush_ms >= FLUSH_MS;
}

/* The state as of applied is the base from here on. */
static void take_base(struct replica *replica)
{
        const struct raft_configuration *configuration = MUTATED(BASE_CONFIGURATION) ? raft_configuration(replica->raft) :
                                                                                   raft_configuration_at(replica->raft, replica->applied);

        replica->base_index = replica->applied;
        bytes_clear(&replica->base_configuration);
        raft_configuration_put(&replica->base_configuration, configuration);
        replica->base = (struct raft_base){
                .index = replica->applied,
                .term = replica->applied_term,
                .cluster_ms = replica->applied_cluster_ms,
                .configuration_index = configuration->index,
                .configuration = replica->base_configuration.data,
                .configuration_size = replica->base_configuration.size,
        };
        replica->effects.base = &replica->base;
        replica->effects.record_count = take_images(replica);
        replica->effects.records = replica->records;
}

uint64_t replica_apply_log(struct replica *replica, int64_t quiet_ms)
{
        uint64_t wanted;

        while (replica->applied < raft_last(replica->raft))
                (void)apply_next(replica);
        wanted = quiet_ms < 0 ? lock_table_longest_ttl_ms(replica->table) : (uint64_t)quiet_ms;
        if (wanted > 0)
                lock_table_be_quiet(replica->table, replica->applied_cluster_ms + wanted);
        take_base(replica);
        return wanted;
}

void replica_flush_base(struct replica *replica)
{
        uint64_t target;

        if (!flush_is_due(replica) || raft_is_receiving_snapshot(replica->raft))
                return;
        replica->last_flush_ms = replica->now;
        take_base(replica);
        target = trim_target(replica);
        if (target > replica->log_first) {
                replica->effects.trim_to = target;
                replica->log_first = target;
        }
        raft_base_moved(replica->raft, replica->base_index, replica->log_first);
}

/* --- loading and installing --- */

static bool load_address(struct directory *directory, const struct raft_record *record)
{
        struct bytes_reader reader = bytes_reader_of(record->body, record->body_size);
        uint8_t format = bytes_get_u8(&reader);
        uint64_t index = bytes_get_u64(&reader);
        struct directory_change change;
        char key[24];

        if (reader.bad || format != ADDRESS_FORMAT || !directory_change_get(reader.data, reader.left, &change))
                return false;
        (void)snprintf(key, sizeof(key), "%" PRIu64, change.node);
        if (strcmp(key, record->key) != 0 || strcmp(change.address, record->label) != 0 || index != record->number ||
            directory->count == LIMIT_MEMBERS || directory_find(directory, change.node))
                return false;
        directory_apply(directory, index, &change);
        directory->items[directory->count - 1].dirty = false;
        directory->items[directory->count - 1].persisted = true;
        return true;
}

static bool load_record(struct lock_table *table, struct directory *directory, const struct raft_record *record)
{
        switch (record->table) {
        case RAFT_TABLE_LOCK:
        case RAFT_TABLE_CLIENT:
        case RAFT_TABLE_REQUEST:
        case RAFT_TABLE_SESSION:
        case RAFT_TABLE_PERIOD:
        case RAFT_TABLE_PROMISE:
        case RAFT_TABLE_WAITER:
        case RAFT_TABLE_DELAY:
        case RAFT_TABLE_SHARE:
                return record->body && lock_table_load(table, (enum lock_image_kind)record->table, record->key, record->label, record->number,
                                                       record->body, record->body_size);
        case RAFT_TABLE_ADDRESS:
                return record->body && load_address(directory, record);
        }
        return false;
}

bool replica_load_record(struct replica *replica, const struct raft_record *record)
{
        return load_record(replica->table, &replica->directory, record);
}

bool replica_load_entry(struct replica *replica, const struct raft_entry *entry)
{
        struct entry_columns columns;

        if (!entry_describe(entry, &columns) || !raft_restore_entry(replica->raft, entry))
                return false;
        replica_hear_address(replica, entry);
        return true;
}

bool replica_load_finish(struct replica *replica)
{
        return lock_table_load_finish(replica->table);
}

bool replica_staged_record(struct replica *replica, const struct raft_record *record)
{
        if (!replica->staged_table)
                return false;
        if ((MUTATED(SNAPSHOT_RESULTS) && record->table == RAFT_TABLE_REQUEST) || (MUTATED(PLACE_LOST) && record->table == RAFT_TABLE_WAITER) ||
            (MUTATED(DELAY_LOST) && record->table == RAFT_TABLE_DELAY))
                return true;
        return load_record(replica->staged_table, &replica->staged_directory, record);
}

bool replica_staged_finish(struct replica *replica)
{
        return replica->staged_table && lock_table_load_finish(replica->staged_table);
}

/* S2: the records of a snapshot gather beside the state in force until all are on disk. */
void replica_take_stages(struct replica *replica)
{
        const struct raft_effects *effects = raft_effects(replica->raft);

        for (size_t i = 0; i < effects->stage_count; i++) {
                if (effects->stages[i].kind != RAFT_STAGE_BEGIN)
                        continue;
                lock_table_free(replica->staged_table);
                replica->staged_table = lock_table_new();
                replica->staged_directory = (struct directory){ 0 };
        }
}

void replica_staged(struct replica *replica)
{
        uint64_t before = raft_installed(replica->raft);

        raft_staged(replica->raft);
        if (raft_installed(replica->raft) == before)
                return;
        assert(replica->staged_table);
        lock_table_free(replica->table);
        replica->table = TAKE_POINTER(replica->staged_table);
        lock_table_set_events(replica->table, replica->settings.unwatched ? NULL : replica->events);
        if (!MUTATED(EVENTS_KEPT))
                lock_events_clear(replica->events, raft_installed(replica->raft));
        replica->directory = replica->staged_directory;
        replica->applied = replica->base_index = raft_installed(replica->raft);
        replica->applied_term = raft_base_term(replica->raft);
        replica->applied_cluster_ms = raft_base_cluster_ms(replica->raft);
        replica->log_first = replica->base_index + 1;
        replica_awaits_look_again(replica);
}
