/* told.c - whether what clients were told is true of what was committed. */
#include "history.h"

static bool is_asked_by(const struct raft_entry *entry, const struct lock_request *request, struct lock_change *ret_change)
{
        return entry && entry->kind >= RAFT_ENTRY_CLIENT && lock_change_get((enum lock_change_kind)entry->kind, entry->body, entry->size, ret_change) &&
               id128_equal(ret_change->handle, request->handle) && ret_change->seq == request->seq && lock_name_equal(&ret_change->name, &request->name);
}

static const struct raft_entry *entry_at(const struct sim *sim, uint64_t index)
{
        return index <= sim->committed_last ? sim->committed[index] : NULL;
}

/* Q1: it stands in the queue as the waiter that its request has made, and has or had the lock under the token that it is told. */
static bool was_granted_to(const struct sim *sim, unsigned lock, uint64_t token, uint64_t waiter)
{
        const struct holding *holder = history_hold_at(sim->history, lock, token, token);

        return holder && holder->index == token && holder->waiter == waiter;
}

/* A yes to who was ready to wait: at once. */
static bool is_yes_to_waiter(const struct sim *sim, const struct lock_request *request, const struct replica_answer *answer)
{
        unsigned lock = history_lock_of(&request->name);
        const struct holding *holder = history_hold_at(sim->history, lock, answer->token, answer->token);
        struct lock_change change;

        return answer->token != 0 && holder && holder->waiter != 0 && holder->waiter == answer->token && was_granted_to(sim, lock, answer->token, holder->waiter) &&
               answer->index >= answer->token && is_asked_by(entry_at(sim, holder->waiter), request, &change);
}

static void check_waiting(struct sim *sim, const struct sim_client *client, const struct replica_answer *answer)
{
        const struct lock_request *request = client->request.kind == LOCK_CHANGE_CANCEL ? &client->was : &client->request;
        struct lock_change change;

        if (!request->wait || !is_asked_by(entry_at(sim, answer->token), request, &change) || change.kind != LOCK_CHANGE_WAIT)
                sim_fail(sim, "client %u was told that it waits as %" PRIu64 ", and does not", client->number, answer->token);
}

static void check_reentered(struct sim *sim, const struct sim_client *client, const struct replica_answer *answer)
{
        const struct holding *holder = history_hold_at(sim->history, history_lock_of(&client->request.name), answer->index, answer->token);

        if (!holder || answer->token == 0 || holder->slots != client->request.slots || holder->session != client->request.session || client->request.session == 0)
                sim_fail(sim, "client %u was told that its session has the lock already at %" PRIu64 ", and it has not", client->number, answer->index);
}

/* What a node says of a wait. */
void history_waited(struct sim *sim, const struct sim_client *client, const struct replica_answer *answer)
{
        unsigned lock = history_lock_of(&client->request.name);

        if (answer->outcome == REPLICA_YES && !was_granted_to(sim, lock, answer->token, client->wait.id))
                sim_fail(sim, "client %u was told that it has got the lock under token %" PRIu64 ", and has not", client->number, answer->token);
        if (answer->outcome == REPLICA_NO_SESSION)
                for (size_t i = 0; i < sim->history->queued[lock]; i++)
                        if (sim->history->queue[lock][i].id == client->wait.id)
                                sim_fail(sim, "client %u was told that it waits no more as %" PRIu64 ", and it does", client->number, client->wait.id);
        if (answer->index > sim->committed_last)
                sim_fail(sim, "client %u was told of its wait as of %" PRIu64 ", which is not committed", client->number, answer->index);
        sim->acked = MAX(sim->acked, answer->index);
}

