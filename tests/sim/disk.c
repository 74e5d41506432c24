/* disk.c - a disk that keeps what was synced, in transactions, and may keep more when only the process dies. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/mutation.h"
#include "raft/log.h"
#include "sim.h"

/* --- tables --- */

static void free_record(struct disk_record *record)
{
        free(record->key);
        free(record->label);
        bytes_done(&record->body);
}

static void clear_state(struct disk_state *state)
{
        for (size_t i = 0; i < state->count; i++)
                free_record(&state->records[i]);
        free(state->records);
        bytes_done(&state->configuration);
        *state = (struct disk_state){ 0 };
}

static void set_base(struct disk_state *state, const struct raft_base *base)
{
        struct bytes configuration = { 0 };

        bytes_put(&configuration, base->configuration, base->configuration_size);
        bytes_done(&state->configuration);
        state->configuration = configuration;
        state->base = *base;
        state->base.configuration = state->configuration.data;
}

/* A record of the tables, or of a change of them: there body may be empty for a deletion. */
static void add_record(struct disk_state *state, const struct raft_record *record)
{
        struct disk_record *added;

        if (state->count == state->capacity) {
                state->capacity = state->capacity ? state->capacity * 2 : 32;
                state->records = alloc_resized(state->records, state->capacity, sizeof(state->records[0]));
        }
        added = &state->records[state->count++];
        *added = (struct disk_record){ .table = record->table, .key = alloc_text(record->key, strlen(record->key)), .number = record->number };
        if (!record->body)
                return;
        added->label = alloc_text(record->label, strlen(record->label));
        bytes_put(&added->body, record->body, record->body_size);
}

static struct raft_record view_of(const struct disk_record *record)
{
        return (struct raft_record){ .table = record->table, .key = record->key, .label = record->label, .number = record->number,
                                     .body = record->body.size ? record->body.data : NULL, .body_size = record->body.size };
}

/* The deletion of what is not there is a bug: the tables and the memory differ. */
static void change_record(struct sim *sim, struct disk_state *state, const struct disk_record *change)
{
        const struct raft_record view = view_of(change);
        size_t at = 0;

        while (at < state->count && (state->records[at].table != change->table || strcmp(state->records[at].key, change->key) != 0))
                at++;
        if (at < state->count) {
                free_record(&state->records[at]);
                state->records[at] = state->records[--state->count];
        } else if (!view.body) {
                sim_fail(sim, "the deletion of %s, which is not in table %d on disk", change->key, (int)change->table);
        }
        if (view.body)
                add_record(state, &view);
}

/* --- transactions --- */

static struct raft_entry *copy_entry(const struct raft_entry *entry)
{
        return raft_entry_new(entry->index, entry->term, entry->kind, entry->cluster_ms, entry->wall_ms, entry->body, entry->size);
}

static void free_write(struct disk_write *write)
{
        for (size_t i = 0; i < write->entry_count; i++)
                free(write->entries[i]);
        free(write->entries);
        clear_state(&write->change);
        free(write);
}

static uint64_t sync_time(struct sim *sim, struct sim_node *node)
{
        uint64_t at = sim->now + sim_between(sim, 50, node->sync_max);

        return MAX(at, node->disk.stalled_until);
}

static struct disk_write *enqueue(struct sim *sim, struct sim_node *node)
{
        struct disk_write *write = alloc_zeroed(1, sizeof(*write));
        struct disk *disk = &node->disk;

        *disk->writes_end = write;
        disk->writes_end = &write->next;
        if (!disk->syncing) {
                disk->syncing = true;
                sim_at(sim, sync_time(sim, node), EVENT_SYNC, node->number, 0, node->life, NULL);
        }
        return write;
}

