/* lease.c - the sessions and leases of clients: what a client counts on, and how it keeps it. Its deadline counts from
 * before it asked, on a clock of its own, and a renewal counts only when its answer comes before that (T6). What
 * it does until then must not be taken from it: history.c looks at that when a session ends, and when a lock is granted. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "sim.h"

uint64_t lease_until(const struct sim *sim, const struct sim_client *client, uint64_t asked_at, uint32_t ttl_ms)
{
        return asked_at + (uint64_t)ttl_ms * (1000 - sim->drift_per_1000) / client->clock_rate * MS;
}

uint64_t lease_believed_until(const struct sim_client *client, unsigned lock)
{
        return client->holds[lock] && client->held_in[lock] ? client->held_in[lock]->until : 0;
}

bool lease_is_counted_on(const struct sim_client *client, uint64_t session)
{
        for (unsigned lock = 0; lock < SIM_LOCKS; lock++)
                if (client->leases[lock].id == session)
                        return true;
        return client->opened.id == session;
}

void lease_let_go(struct sim_client *client, unsigned lock)
{
        client->held_in[lock] = NULL;
        /* What was taken together with it is not counted on any more, either: it renews the lease no more. */
        for (unsigned other = 0; other < SIM_LOCKS; other++)
                if (client->held_in[other] == &client->leases[lock])
                        client->held_in[other] = NULL;
        client->leases[lock] = (struct sim_session){ 0 };
}

/* Its client knows that it is over, or does not want it any more. */
static void forget(struct sim_client *client, struct sim_session *session)
{
        for (unsigned lock = 0; lock < SIM_LOCKS; lock++)
                if (client->held_in[lock] == session) {
                        client->held_in[lock] = NULL;
                        client->unsure[lock] = client->holds[lock];
                }
        if (session == &client->opened)
                client->former = session->id;
        *session = (struct sim_session){ 0 };
}

void lease_granted(struct sim *sim, struct sim_client *client, unsigned lock, uint64_t session)
{
        const struct lock_request *request = &client->request;

        if (client->leases[lock].id == session)
                return;                      /* it has been counted on since it began to wait */
        lease_let_go(client, lock);
        if (request->ttl_ms != 0) {
                client->former = session;    /* nothing can be held in it, whether it lives or not */
                client->leases[lock] = (struct sim_session){ .id = session, .ttl_ms = request->ttl_ms, .until = lease_until(sim, client, client->asked_at, request->ttl_ms) };
                client->held_in[lock] = &client->leases[lock];
        } else if (request->session != 0 && request->session == client->opened.id) {
                client->held_in[lock] = &client->opened;
        }
}

void lease_opened(struct sim *sim, struct sim_client *client, enum replica_outcome outcome, uint64_t id)
{
        const struct lock_request *request = &client->request;

        if (request->kind == LOCK_CHANGE_OPEN && outcome == REPLICA_YES)
                client->opened = (struct sim_session){ .id = id, .ttl_ms = request->ttl_ms, .until = lease_until(sim, client, client->asked_at, request->ttl_ms) };
}

void lease_close(struct sim_client *client)
{
        forget(client, &client->opened);
}

/* --- keeping them --- */

static struct sim_session *session_of(struct sim_client *client, uint64_t id)
{
        for (unsigned lock = 0; lock < SIM_LOCKS; lock++)
                if (client->leases[lock].id == id)
                        return &client->leases[lock];
        return client->opened.id == id ? &client->opened : NULL;
}

void lease_renew(struct sim *sim, struct sim_client *client, struct sim_node *node, uint64_t id)
{
        struct replica_origin origin = { .session = ++sim->session_next, .tag = SIM_CLIENTS + client->number };
        const struct sim_session *session = session_of(client, id);
        struct lock_request request = { .kind = LOCK_RENEW, .session = id, .ttl_ms = session ? session->ttl_ms : 0 };
        char text[32];

        (void)snprintf(text, sizeof(text), "uid:100%u", client->number);
        (void)principal_set(&request.principal, text, strlen(text));
        (void)snprintf(text, sizeof(text), "c%u", client->number);
        (void)client_id_set(&request.client, text, strlen(text));
        client->renewal.session = id;
        client->renewal.asked_at = sim->now;
        client->renewal.was_over = !history_session_lives(sim, client, id);
        client->renewal.origin = 0;
        if (!node->replica || node->paused_until > sim->now)
                return;
        client->renewal.origin = origin.session;
        replica_request(node->replica, &origin, &request, node_clock(sim, node) + 2000);
        node_want_turn(sim, node);
}

