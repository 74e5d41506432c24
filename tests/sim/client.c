/* client.c - clients as libdlock is one: a handle lives as long as its last request was accepted, a retry goes to any
 * node under the same request id, and whoever waited for the first is gone by then. */
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "sim.h"

const char *const client_outcomes[] = { "?", "yes", "held", "not-owner", "foreign", "full", "unknown", "no-leader", "not-leader", "no-session", "too-soon", "quiet", "later", "waiting", "reentered", "not-alone", "delayed", "other-ttl", "ended", "broken", NULL };

static void again_at(struct sim *sim, struct sim_client *client, uint64_t at)
{
        client->next_at = at;
        sim_at(sim, at, EVENT_CLIENT, client->number, 0, 0, NULL);
}

void client_begin(struct sim *sim)
{
        for (unsigned i = 0; i < SIM_CLIENTS; i++) {
                sim->clients[i] = (struct sim_client){ .number = i, .clock_rate = sim->drift_per_1000 == 10 ? sim_between(sim, 996, 1004) : 1000 };
                sim_at(sim, sim->now + sim_random(sim, 500 * MS), EVENT_RENEW, i, 0, 0, NULL);
                again_at(sim, &sim->clients[i], sim->now + sim_random(sim, 500 * MS));
        }
}

/* --- what to ask --- */

static void set_request(struct sim *sim, struct sim_client *client, enum lock_change_kind kind, unsigned lock, unsigned as)
{
        struct lock_request *request = &client->request;
        struct bytes bytes = { 0 };
        char text[32];

        if (!client->accepted) {
                client->handle = (struct id128){ .bytes = { 0 } };
                sim->handle_next++;
                memcpy(client->handle.bytes, &(uint32_t){ (uint32_t)sim->handle_next }, sizeof(uint32_t));
                client->handle.bytes[15] = 1;
                client->seq = 0;
        }
        *request = (struct lock_request){ .kind = kind, .handle = client->handle, .seq = ++client->seq };
        (void)snprintf(text, sizeof(text), "uid:100%u", client->number);
        (void)principal_set(&request->principal, text, strlen(text));
        if (kind == LOCK_CHANGE_CLIENT)
                (void)snprintf(text, sizeof(text), "assigned-%" PRIu64 "-%" PRIu64, bytes_load_u64(client->handle.bytes), client->seq);
        else
                (void)snprintf(text, sizeof(text), "c%u", as);
        (void)client_id_set(&request->client, text, strlen(text));
        if (!lock_change_names(kind))
                return;
        (void)snprintf(text, sizeof(text), "lock/%c", 'a' + (char)lock);
        (void)lock_name_set(&request->name, text, strlen(text));
        if (kind == LOCK_CHANGE_RELEASE)
                request->token = MAX(client->tokens[lock], UINT64_C(1));
        if (kind != LOCK_CHANGE_PREEMPT)
                return;
        /* A process that no other handle has. */
        holder_put(&bytes, &(struct holder){ .host = "sim", .pid = (uint32_t)sim->handle_next });
        assert(bytes.size <= sizeof(client->holder));
        memcpy(client->holder, bytes.data, bytes.size);
        request->holder = (struct holder_view){ .data = client->holder, .size = (uint16_t)bytes.size };
        bytes_done(&bytes);
}

/* Those of them that come behind the first. */
static void set_further(struct sim_client *client, unsigned locks)
{
        struct names_view *further = &client->request.further;

        *further = (struct names_view){ .data = client->further };
        for (unsigned lock = (unsigned)(client->request.name.text[5] - 'a') + 1; lock < SIM_LOCKS; lock++)
                if (locks & 1u << lock) {
                        uint8_t *name = client->further + further->size;

                        name[0] = 6;
                        memcpy(name + 1, "lock/", 5);
                        name[6] = (uint8_t)('a' + lock);
                        further->size += 7;
                        further->count++;
                }
}

static bool asks_for(const struct sim_client *client, unsigned lock)
{
        struct names_view further = client->request.further;
        struct lock_name name;

        while (names_view_take(&further, &name))
                if (name.text[5] == (char)('a' + lock))
                        return true;
        return false;
}