void disk_queue(struct sim *sim, struct sim_node *node, const struct replica_effects *effects)
{
        const struct raft_effects *raft = effects->raft;
        struct disk_write *write;

        if (raft->persist_id == 0 && !effects->base && !effects->joined)
                return;
        write = enqueue(sim, node);
        write->persist_id = raft->persist_id;
        if (raft->persist_id != 0) {
                write->has_hard = raft->hard_changed;
                write->hard = raft->hard;
                write->truncate_from = raft->truncate_from;
        }
        if (raft->persist_id != 0 && raft->first <= raft->last) {
                write->entry_count = (size_t)(raft->last - raft->first + 1);
                write->entries = alloc_zeroed(write->entry_count, sizeof(write->entries[0]));
                for (size_t i = 0; i < write->entry_count; i++)
                        write->entries[i] = copy_entry(raft_entry_at(replica_raft(node->replica), raft->first + i));
        }
        if (effects->base) {
                write->has_base = true;
                set_base(&write->change, effects->base);
                for (size_t i = 0; i < effects->record_count; i++)
                        add_record(&write->change, &effects->records[i]);
                write->trim_to = effects->trim_to;
        }
        if (effects->joined) {
                write->has_identity = true;
                write->cluster = replica_cluster(node->replica);
                write->node = raft_id(replica_raft(node->replica));
        }
}

static void apply_entries(struct sim *sim, struct disk *disk, struct disk_write *write)
{
        if (write->truncate_from != 0) {
                if (write->truncate_from <= disk->state.base.index)
                        sim_fail(sim, "the log was cut at %lu, which is in the base", (unsigned long)write->truncate_from);
                for (; disk->log_last >= write->truncate_from; disk->log_last--) {
                        free(disk->log[disk->log_last]);
                        disk->log[disk->log_last] = NULL;
                }
        }
        for (size_t i = 0; i < write->entry_count; i++) {
                if (write->entries[i]->index != disk->log_last + 1 || disk->log_last + 1 >= SIM_ENTRIES)
                        sim_fail(sim, "entry %lu does not follow the log, which ends at %lu", (unsigned long)write->entries[i]->index,
                                 (unsigned long)disk->log_last);
                disk->log[++disk->log_last] = write->entries[i];
                write->entries[i] = NULL;
        }
}

static void trim(struct disk *disk, uint64_t first)
{
        for (; disk->log_first < first && disk->log_first <= disk->log_last; disk->log_first++) {
                free(disk->log[disk->log_first]);
                disk->log[disk->log_first] = NULL;
        }
}

static void apply_base(struct sim *sim, struct disk *disk, const struct disk_write *write)
{
        if (write->change.base.index > disk->log_last)
                sim_fail(sim, "base %lu is beyond the log on disk, which ends at %lu", (unsigned long)write->change.base.index,
                         (unsigned long)disk->log_last);
        for (size_t i = 0; i < write->change.count; i++)
                change_record(sim, &disk->state, &write->change.records[i]);
        set_base(&disk->state, &write->change.base);
        if (write->trim_to != 0)
                trim(disk, write->trim_to);
}

static void apply_stage(struct disk *disk, struct disk_write *write)
{
        const struct raft_base *base = &write->change.base;
        bool agrees;

        if (write->begin)
                clear_state(&disk->staged);
        for (size_t i = 0; i < write->change.count && !write->has_base; i++) {
                const struct raft_record view = view_of(&write->change.records[i]);

                add_record(&disk->staged, &view);
        }
        if (!write->install)
                return;
        agrees = base->index <= disk->log_last && disk->log[base->index] && disk->log[base->index]->term == base->term;
        trim(disk, agrees ? base->index + 1 : disk->log_last + 1);
        if (!agrees)
                disk->log_last = base->index;
        disk->log_first = base->index + 1;
        clear_state(&disk->state);
        disk->state = disk->staged;
        disk->staged = (struct disk_state){ 0 };
        set_base(&disk->state, base);
}

static void apply_write(struct sim *sim, struct disk *disk, struct disk_write *write)
{
        if (write->has_identity) {
                disk->cluster = write->cluster;
                disk->node = write->node;
        }
        if (write->has_hard)
                disk->hard = write->hard;
        apply_entries(sim, disk, write);
        if (write->has_base && !write->install)
                apply_base(sim, disk, write);
        apply_stage(disk, write);
}

