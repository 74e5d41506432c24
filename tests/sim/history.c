/* history.c - what was committed, what it makes of the table, and whether what clients were told is true. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "lock/record.h"
#include "raft/log.h"
#include "sim.h"

#define HANDLES 65536

/* The locks by a model of their own, as simple as can be: who had it from which index on. */
struct holding {
        uint64_t index;                      /* from here on */
        uint64_t token;                      /* 0: nobody */
        uint64_t session;                    /* 0: in none */
        char owner[LIMIT_CLIENT_ID_BYTES + 1];
};

struct history {
        struct holding *holdings[SIM_LOCKS];
        size_t count[SIM_LOCKS], capacity[SIM_LOCKS];
        struct {
                uint64_t accepted, refused, cancelled;       /* the last such seq */
                uint64_t release, token;                     /* the seq of the last release, and the token that it named */
        } handles[HANDLES];
        struct {
                uint64_t token, cluster_ms, period_ms;
        } once[SIM_LOCKS];                   /* the last grant of once in a period; TOKEN 0: none yet */
        uint64_t ended[SIM_ENTRIES];         /* by the id of the session: the entry that ended it; 0: none did */
        char first_user[SIM_CLIENTS];        /* of the id of a client: the number of who used it first; 0: nobody did */
};

void history_init(struct sim *sim)
{
        sim->history = alloc_zeroed(1, sizeof(*sim->history));
        sim->truth = lock_table_new();
        sim->truth_hash[0] = history_hash(sim->truth);
}

void history_done(struct sim *sim)
{
        for (size_t i = 0; i < SIM_LOCKS; i++)
                free(sim->history->holdings[i]);
        free(sim->history);
        free(sim->configuration);
        lock_table_free(sim->truth);
        for (uint64_t index = 1; index <= sim->committed_last; index++)
                free(sim->committed[index]);
}

/* --- equal tables have equal hashes: all that decides how they go on --- */

static uint64_t mix(uint64_t hash, uint64_t value)
{
        hash = (hash ^ value) * UINT64_C(0x9e3779b97f4a7c15);
        return hash ^ (hash >> 29);
}

static uint64_t mix_text(uint64_t hash, const char *text, size_t size)
{
        for (size_t i = 0; i < size; i++)
                hash = (hash ^ (uint8_t)text[i]) * UINT64_C(0x100000001b3);
        return mix(hash, size);
}

/* The order of what is held in it is the order in which it is freed. */
static uint64_t mix_session(uint64_t hash, const struct session_record *session)
{
        const struct lock_record *lock;

        hash = mix_text(hash, (const char *)session->holder, session->holder_size);
        TAILQ_FOREACH(lock, &session->locks, in_session)
                hash = mix(hash, lock->token);
        return mix(mix(hash, session->cluster_ms), session->wall_ms);
}

uint64_t history_hash(const struct lock_table *table)
{
        const struct client_record *client = NULL;
        const struct result_record *result;
        struct period_record *period = NULL;
        struct lock_view lock = { .name = "" };
        struct lock_session_view session = { .id = 0 };
        uint64_t hash = 1;

        while (lock_table_next(table, "", 0, lock.name, lock.name_size, &lock)) {
                hash = mix_text(hash, lock.name, lock.name_size);
                hash = mix_text(hash, lock.owner, strlen(lock.owner));
                hash = mix_text(hash, lock.principal, strlen(lock.principal));
                hash = mix_text(hash, (const char *)lock.holder.data, lock.holder.size);
                hash = mix(mix(mix(hash, lock.token), lock.since_cluster_ms), lock.since_wall_ms);
                hash = mix(hash, lock.session);
        }
        while (lock_table_next_session(table, session.id, &session)) {
                hash = mix_text(hash, session.client, strlen(session.client));
                hash = mix_text(hash, session.principal, strlen(session.principal));
                hash = mix(mix(mix(hash, session.id), session.ttl_ms), session.held);
                hash = mix(mix(hash, session.lease), session.ended);
                hash = mix_session(hash, lock_table_get_session(table, session.id));
        }
        while ((period = lock_table_next_period((struct lock_table *)table, period))) {
                hash = mix_text(hash, period->name.text, period->name.size);
                hash = mix_text(hash, period->client.text, period->client.size);
                hash = mix(mix(mix(hash, period->token), period->cluster_ms), period->end_ms);
        }
        while ((client = lock_table_next_client((struct lock_table *)table, (struct client_record *)client))) {
                hash = mix_text(hash, client->id.text, client->id.size);
                hash = mix_text(hash, client->principal.text, client->principal.size);
                hash = mix(mix(mix(hash, client->last_index), client->held), client->is_idle);
        }
        TAILQ_FOREACH(client, &table->idle, idle)
                hash = mix_text(hash, client->id.text, client->id.size);
        TAILQ_FOREACH(result, &table->by_age, age) {
                hash = mix_text(hash, (const char *)result->handle.bytes, sizeof(result->handle.bytes));
                hash = mix(mix(mix(hash, result->seq), result->kind), result->token);
                hash = mix(mix(hash, result->index), result->cluster_ms);
                hash = mix_text(hash, result->name.text, result->name.size);
                hash = mix_text(hash, result->client.text, result->client.size);
        }
        return mix(mix(mix(hash, table->lock_count), table->client_count), table->result_count);
}