/* Held until it is given back, or as a lease, or in the session. */
static void set_preempt(struct sim *sim, struct sim_client *client, unsigned lock)
{
        static const uint16_t together[] = { SLOTS_SHARED, SLOTS_SHARED, 2, 3 };

        set_request(sim, client, LOCK_CHANGE_PREEMPT, lock, client->number);
        if (sim_chance(sim, 400))
                client->request.slots = together[sim_random(sim, ARRAY_SIZE(together))];
        if (client->opened.until > sim->now && sim_chance(sim, 500))
                client->request.session = client->opened.id;
        else if (client->former != 0 && sim_chance(sim, 200))
                client->request.session = client->former;
        else if (sim_chance(sim, client->request.slots != 0 && client->holds[lock] ? 1000 : 500))
                client->request.ttl_ms = (uint32_t)sim_between(sim, 1000, 4000);     /* or it would be held once more for ever */
        if (client->request.ttl_ms != 0 && sim_chance(sim, 500))
                client->request.delay_ms = (uint32_t)sim_between(sim, 1, 3000);
        if (sim_chance(sim, 250))
                client->request.period_ms = sim_between(sim, 1000, 3000);
        if (client->request.slots == 0 && client->request.period_ms == 0 && sim_chance(sim, 250))
                set_further(client, (unsigned)sim_random(sim, 1u << SIM_LOCKS));
        client->request.wait = (client->request.session != 0 || client->request.ttl_ms != 0) && sim_chance(sim, 300);
}

static void set_session(struct sim *sim, struct sim_client *client)
{
        if (client->opened.id == 0) {
                set_request(sim, client, LOCK_CHANGE_OPEN, 0, client->number);
                client->request.ttl_ms = (uint32_t)sim_between(sim, 1000, 4000);
                client->request.delay_ms = sim_chance(sim, 500) ? (uint32_t)sim_between(sim, 1, 3000) : 0;
        } else {
                set_request(sim, client, LOCK_CHANGE_CLOSE, 0, client->number);
                client->request.session = client->opened.id;
                lease_close(client);
        }
}

static void set_read(struct sim_client *client, unsigned lock)
{
        client->is_read = true;
        client->consistent = false;
        client->min_index = client->seen;
        client->request.name = (struct lock_name){ .size = 6, .text = "lock/" };
        client->request.name.text[5] = (char)('a' + lock);
}

/* Who does not know whether it has the lock, and under which token, looks first; or tries the token that it last had, which takes nothing
 * that is of another hold. */
static void set_release(struct sim *sim, struct sim_client *client, unsigned lock)
{
        if (client->unsure[lock] && sim_chance(sim, 400)) {
                set_read(client, lock);
                client->consistent = true;
        } else {
                set_request(sim, client, LOCK_CHANGE_RELEASE, lock, client->number);
                lease_let_go(client, lock);
        }
}

static void choose(struct sim *sim, struct sim_client *client)
{
        unsigned lock = (unsigned)sim_random(sim, SIM_LOCKS), other = (unsigned)sim_random(sim, SIM_CLIENTS);
        uint64_t dice = sim_random(sim, 100);

        client->is_read = false;
        if (client->retire) {
                for (lock = 0; lock < SIM_LOCKS - 1 && !client->holds[lock]; lock++)
                        ;
                if (client->holds[lock])
                        set_release(sim, client, lock);
                else
                        set_preempt(sim, client, lock);
        } else if (sim_chance(sim, client->opened.id == 0 ? 150 : 30)) {
                set_session(sim, client);
        } else if (dice < 3) {
                set_request(sim, client, LOCK_CHANGE_CLIENT, 0, 0);
        } else if (dice < 7) {
                set_request(sim, client, LOCK_CHANGE_PREEMPT, lock, other);
        } else if (dice < 28) {
                set_read(client, lock);
                client->consistent = sim_chance(sim, 700);
        } else if (sim_chance(sim, 15) && history_token(sim, lock) != 0) {
                set_request(sim, client, LOCK_CHANGE_BREAK, lock, client->number);
                client->request.token = history_token(sim, lock);
        } else if (client->holds[lock] && client->leases[lock].until > sim->now && sim_chance(sim, 100)) {
                set_request(sim, client, LOCK_CHANGE_KEEP, lock, client->number);
                client->request.token = client->tokens[lock];
        } else if (client->holds[lock] ? dice < 85 : dice < 36) {
                set_release(sim, client, lock);
        } else if (client->older[lock] && dice < 87) {
                /* What is over already: it must not take what came after. */
                set_request(sim, client, LOCK_CHANGE_RELEASE, lock, client->number);
                client->request.token = client->older[lock];
        } else {
                set_preempt(sim, client, lock);
        }
}