static void forget_synced(struct disk *disk)
{
        if (!disk->synced)
                return;
        disk_done(disk->synced);
        free(disk->synced);
        disk->synced = NULL;
}

static struct disk_write *pop(struct disk *disk)
{
        struct disk_write *write = disk->writes;

        disk->writes = write->next;
        if (!disk->writes)
                disk->writes_end = &disk->writes;
        return write;
}

void disk_sync(struct sim *sim, struct sim_node *node)
{
        struct disk *disk = &node->disk;
        uint64_t group = sim_between(sim, 1, 4);

        disk->syncing = false;
        forget_synced(disk);                 /* a sync is of the whole file */
        for (; disk->writes && group > 0; group--) {
                struct disk_write *write = pop(disk);

                apply_write(sim, disk, write);
                if (write->persist_id != 0)
                        raft_persisted(replica_raft(node->replica), write->persist_id);
                if (write->staged)
                        replica_staged(node->replica);
                free_write(write);
        }
        if (disk->writes) {
                disk->syncing = true;
                sim_at(sim, sync_time(sim, node), EVENT_SYNC, node->number, 0, node->life, NULL);
        }
}

/* --- P8: what a killed process had written the next one finds, but a power cut takes it, unless it was synced meanwhile --- */

static void copy_state(struct disk_state *copy, const struct disk_state *state)
{
        *copy = (struct disk_state){ 0 };
        set_base(copy, &state->base);
        for (size_t i = 0; i < state->count; i++) {
                const struct raft_record view = view_of(&state->records[i]);

                add_record(copy, &view);
        }
}

/* Of what survives; nothing is staged or on its way. */
static struct disk *copy_disk(const struct disk *disk)
{
        struct disk *copy = alloc_zeroed(1, sizeof(*copy));

        disk_init(copy, disk->incarnation);
        copy->cluster = disk->cluster;
        copy->node = disk->node;
        copy->hard = disk->hard;
        copy->log_first = disk->log_first;
        copy->log_last = disk->log_last;
        for (uint64_t index = disk->log_first; index <= disk->log_last; index++)
                copy->log[index] = copy_entry(disk->log[index]);
        copy_state(&copy->state, &disk->state);
        return copy;
}

void disk_lose_power(struct disk *disk)
{
        struct disk *synced = disk->synced;

        if (!synced)
                return;
        disk->synced = NULL;
        disk_done(disk);
        *disk = *synced;
        disk->writes_end = &disk->writes;
        free(synced);
}

void disk_crash(struct sim *sim, struct sim_node *node, uint64_t kept)
{
        struct disk *disk = &node->disk;

        if (kept > 0 && disk->writes && !disk->synced)
                disk->synced = copy_disk(disk);
        while (disk->writes) {
                struct disk_write *write = pop(disk);

                if (kept > 0) {
                        apply_write(sim, disk, write);
                        kept--;
                }
                free_write(write);
        }
        disk->syncing = false;
        bytes_clear(&disk->spool);
        disk->spool_id = 0;
}

/* --- life --- */

void disk_init(struct disk *disk, struct id128 incarnation)
{
        *disk = (struct disk){ .incarnation = incarnation, .log_first = 1 };
        disk->writes_end = &disk->writes;
}

void disk_done(struct disk *disk)
{
        while (disk->writes)
                free_write(pop(disk));
        forget_synced(disk);
        trim(disk, disk->log_last + 1);
        clear_state(&disk->state);
        clear_state(&disk->staged);
        bytes_done(&disk->spool);
        bytes_done(&disk->spool_configuration);
}

