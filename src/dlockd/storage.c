/* storage.c - the replica's wishes to the store, and the store's results back. */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/diag.h"
#include "base/random.h"
#include "dlockd/daemon.h"
#include "dlockd/failure.h"
#include "dlockd/session.h"
#include "replica/entry.h"

/* After a snapshot that could not be made, until the next. */
#define SNAPSHOT_AGAIN_MS 1000
/* Of a disk that is slow is said no more than this often, unless it has become twice as slow. */
#define DISK_AGAIN_MS (5 * 60 * 1000)

/* Each in a line of its own: no name has a line end. */
static void join_names(struct entry_columns *columns, char *text)
{
        struct lock_name name = columns->lock;

        memcpy(text, name.text, name.size + 1u);
        while (names_view_take(&columns->further, &name)) {
                text += strlen(text);
                *text++ = '\n';
                memcpy(text, name.text, name.size + 1u);
        }
}

bool daemon_describe(const struct raft_entry *entry, struct store_columns *ret_columns)
{
        struct entry_columns columns;

        if (!entry_describe(entry, &columns))
                return false;
        ret_columns->kind = columns.kind;
        join_names(&columns, ret_columns->lock);
        memcpy(ret_columns->client, columns.client.text, columns.client.size + 1u);
        ret_columns->token = columns.token;
        return true;
}

/* --- at start --- */

/* The state is that of one index, and what it holds by then was made by an entry up to there: tokens, sessions, results. */
const char *daemon_load_record(struct replica *replica, const struct raft_record *record)
{
        if (record->table != RAFT_TABLE_PROMISE && record->number > replica_applied(replica))
                return "comes from an entry after the state";
        return replica_load_record(replica, record) ? NULL : "is not what its body says";
}

static const char *load_record(void *context, const struct raft_record *record)
{
        struct daemon *daemon = context;

        return daemon_load_record(daemon->replica, record);
}

/* 0: not well formed. */
static unsigned level_of(uint64_t index, const void *body, size_t size)
{
        _cleanup_free_ struct raft_configuration *configuration = raft_configuration_get(index, body, size);

        return configuration ? configuration->level : 0;
}

/* An entry of members announces the kinds that come after it. */
bool daemon_level_is_known(const struct raft_entry *entry, unsigned *level)
{
        if (entry->kind == RAFT_ENTRY_CONFIGURATION)
                *level = level_of(entry->index, entry->body, entry->size);
        return *level <= RAFT_FEATURE_LEVEL;
}

int daemon_explain_level(const char *path, unsigned level, char error[512])
{
        (void)snprintf(error, 512, "%.200s is of a cluster whose nodes all have a newer dlockd (feature level %u, this one knows %u); nothing in it"
                       " was changed: upgrade dlock-server on this host", path, level, RAFT_FEATURE_LEVEL);
        return -ENOTSUP;
}

/* The core takes for granted what every node keeps: no entry of a later term than the node's, no time that falls. */
bool daemon_load_entry(struct replica *replica, const struct raft_entry *entry)
{
        const struct raft *raft = replica_raft(replica);

        return entry->term <= raft_term(raft) && entry->cluster_ms >= raft_cluster_ms(raft) && replica_load_entry(replica, entry);
}

static bool load_entry(void *context, const struct raft_entry *entry)
{
        struct daemon *daemon = context;

        return daemon_level_is_known(entry, &daemon->level_found) && daemon_load_entry(daemon->replica, entry);
}

static void replica_settings_of(const struct daemon *daemon, struct replica_settings *settings)
{
        const struct config *config = &daemon->config;

        *settings = (struct replica_settings){
                .raft = {
                        .election_timeout_ms = config->timeout_ms,
                        .heartbeat_ms = config->heartbeat_ms,
                        .campaigns = true,
                        .level = RAFT_FEATURE_LEVEL,
                        .max_voters = config->max_voters,
                        .seed = random_u64(),
                },
                .keep_entries = config->keep_entries,
                .min_voters = config->min_voters,
                .unwatched = config->clients.count == 0,
                .cluster = daemon->identity.cluster,
        };
        memcpy(settings->address, daemon->address, sizeof(settings->address));
}