/* --- committing --- */

static unsigned lock_of(const struct lock_name *name)
{
        return (unsigned)(name->text[name->size - 1] - 'a');
}

static uint64_t handle_of(struct id128 handle)
{
        return bytes_load_u64(handle.bytes) % HANDLES;
}

static const struct holding *holding_at(const struct history *history, unsigned lock, uint64_t index)
{
        size_t at = history->count[lock];

        while (at > 0 && history->holdings[lock][at - 1].index > index)
                at--;
        return at > 0 && history->holdings[lock][at - 1].token != 0 ? &history->holdings[lock][at - 1] : NULL;
}

static struct holding *next_holding(struct history *history, unsigned lock, uint64_t index)
{
        struct holding *holding;

        if (history->count[lock] == history->capacity[lock]) {
                history->capacity[lock] = history->capacity[lock] ? history->capacity[lock] * 2 : 32;
                history->holdings[lock] = alloc_resized(history->holdings[lock], history->capacity[lock], sizeof(struct holding));
        }
        holding = &history->holdings[lock][history->count[lock]++];
        *holding = (struct holding){ .index = index };
        return holding;
}

static void hold(struct history *history, const struct raft_entry *entry, const struct lock_change *change)
{
        struct holding *holding = next_holding(history, lock_of(&change->name), entry->index);

        if (entry->kind == RAFT_ENTRY_RELEASE)
                return;
        holding->token = entry->index;
        holding->session = change->ttl_ms != 0 ? entry->index : change->session;
        (void)strcpy(holding->owner, change->client.text);
}

/* Promises 1 and 5: nobody counts on what is given to somebody else, or ended. */
static void commit_end(struct sim *sim, const struct raft_entry *entry, uint64_t session)
{
        if (sim->history->ended[session] == 0)
                sim->history->ended[session] = entry->index;
        for (unsigned freed = 0; freed < LIMIT_ENTRY_RECORDS / 4; freed++) {
                const struct holding *first = NULL;
                unsigned at = 0;

                for (unsigned lock = 0; lock < SIM_LOCKS; lock++) {
                        const struct holding *holder = holding_at(sim->history, lock, entry->index);

                        if (holder && holder->session == session && (!first || holder->token < first->token)) {
                                first = holder;
                                at = lock;
                        }
                }
                if (!first)
                        break;
                (void)next_holding(sim->history, at, entry->index);
        }
        for (unsigned i = 0; i < SIM_CLIENTS; i++) {
                struct sim_client *client = &sim->clients[i];

                for (unsigned at = 0; at <= SIM_LOCKS; at++) {
                        const struct sim_session *counted = at < SIM_LOCKS ? &client->leases[at] : &client->opened;

                        if (counted->id == session && counted->until > sim->now && sim->drift_per_1000 != 0)
                                sim_fail(sim, "session %" PRIu64 " is ended at %" PRIu64 " while client %u counts on it for %" PRIu64 " ms more", session, entry->index, i,
                                         (counted->until - sim->now) / MS);
                }
        }
}

/* Two who wanted it once in a period are that far apart, as far as both wanted to be. */
static void commit_once(struct sim *sim, const struct raft_entry *entry, const struct lock_change *change)
{
        unsigned lock = lock_of(&change->name);
        uint64_t since = entry->cluster_ms - sim->history->once[lock].cluster_ms;

        if (sim->history->once[lock].token != 0 && since < MIN(change->period_ms, sim->history->once[lock].period_ms))
                sim_fail(sim, "%s is granted at %" PRIu64 ", %" PRIu64 " ms after %" PRIu64 " and once in %" PRIu64 " ms", change->name.text, entry->index, since,
                         sim->history->once[lock].token, change->period_ms);
        sim->history->once[lock].token = entry->index;
        sim->history->once[lock].cluster_ms = entry->cluster_ms;
        sim->history->once[lock].period_ms = change->period_ms;
}