static void put_configuration(struct sim *sim, unsigned voters, struct bytes *body)
{
        struct raft_configuration *configuration = raft_configuration_copy(NULL, voters);

        configuration->count = voters;
        for (unsigned i = 0; i < voters; i++) {
                configuration->members[i] = (struct raft_member){ .id = i + 1, .incarnation = sim->nodes[i].disk.incarnation, .standing = RAFT_VOTER,
                                                                  .preferred = i == 0 };
                (void)snprintf(configuration->members[i].name, sizeof(configuration->members[i].name), "n%u", i + 1);
        }
        raft_configuration_put(body, configuration);
        free(configuration);
}

void disk_bootstrap(struct sim *sim, struct sim_node *node)
{
        struct bytes body = { 0 };

        node->disk.cluster = (struct id128){ { 0xc1 } };
        node->disk.node = node->number + 1;
        put_configuration(sim, 1, &body);
        set_base(&node->disk.state, &(struct raft_base){ .configuration = body.data, .configuration_size = body.size });
        if (!sim->configuration)
                sim->configuration = raft_configuration_get(0, body.data, body.size);
        bytes_done(&body);
}

void disk_grow_cluster(struct sim *sim, unsigned voters)
{
        for (uint64_t index = 1; index <= MAX(voters, 1u); index++) {
                struct bytes body = { 0 };
                struct raft_entry *entry;

                if (index > 1)
                        put_configuration(sim, (unsigned)index, &body);
                entry = raft_entry_new(index, 1, index > 1 ? RAFT_ENTRY_CONFIGURATION : RAFT_ENTRY_NOOP, 0, 0, body.data, body.size);
                bytes_done(&body);
                for (unsigned i = 0; i < voters; i++)
                        sim->nodes[i].disk.log[++sim->nodes[i].disk.log_last] = copy_entry(entry);
                history_commit(sim, entry);
                free(entry);
        }
        for (unsigned i = 0; i < voters; i++)
                sim->nodes[i].disk.hard = (struct raft_hard_state){ .term = 1, .vote = 1 };
}

struct replica *disk_load(struct sim *sim, struct sim_node *node)
{
        struct disk *disk = &node->disk;
        struct replica_settings settings = {
                .raft = { .election_timeout_ms = TIMEOUT_MS, .heartbeat_ms = HEARTBEAT_MS, .campaigns = true, .max_voters = sim->max_voters, .level = node->level,
                          .seed = sim_random(sim, 0), .cache_bytes = sim->script ? 1 : 2000 },
                .keep_entries = node->keep_entries,
                .cluster = disk->cluster,
        };
        const struct raft_start start = { .id = disk->node, .hard = disk->hard, .base = disk->state.base, .log_first = disk->log_first };
        struct replica *replica;

        if (!MUTATED(UNSYNCED_START))
                forget_synced(disk);
        if (!sim->script)
                (void)snprintf(settings.address, sizeof(settings.address), "10.0.0.%u:7402", node->number + 1);
        replica = replica_new(&settings, &start);
        clear_state(&disk->staged);
        for (size_t i = 0; i < disk->state.count; i++) {
                const struct raft_record view = view_of(&disk->state.records[i]);

                if (!replica_load_record(replica, &view))
                        sim_fail(sim, "node %u cannot read %s from its own table %d", node->number + 1, view.key, (int)view.table);
        }
        for (uint64_t index = disk->state.base.index + 1; index <= disk->log_last; index++)
                if (!replica_load_entry(replica, disk->log[index]))
                        sim_fail(sim, "node %u cannot read its own entry %lu", node->number + 1, (unsigned long)index);
        if (!replica_load_finish(replica))
                sim_fail(sim, "the tables of node %u contradict each other", node->number + 1);
        return replica;
}

void disk_hurry(struct sim *sim, struct sim_node *node)
{
        node->disk.stalled_until = 0;
        if (node->disk.syncing)
                sim_at(sim, sync_time(sim, node), EVENT_SYNC, node->number, 0, node->life, NULL);
}

void disk_hold(struct sim *sim, struct sim_node *node, bool held)
{
        if (node->disk.held && !held && node->disk.syncing)
                sim_at(sim, sync_time(sim, node), EVENT_SYNC, node->number, 0, node->life, NULL);
        node->disk.held = held;
}