static void check_yes(struct sim *sim, const struct sim_client *client, const struct replica_answer *answer)
{
        const struct lock_request *request = &client->request;
        enum lock_change_kind kind = request->kind == LOCK_CHANGE_CANCEL && answer->token != 0 ? client->was.kind : request->kind;
        const struct raft_entry *entry = answer->index <= sim->committed_last ? sim->committed[answer->index] : NULL;
        struct lock_change change;

        if (client->request.wait && kind == request->kind && is_yes_to_waiter(sim, request, answer))
                return;
        if (kind == LOCK_CHANGE_RELEASE && entry && entry->kind == RAFT_ENTRY_LEAVE)
                kind = LOCK_CHANGE_LEAVE;
        if (request->kind == LOCK_CHANGE_CANCEL && answer->token != 0 && client->was.wait && is_yes_to_waiter(sim, request, answer))
                return;
        if (!entry || (int)entry->kind != (int)kind || !lock_change_get(kind, entry->body, entry->size, &change) ||
            !id128_equal(change.handle, request->handle) || change.seq != request->seq || !lock_name_equal(&change.name, &request->name))
                sim_fail(sim, "client %u was told yes at %" PRIu64 ", where something else is committed", client->number, answer->index);
        /* What happened after it asked stands behind what others had been told by then. */
        if (answer->index <= client->acked_before && request->kind != LOCK_CHANGE_CANCEL)
                sim_fail(sim, "client %u was told yes at %" PRIu64 ", when %" PRIu64 " had been answered before it asked", client->number, answer->index,
                         client->acked_before);
        if ((kind == LOCK_CHANGE_PREEMPT || kind == LOCK_CHANGE_OPEN) && answer->token != answer->index)
                sim_fail(sim, "client %u was given token %" PRIu64 " for the grant at %" PRIu64, client->number, answer->token, answer->index);
        if (!principal_equal(&change.principal, &request->principal))
                sim_fail(sim, "the principal of client %u was not the one in the log", client->number);
}

/* Of those who have it then; or, when nobody has it, of nobody. */
static bool names_an_owner(const struct sim *sim, unsigned lock, const struct replica_answer *answer)
{
        return answer->client.size == 0 ? !history_hold_at(sim->history, lock, answer->index, 0) : history_holds_at(sim->history, lock, answer->index, answer->client.text);
}

/* Of one of the locks that were asked for. */
static const struct holding *named_hold(const struct sim *sim, const struct lock_request *request, uint64_t index, uint64_t token)
{
        unsigned locks = history_locks_of(&request->name, request->further);
        const struct holding *holding;

        for (unsigned lock = 0; lock < SIM_LOCKS; lock++)
                if (locks & 1u << lock && (holding = history_hold_at(sim->history, lock, index, token)))
                        return holding;
        return NULL;
}

static bool some_are_free(const struct sim *sim, const struct lock_request *request, uint64_t index)
{
        unsigned locks = history_locks_of(&request->name, request->further);

        for (unsigned lock = 0; lock < SIM_LOCKS; lock++)
                if (locks & 1u << lock && !history_hold_at(sim->history, lock, index, 0))
                        return true;
        return false;
}

static void check_refused_at(struct sim *sim, const struct sim_client *client, const struct replica_answer *answer)
{
        const struct lock_request *request = &client->request;
        unsigned lock = history_lock_of(&request->name);
        const struct holding *named = answer->token != 0 ? named_hold(sim, request, answer->index, answer->token) : NULL;
        const struct holding *meant = request->token != 0 ? history_hold_at(sim->history, lock, answer->index, request->token) : NULL;
        bool truth;

        if (named && named->session != 0 && sim->history->ended[named->session] != 0 && sim->history->ended[named->session] <= answer->index)
                sim_fail(sim, "client %u was refused at %" PRIu64 " for a lock of session %" PRIu64 ", which has ended", client->number, answer->index, named->session);
        if (answer->outcome == REPLICA_HELD)
                truth = request->kind == LOCK_CHANGE_PREEMPT && (named ? strcmp(named->owner, answer->client.text) == 0 : answer->client.size == 0 && some_are_free(sim, request, answer->index));
        else if (request->kind == LOCK_CHANGE_BREAK)
                truth = !meant && names_an_owner(sim, lock, answer);
        else
                truth = !(meant && strcmp(meant->owner, request->client.text) == 0) && (request->kind == LOCK_CHANGE_RELEASE || request->kind == LOCK_CHANGE_KEEP) &&
                        names_an_owner(sim, lock, answer);
        if (!truth)
                sim_fail(sim, "client %u was refused with owner '%s' at %" PRIu64 " and token %" PRIu64 ", which is not so", client->number, answer->client.text, answer->index,
                         answer->token);
}

/* By an entry that is about the one before: of such a grant the model tells. */
static bool was_granted_from_queue(const struct sim *sim, const struct sim_client *client, const struct replica_answer *answer)
{
        const struct holding *holder = history_hold_at(sim->history, history_lock_of(&client->request.name), answer->token, answer->token);
        const struct raft_entry *wait = holder && holder->waiter != 0 ? entry_at(sim, holder->waiter) : NULL;
        struct lock_change change;

        return wait && strcmp(holder->owner, answer->client.text) == 0 &&
               lock_change_get(LOCK_CHANGE_WAIT, wait->body, wait->size, &change) && change.period_ms != 0;
}