/* --- asking --- */

struct sim_node *client_stale_leader(struct sim *sim)
{
        struct sim_node *stale = NULL;

        for (unsigned i = 0; i < sim->node_count; i++) {
                struct sim_node *node = &sim->nodes[i];

                if (node->replica && raft_role(replica_raft(node->replica)) == RAFT_LEADER &&
                    (!stale || raft_term(replica_raft(node->replica)) < raft_term(replica_raft(stale->replica))))
                        stale = node;
        }
        return stale;
}

struct sim_node *client_any_node(struct sim *sim)
{
        struct sim_node *node = sim_chance(sim, 250) ? client_stale_leader(sim) : NULL;

        if (!node)
                node = &sim->nodes[sim_random(sim, sim->node_count)];
        return node->witness ? &sim->nodes[0] : node;
}

static void attempt(struct sim *sim, struct sim_client *client, struct sim_node *node)
{
        struct replica_origin origin = { .session = ++sim->session_next, .tag = client->number };
        uint64_t patience = sim_between(sim, 100, 1500) * MS;

        client->attempt++;
        client->session = 0;
        client->copies++;
        if (node->replica && node->paused_until <= sim->now) {
                uint64_t left = (client->deadline - sim->now) / MS, deadline = node_clock(sim, node) + left;

                client->node = node->number;
                client->session = origin.session;
                if (client->wait.id != 0)
                        replica_await(node->replica, &origin, &client->request.name, client->wait.id, deadline);
                else if (client->is_read)
                        replica_read(node->replica, &origin, client->min_index, client->consistent, deadline);
                else
                        replica_request(node->replica, &origin, &client->request, deadline);
                node_want_turn(sim, node);
        } else {
                patience = 20 * MS;          /* refused at once */
                client->copies--;
        }
        if (!sim->script)
                sim_at(sim, MIN(sim->now + patience, client->deadline + 100 * MS), EVENT_PATIENCE, client->number, 0, client->attempt, NULL);
}

void client_next(struct sim *sim, struct sim_client *client)
{
        if (client->busy || client->next_at != sim->now || (client->retire && client->done >= 6))
                return;
        choose(sim, client);
        client->busy = true;
        client->copies = 0;
        client->acked_before = sim->acked;
        client->asked_at = sim->now;
        client->deadline = sim->now + sim_between(sim, 2000, 15000) * MS;
        history_asked(sim, client);
        attempt(sim, client, client_any_node(sim));
}

static void learn_token(struct sim_client *client, unsigned lock, uint64_t token)
{
        if (token == client->tokens[lock])
                return;
        client->older[lock] = client->tokens[lock];
        client->tokens[lock] = token;
}

/* Nothing was decided, or nobody knows what. */
static bool is_known(enum replica_outcome outcome)
{
        return outcome != REPLICA_UNKNOWN && outcome != REPLICA_NO_LEADER && outcome != REPLICA_LATER;
}

/* All or nothing; a lease, or a session, has all of them. */
static void believe_of_all(struct sim *sim, struct sim_client *client, enum replica_outcome outcome, const struct replica_answer *answer, bool granted)
{
        unsigned first = (unsigned)(client->request.name.text[5] - 'a');

        if (is_known(outcome) && (!granted || !answer)) {
                if (!client->holds[first])
                        lease_let_go(client, first);
                return;
        }
        for (unsigned lock = first; lock < SIM_LOCKS; lock++) {
                if (lock != first && !asks_for(client, lock))
                        continue;
                client->holds[lock] = true;
                client->unsure[lock] = !granted;
                client->slots[lock] = 0;
                if (!granted)
                        continue;            /* maybe */
                learn_token(client, lock, answer->token);
                if (lock == first)
                        lease_granted(sim, client, lock, client->wait.session != 0 ? client->wait.session : answer->token);
                else
                        lease_let_go(client, lock);
                client->held_in[lock] = client->held_in[first];
        }
}