static void check_beliefs(struct sim *sim, const struct raft_entry *entry, const struct lock_change *change)
{
        unsigned lock = lock_of(&change->name);

        for (unsigned i = 0; i < SIM_CLIENTS && sim->drift_per_1000 != 0; i++)
                if (lease_believed_until(&sim->clients[i], lock) > sim->now)
                        sim_fail(sim, "%s is granted to %s at %" PRIu64 " while client %u counts on having it", change->name.text, change->client.text,
                                 entry->index, i);
}

static void commit_change(struct sim *sim, const struct raft_entry *entry)
{
        struct history *history = sim->history;
        const struct lock_moment moment = { .index = entry->index, .cluster_ms = entry->cluster_ms, .wall_ms = entry->wall_ms };
        const struct holding *holder;
        struct lock_change change;
        uint64_t handle;

        if (!lock_change_get((enum lock_change_kind)entry->kind, entry->body, entry->size, &change))
                sim_fail(sim, "entry %" PRIu64 " is malformed", entry->index);
        handle = handle_of(change.handle);
        if (entry->kind == RAFT_ENTRY_EXPIRE) {
                commit_end(sim, entry, change.session);
                lock_table_apply(sim->truth, &moment, &change);
                sim_trace(sim, "                                   commit %" PRIu64 ": session %" PRIu64 " of %s has ended", entry->index, change.session, change.client.text);
                return;
        }
        if (history->handles[handle].cancelled >= change.seq)
                sim_fail(sim, "request %" PRIu64 ":%" PRIu64 " was cancelled, and happens at %" PRIu64, handle, change.seq, entry->index);
        if (history->handles[handle].accepted >= change.seq)
                sim_fail(sim, "request %" PRIu64 ":%" PRIu64 " happens twice, the second time at %" PRIu64, handle, change.seq, entry->index);
        if (history->handles[handle].refused == change.seq && entry->kind != RAFT_ENTRY_CANCEL)
                sim_fail(sim, "request %" PRIu64 ":%" PRIu64 " was refused, and happens at %" PRIu64, handle, change.seq, entry->index);
        if (entry->kind == RAFT_ENTRY_CANCEL)
                history->handles[handle].cancelled = change.seq;
        else
                history->handles[handle].accepted = change.seq;
        /* Of locks by the hundred the model keeps no account. */
        if ((entry->kind == RAFT_ENTRY_PREEMPT || entry->kind == RAFT_ENTRY_RELEASE) && strncmp(change.name.text, "lock/", 5) == 0) {
                holder = holding_at(history, lock_of(&change.name), entry->index);
                if (entry->kind == RAFT_ENTRY_PREEMPT)
                        check_beliefs(sim, entry, &change);
                if (entry->kind == RAFT_ENTRY_PREEMPT && change.period_ms != 0)
                        commit_once(sim, entry, &change);
                if (entry->kind == RAFT_ENTRY_PREEMPT && holder)
                        sim_fail(sim, "mutual exclusion: %s is granted to %s at %" PRIu64 " while %s has it", change.name.text, change.client.text,
                                 entry->index, holder->owner);
                if (entry->kind == RAFT_ENTRY_RELEASE && (!holder || strcmp(holder->owner, change.client.text) != 0 || holder->token != change.token))
                        sim_fail(sim, "%s is released at %" PRIu64 " by %s, who does not own it", change.name.text, entry->index, change.client.text);
                if (entry->kind == RAFT_ENTRY_RELEASE && history->handles[handle].release == change.seq && history->handles[handle].token != change.token)
                        sim_fail(sim, "%s is released at %" PRIu64 " under token %" PRIu64 ", and token %" PRIu64 " was to be given back", change.name.text,
                                 entry->index, change.token, history->handles[handle].token);
                hold(history, entry, &change);
        }
        if (entry->kind == RAFT_ENTRY_CLOSE)
                commit_end(sim, entry, change.session);
        if (change.client.size == 2 && history->first_user[change.client.text[1] - '0'] == 0)
                history->first_user[change.client.text[1] - '0'] = change.principal.text[7];
        lock_table_apply(sim->truth, &moment, &change);
        sim_trace(sim, "                                   commit %" PRIu64 ": %s %s by %s, request %" PRIu64 ":%" PRIu64, entry->index,
                  raft_entry_kind_name(entry->kind), change.name.text, change.client.text, handle, change.seq);
}

