/* daemon.c - one node at work: the order of a turn, signals, settings. */
#include "dlockd/daemon.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/diag.h"
#include "dlockd/backup.h"
#include "dlockd/failure.h"
#include "dlockd/journal.h"
#include "dlockd/notify.h"
#include "dlockd/session.h"
#include "replica/entry.h"

/* The longest time between two ticks: deadlines are kept to this. */
#define TICK_MS 50
/* How long a stopping node waits for its answers and for the leader's leave. */
#define STOP_MS 2000
/* A node that was up for as long is well: the failures before are past. */
#define WELL_MS 60000

void daemon_want_turn(struct daemon *daemon)
{
        loop_want_turn(daemon->turn);
}

void daemon_fail(struct daemon *daemon, const char *what)
{
        if (daemon->failed)
                return;
        daemon->failed = true;
        failure_say(what);
        loop_exit(daemon->loop, EXIT_FAILURE);
}

const char *daemon_node_name(const struct daemon *daemon, uint64_t node)
{
        const struct raft_member *member = raft_configuration_find(raft_configuration(replica_raft(daemon->replica)), node);

        return member ? member->name : "";
}

/* --- what people are told --- */

static void tell_status(struct daemon *daemon)
{
        const struct raft *raft = replica_raft(daemon->replica);
        uint64_t leader = raft_leader(raft), term = raft_term(raft), commit = raft_commit(raft);

        if (daemon->join == JOIN_LISTENING)
                notify_status("listening for a cluster that is there already");
        else if (daemon->join == JOIN_SEEKING)
                notify_status("joining a cluster%s%s", daemon->join_complaint[0] ? ": " : "", daemon->join_complaint);
        else if (daemon_is_removed(daemon))
                notify_status("%s", PEER_REASON_GONE);
        else if (raft_role(raft) == RAFT_LEADER && raft_has_quorum(raft))
                notify_status("leader, term %" PRIu64 ", commit %" PRIu64, term, commit);
        else if (raft_role(raft) != RAFT_LEADER && leader != 0 && raft_has_quorum(raft))
                notify_status("follower, term %" PRIu64 ", commit %" PRIu64 ", leader %s", term, commit, daemon_node_name(daemon, leader));
        else
                notify_status("%s, term %" PRIu64 ", commit %" PRIu64 ", no majority", raft_role(raft) == RAFT_LEADER ? "leader" : "follower", term, commit);
}

/* --- the turn --- */

static void carry_out(struct daemon *daemon)
{
        const struct replica_effects *effects = replica_effects(daemon->replica);

        daemon_carry_out_storage(daemon, effects);
        for (size_t i = 0; i < effects->raft->message_count; i++)
                peer_hub_send_raft(daemon->hub, &effects->raft->messages[i]);
        for (size_t i = 0; i < effects->send_count; i++)
                peer_hub_send_node(daemon->hub, effects->sends[i].node, effects->sends[i].data, effects->sends[i].size);
        for (size_t i = 0; i < effects->answer_count; i++) {
                if (effects->answers[i].kind == REPLICA_ANSWER_JOIN)
                        daemon_answer_join(daemon, &effects->answers[i]);
                else
                        session_answer(daemon->sessions, &effects->answers[i]);
        }
        daemon->may_leave = daemon->may_leave || effects->left;
        replica_effects_clear(daemon->replica);
}

static void stop_when_done(struct daemon *daemon)
{
        bool answered = replica_pending_count(daemon->replica) == 0 && daemon->may_leave;

        if (!answered && daemon->now < daemon->stop_by)
                return;
        session_stop(daemon->sessions);
        /* Who hears no word of a stop takes this node for one that may be woken, as it may after its host's start. */
        if (daemon->host_stops)
                peer_hub_flush(daemon->hub);
        else
                peer_hub_bye(daemon->hub);
        loop_exit(daemon->loop, EXIT_SUCCESS);
}

static void look_at_clock(struct daemon *daemon)
{
        uint64_t now = clock_monotonic_ms();

        journal_gap(daemon, now);
        daemon->now = now;
}

/* D8. Nothing is answered, and nothing sent, that the disk refused (promise 7). */
static void on_turn(void *context, uint32_t events)
{
        struct daemon *daemon = context;

        (void)events;
        if (daemon->failed)
                return;
        look_at_clock(daemon);
        daemon_members_turn(daemon);
        replica_tick(daemon->replica, daemon->now, clock_wall_ms());
        replica_turn(daemon->replica);
        carry_out(daemon);
        journal_turn(daemon);
        peer_hub_flush(daemon->hub);
        session_flush(daemon->sessions);
        notify_watchdog(daemon->now);
        if (daemon->stopping)
                stop_when_done(daemon);
        if (replica_has_more(daemon->replica))
                daemon_want_turn(daemon);
}

static void on_timer(void *context, uint32_t events)
{
        struct daemon *daemon = context;

        (void)events;
        look_at_clock(daemon);
        loop_timer_set(daemon->timer, daemon->now + MIN(daemon->config.heartbeat_ms / 4, (uint64_t)TICK_MS));
        session_tick(daemon->sessions, daemon->now);
        backup_tick(daemon);
        peer_hub_tick(daemon->hub, daemon->now);
        daemon_members_tick(daemon);
        daemon_storage_tick(daemon);
        if (daemon->well_at != 0 && daemon->now >= daemon->well_at) {
                daemon->well_at = 0;
                failure_forget();
        }
        if (daemon->now >= daemon->status_next) {
                daemon->status_next = daemon->now + 1000;
                tell_status(daemon);
        }
        daemon_want_turn(daemon);
}

/* --- signals --- */

/* The units say it before they stop a node, when it is not the node that shall stop, but the whole host. */
static void on_host_stops(void *context, uint32_t events)
{
        struct daemon *daemon = context;

        (void)events;
        daemon->host_stops = true;
}