/* What it has to take for true of the lock it asked about. */
static void believe(struct sim *sim, struct sim_client *client, enum replica_outcome outcome, const struct replica_answer *answer)
{
        unsigned lock = (unsigned)(client->request.name.text[5] - 'a');
        bool granted = (outcome == REPLICA_YES || outcome == REPLICA_REENTERED) && client->request.kind == LOCK_CHANGE_PREEMPT;

        if (client->request.kind == LOCK_CHANGE_BREAK) {
                client->unsure[lock] = client->unsure[lock] || client->holds[lock];
                return;
        }
        if (client->request.further.count > 0) {
                believe_of_all(sim, client, outcome, answer, granted);
                return;
        }
        if (!is_known(outcome) || (outcome == REPLICA_REENTERED && !answer)) {
                client->holds[lock] = client->unsure[lock] = true;   /* maybe: it will try to give it back */
                return;
        }
        client->unsure[lock] = false;
        if (granted)
                client->slots[lock] = client->request.slots;
        client->holds[lock] = granted || ((outcome == REPLICA_HELD || outcome == REPLICA_NOT_OWNER) && answer &&
                                          client_id_equal(&answer->client, &client->request.client));
        if (client->holds[lock])
                learn_token(client, lock, answer->token);
        if (client->request.kind == LOCK_CHANGE_KEEP) {
                client->holds[lock] = outcome == REPLICA_YES;
                lease_let_go(client, lock);  /* as far as it knows, it lasts, or has ended */
        } else if (granted)
                lease_granted(sim, client, lock, client->wait.session != 0 ? client->wait.session : answer->token);
        else if (!client->holds[lock])
                lease_let_go(client, lock);
}

static void believe_read(struct sim_client *client)
{
        unsigned lock = (unsigned)(client->request.name.text[5] - 'a');

        client->unsure[lock] = false;
        client->holds[lock] = client->read_owner && client->read_owner[1] == (char)('0' + client->number);
        if (client->holds[lock])
                learn_token(client, lock, client->read_token);
        else
                lease_let_go(client, lock);
}

/* answer: of the nodes; NULL: there was none, or it was refused before it was cancelled. */
static void finish(struct sim *sim, struct sim_client *client, enum replica_outcome outcome, const struct replica_answer *answer)
{
        const struct lock_request *request = &client->request;
        bool known = is_known(outcome);

        client->busy = false;
        client->wait.id = 0;
        client->session = 0;
        client->attempt++;
        client->done += known;
        client->outcome = outcome;
        sim->counts[outcome == REPLICA_YES ? COUNT_YES : known ? COUNT_NO : COUNT_UNKNOWN]++;
        if (!sim->script)
                again_at(sim, client, sim->now + sim_random(sim, sim_chance(sim, 500) ? 10 * MS : 300 * MS) + 1);
        if (client->is_read) {
                if (outcome == REPLICA_YES && client->consistent)
                        believe_read(client);
                return;
        }
        client->accepted = outcome == REPLICA_YES;
        if (request->kind == LOCK_CHANGE_CLIENT || request->client.text[1] != (char)('0' + client->number))
                return;
        if (!lock_change_names(request->kind)) {
                lease_opened(sim, client, outcome, answer ? answer->token : 0);
                return;
        }
        believe(sim, client, outcome, answer);
        client->wait.session = 0;
}

/* After a no another copy of the request may still be under way: it shall not happen. */
static void begin_cancel(struct sim *sim, struct sim_client *client, enum replica_outcome outcome)
{
        client->refused = outcome;
        client->was = client->request;
        client->request.kind = LOCK_CHANGE_CANCEL;
        client->request.holder.size = 0;
        client->request.token = client->request.session = 0;
        client->request.ttl_ms = client->request.delay_ms = 0;
        client->request.period_ms = 0;
        client->request.slots = 0;
        client->request.further = (struct names_view){ .data = NULL };
        client->request.wait = client->request.now = false;
        client->acked_before = sim->acked;
        client->deadline = MAX(client->deadline, sim->now) + 5000 * MS;
        attempt(sim, client, sim->script ? &sim->nodes[client->node] : client_any_node(sim));
}

/* The cancel says what became of the request. */
static void finish_cancel(struct sim *sim, struct sim_client *client, const struct replica_answer *answer)
{
        client->request = client->was;
        if (answer->outcome == REPLICA_YES && answer->token == 0) {
                if (!client->request.wait)
                        history_refused(sim, client);
                finish(sim, client, client->refused, NULL);
        } else {
                finish(sim, client, answer->outcome, answer);
        }
}

/* --- waiting in a queue --- */