void disk_empty(struct sim *sim, struct sim_node *node)
{
        struct id128 incarnation = { { (uint8_t)(node->number + 1), (uint8_t)++sim->incarnation_next } };

        struct disk *lost = alloc_zeroed(1, sizeof(*lost));

        sim_trace(sim, "the disk of node %u is emptied", node->number + 1);
        *lost = node->disk;
        lost->writes_end = &lost->writes;
        lost->next = sim->lost;
        sim->lost = lost;
        memset(sim->vote_of_term[node->number], 0, sizeof(sim->vote_of_term[0]));
        disk_init(&node->disk, MUTATED(SAME_NODE) ? lost->incarnation : incarnation);
}

bool disk_has(const struct disk *disk, uint64_t index, uint64_t term)
{
        if (index <= disk->log_last && index >= disk->log_first && disk->log[index])
                return disk->log[index]->term == term;
        return index <= disk->state.base.index;
}

/* --- stages of a snapshot being received --- */

static bool read_records(const uint8_t *data, size_t size, void *context, bool (*handle)(void *context, const struct raft_record *record))
{
        struct bytes_reader reader = bytes_reader_of(data, size);

        while (reader.left > 0) {
                char key[256], label[600];
                struct raft_record record = { .table = (enum raft_table)bytes_get_u8(&reader), .key = key, .label = label };

                (void)bytes_get_text8(&reader, key, sizeof(key));
                (void)bytes_get_text16(&reader, label, sizeof(label));
                record.number = bytes_get_u64(&reader);
                record.body = bytes_get_blob(&reader, 65536, &record.body_size);
                if (reader.bad || !handle(context, &record))
                        return false;
        }
        return true;
}

static bool stage_in_memory(void *context, const struct raft_record *record)
{
        return replica_staged_record(context, record);
}

static bool stage_on_disk(void *context, const struct raft_record *record)
{
        add_record(context, record);
        return true;
}

void disk_queue_stages(struct sim *sim, struct sim_node *node, const struct raft_effects *effects)
{
        struct disk_write *write = NULL;

        for (size_t i = 0; i < effects->stage_count; i++) {
                const struct raft_stage *stage = &effects->stages[i];

                write = enqueue(sim, node);
                switch (stage->kind) {
                case RAFT_STAGE_BEGIN:
                        write->begin = true;
                        break;
                case RAFT_STAGE_CHUNK:
                        if (!read_records(stage->data, stage->size, node->replica, stage_in_memory))
                                sim_fail(sim, "node %u refused a chunk of a snapshot", node->number + 1);
                        (void)read_records(stage->data, stage->size, &write->change, stage_on_disk);
                        break;
                case RAFT_STAGE_INSTALL:
                        if (!replica_staged_finish(node->replica))
                                sim_fail(sim, "node %u refused a snapshot at its end", node->number + 1);
                        write->install = write->has_base = true;
                        set_base(&write->change, stage->base);
                        sim_trace(sim, "node %u has snapshot %lu, to be installed", node->number + 1, (unsigned long)stage->base->index);
                        sim->counts[COUNT_SNAPSHOTS]++;
                        break;
                }
        }
        if (write)
                write->staged = true;
}

/* --- reads --- */

struct disk_reading {
        enum { READING_LOG, READING_SNAPSHOT, READING_CHUNK } kind;
        uint64_t node, from, snapshot;
};

void disk_read_free(void *what)
{
        free(what);
}

static void read_later(struct sim *sim, struct sim_node *node, const struct disk_reading *reading)
{
        struct disk_reading *copy = alloc_zeroed(1, sizeof(*copy));

        *copy = *reading;
        node->reader_free = MAX(node->reader_free, sim->now) + sim_between(sim, 50, sim_chance(sim, 50) ? 300 * MS : 4 * MS);
        sim_at(sim, node->reader_free, EVENT_READ, node->number, 0, node->life, copy);
}