/* Any majority of the voters before meets any majority of the voters after. */
static bool majorities_meet(const struct raft_configuration *before, const struct raft_configuration *after)
{
        size_t both = 0, needed = raft_configuration_voters(before) / 2 + 1 + raft_configuration_voters(after) / 2 + 1;

        for (size_t i = 0; i < before->count; i++)
                both += before->members[i].standing == RAFT_VOTER && raft_configuration_votes(after, before->members[i].id);
        return needed > raft_configuration_voters(before) + raft_configuration_voters(after) - both;
}

static void commit_configuration(struct sim *sim, const struct raft_entry *entry)
{
        struct raft_configuration *configuration = raft_configuration_get(entry->index, entry->body, entry->size);

        if (!configuration)
                sim_fail(sim, "the configuration at %" PRIu64 " is malformed", entry->index);
        if (sim->configuration && !majorities_meet(sim->configuration, configuration))
                sim_fail(sim, "M1: a majority of the configuration at %" PRIu64 " need not know of the one at %" PRIu64, entry->index,
                         sim->configuration->index);
        if (sim->configuration && configuration->level < sim->configuration->level)
                sim_fail(sim, "the level falls at %" PRIu64, entry->index);
        free(sim->configuration);
        sim->configuration = configuration;
}

void history_commit(struct sim *sim, const struct raft_entry *entry)
{
        const struct raft_entry *before = sim->committed[sim->committed_last];

        if (entry->index != sim->committed_last + 1)
                sim_fail(sim, "entry %" PRIu64 " is committed after %" PRIu64, entry->index, sim->committed_last);
        if (before && (entry->cluster_ms < before->cluster_ms || entry->term < before->term))
                sim_fail(sim, "term or cluster time falls at %" PRIu64, entry->index);
        sim->committed[entry->index] = raft_entry_new(entry->index, entry->term, entry->kind, entry->cluster_ms, entry->wall_ms, entry->body, entry->size);
        sim->committed_last = entry->index;
        sim->counts[COUNT_COMMITTED]++;
        if (entry->kind == RAFT_ENTRY_CONFIGURATION)
                commit_configuration(sim, entry);
        sim->configuration_at[entry->index] = sim->configuration ? sim->configuration->index : 0;
        if (entry->kind >= RAFT_ENTRY_CLIENT)
                commit_change(sim, entry);
        else
                sim_trace(sim, "                                   commit %" PRIu64 ": %s", entry->index,
                          entry->kind == RAFT_ENTRY_NOOP ? "noop" : entry->kind == RAFT_ENTRY_CONFIGURATION ? "configuration" : "address");
        sim->truth_hash[entry->index] = history_hash(sim->truth);
}

/* --- what clients were told --- */

static void check_yes(struct sim *sim, const struct sim_client *client, const struct replica_answer *answer)
{
        const struct lock_request *request = &client->request;
        enum lock_change_kind kind = request->kind == LOCK_CHANGE_CANCEL && answer->token != 0 ? client->was.kind : request->kind;
        const struct raft_entry *entry = answer->index <= sim->committed_last ? sim->committed[answer->index] : NULL;
        struct lock_change change;

        if (!entry || (int)entry->kind != (int)kind || !lock_change_get(kind, entry->body, entry->size, &change) ||
            !id128_equal(change.handle, request->handle) || change.seq != request->seq || !lock_name_equal(&change.name, &request->name))
                sim_fail(sim, "client %u was told yes at %" PRIu64 ", where something else is committed", client->number, answer->index);
        /* What happened after it asked stands behind what others had been told by then. */
        if (answer->index <= client->acked_before && kind == request->kind)
                sim_fail(sim, "client %u was told yes at %" PRIu64 ", when %" PRIu64 " had been answered before it asked", client->number, answer->index,
                         client->acked_before);
        if ((kind == LOCK_CHANGE_PREEMPT || kind == LOCK_CHANGE_OPEN) && answer->token != answer->index)
                sim_fail(sim, "client %u was given token %" PRIu64 " for the grant at %" PRIu64, client->number, answer->token, answer->index);
        if (!principal_equal(&change.principal, &request->principal))
                sim_fail(sim, "the principal of client %u was not the one in the log", client->number);
}