void daemon_make_replica(struct daemon *daemon, const struct store_content *content)
{
        struct raft_start start = {
                .id = content->identity.node,
                .hard = content->hard,
                .base = content->base,
                .log_first = content->log_first,
        };
        struct replica_settings settings;

        daemon->identity = content->identity;
        replica_settings_of(daemon, &settings);
        replica_free(daemon->replica);
        daemon->replica = replica_new(&settings, &start);
}

/* What every node writes together must be there together. NULL: nothing is wrong. */
const char *daemon_what_is_wrong(const struct store_content *content, unsigned *ret_level)
{
        const struct raft_base *base = &content->base;
        bool member = content->identity.node != 0;

        *ret_level = base->configuration_size ? level_of(base->configuration_index, base->configuration, base->configuration_size) : 1;
        if (*ret_level > RAFT_FEATURE_LEVEL)
                return "it was written by a newer dlockd";
        if (member == id128_is_null(content->identity.cluster))
                return "it names a cluster without a node id, or a node id without a cluster";
        if (!member && (content->log_last != 0 || base->index != 0 || base->configuration_size != 0))
                return "it has a log, but says that it belongs to no cluster";
        if (base->configuration_size == 0 && base->index != 0)
                return "the members of the cluster are missing";
        if (*ret_level == 0)
                return "the list of members is not well formed";
        if (base->configuration_index > base->index)
                return "the list of members is newer than the state";
        if (base->term > content->hard.term)
                return "its term is older than its state";
        return NULL;
}

/* The replica needs the base before it can take records: the store tells it first. */
static const char *load_begin(void *context, const struct store_content *content)
{
        struct daemon *daemon = context;
        const char *wrong = daemon_what_is_wrong(content, &daemon->level_found);

        if (!wrong)
                daemon_make_replica(daemon, content);
        return wrong;
}

/* Then waiting for this one is in vain. */
static bool settings_name_another_directory(const struct daemon *daemon)
{
        struct config loaded;
        char error[512];

        return config_load(daemon->config_directory, daemon->config.role, daemon->config.instance, &loaded, error) >= 0 &&
               strcmp(loaded.directory, daemon->config.directory) != 0;
}

static int open_or_wait(struct daemon *daemon)
{
        enum failure_next next = failure_wait_for_room(daemon->config.directory);
        char error[512];
        int r = -EIO;

        while (next == FAILURE_TRY_AGAIN) {
                r = store_open(daemon->config.directory, daemon->config.name, daemon_describe, &daemon->store, error);
                if (r >= 0)
                        return 0;
                next = failure_try_again(error);
                if (next == FAILURE_TRY_AGAIN && settings_name_another_directory(daemon))
                        return r;
        }
        return next == FAILURE_STOPPED ? -EINTR : r;
}

static int explain_own_level(const struct daemon *daemon, char error[512])
{
        _cleanup_free_ char *path = NULL;

        if (asprintf(&path, "%s/dlock.db", daemon->config.directory) < 0)
                return -ENOMEM;
        return daemon_explain_level(path, daemon->level_found, error);
}

int daemon_open_store(struct daemon *daemon)
{
        const struct store_loader loader = { .context = daemon, .begin = load_begin, .record = load_record, .entry = load_entry };
        struct store_content content;
        char error[512];
        int r;

        r = open_or_wait(daemon);
        if (r < 0)
                return r;
        r = store_load(daemon->store, &loader, &content, error);
        if (r < 0 && daemon->level_found > RAFT_FEATURE_LEVEL)
                r = explain_own_level(daemon, error);
        if (r >= 0 && !replica_load_finish(daemon->replica)) {
                (void)snprintf(error, sizeof(error), "%.200s/dlock.db: its state tables contradict each other: restore a backup, or move it away"
                               " and let this node join again as a new one", daemon->config.directory);
                r = -EBADMSG;
        }
        if (r < 0) {
                failure_say(error);
                return r;
        }
        return loop_add_io(daemon->loop, store_fd(daemon->store), EPOLLIN, daemon_on_store, daemon, &daemon->store_source);
}