void lease_listen(struct sim *sim, struct sim_client *client, struct sim_node *node, uint64_t id)
{
        struct replica_origin origin = { .session = ++sim->session_next, .tag = 2 * SIM_CLIENTS + client->number };

        client->listens.origin = 0;
        if (!node->replica || node->paused_until > sim->now)
                return;
        client->listens.session = id;
        client->listens.origin = origin.session;
        client->listens.node = node->number;
        client->listens.life = node->life;
        replica_await(node->replica, &origin, &(struct lock_name){ .size = 0 }, id, node_clock(sim, node) + 60000);
        node_want_turn(sim, node);
}

void lease_told(struct sim *sim, const struct sim_node *node, struct sim_client *client, const struct replica_answer *answer)
{
        struct sim_session *session = session_of(client, client->listens.session);

        if (client->listens.origin != answer->origin.session)
                return;
        client->listens.origin = 0;
        client->listens.outcome = answer->outcome;
        sim_trace(sim, "client %u: is told of %" PRIu64 " by node %u: %s", client->number, client->listens.session, node->number + 1, client_outcomes[answer->outcome]);
        if (answer->outcome == REPLICA_WAITING)
                return;
        history_has_ended(sim, client, client->listens.session);
        if (session)
                forget(client, session);
}

void lease_check_told(struct sim *sim, const struct sim_node *node)
{
        for (unsigned i = 0; i < SIM_CLIENTS; i++) {
                const struct sim_client *client = &sim->clients[i];
                struct lock_session_view session;

                if (client->listens.origin == 0 || client->listens.node != node->number || client->listens.life != node->life ||
                    replica_applied(node->replica) < client->listens.session)
                        continue;
                if (!lock_table_find_session(replica_table(node->replica), client->listens.session, &session) || session.ended || session.broken)
                        sim_fail(sim, "client %u listens at node %u, and is not told that session %" PRIu64 " has ended", client->number, node->number + 1,
                                 client->listens.session);
        }
}

/* One that it has; NULL: it has none. */
static struct sim_session *choose_session(struct sim *sim, struct sim_client *client)
{
        unsigned at = (unsigned)sim_random(sim, SIM_LOCKS + 1);

        for (unsigned i = 0; i <= SIM_LOCKS; i++, at = (at + 1) % (SIM_LOCKS + 1)) {
                struct sim_session *session = at < SIM_LOCKS ? &client->leases[at] : &client->opened;

                if (session->id != 0)
                        return session;
        }
        return NULL;
}

/* Now and then it is busy with other things for longer than it may be. While somebody leads who was deposed, the worst that it can do is
 * to renew there, and to rest on that. */
void lease_next(struct sim *sim, struct sim_client *client)
{
        struct sim_session *session = choose_session(sim, client);
        struct sim_node *stale = client_stale_leader(sim);
        bool deposed = stale && stale != node_leader(sim) && sim_chance(sim, 800), lazy = sim_chance(sim, deposed ? 700 : 10);

        if (session && session->until <= sim->now)
                forget(client, session);     /* LOST: it has stopped */
        else if (session && (deposed || sim_chance(sim, 250))) {
                struct sim_node *node = deposed ? stale : client_any_node(sim);

                lease_renew(sim, client, node, session->id);
                if (client->listens.origin == 0 || client->listens.session != session->id)
                        lease_listen(sim, client, node, session->id);
        }
        sim_at(sim, sim->now + (lazy ? sim_between(sim, 500, 6000) : sim_between(sim, 5, 60)) * MS, EVENT_RENEW, client->number, 0, 0, NULL);
}

void lease_answer(struct sim *sim, const struct sim_node *node, struct sim_client *client, const struct replica_answer *answer)
{
        struct sim_session *session = session_of(client, client->renewal.session);
        uint64_t until;

        if (client->renewal.origin != answer->origin.session)
                return;
        client->renewal.origin = 0;
        client->renewal.outcome = answer->outcome;
        sim_trace(sim, "client %u: renew %" PRIu64 " at node %u: %s", client->number, client->renewal.session, node->number + 1, client_outcomes[answer->outcome]);
        if (answer->outcome == REPLICA_NO_SESSION)
                history_has_ended(sim, client, client->renewal.session);
        if (answer->outcome == REPLICA_OTHER_TTL)
                sim_fail(sim, "client %u was told that session %" PRIu64 " lives for another time", client->number, client->renewal.session);
        if (answer->outcome == REPLICA_YES && client->renewal.was_over)
                sim_fail(sim, "client %u was told that session %" PRIu64 " is renewed, which had ended before it asked", client->number, client->renewal.session);
        if (!session)
                return;
        if (answer->outcome == REPLICA_NO_SESSION) {
                forget(client, session);
        } else if (answer->outcome == REPLICA_YES && session->until > sim->now) {
                until = lease_until(sim, client, client->renewal.asked_at, session->ttl_ms);
                session->until = MAX(session->until, until);
        }
}