void disk_read(struct sim *sim, struct sim_node *node, const struct raft_effects *effects)
{
        for (size_t i = 0; i < effects->log_request_count; i++)
                read_later(sim, node, &(struct disk_reading){ .kind = READING_LOG, .node = effects->log_requests[i].node,
                                                              .from = effects->log_requests[i].from });
        if (effects->make_snapshot)
                read_later(sim, node, &(struct disk_reading){ .kind = READING_SNAPSHOT });
        for (size_t i = 0; i < effects->chunk_request_count; i++)
                read_later(sim, node, &(struct disk_reading){ .kind = READING_CHUNK, .node = effects->chunk_requests[i].node,
                                                              .from = effects->chunk_requests[i].offset,
                                                              .snapshot = effects->chunk_requests[i].snapshot });
        if (effects->drop_snapshot != 0 && effects->drop_snapshot == node->disk.spool_id)
                node->disk.spool_id = 0;
}

static void make_spool(struct sim *sim, struct sim_node *node)
{
        struct disk *disk = &node->disk;
        struct raft *raft = replica_raft(node->replica);

        if (sim_chance(sim, 50)) {
                raft_snapshot_made(raft, 0, NULL, 0);
                return;
        }
        bytes_clear(&disk->spool);
        for (size_t i = 0; i < disk->state.count; i++) {
                const struct disk_record *record = &disk->state.records[i];

                bytes_put_u8(&disk->spool, (uint8_t)record->table);
                bytes_put_text8(&disk->spool, record->key, strlen(record->key));
                bytes_put_text16(&disk->spool, record->label, strlen(record->label));
                bytes_put_u64(&disk->spool, record->number);
                bytes_put_blob(&disk->spool, record->body.data, record->body.size);
        }
        bytes_clear(&disk->spool_configuration);
        bytes_put(&disk->spool_configuration, disk->state.configuration.data, disk->state.configuration.size);
        disk->spool_base = disk->state.base;
        disk->spool_base.configuration = disk->spool_configuration.data;
        disk->spool_id = ++sim->spool_next;
        raft_snapshot_made(raft, disk->spool_id, &disk->spool_base, disk->spool.size);
}

/* Whole records from offset on. */
static size_t chunk_size(const struct sim *sim, const struct bytes *spool, uint64_t offset)
{
        struct bytes_reader reader = bytes_reader_of(spool->data + offset, spool->size - offset);
        size_t size = 0;

        while (reader.left > 0 && size < sim->chunk_bytes) {
                char key[256], label[600];
                size_t body;

                (void)bytes_get_u8(&reader);
                (void)bytes_get_text8(&reader, key, sizeof(key));
                (void)bytes_get_text16(&reader, label, sizeof(label));
                (void)bytes_get_u64(&reader);
                (void)bytes_get_blob(&reader, 65536, &body);
                size = spool->size - offset - reader.left;
        }
        return size;
}

void disk_read_done(struct sim *sim, struct sim_node *node, void *what)
{
        const struct disk_reading *reading = what;
        struct disk *disk = &node->disk;
        struct raft *raft = replica_raft(node->replica);
        uint64_t count_max = sim_between(sim, 2, 40), count = 0;

        switch (reading->kind) {
        case READING_LOG:
                if (reading->from >= disk->log_first && reading->from <= disk->log_last)
                        count = MIN(count_max, disk->log_last - reading->from + 1);
                raft_log_read(raft, reading->node, reading->from, &disk->log[reading->from], (size_t)count);
                return;
        case READING_SNAPSHOT:
                make_spool(sim, node);
                return;
        case READING_CHUNK:
                if (reading->snapshot == disk->spool_id && reading->from <= disk->spool.size)
                        raft_chunk_read(raft, reading->node, reading->snapshot, reading->from, disk->spool.data + reading->from,
                                        chunk_size(sim, &disk->spool, reading->from));
                return;
        }
}