/* It was granted to somebody who wanted it once, and nobody had it then; whether that was too short ago is a matter of cluster time, and
 * of that as of the entry that it rests on at least so much had passed. */
static void check_too_soon(struct sim *sim, const struct sim_client *client, const struct replica_answer *answer)
{
        const struct raft_entry *grant = answer->token <= sim->committed_last ? sim->committed[answer->token] : NULL;
        const struct raft_entry *rest = answer->index <= sim->committed_last ? sim->committed[answer->index] : NULL;
        struct lock_change change;

        if (grant && grant->kind != RAFT_ENTRY_PREEMPT && was_granted_from_queue(sim, client, answer))
                return;
        if (!grant || !rest || grant->kind != RAFT_ENTRY_PREEMPT || !lock_change_get(LOCK_CHANGE_PREEMPT, grant->body, grant->size, &change) || change.period_ms == 0 ||
            !lock_name_equal(&change.name, &client->request.name) || !client_id_equal(&change.client, &answer->client))
                sim_fail(sim, "client %u was told that it comes too soon after %" PRIu64 ", where no such grant is", client->number, answer->token);
        if (client->request.period_ms == 0 || (rest->cluster_ms > grant->cluster_ms && rest->cluster_ms - grant->cluster_ms >= client->request.period_ms))
                sim_fail(sim, "client %u was told that it comes too soon, %" PRIu64 " ms after %" PRIu64, client->number, rest->cluster_ms - grant->cluster_ms, answer->token);
        if (!client->request.wait && !history_has_room(sim->history, history_lock_of(&client->request.name), answer->index, client->request.slots))
                sim_fail(sim, "client %u was told that it comes too soon, where somebody has the lock", client->number);
}

/* L1: its last hold was lost, in a session that asked for a delay, and of that something is left, by cluster time as of the entry that it rests on. */
static void check_delayed(struct sim *sim, const struct sim_client *client, const struct replica_answer *answer)
{
        unsigned locks = history_locks_of(&client->request.name, client->request.further);
        const struct holding *lost = named_hold(sim, &client->request, answer->token, answer->token);
        bool has_all = true;
        const struct raft_entry *rest = answer->index <= sim->committed_last ? sim->committed[answer->index] : NULL;

        for (unsigned lock = 0; lock < SIM_LOCKS; lock++)
                if (locks & 1u << lock)
                        has_all = has_all && history_has_room(sim->history, lock, answer->index, client->request.slots);
        if (client->request.kind != LOCK_CHANGE_PREEMPT || !has_all || client->request.wait)
                sim_fail(sim, "client %u was told of a lock-delay at %" PRIu64 ", where somebody has the lock, or it was to wait", client->number, answer->index);
        if (!lost || answer->token == 0 || strcmp(lost->owner, answer->client.text) != 0 || sim->history->delays[lost->session] == 0 || !rest ||
            rest->cluster_ms >= answer->until_cluster_ms)
                sim_fail(sim, "client %u was told at %" PRIu64 " of a lock-delay after token %" PRIu64 " until %" PRIu64 ", and there is none", client->number,
                         answer->index, answer->token, answer->until_cluster_ms);
}

/* Nothing is held in a lease. */
static bool is_of_lease(const struct sim *sim, const struct lock_request *request)
{
        struct lock_session_view view;

        return request->kind == LOCK_CHANGE_PREEMPT && lock_table_find_session(sim->truth, request->session, &view) && view.lease;
}

static void check_no(struct sim *sim, const struct sim_client *client, const struct replica_answer *answer)
{
        uint64_t handle = history_handle_of(client->request.handle);

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
        if (answer->outcome == REPLICA_DELAYED)
                check_delayed(sim, client, answer);
        if (answer->outcome == REPLICA_HELD || answer->outcome == REPLICA_NOT_OWNER)
                check_refused_at(sim, client, answer);
}

void history_asked(struct sim *sim, const struct sim_client *client)
{
        uint64_t handle = history_handle_of(client->request.handle);

        if (client->is_read || client->request.kind != LOCK_CHANGE_RELEASE)
                return;
        sim->history->handles[handle].release = client->request.seq;
        sim->history->handles[handle].token = client->request.token;
}