/* A cluster of one begins: its id, this node as the only voter. Blocks on the disk, once in a cluster's life. */
int daemon_bootstrap(struct daemon *daemon)
{
        struct store_content content = { .identity = daemon->identity, .log_first = 1 };
        struct raft_configuration *configuration = raft_configuration_copy(NULL, 1);
        struct bytes body = { 0 };
        int r;

        content.identity.cluster = id128_random();
        content.identity.node = 1;
        configuration->count = 1;
        configuration->level = RAFT_FEATURE_LEVEL;
        configuration->members[0] = (struct raft_member){
                .id = 1, .incarnation = daemon->identity.incarnation, .standing = RAFT_VOTER, .preferred = true };
        memcpy(configuration->members[0].name, daemon->config.name, sizeof(configuration->members[0].name));
        raft_configuration_put(&body, configuration);
        free(configuration);
        content.base.configuration = body.data;
        content.base.configuration_size = body.size;
        (void)store_write(daemon->store, &(struct store_batch){ .identity = &content.identity, .base = &content.base });
        r = store_flush(daemon->store);
        if (r >= 0)
                daemon_make_replica(daemon, &content);
        bytes_done(&body);
        return r;
}

/* --- the replica's wishes --- */

static void push_in_flight(struct daemon *daemon, const struct in_flight *item)
{
        if (daemon->in_flight_count == daemon->in_flight_capacity) {
                size_t capacity = daemon->in_flight_capacity ? daemon->in_flight_capacity * 2 : 64;
                struct in_flight *ring = alloc_zeroed(capacity, sizeof(*ring));

                for (size_t i = 0; i < daemon->in_flight_count; i++)
                        ring[i] = daemon->in_flight[(daemon->in_flight_head + i) % daemon->in_flight_capacity];
                free(daemon->in_flight);
                daemon->in_flight = ring;
                daemon->in_flight_capacity = capacity;
                daemon->in_flight_head = 0;
        }
        daemon->in_flight[(daemon->in_flight_head + daemon->in_flight_count++) % daemon->in_flight_capacity] = *item;
}

/* One transaction for everything this turn wants on disk (P1). */
static void write_batch(struct daemon *daemon, const struct replica_effects *effects)
{
        const struct raft_effects *raft = effects->raft;
        size_t count = raft->persist_id && raft->first <= raft->last ? (size_t)(raft->last - raft->first + 1) : 0;
        const struct raft_entry **entries = NULL;
        struct store_batch batch = { .base = effects->base, .records = effects->records, .record_count = effects->record_count,
                                     .trim_to = effects->trim_to };

        if (raft->persist_id == 0 && !effects->base && !effects->joined)
                return;
        if (raft->persist_id) {
                batch.hard = raft->hard_changed ? &raft->hard : NULL;
                batch.truncate_from = raft->truncate_from;
        }
        if (count > 0) {
                entries = alloc_zeroed(count, sizeof(*entries));
                for (size_t i = 0; i < count; i++)
                        entries[i] = raft_entry_at(replica_raft(daemon->replica), raft->first + i);
                batch.entries = entries;
                batch.entry_count = count;
        }
        if (effects->joined)
                batch.identity = &daemon->identity;
        push_in_flight(daemon, &(struct in_flight){ .token = store_write(daemon->store, &batch), .persist_id = raft->persist_id });
        free(entries);
}

static bool stage_record(void *context, const struct raft_record *record)
{
        struct daemon *daemon = context;

        return replica_staged_record(daemon->replica, record);
}

