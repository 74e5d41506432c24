/* history.c - what was committed, and what it makes of the table and of a second model of it. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "lock/record.h"
#include "raft/log.h"
#include "history.h"

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
        const struct waiter_record *waiter;

        hash = mix_text(hash, (const char *)session->holder, session->holder_size);
        TAILQ_FOREACH(lock, &session->locks, in_session)
                hash = mix(hash, lock->token);
        TAILQ_FOREACH(waiter, &session->waiters, in_session)
                hash = mix(hash, waiter->id);
        return mix(mix(hash, session->cluster_ms), session->wall_ms);
}

uint64_t history_hash(const struct lock_table *table)
{
        const struct client_record *client = NULL;
        const struct result_record *result;
        struct period_record *period = NULL;
        struct delay_record *delay = NULL;
        struct lock_view lock = { .name = "" };
        struct lock_session_view session = { .id = 0 };
        uint64_t hash = 1;

        while (lock_table_next(table, "", 0, lock.name, lock.name_size, lock.token, &lock)) {
                hash = mix_text(hash, lock.name, lock.name_size);
                hash = mix_text(hash, lock.owner, strlen(lock.owner));
                hash = mix_text(hash, lock.principal, strlen(lock.principal));
                hash = mix_text(hash, (const char *)lock.holder.data, lock.holder.size);
                hash = mix(mix(mix(hash, lock.token), lock.since_cluster_ms), lock.since_wall_ms);
                hash = mix(mix(mix(hash, lock.session), lock.waiter), lock.slots);
        }
        for (const struct waiter_record *waiter = lock_table_waiter_after(table, 0); waiter; waiter = lock_table_waiter_after(table, waiter->id)) {
                const struct place *place;

                /* Whether its queue is held up is not of the state: it says where the leader looks, and a node that has just started looks at more. */
                for (unsigned i = 0; (place = lock_table_place(waiter, i)); i++)
                        hash = mix_text(hash, place->queue->name.text, place->queue->name.size);
                hash = mix_text(hash, waiter->client->id.text, waiter->client->id.size);
                hash = mix_text(hash, waiter->principal.text, waiter->principal.size);
                hash = mix_text(hash, (const char *)waiter->holder, waiter->holder_size);
                hash = mix_text(hash, (const char *)waiter->handle.bytes, sizeof(waiter->handle.bytes));
                hash = mix(mix(mix(hash, waiter->id), waiter->session->id), waiter->seq);
                hash = mix(mix(mix(hash, waiter->cluster_ms), waiter->wall_ms), waiter->period_ms);
                hash = mix(hash, waiter->slots);
        }
        while (lock_table_next_session(table, session.id, &session)) {
                hash = mix_text(hash, session.client, strlen(session.client));
                hash = mix_text(hash, session.principal, strlen(session.principal));
                hash = mix(mix(mix(mix(hash, session.id), session.ttl_ms), session.delay_ms), session.held);
                hash = mix(mix(mix(hash, session.lease), session.ended), session.broken);
                hash = mix_session(hash, lock_table_get_session(table, session.id));
        }
        while ((period = lock_table_next_period((struct lock_table *)table, period))) {
                hash = mix_text(hash, period->name.text, period->name.size);
                hash = mix_text(hash, period->client.text, period->client.size);
                hash = mix(mix(mix(hash, period->token), period->cluster_ms), period->end_ms);
        }
        while ((delay = lock_table_next_delay((struct lock_table *)table, delay))) {
                hash = mix_text(hash, delay->name.text, delay->name.size);
                hash = mix_text(hash, delay->client.text, delay->client.size);
                hash = mix(mix(hash, delay->token), delay->end_ms);
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

unsigned history_lock_of(const struct lock_name *name)
{
        return (unsigned)(name->text[name->size - 1] - 'a');
}

unsigned history_locks_of(const struct lock_name *name, struct names_view further)
{
        unsigned locks = 1u << history_lock_of(name);
        struct lock_name next;

        while (names_view_take(&further, &next))
                locks |= 1u << history_lock_of(&next);
        return locks;
}

uint64_t history_handle_of(struct id128 handle)
{
        return bytes_load_u64(handle.bytes) % HANDLES;
}

/* The next at or after that place that has the lock after this entry; NULL: there is none. */
struct holding *history_next_at(const struct history *history, unsigned lock, uint64_t index, size_t *at)
{
        while (*at < history->count[lock]) {
                struct holding *holding = &history->holdings[lock][(*at)++];

                if (holding->index <= index && index < holding->until)
                        return holding;
        }
        return NULL;
}

/* The hold of that token; 0: the first of any; NULL: it is not held so. */
struct holding *history_hold_at(const struct history *history, unsigned lock, uint64_t index, uint64_t token)
{
        struct holding *holding, *first = NULL;

        for (size_t at = 0; (holding = history_next_at(history, lock, index, &at));)
                if (token != 0 ? holding->token == token : !first || holding->token < first->token)
                        first = holding;
        return first;
}

bool history_holds_at(const struct history *history, unsigned lock, uint64_t index, const char *owner)
{
        const struct holding *holding;

        for (size_t at = 0; (holding = history_next_at(history, lock, index, &at));)
                if (strcmp(holding->owner, owner) == 0)
                        return true;
        return false;
}

/* One more may have it so, as far as those are concerned who have it. */
bool history_has_room(const struct history *history, unsigned lock, uint64_t index, uint16_t slots)
{
        const struct holding *holding;
        size_t count = 0;

        for (size_t at = 0; (holding = history_next_at(history, lock, index, &at)); count++)
                if (slots == 0 || holding->slots != slots)
                        return false;
        return count < (slots == 0 ? 1 : slots == SLOTS_SHARED ? SIM_ENTRIES : slots);
}

static struct holding *add_holding(struct history *history, unsigned lock, uint64_t index, uint64_t token)
{
        struct holding *holding;

        if (history->count[lock] == history->capacity[lock]) {
                history->capacity[lock] = history->capacity[lock] ? history->capacity[lock] * 2 : 32;
                history->holdings[lock] = alloc_resized(history->holdings[lock], history->capacity[lock], sizeof(struct holding));
        }
        holding = &history->holdings[lock][history->count[lock]++];
        *holding = (struct holding){ .index = index, .until = UINT64_MAX, .token = token };
        return holding;
}

/* Two who wanted it once in a period are that far apart, as far as both wanted to be. */
static void commit_once(struct sim *sim, const struct raft_entry *entry, unsigned lock, uint64_t period_ms)
{
        uint64_t since = entry->cluster_ms - sim->history->once[lock].cluster_ms;

        if (sim->history->once[lock].token != 0 && since < MIN(period_ms, sim->history->once[lock].period_ms))
                sim_fail(sim, "lock/%c is granted at %" PRIu64 ", %" PRIu64 " ms after %" PRIu64 " and once in %" PRIu64 " ms", 'a' + (char)lock, entry->index, since,
                         sim->history->once[lock].token, period_ms);
        sim->history->once[lock].token = entry->index;
        sim->history->once[lock].cluster_ms = entry->cluster_ms;
        sim->history->once[lock].period_ms = period_ms;
        sim->history->once[lock].end_ms = entry->cluster_ms + period_ms;
}

/* Promise 1: those who count on having it, and this one, may have it together. */
static void check_beliefs(struct sim *sim, const struct raft_entry *entry, unsigned lock, const char *client, uint16_t slots)
{
        size_t believers = 0;

        for (unsigned i = 0; i < SIM_CLIENTS && sim->drift_per_1000 != 0; i++)
                if (lease_believed_until(&sim->clients[i], lock) > sim->now &&
                    (slots == 0 || sim->clients[i].slots[lock] != slots || (slots != SLOTS_SHARED && ++believers == slots)))
                        sim_fail(sim, "lock/%c is granted to %s at %" PRIu64 " while client %u counts on having it", 'a' + (char)lock, client,
                                 entry->index, i);
}

/* --- the queues, in the order of the log --- */

static void leave_queue(struct history *history, unsigned lock, size_t at)
{
        history->queued[lock]--;
        memmove(&history->queue[lock][at], &history->queue[lock][at + 1], (history->queued[lock] - at) * sizeof(history->queue[lock][0]));
}

static void leave_queues(struct history *history, unsigned locks, uint64_t waiter)
{
        for (unsigned lock = 0; lock < SIM_LOCKS; lock++)
                for (size_t i = history->queued[lock]; locks & 1u << lock && i-- > 0;)
                        if (history->queue[lock][i].id == waiter)
                                leave_queue(history, lock, i);
}

static void enter_queues(struct sim *sim, const struct raft_entry *entry, const struct lock_change *change)
{
        unsigned locks = history_locks_of(&change->name, change->further);

        for (unsigned lock = 0; lock < SIM_LOCKS; lock++) {
                if (!(locks & 1u << lock))
                        continue;
                if (sim->history->queued[lock] == SIM_CLIENTS * 64)
                        sim_fail(sim, "more wait for %s than there are clients", change->name.text);
                sim->history->queue[lock][sim->history->queued[lock]++] = (struct standing){
                        .id = entry->index,
                        .session = change->ttl_ms != 0 ? entry->index : change->session,
                        .locks = locks,
                        .period_ms = change->period_ms,
                        .slots = change->slots,
                        .cluster_ms = entry->cluster_ms,
                        .handle = change->handle,
                        .seq = change->seq,
                        .client = change->client,
                };
        }
}

/* L1: whoever had it has lost it, and not given it back. */
static void lose(struct sim *sim, const struct raft_entry *entry, unsigned lock, const struct holding *holder)
{
        uint32_t delay_ms = sim->history->delays[holder->session];

        if (delay_ms == 0 || sim->history->lost[lock].until >= entry->cluster_ms + delay_ms)
                return;
        sim->history->lost[lock].token = holder->token;
        sim->history->lost[lock].until = entry->cluster_ms + delay_ms;
}

/* It comes too soon after somebody who wanted it once. */
static bool is_in_vain(const struct history *history, unsigned lock, const struct standing *waiter, uint64_t cluster_ms)
{
        return waiter->period_ms != 0 && history->once[lock].token != 0 && history->once[lock].end_ms > cluster_ms &&
               cluster_ms - history->once[lock].cluster_ms < waiter->period_ms;
}

/* Whose turn it is; NULL: nobody's. */
static const struct standing *first_of(const struct history *history, unsigned lock, uint64_t cluster_ms)
{
        for (size_t i = 0; i < history->queued[lock] && cluster_ms >= history->lost[lock].until; i++)
                if (!is_in_vain(history, lock, &history->queue[lock][i], cluster_ms))
                        return &history->queue[lock][i];
        return NULL;
}

static void grant_one(struct sim *sim, const struct raft_entry *entry, unsigned lock, const struct standing *waiter)
{
        struct holding *holding;

        check_beliefs(sim, entry, lock, waiter->client.text, waiter->slots);
        if (waiter->period_ms != 0)
                commit_once(sim, entry, lock, waiter->period_ms);
        holding = add_holding(sim->history, lock, entry->index, entry->index);
        holding->session = waiter->session;
        holding->waiter = waiter->id;
        holding->slots = waiter->slots;
        (void)strcpy(holding->owner, waiter->client.text);
}

/* Whoever waited longest has it, if there is room, and it is its turn for all that it waits for: but for those who want it once and come too
 * soon. Who has just come lets nobody in before it, and one entry lets in one. */
static void grant_next(struct sim *sim, const struct raft_entry *entry, unsigned lock)
{
        struct history *history = sim->history;
        const struct standing *first = first_of(history, lock, entry->cluster_ms), *other;
        struct standing next;

        if (!first || history_hold_at(history, lock, entry->index, entry->index) || (entry->kind == RAFT_ENTRY_WAIT && first->id != entry->index))
                return;
        next = *first;
        for (unsigned i = 0; i < SIM_LOCKS; i++)
                if (next.locks & 1u << i) {
                        other = first_of(history, i, entry->cluster_ms);
                        if (!other || other->id != next.id || !history_has_room(history, i, entry->index, next.slots))
                                return;
                }
        leave_queues(history, next.locks, next.id);
        for (unsigned i = 0; i < SIM_LOCKS; i++)
                if (next.locks & 1u << i)
                        grant_one(sim, entry, i, &next);
}

/* The waiter does not want it any more, or what it got. */
static void commit_leave(struct sim *sim, const struct raft_entry *entry, unsigned lock, uint64_t waiter)
{
        struct holding *holding;

        for (size_t i = 0; i < sim->history->queued[lock]; i++)
                if (sim->history->queue[lock][i].id == waiter) {
                        unsigned locks = sim->history->queue[lock][i].locks;

                        leave_queues(sim->history, locks, waiter);
                        for (unsigned other = 0; other < SIM_LOCKS; other++)
                                if (locks & 1u << other)
                                        grant_next(sim, entry, other);
                        return;
                }
        for (lock = 0; lock < SIM_LOCKS; lock++)
                for (size_t at = 0; (holding = history_next_at(sim->history, lock, entry->index, &at));)
                        if (holding->waiter == waiter) {
                                holding->until = entry->index;
                                grant_next(sim, entry, lock);
                                break;
                        }
}

static void keep(struct sim *sim, const struct raft_entry *entry, unsigned lock, struct holding *holder)
{
        struct holding was = *holder, *kept;

        holder->until = entry->index;
        kept = add_holding(sim->history, lock, entry->index, was.token);
        *kept = was;
        kept->index = entry->index;
        kept->until = UINT64_MAX;
        kept->session = 0;
}

/* Of a lease, all that was taken together. */
static void commit_keep(struct sim *sim, const struct raft_entry *entry, const struct lock_change *change)
{
        struct holding *holder = history_hold_at(sim->history, history_lock_of(&change->name), entry->index, change->token);
        uint64_t session;

        if (!holder || strcmp(holder->owner, change->client.text) != 0)
                sim_fail(sim, "%s is kept at %" PRIu64 " by %s, who does not own it", change->name.text, entry->index, change->client.text);
        session = holder->session;
        if (session == 0 || !sim->history->leases[session]) {
                keep(sim, entry, history_lock_of(&change->name), holder);
                return;
        }
        for (unsigned lock = 0; lock < SIM_LOCKS; lock++)
                for (size_t at = 0; (holder = history_next_at(sim->history, lock, entry->index, &at));)
                        if (holder->session == session) {
                                keep(sim, entry, lock, holder);
                                break;
                        }
}

size_t history_queue_length(const struct sim *sim, unsigned lock)
{
        return sim->history->queued[lock];
}

/* What an ended session held is freed in more than one step, and a delay begins when its lock is. */
static void compare_delay(struct sim *sim, const struct raft_entry *entry, unsigned lock, const struct lock_name *name)
{
        struct history *history = sim->history;
        struct lock_delay_view delay;
        bool delayed = lock_table_find_delay(sim->truth, name, entry->cluster_ms, &delay), expected = entry->cluster_ms < history->lost[lock].until;

        if (delayed && delay.token == history->lost[lock].token && delay.until_cluster_ms > history->lost[lock].until) {
                history->lost[lock].until = delay.until_cluster_ms;
                expected = true;
        }
        if (delayed != expected || (delayed && (delay.token != history->lost[lock].token || delay.until_cluster_ms != history->lost[lock].until)))
                sim_fail(sim, "%s is %s its lock-delay at %" PRIu64 ", cluster time %" PRIu64 ", and the last loss keeps it until %" PRIu64, name->text,
                         delayed ? "in" : "not in", entry->index, entry->cluster_ms, history->lost[lock].until);
}

/* Its session has ended: it is freed in more than one step. */
static bool is_being_freed(const struct sim *sim, uint64_t id)
{
        struct lock_session_view session;

        return id != 0 && lock_table_find_session(sim->truth, id, &session) && session.ended;
}

/* The table says the same of who has it. True: some of it is being freed. */
static bool compare_holders(struct sim *sim, const struct raft_entry *entry, unsigned lock, const struct lock_name *name)
{
        size_t expected = 0, found = 0;
        bool freeing = false;
        struct lock_view view = { .token = 0 };

        for (size_t at = 0; history_next_at(sim->history, lock, entry->index, &at);)
                expected++;
        while (lock_table_next_hold(sim->truth, name, view.token, &view)) {
                const struct holding *holder = history_hold_at(sim->history, lock, entry->index, view.token);

                if (is_being_freed(sim, view.session)) {
                        freeing = true;
                        continue;
                }
                found++;
                if (!holder || strcmp(view.owner, holder->owner) != 0 || view.session != holder->session || view.slots != holder->slots)
                        sim_fail(sim, "%s is of '%s' at %" PRIu64 " under token %" PRIu64 ", and should not be", name->text, view.owner, entry->index, view.token);
        }
        if (found < expected && !freeing)
                sim_fail(sim, "%zu have %s at %" PRIu64 ", and %zu should", found, name->text, entry->index, expected);
        return freeing;
}

/* As people are told it: in turn, but for those whose session has ended. */
static void compare_queue(struct sim *sim, const struct raft_entry *entry, unsigned lock, const struct lock_name *name)
{
        struct lock_view waiting = { .token = 0 };
        size_t at = 0;

        while (lock_table_next_waiting(sim->truth, name, waiting.token, &waiting)) {
                const struct standing *expected = &sim->history->queue[lock][at];

                if (is_being_freed(sim, waiting.session))
                        continue;
                if (at++ >= sim->history->queued[lock] || expected->id != waiting.token || expected->slots != waiting.slots)
                        sim_fail(sim, "%s: %" PRIu64 " waits at %" PRIu64 " where another should, or nobody", name->text, waiting.token, entry->index);
        }
}

/* The tables say the same of who has it, and who waits: but for what an ended session held. */
static void compare(struct sim *sim, const struct raft_entry *entry)
{
        for (unsigned lock = 0; lock < SIM_LOCKS; lock++) {
                struct lock_name name = { .size = 6, .text = "lock/" };

                name.text[5] = (char)('a' + lock);
                if (compare_holders(sim, entry, lock, &name))
                        continue;
                if (lock_table_queue_length(sim->truth, &name) != sim->history->queued[lock])
                        sim_fail(sim, "%zu wait for %s at %" PRIu64 ", and %zu should", lock_table_queue_length(sim->truth, &name), name.text, entry->index,
                                 sim->history->queued[lock]);
                compare_queue(sim, entry, lock, &name);
                compare_delay(sim, entry, lock, &name);
        }
}

static void forget_waiters(struct sim *sim, const struct raft_entry *entry, uint64_t session)
{
        size_t before[SIM_LOCKS];

        memcpy(before, sim->history->queued, sizeof(before));
        for (unsigned lock = 0; lock < SIM_LOCKS; lock++)
                for (size_t i = before[lock]; i-- > 0;)
                        if (sim->history->queue[lock][i].session == session)
                                leave_queue(sim->history, lock, i);
        for (unsigned lock = 0; lock < SIM_LOCKS; lock++)
                if (sim->history->queued[lock] != before[lock])
                        grant_next(sim, entry, lock);
}

/* What is held in it since the longest. */
static struct holding *first_of_session(const struct history *history, uint64_t index, uint64_t session, unsigned *ret_lock)
{
        struct holding *first = NULL, *holding;

        for (unsigned lock = 0; lock < SIM_LOCKS; lock++)
                for (size_t at = 0; (holding = history_next_at(history, lock, index, &at));)
                        if (holding->session == session && (!first || holding->token < first->token)) {
                                first = holding;
                                *ret_lock = lock;
                        }
        return first;
}

/* Promises 1 and 5: nobody counts on what is given to somebody else, or ended. */
static void commit_end(struct sim *sim, const struct raft_entry *entry, uint64_t session)
{
        const struct raft_entry *end = entry;

        if (sim->history->ended[session] == 0)
                sim->history->ended[session] = entry->index;
        else
                end = sim->committed[sim->history->ended[session]];
        forget_waiters(sim, entry, session);
        for (unsigned freed = 0; freed < LOCK_FREED_PER_ENTRY; freed++) {
                unsigned lock = 0;
                struct holding *first = first_of_session(sim->history, entry->index, session, &lock);

                if (!first)
                        break;
                if (end->kind == RAFT_ENTRY_EXPIRE)
                        lose(sim, entry, lock, first);
                first->until = entry->index;
                grant_next(sim, entry, lock);
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

/* Fairness: whoever waits, and may have it, is before who comes. */
static void check_queue(struct sim *sim, const struct raft_entry *entry, unsigned lock)
{
        for (size_t i = 0; i < sim->history->queued[lock]; i++)
                if (sim->history->queue[lock][i].period_ms == 0 && sim->history->ended[sim->history->queue[lock][i].session] == 0)
                        sim_fail(sim, "lock/%c is granted at %" PRIu64 ", and %s has waited for it since %" PRIu64, 'a' + (char)lock, entry->index,
                                 sim->history->queue[lock][i].client.text, sim->history->queue[lock][i].id);
}

static void take(struct sim *sim, const struct raft_entry *entry, const struct lock_change *change, unsigned lock)
{
        const struct holding *holder = history_hold_at(sim->history, lock, entry->index, 0);
        struct holding *holding;

        check_beliefs(sim, entry, lock, change->client.text, change->slots);
        if (change->period_ms != 0)
                commit_once(sim, entry, lock, change->period_ms);
        if (entry->cluster_ms < sim->history->lost[lock].until)
                sim_fail(sim, "lock/%c is granted to %s at %" PRIu64 ", cluster time %" PRIu64 ", and nobody is to get it before %" PRIu64, 'a' + (char)lock,
                         change->client.text, entry->index, entry->cluster_ms, sim->history->lost[lock].until);
        if (!history_has_room(sim->history, lock, entry->index, change->slots))
                sim_fail(sim, "mutual exclusion: lock/%c is granted to %s at %" PRIu64 " while %s has it", 'a' + (char)lock, change->client.text, entry->index, holder->owner);
        check_queue(sim, entry, lock);
        holding = add_holding(sim->history, lock, entry->index, entry->index);
        holding->session = change->ttl_ms != 0 ? entry->index : change->session;
        holding->slots = change->slots;
        (void)strcpy(holding->owner, change->client.text);
}

static void commit_preempt(struct sim *sim, const struct raft_entry *entry, const struct lock_change *change)
{
        unsigned locks = history_locks_of(&change->name, change->further);

        for (unsigned lock = 0; lock < SIM_LOCKS; lock++)
                if (locks & 1u << lock)
                        take(sim, entry, change, lock);
}

static void check_given_up(struct sim *sim, const struct raft_entry *entry, const struct lock_change *change)
{
        uint64_t handle = history_handle_of(change->handle);

        if (sim->history->handles[handle].release == change->seq && sim->history->handles[handle].token != change->token)
                sim_fail(sim, "%s is released at %" PRIu64 " under token %" PRIu64 ", and token %" PRIu64 " was to be given back", change->name.text, entry->index,
                         change->token, sim->history->handles[handle].token);
}

static void commit_release(struct sim *sim, const struct raft_entry *entry, const struct lock_change *change)
{
        struct holding *holder = history_hold_at(sim->history, history_lock_of(&change->name), entry->index, change->token);

        if (!holder || change->token == 0 || strcmp(holder->owner, change->client.text) != 0)
                sim_fail(sim, "%s is released at %" PRIu64 " by %s, who does not own it", change->name.text, entry->index, change->client.text);
        check_given_up(sim, entry, change);
        holder->until = entry->index;
        grant_next(sim, entry, history_lock_of(&change->name));
}

static void take_away(struct sim *sim, const struct raft_entry *entry, const struct lock_change *change, unsigned lock, struct holding *holder)
{
        /* Whoever has just had it kept, and not heard yet that it is, counts on the lease in vain: what lasts is taken away at once. */
        for (unsigned i = 0; i < SIM_CLIENTS && change->now; i++)
                lease_let_go(&sim->clients[i], lock);        /* so the operator says */
        for (unsigned i = 0; i < SIM_CLIENTS && holder->session == 0; i++)
                if (sim->clients[i].busy && sim->clients[i].request.kind == LOCK_CHANGE_KEEP)
                        lease_let_go(&sim->clients[i], lock);
        lose(sim, entry, lock, holder);
        holder->until = entry->index;
        grant_next(sim, entry, lock);
}

static void commit_break(struct sim *sim, const struct raft_entry *entry, const struct lock_change *change)
{
        unsigned lock = history_lock_of(&change->name);
        struct holding *holder = history_hold_at(sim->history, lock, entry->index, change->token);
        uint64_t session;

        if (!holder || change->token == 0)
                sim_fail(sim, "%s is taken away at %" PRIu64 " under token %" PRIu64 ", where it is held under another", change->name.text, entry->index, change->token);
        session = holder->session;
        if (!change->now && session != 0)
                return;                      /* when its lease is over */
        if (session == 0 || !sim->history->leases[session]) {
                take_away(sim, entry, change, lock, holder);
                return;
        }
        while ((holder = first_of_session(sim->history, entry->index, session, &lock)))
                take_away(sim, entry, change, lock, holder);
}

static void commit_named(struct sim *sim, const struct raft_entry *entry, const struct lock_change *change)
{
        unsigned lock = history_lock_of(&change->name);

        switch ((int)change->kind) {
        case LOCK_CHANGE_PREEMPT:
                commit_preempt(sim, entry, change);
                return;
        case LOCK_CHANGE_RELEASE:
                commit_release(sim, entry, change);
                return;
        case LOCK_CHANGE_WAIT:
                enter_queues(sim, entry, change);
                grant_next(sim, entry, lock);
                return;
        case LOCK_CHANGE_LEAVE:
                check_given_up(sim, entry, change);
                commit_leave(sim, entry, lock, change->token);
                return;
        case LOCK_CHANGE_CANCEL:
                if (change->token != 0)
                        commit_leave(sim, entry, lock, change->token);
                return;
        case LOCK_CHANGE_KEEP:
                commit_keep(sim, entry, change);
                return;
        case LOCK_CHANGE_BREAK:
                commit_break(sim, entry, change);
                return;
        case LOCK_CHANGE_GRANT:
                grant_next(sim, entry, lock);
                return;
        }
}

static void commit_change(struct sim *sim, const struct raft_entry *entry)
{
        struct history *history = sim->history;
        const struct lock_moment moment = { .index = entry->index, .cluster_ms = entry->cluster_ms, .wall_ms = entry->wall_ms };
        struct lock_change change;
        uint64_t handle;

        if (!lock_change_get((enum lock_change_kind)entry->kind, entry->body, entry->size, &change))
                sim_fail(sim, "entry %" PRIu64 " is malformed", entry->index);
        handle = history_handle_of(change.handle);
        history->delays[entry->index] = change.delay_ms;
        history->leases[entry->index] = change.ttl_ms != 0 && lock_change_wants(change.kind);
        if (entry->kind == RAFT_ENTRY_EXPIRE) {
                commit_end(sim, entry, change.session);
                lock_table_apply(sim->truth, &moment, &change);
                sim_trace(sim, "                                   commit %" PRIu64 ": session %" PRIu64 " of %s has ended", entry->index, change.session, change.client.text);
                compare(sim, entry);
                return;
        }
        if (entry->kind == RAFT_ENTRY_GRANT) {
                commit_named(sim, entry, &change);
                lock_table_apply(sim->truth, &moment, &change);
                sim_trace(sim, "                                   commit %" PRIu64 ": %s goes to who is next", entry->index, change.name.text);
                compare(sim, entry);
                return;
        }
        if (history->handles[handle].cancelled >= change.seq)
                sim_fail(sim, "request %" PRIu64 ":%" PRIu64 " was cancelled, and happens at %" PRIu64, handle, change.seq, entry->index);
        if (history->handles[handle].accepted >= change.seq && (entry->kind != RAFT_ENTRY_CANCEL || history->handles[handle].waited != change.seq))
                sim_fail(sim, "request %" PRIu64 ":%" PRIu64 " happens twice, the second time at %" PRIu64, handle, change.seq, entry->index);
        if (history->handles[handle].refused == change.seq && entry->kind != RAFT_ENTRY_CANCEL)
                sim_fail(sim, "request %" PRIu64 ":%" PRIu64 " was refused, and happens at %" PRIu64, handle, change.seq, entry->index);
        if (entry->kind == RAFT_ENTRY_CANCEL)
                history->handles[handle].cancelled = change.seq;
        else
                history->handles[handle].accepted = change.seq;
        if (entry->kind == RAFT_ENTRY_WAIT)
                history->handles[handle].waited = change.seq;
        /* Of locks by the hundred the model keeps no account. */
        if (lock_change_names(change.kind) && strncmp(change.name.text, "lock/", 5) == 0)
                commit_named(sim, entry, &change);
        if (entry->kind == RAFT_ENTRY_CLOSE)
                commit_end(sim, entry, change.session);
        if (entry->kind != RAFT_ENTRY_BREAK && change.client.size == 2 && history->first_user[change.client.text[1] - '0'] == 0)
                history->first_user[change.client.text[1] - '0'] = change.principal.text[7];
        lock_table_apply(sim->truth, &moment, &change);
        sim_trace(sim, "                                   commit %" PRIu64 ": %s %s by %s, request %" PRIu64 ":%" PRIu64, entry->index,
                  raft_entry_kind_name(entry->kind), change.name.text, change.client.text, handle, change.seq);
        compare(sim, entry);
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