static void check_refused_at(struct sim *sim, const struct sim_client *client, const struct replica_answer *answer)
{
        const struct holding *holder = holding_at(sim->history, lock_of(&client->request.name), answer->index);
        bool owned = holder && strcmp(holder->owner, client->request.client.text) == 0;
        bool truth;

        if (holder && holder->session != 0 && sim->history->ended[holder->session] != 0 && sim->history->ended[holder->session] <= answer->index)
                sim_fail(sim, "client %u was refused at %" PRIu64 " for a lock of session %" PRIu64 ", which has ended", client->number, answer->index, holder->session);
        if (answer->outcome == REPLICA_HELD)
                truth = holder && client->request.kind == LOCK_CHANGE_PREEMPT && strcmp(holder->owner, answer->client.text) == 0 && holder->token == answer->token;
        else
                truth = !(owned && holder->token == client->request.token) && client->request.kind == LOCK_CHANGE_RELEASE &&
                        (holder ? strcmp(holder->owner, answer->client.text) == 0 : answer->client.size == 0);
        if (!truth)
                sim_fail(sim, "client %u was refused with owner '%s' at %" PRIu64 ", where '%s' has the lock", client->number, answer->client.text, answer->index,
                         holder ? holder->owner : "");
}

/* It was granted to somebody who wanted it once, and nobody had it then; whether that was too short ago is a matter of cluster time, and
 * of that as of the entry that it rests on at least so much had passed. */
static void check_too_soon(struct sim *sim, const struct sim_client *client, const struct replica_answer *answer)
{
        const struct raft_entry *grant = answer->token <= sim->committed_last ? sim->committed[answer->token] : NULL;
        const struct raft_entry *rest = answer->index <= sim->committed_last ? sim->committed[answer->index] : NULL;
        struct lock_change change;

        if (!grant || !rest || grant->kind != RAFT_ENTRY_PREEMPT || !lock_change_get(LOCK_CHANGE_PREEMPT, grant->body, grant->size, &change) || change.period_ms == 0 ||
            !lock_name_equal(&change.name, &client->request.name) || !client_id_equal(&change.client, &answer->client))
                sim_fail(sim, "client %u was told that it comes too soon after %" PRIu64 ", where no such grant is", client->number, answer->token);
        if (client->request.period_ms == 0 || (rest->cluster_ms > grant->cluster_ms && rest->cluster_ms - grant->cluster_ms >= client->request.period_ms))
                sim_fail(sim, "client %u was told that it comes too soon, %" PRIu64 " ms after %" PRIu64, client->number, rest->cluster_ms - grant->cluster_ms, answer->token);
        if (holding_at(sim->history, lock_of(&client->request.name), answer->index))
                sim_fail(sim, "client %u was told that it comes too soon, where somebody has the lock", client->number);
}

/* Nothing is held in a lease. */
static bool is_of_lease(const struct sim *sim, const struct lock_request *request)
{
        struct lock_session_view view;

        return request->kind == LOCK_CHANGE_PREEMPT && lock_table_find_session(sim->truth, request->session, &view) && view.lease;
}

static void check_no(struct sim *sim, const struct sim_client *client, const struct replica_answer *answer)
{
        uint64_t handle = handle_of(client->request.handle);

        /* Of several copies one may have been refused before, and its answer come after, another is accepted: it will cancel. */
        if (client->copies <= 1 && sim->history->handles[handle].accepted >= client->request.seq)
                sim_fail(sim, "client %u was refused, but its request %" PRIu64 ":%" PRIu64 " had happened", client->number, handle, client->request.seq);
        if (answer->index < client->acked_before)
                sim_fail(sim, "client %u was refused as of %" PRIu64 ", when %" PRIu64 " had been answered before it asked", client->number, answer->index,
                         client->acked_before);
        if (answer->index > sim->committed_last)
                sim_fail(sim, "client %u was refused as of %" PRIu64 ", which is not committed", client->number, answer->index);
        if (answer->outcome == REPLICA_NO_SESSION && !is_of_lease(sim, &client->request))
                history_has_ended(sim, client, client->request.session);
        if (answer->outcome == REPLICA_TOO_SOON)
                check_too_soon(sim, client, answer);
        if (answer->outcome == REPLICA_HELD || answer->outcome == REPLICA_NOT_OWNER)
                check_refused_at(sim, client, answer);
}