/* False: what is being received is not a snapshot. */
static bool write_stage(struct daemon *daemon, const struct raft_stage *stage, uint64_t *ret_token)
{
        switch (stage->kind) {
        case RAFT_STAGE_BEGIN:
                *ret_token = store_stage_begin(daemon->store);
                return true;
        case RAFT_STAGE_CHUNK:
                if (!store_snapshot_walk(stage->data, stage->size, daemon, stage_record))
                        return false;
                *ret_token = store_stage_chunk(daemon->store, stage->data, stage->size);
                return true;
        case RAFT_STAGE_INSTALL:
                if (!replica_staged_finish(daemon->replica))
                        return false;
                *ret_token = store_stage_install(daemon->store, stage->base);
                return true;
        }
        abort();
}

static void write_stages(struct daemon *daemon, const struct raft_effects *raft)
{
        uint64_t token = 0;

        for (size_t i = 0; i < raft->stage_count; i++)
                if (!write_stage(daemon, &raft->stages[i], &token)) {
                        diag_error("a snapshot from the leader is malformed: it was dropped, and nothing of it is used");
                        raft_snapshot_refused(replica_raft(daemon->replica));
                        token = 0;
                        break;
                }
        if (token != 0)
                push_in_flight(daemon, &(struct in_flight){ .token = token, .staged = true });
}

/* Whoever needs it still does, and a disk without room has none a moment later: it is asked again, but not at once. */
void daemon_storage_tick(struct daemon *daemon)
{
        if (daemon->snapshot_again == 0 || daemon->now < daemon->snapshot_again)
                return;
        daemon->snapshot_again = 0;
        raft_snapshot_made(replica_raft(daemon->replica), 0, NULL, 0);
}

uint64_t daemon_read_cookie(struct daemon *daemon, const struct read_request *request)
{
        struct read_request *copy = alloc_zeroed(1, sizeof(*copy));

        *copy = *request;
        LIST_INSERT_HEAD(&daemon->reads, copy, link);
        return (uint64_t)(uintptr_t)copy;
}

static void drop_read(struct read_request *request)
{
        LIST_REMOVE(request, link);
        free(request);
}

void daemon_drop_reads(struct daemon *daemon)
{
        while (!LIST_EMPTY(&daemon->reads))
                drop_read(LIST_FIRST(&daemon->reads));
}

void daemon_carry_out_storage(struct daemon *daemon, const struct replica_effects *effects)
{
        const struct raft_effects *raft = effects->raft;

        write_batch(daemon, effects);
        write_stages(daemon, raft);
        for (size_t i = 0; i < raft->log_request_count; i++) {
                const struct raft_log_request *wish = &raft->log_requests[i];
                const struct read_request request = { .kind = READ_LOG, .node = wish->node, .from = wish->from };

                store_read_log(daemon->store, daemon_read_cookie(daemon, &request), wish->from, LIMIT_APPEND_ENTRIES, LIMIT_APPEND_BYTES / 2);
        }
        if (raft->make_snapshot)
                store_snapshot_make(daemon->store, daemon_read_cookie(daemon, &(struct read_request){ .kind = READ_SNAPSHOT }));
        for (size_t i = 0; i < raft->chunk_request_count; i++) {
                const struct raft_chunk_request *wish = &raft->chunk_requests[i];
                const struct read_request request = { .kind = READ_CHUNK, .node = wish->node, .from = wish->offset, .snapshot = wish->snapshot };

                store_snapshot_read(daemon->store, daemon_read_cookie(daemon, &request), wish->snapshot, wish->offset, LIMIT_SNAPSHOT_CHUNK_BYTES);
        }
        if (raft->drop_snapshot != 0)
                store_snapshot_drop(daemon->store, raft->drop_snapshot);
}

/* --- the store's results --- */