static void begin_await(struct sim *sim, struct sim_client *client, uint64_t waiter)
{
        unsigned lock = (unsigned)(client->request.name.text[5] - 'a');

        client->wait.id = waiter;
        client->wait.session = client->request.ttl_ms != 0 ? waiter : client->request.session;
        client->wait.in_vain = false;
        client->holds[lock] = client->unsure[lock] = false;
        if (client->request.ttl_ms != 0) {
                lease_granted(sim, client, lock, waiter);
                client->held_in[lock] = NULL;        /* not yet */
        }
        /* Who waits asks nothing else: most are not patient for long. */
        client->deadline = sim->now + sim_between(sim, 100, sim_chance(sim, 100) ? 8000 : 1200) * MS;
        attempt(sim, client, sim->script ? &sim->nodes[client->node] : client_any_node(sim));
}

void client_leave(struct sim *sim, struct sim_client *client, struct sim_node *node)
{
        unsigned lock = (unsigned)(client->request.name.text[5] - 'a');
        uint64_t waiter = client->wait.id;

        client->wait.id = client->wait.session = 0;
        client->accepted = true;             /* as one that waits */
        set_request(sim, client, LOCK_CHANGE_RELEASE, lock, client->number);
        client->request.token = waiter;
        lease_let_go(client, lock);
        client->copies = 0;
        client->acked_before = sim->acked;
        client->deadline = sim->now + 5000 * MS;
        history_asked(sim, client);
        attempt(sim, client, node);
}

/* What the node says of the wait. */
static void take_wait(struct sim *sim, const struct sim_node *node, struct sim_client *client, const struct replica_answer *answer)
{
        unsigned lock = (unsigned)(client->request.name.text[5] - 'a');
        struct sim_session *session = client->request.ttl_ms != 0 ? &client->leases[lock] : &client->opened;
        bool granted = answer->outcome == REPLICA_YES;

        sim_trace(sim, "client %u: waits as %" PRIu64 " at node %u: %s, index %" PRIu64 ", token %" PRIu64, client->number, client->wait.id, node->number + 1,
                  client_outcomes[answer->outcome], answer->index, answer->token);
        history_waited(sim, client, answer);
        if (answer->outcome == REPLICA_WAITING) {
                attempt(sim, client, sim->script ? &sim->nodes[client->node] : client_any_node(sim));
        } else if (answer->outcome == REPLICA_TOO_SOON || (granted && (session->id != client->wait.session || session->until <= sim->now))) {
                client->wait.in_vain = true; /* S10: or it was told so late that the lock may be another's already */
                client_leave(sim, client, sim->script ? &sim->nodes[client->node] : client_any_node(sim));
        } else {
                if (granted && client->request.ttl_ms != 0)
                        client->held_in[lock] = session;
                finish(sim, client, granted ? REPLICA_YES : REPLICA_NOT_OWNER, answer);
        }
}

/* Names the request in place of the waiter, as who never heard that it waits would. */
static void call_off(struct sim *sim, struct sim_client *client)
{
        client->wait.id = 0;
        lease_let_go(client, (unsigned)(client->request.name.text[5] - 'a'));
        client->copies = 0;
        begin_cancel(sim, client, REPLICA_NOT_OWNER);
}

/* It waits no longer for this node. Who hangs up may or may not take the request back with it. */
void client_patience(struct sim *sim, struct sim_client *client, uint64_t number)
{
        if (!client->busy || client->attempt != number)
                return;
        if (sim_chance(sim, 500))
                client_hang_up(sim, client);
        if (sim->now >= client->deadline && client->wait.id != 0) {
                if (sim_chance(sim, 300))
                        call_off(sim, client);
                else
                        client_leave(sim, client, client_any_node(sim));
                return;
        }
        if (sim->now >= client->deadline) {
                if (client->request.kind == LOCK_CHANGE_CANCEL)
                        client->request = client->was;
                finish(sim, client, REPLICA_UNKNOWN, NULL);
                return;
        }
        attempt(sim, client, client_any_node(sim));
}

static const char *word_of(enum lock_change_kind kind)
{
        switch ((int)kind) {
        case LOCK_CHANGE_CLIENT:
                return "an id";
        case LOCK_CHANGE_PREEMPT:
                return "preempt";
        case LOCK_CHANGE_RELEASE:
                return "release";
        case LOCK_CHANGE_CANCEL:
                return "cancel";
        case LOCK_CHANGE_KEEP:
                return "keep";
        case LOCK_CHANGE_BREAK:
                return "break";
        case LOCK_CHANGE_OPEN:
                return "open";
        case LOCK_CHANGE_CLOSE:
                return "close";
        }
        return "?";
}