void history_asked(struct sim *sim, const struct sim_client *client)
{
        uint64_t handle = handle_of(client->request.handle);

        if (client->is_read || client->request.kind != LOCK_CHANGE_RELEASE)
                return;
        sim->history->handles[handle].release = client->request.seq;
        sim->history->handles[handle].token = client->request.token;
}

void history_refused(struct sim *sim, const struct sim_client *client)
{
        uint64_t handle = handle_of(client->request.handle);

        if (sim->history->handles[handle].accepted >= client->request.seq)
                sim_fail(sim, "client %u was refused for good, but its request %" PRIu64 ":%" PRIu64 " had happened", client->number, handle,
                         client->request.seq);
        sim->history->handles[handle].refused = client->request.seq;
}

const char *history_owner(const struct sim *sim, unsigned lock)
{
        const struct holding *holder = holding_at(sim->history, lock, sim->committed_last);

        return holder ? holder->owner : NULL;
}

bool history_session_lives(const struct sim *sim, const struct sim_client *client, uint64_t session)
{
        struct lock_session_view view;

        return lock_table_find_session(sim->truth, session, &view) && !view.ended && view.client[1] == (char)('0' + client->number);
}

/* What has ended does not come back, so it has at any later time. */
void history_has_ended(struct sim *sim, const struct sim_client *client, uint64_t session)
{
        if (history_session_lives(sim, client, session))
                sim_fail(sim, "client %u was told that session %" PRIu64 " has ended, and it has not", client->number, session);
}

/* An id belongs to who used it first. */
static void check_principal(struct sim *sim, const struct sim_client *client, const struct replica_answer *answer)
{
        const struct lock_request *request = &client->request;
        char first = request->client.size == 2 ? sim->history->first_user[request->client.text[1] - '0'] : request->principal.text[7];

        if (answer->outcome == REPLICA_FOREIGN_CLIENT && first == request->principal.text[7])
                sim_fail(sim, "client %u may not use an id that is its own", client->number);
        if (answer->outcome == REPLICA_YES && first != request->principal.text[7])
                sim_fail(sim, "client %u used the id of another", client->number);
}

void history_answer(struct sim *sim, struct sim_client *client, const struct replica_answer *answer)
{
        check_principal(sim, client, answer);
        switch (answer->outcome) {
        case REPLICA_YES:
                check_yes(sim, client, answer);
                break;
        case REPLICA_HELD:
        case REPLICA_NOT_OWNER:
        case REPLICA_FOREIGN_CLIENT:
        case REPLICA_NO_SESSION:
        case REPLICA_TOO_SOON:
                check_no(sim, client, answer);
                break;
        case REPLICA_FULL:
                sim_fail(sim, "client %u was told that the table is full", client->number);
        case REPLICA_QUIET:
                sim_fail(sim, "client %u was told that the cluster began anew", client->number);
        case REPLICA_UNKNOWN:
        case REPLICA_NO_LEADER:
                return;
        case REPLICA_NOT_LEADER:
                sim_fail(sim, "client %u was told what nodes tell each other", client->number);
        }
        sim->acked = MAX(sim->acked, answer->index);
}

void history_read(struct sim *sim, struct sim_node *node, struct sim_client *client, const struct replica_answer *answer)
{
        const struct holding *holder = holding_at(sim->history, lock_of(&client->request.name), answer->index);
        struct lock_view view;
        bool owned = lock_table_find(replica_table(node->replica), &client->request.name, &view);

        if (answer->outcome != REPLICA_YES)
                return;
        client->read_owner = holder ? holder->owner : NULL;
        client->read_token = holder ? holder->token : 0;
        if (answer->index < client->min_index || answer->index != replica_applied(node->replica))
                sim_fail(sim, "client %u reads at %" PRIu64 ", and had seen %" PRIu64, client->number, answer->index, client->min_index);
        if (client->consistent && answer->index < client->acked_before)
                sim_fail(sim, "client %u reads at %" PRIu64 " for sure, when %" PRIu64 " had been answered before it asked", client->number, answer->index,
                         client->acked_before);
        sim->acked = MAX(sim->acked, answer->index);
        if (owned != (holder != NULL) || (owned && (strcmp(view.owner, holder->owner) != 0 || view.token != holder->token)))
                sim_fail(sim, "client %u reads at %" PRIu64 " what is not true there", client->number, answer->index);
}