static void persisted(struct daemon *daemon, uint64_t token)
{
        while (daemon->in_flight_count > 0 && daemon->in_flight[daemon->in_flight_head].token <= token) {
                struct in_flight item = daemon->in_flight[daemon->in_flight_head];

                daemon->in_flight_head = (daemon->in_flight_head + 1) % daemon->in_flight_capacity;
                daemon->in_flight_count--;
                if (item.persist_id != 0)
                        raft_persisted(replica_raft(daemon->replica), item.persist_id);
                if (item.staged)
                        replica_staged(daemon->replica);
        }
}

/* What could not be read is asked for again, or answered with not known. */
static void read_failed(struct daemon *daemon, const struct store_event *event, const struct read_request *request)
{
        struct raft *raft = replica_raft(daemon->replica);

        diag_warning("%s", event->text ? event->text : "a read from the database failed");
        switch (request->kind) {
        case READ_LOG:
                raft_log_read(raft, request->node, request->from, NULL, 0);
                return;
        case READ_SNAPSHOT:
                daemon->snapshot_again = daemon->now + SNAPSHOT_AGAIN_MS;
                return;
        case READ_CHUNK:
                return;
        case READ_HISTORY:
                session_history(daemon->sessions, request, NULL);
                return;
        case READ_BACKUP:
        case READ_BACKUP_PIECE:
                session_backup(daemon->sessions, request, NULL, event->text);
                return;
        }
}

/* An election takes two writes one after the other, the candidate's and the voters' (E2), and has to end within a timeout. */
static void judge_disk(struct daemon *daemon, uint64_t commit_ms)
{
        uint64_t timeout = daemon->config.timeout_ms;
        bool lately = daemon->disk_judged_at != 0 && daemon->now - daemon->disk_judged_at < DISK_AGAIN_MS;

        if (commit_ms <= timeout / 3 || (lately && commit_ms < 2 * daemon->disk_worst_ms))
                return;
        daemon->disk_judged_at = daemon->now;
        daemon->disk_worst_ms = commit_ms;
        diag_warning("the disk took %" PRIu64 " ms for one write to %s/dlock.db, more than a third of [election] timeout (%" PRIu64 " ms): see what keeps it busy, or"
                     " set timeout to at least three times as long on every node", commit_ms, daemon->config.directory, timeout);
}

static void on_event(void *context, const struct store_event *event)
{
        struct daemon *daemon = context;
        struct raft *raft = replica_raft(daemon->replica);
        struct read_request *request = (struct read_request *)(uintptr_t)event->cookie;

        switch (event->kind) {
        case STORE_PERSISTED:
                judge_disk(daemon, event->commit_ms);
                persisted(daemon, event->token);
                return;
        case STORE_FAILED:
                daemon_fail(daemon, event->text);
                return;
        case STORE_HISTORY:
                session_history(daemon->sessions, request, event);
                break;
        case STORE_BACKUP_MADE:
        case STORE_BACKUP_CHUNK:
                session_backup(daemon->sessions, request, event, "");
                break;
        case STORE_LOG:
                raft_log_read(raft, request->node, request->from, event->entries, event->entry_count);
                break;
        case STORE_SNAPSHOT_MADE:
                raft_snapshot_made(raft, event->snapshot, &event->base, event->total);
                break;
        case STORE_SNAPSHOT_CHUNK:
                raft_chunk_read(raft, request->node, request->snapshot, request->from, event->data, event->size);
                break;
        case STORE_READ_FAILED:
                read_failed(daemon, event, request);
                break;
        }
        drop_read(request);
}

void daemon_on_store(void *context, uint32_t events)
{
        struct daemon *daemon = context;

        (void)events;
        store_process(daemon->store, on_event, daemon);
        daemon_want_turn(daemon);
}

void daemon_apply_settings(struct daemon *daemon)
{
        struct replica_settings settings;

        replica_settings_of(daemon, &settings);
        replica_set_settings(daemon->replica, &settings);
}