static void take_answer(struct sim *sim, const struct sim_node *node, struct sim_client *client, const struct replica_answer *answer)
{
        bool is_no = answer->outcome == REPLICA_HELD || answer->outcome == REPLICA_NOT_OWNER || answer->outcome == REPLICA_FOREIGN_CLIENT ||
                     answer->outcome == REPLICA_NO_SESSION || answer->outcome == REPLICA_TOO_SOON || answer->outcome == REPLICA_REENTERED || answer->outcome == REPLICA_NOT_ALONE ||
                     answer->outcome == REPLICA_DELAYED;

        sim_trace(sim, "client %u: %s %s at node %u: %s, index %" PRIu64 ", token %" PRIu64 ", owner '%s' (request %" PRIu64 ":%" PRIu64 ")", client->number,
                  word_of(client->request.kind), client->request.name.text, node->number + 1, client_outcomes[answer->outcome], answer->index,
                  answer->token, answer->client.text, bytes_load_u64(client->handle.bytes), client->request.seq);
        history_answer(sim, client, answer);
        if (answer->outcome == REPLICA_YES && replica_applied(node->replica) < answer->index)
                sim_fail(sim, "client %u is answered by node %u before its own map shows it", client->number, node->number + 1);
        if (answer->outcome == REPLICA_WAITING) {
                if (client->request.kind == LOCK_CHANGE_CANCEL)
                        client->request = client->was;       /* it came too late: the lock is its own, or was */
                begin_await(sim, client, answer->token);
        } else if (client->request.kind == LOCK_CHANGE_CANCEL) {
                finish_cancel(sim, client, answer);
        } else if (is_no && client->copies > 1 && lock_change_names(client->request.kind)) {
                begin_cancel(sim, client, answer->outcome);
        } else {
                if (is_no)
                        history_refused(sim, client);
                finish(sim, client, answer->outcome, answer);
        }
}

void client_answer(struct sim *sim, struct sim_node *node, const struct replica_answer *answer)
{
        struct sim_client *client = &sim->clients[answer->origin.tag % SIM_CLIENTS];

        if (answer->origin.tag >= 3 * SIM_CLIENTS)
                return;                      /* of many */
        if (answer->origin.tag >= 2 * SIM_CLIENTS) {
                lease_told(sim, node, client, answer);
                return;
        }
        if (answer->origin.tag >= SIM_CLIENTS) {
                lease_answer(sim, node, client, answer);
                return;
        }
        if (!client->busy || client->session != answer->origin.session)
                return;
        if (is_known(answer->outcome))
                client->seen = MAX(client->seen, answer->index);
        if (client->wait.id != 0) {
                take_wait(sim, node, client, answer);
        } else if (client->is_read) {
                history_read(sim, node, client, answer);
                finish(sim, client, answer->outcome, answer);
        } else {
                take_answer(sim, node, client, answer);
        }
}

/* --- in a scenario --- */

static void begin_request(struct sim *sim, struct sim_client *client, struct sim_node *node)
{
        client->busy = true;
        client->copies = 0;
        client->acked_before = sim->acked;
        client->asked_at = sim->now;
        client->deadline = sim->now + 60000 * MS;
        history_asked(sim, client);
        attempt(sim, client, node);
}

void client_ask(struct sim *sim, struct sim_client *client, struct sim_node *node, enum lock_change_kind kind, unsigned lock)
{
        client->is_read = false;
        set_request(sim, client, kind, lock, client->number);
        if (kind == LOCK_CHANGE_KEEP)
                client->request.token = client->tokens[lock];
        if (kind == LOCK_CHANGE_RELEASE)
                lease_let_go(client, lock);
        if (kind == LOCK_CHANGE_PREEMPT) {
                client->request.slots = client->wanted_slots;
                set_further(client, client->wanted_locks);
        }
        begin_request(sim, client, node);
}

void client_ask_lease(struct sim *sim, struct sim_client *client, struct sim_node *node, unsigned lock, uint32_t ttl_ms)
{
        client->is_read = false;
        set_request(sim, client, LOCK_CHANGE_PREEMPT, lock, client->number);
        client->request.ttl_ms = ttl_ms;
        client->request.delay_ms = client->delay_ms;
        client->request.slots = client->wanted_slots;
        set_further(client, client->wanted_locks);
        begin_request(sim, client, node);
}