static void on_stop(void *context, uint32_t events)
{
        struct daemon *daemon = context;

        (void)events;
        if (daemon->stopping)
                return;
        diag_info("stopping");
        notify_stopping();
        daemon->stopping = true;
        daemon->stop_by = clock_monotonic_ms() + STOP_MS;
        session_hold(daemon->sessions, true);
        replica_leave(daemon->replica, daemon->host_stops);
        daemon_want_turn(daemon);
}

/* What only a restart applies stays as it is. */
static void keep_bound_settings(struct config *loaded, const struct config *running)
{
        memcpy(loaded->name, running->name, sizeof(loaded->name));
        memcpy(loaded->directory, running->directory, sizeof(loaded->directory));
        loaded->witness = running->witness;
        loaded->clients = running->clients;
        loaded->peers = running->peers;
        loaded->has_advertise = running->has_advertise;
        loaded->advertise = running->advertise;
}

static void reload(struct daemon *daemon)
{
        struct config loaded = daemon->config;
        char error[512], names[256];

        if (config_load(daemon->config_directory, daemon->config.role, daemon->config.instance, &loaded, error) < 0) {
                diag_error("%s; the old settings stay", error);
                return;
        }
        if (config_needs_restart(&daemon->config, &loaded, names) > 0) {
                char unit[64], peer[64];

                (void)snprintf(unit, sizeof(unit), daemon->config.role == CONFIG_LEADER ? "dlock-leader" : "dlock-follower@%u", daemon->config.instance);
                (void)snprintf(peer, sizeof(peer), daemon->config.role == CONFIG_LEADER ? "dlock-leader-peer" : "dlock-follower-peer@%u", daemon->config.instance);
                diag_warning("reloaded, but for %s, which a restart applies: \"systemctl restart %s\"; for addresses and the directory \"systemctl daemon-reload\","
                             " \"systemctl stop %s.service %s.socket %s.socket\" and \"systemctl start %s\"", names, unit, unit, unit, peer, unit);
        } else {
                diag_info("reloaded the settings");
        }
        keep_bound_settings(&loaded, &daemon->config);
        daemon->config = loaded;
        diag_set_level((enum diag_level)loaded.log_level);
        daemon_apply_settings(daemon);
}

static void on_reload(void *context, uint32_t events)
{
        struct daemon *daemon = context;

        (void)events;
        notify_reloading();
        reload(daemon);
        notify_ready();
}

static int add_sources(struct daemon *daemon)
{
        int r = loop_add_turn(daemon->loop, on_turn, daemon, &daemon->turn);

        if (r >= 0)
                r = loop_add_timer(daemon->loop, on_timer, daemon, &daemon->timer);
        if (r >= 0)
                r = loop_add_signal(daemon->loop, SIGTERM, on_stop, daemon, &daemon->signals[0]);
        if (r >= 0)
                r = loop_add_signal(daemon->loop, SIGINT, on_stop, daemon, &daemon->signals[1]);
        if (r >= 0)
                r = loop_add_signal(daemon->loop, SIGUSR2, on_host_stops, daemon, &daemon->signals[3]);
        if (r >= 0)
                r = loop_add_signal(daemon->loop, SIGHUP, on_reload, daemon, &daemon->signals[2]);
        return r;
}

/* --- life --- */

static int start(struct daemon *daemon, struct listen_sockets *clients, struct listen_sockets *peers)
{
        const struct peer_handler *handler = &daemon_peer_handler;
        struct peer_handler with_context = *handler;
        struct peer_hello self;
        int r;

        with_context.context = daemon;
        daemon->now = clock_monotonic_ms();  /* the database may have taken its time: nobody was waited for meanwhile */
        daemon_members_start(daemon);
        daemon_self(daemon, &self);
        r = peer_hub_new(daemon->loop, &with_context, &self, peers, &daemon->hub);
        if (r >= 0)
                r = session_table_new(daemon, clients, &daemon->sessions);
        if (r < 0)
                return r;
        journal_start(daemon);
        session_hold(daemon->sessions, daemon->join == JOIN_LISTENING);
        on_timer(daemon, 0);
        daemon->well_at = daemon->now + WELL_MS;
        failure_over();
        notify_ready();
        return 0;
}

static void release(struct daemon *daemon)
{
        daemon->sessions = session_table_free(daemon->sessions);
        backup_forget_all(daemon);
        daemon->hub = peer_hub_free(daemon->hub);
        daemon->store_source = loop_source_free(daemon->store_source);
        daemon->store = store_close(daemon->store);
        daemon_drop_reads(daemon);
        daemon->replica = replica_free(daemon->replica);
        for (size_t i = 0; i < ARRAY_SIZE(daemon->signals); i++)
                loop_source_free(daemon->signals[i]);
        loop_source_free(daemon->timer);
        loop_source_free(daemon->turn);
        loop_free(daemon->loop);
        free(daemon->in_flight);
        free(daemon->named_members);
}

int daemon_run(const struct config *config, const char *config_directory, struct listen_sockets *clients, struct listen_sockets *peers)
{
        struct daemon daemon = { .config = *config, .config_directory = config_directory, .now = clock_monotonic_ms() };
        int r = loop_new(&daemon.loop);

        if (r >= 0)
                r = add_sources(&daemon);
        if (r >= 0)
                r = daemon_open_store(&daemon);
        if (r >= 0)
                r = start(&daemon, clients, peers);
        if (r < 0)
                diag_debug("could not start: %s", strerror(-r));
        else
                r = loop_run(daemon.loop);
        release(&daemon);
        if (r == -EINTR)
                return EXIT_SUCCESS;         /* told to stop while it waited */
        return r == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