void history_refused(struct sim *sim, const struct sim_client *client)
{
        uint64_t handle = history_handle_of(client->request.handle);

        if (sim->history->handles[handle].accepted >= client->request.seq)
                sim_fail(sim, "client %u was refused for good, but its request %" PRIu64 ":%" PRIu64 " had happened", client->number, handle,
                         client->request.seq);
        sim->history->handles[handle].refused = client->request.seq;
}

uint64_t history_token(const struct sim *sim, unsigned lock)
{
        const struct holding *holder = history_hold_at(sim->history, lock, sim->committed_last, 0);

        return holder ? holder->token : 0;
}

bool history_owns(const struct sim *sim, unsigned lock, const struct sim_client *client)
{
        const struct holding *holding;

        for (size_t at = 0; (holding = history_next_at(sim->history, lock, sim->committed_last, &at));)
                if (holding->owner[1] == (char)('0' + client->number))
                        return true;
        return false;
}

size_t history_holders(const struct sim *sim, unsigned lock)
{
        size_t count = 0;

        for (size_t at = 0; history_next_at(sim->history, lock, sim->committed_last, &at);)
                count++;
        return count;
}

bool history_session_lives(const struct sim *sim, const struct sim_client *client, uint64_t session)
{
        struct lock_session_view view;

        return lock_table_find_session(sim->truth, session, &view) && !view.ended && !view.broken && view.client[1] == (char)('0' + client->number);
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
        if (answer->outcome == REPLICA_YES && first != request->principal.text[7] && (first != 0 || request->kind != LOCK_CHANGE_BREAK))
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
        case REPLICA_DELAYED:
                check_no(sim, client, answer);
                break;
        case REPLICA_WAITING:
                check_waiting(sim, client, answer);
                break;
        case REPLICA_NOT_ALONE:
                check_no(sim, client, answer);
                break;
        case REPLICA_REENTERED:
                check_reentered(sim, client, answer);
                check_no(sim, client, answer);
                break;
        case REPLICA_FULL:
                sim_fail(sim, "client %u was told that the table is full", client->number);
        case REPLICA_QUIET:
                sim_fail(sim, "client %u was told that the cluster began anew", client->number);
        case REPLICA_UNKNOWN:
        case REPLICA_NO_LEADER:
        case REPLICA_LATER:
                return;
        case REPLICA_OTHER_TTL:
                sim_fail(sim, "client %u was told that its session lives for another time", client->number);
        case REPLICA_ENDED:
        case REPLICA_BROKEN:
                sim_fail(sim, "client %u was told what only those are told who listen", client->number);
        case REPLICA_NOT_LEADER:
                sim_fail(sim, "client %u was told what nodes tell each other", client->number);
        }
        sim->acked = MAX(sim->acked, answer->index);
}

void history_read(struct sim *sim, struct sim_node *node, struct sim_client *client, const struct replica_answer *answer)
{
        unsigned lock = history_lock_of(&client->request.name);
        const struct holding *holder = history_hold_at(sim->history, lock, answer->index, 0), *own;
        struct lock_view view;
        bool owned = lock_table_find(replica_table(node->replica), &client->request.name, &view);

        if (answer->outcome != REPLICA_YES)
                return;
        /* What it has itself, if it is among them. */
        for (size_t at = 0; (own = history_next_at(sim->history, lock, answer->index, &at));)
                if (own->owner[1] == (char)('0' + client->number))
                        break;
        if (!own)
                own = holder;
        client->read_owner = own ? own->owner : NULL;
        client->read_token = own ? own->token : 0;
        if (answer->index < client->min_index || answer->index != replica_applied(node->replica))
                sim_fail(sim, "client %u reads at %" PRIu64 ", and had seen %" PRIu64, client->number, answer->index, client->min_index);
        if (client->consistent && answer->index < client->acked_before)
                sim_fail(sim, "client %u reads at %" PRIu64 " for sure, when %" PRIu64 " had been answered before it asked", client->number, answer->index,
                         client->acked_before);
        sim->acked = MAX(sim->acked, answer->index);
        if (owned != (holder != NULL) || (owned && (strcmp(view.owner, holder->owner) != 0 || view.token != holder->token)))
                sim_fail(sim, "client %u reads at %" PRIu64 " what is not true there", client->number, answer->index);
}