void client_call_off(struct sim *sim, struct sim_client *client)
{
        call_off(sim, client);
}

void client_ask_to_wait(struct sim *sim, struct sim_client *client, struct sim_node *node, unsigned lock, uint32_t ttl_ms, uint64_t period_ms)
{
        client->is_read = false;
        set_request(sim, client, LOCK_CHANGE_PREEMPT, lock, client->number);
        client->request.ttl_ms = ttl_ms;
        client->request.session = ttl_ms == 0 ? client->opened.id : 0;
        client->request.delay_ms = ttl_ms != 0 ? client->delay_ms : 0;
        client->request.period_ms = period_ms;
        client->request.wait = true;
        client->request.slots = client->wanted_slots;
        set_further(client, client->wanted_locks);
        begin_request(sim, client, node);
}

void client_ask_once(struct sim *sim, struct sim_client *client, struct sim_node *node, unsigned lock, uint64_t period_ms)
{
        client->is_read = false;
        set_request(sim, client, LOCK_CHANGE_PREEMPT, lock, client->number);
        client->request.period_ms = period_ms;
        client->request.slots = client->wanted_slots;
        set_further(client, client->wanted_locks);
        begin_request(sim, client, node);
}

void client_ask_in_session(struct sim *sim, struct sim_client *client, struct sim_node *node, unsigned lock)
{
        client->is_read = false;
        set_request(sim, client, LOCK_CHANGE_PREEMPT, lock, client->number);
        client->request.session = client->opened.id;
        client->request.slots = client->wanted_slots;
        set_further(client, client->wanted_locks);
        begin_request(sim, client, node);
}

void client_break(struct sim *sim, struct sim_client *client, struct sim_node *node, unsigned lock, bool now)
{
        client->is_read = false;
        set_request(sim, client, LOCK_CHANGE_BREAK, lock, client->number);
        client->request.token = MAX(history_token(sim, lock), UINT64_C(1));
        client->request.now = now;
        begin_request(sim, client, node);
}

void client_hold_many(struct sim *sim, struct sim_client *client, struct sim_node *node, uint64_t count)
{
        bool accepted = client->accepted;

        for (uint64_t i = 0; i < count; i++) {
                struct replica_origin origin = { .session = ++sim->session_next, .tag = 3 * SIM_CLIENTS };
                struct lock_request *request = &client->request;
                char text[32];

                client->accepted = false;    /* each is the first of a handle */
                set_request(sim, client, LOCK_CHANGE_PREEMPT, 0, client->number);
                (void)snprintf(text, sizeof(text), "many/%" PRIu64, i);
                (void)lock_name_set(&request->name, text, strlen(text));
                request->session = client->opened.id;
                replica_request(node->replica, &origin, request, node_clock(sim, node) + 10000);
        }
        client->accepted = accepted && count == 0;
        node_want_turn(sim, node);
}

void client_open(struct sim *sim, struct sim_client *client, struct sim_node *node, uint32_t ttl_ms)
{
        client->is_read = false;
        set_request(sim, client, LOCK_CHANGE_OPEN, 0, client->number);
        client->request.ttl_ms = ttl_ms;
        client->request.delay_ms = client->delay_ms;
        begin_request(sim, client, node);
}

void client_close(struct sim *sim, struct sim_client *client, struct sim_node *node)
{
        client->is_read = false;
        set_request(sim, client, LOCK_CHANGE_CLOSE, 0, client->number);
        client->request.session = client->opened.id;
        lease_close(client);
        begin_request(sim, client, node);
}

void client_read(struct sim *sim, struct sim_client *client, struct sim_node *node, unsigned lock, bool consistent)
{
        set_read(client, lock);
        client->consistent = consistent;
        begin_request(sim, client, node);
}

void client_ask_again(struct sim *sim, struct sim_client *client, struct sim_node *node)
{
        client->busy = true;
        attempt(sim, client, node);
}

void client_hang_up(struct sim *sim, struct sim_client *client)
{
        struct sim_node *node = &sim->nodes[client->node];

        if (client->session != 0 && node->replica)
                replica_forget(node->replica, client->session);
        (void)sim;
}

void client_wait_no_longer(struct sim *sim, struct sim_client *client)
{
        finish(sim, client, REPLICA_UNKNOWN, NULL);
}
