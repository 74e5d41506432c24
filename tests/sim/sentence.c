/* sentence.c - the sentences of scenarios. In a pattern N and M are nodes, C and D clients, L is a lock, W a word, # a number. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/parse.h"
#include "raft/internal.h"
#include "sim.h"

/* What a scenario waits for comes within this time, or never. */
#define WAIT_MS 20000

struct words {
        struct sim_node *n, *m;
        struct sim_client *c, *d;
        unsigned lock;
        const char *word;
        uint64_t number;
};

typedef bool saying(struct sim *sim, const struct words *words);

static struct raft *raft_of(const struct sim_node *node)
{
        return node->replica ? replica_raft(node->replica) : NULL;
}

/* --- nodes --- */

static bool start(struct sim *sim, const struct words *words)
{
        if (words->n->replica)
                return false;
        node_start(sim, words->n);
        return true;
}

static bool crash(struct sim *sim, const struct words *words, enum crash how, uint64_t keep_writes)
{
        if (!words->n->replica)
                return false;
        sim->keep_writes = keep_writes;
        node_crash(sim, words->n, how);
        return true;
}

static bool lose_power(struct sim *sim, const struct words *words)
{
        if (words->n->replica)
                return crash(sim, words, CRASH_POWER, 0);
        disk_lose_power(&words->n->disk);
        return true;
}

static bool be_killed(struct sim *sim, const struct words *words)
{
        return crash(sim, words, CRASH_KILL, 0);
}

static bool be_killed_late(struct sim *sim, const struct words *words)
{
        return crash(sim, words, CRASH_KILL, UINT64_MAX);
}

static bool be_asked_to_stop(struct sim *sim, const struct words *words)
{
        if (!words->n->replica)
                return false;
        words->n->leaving = true;
        replica_leave(words->n->replica, false);
        node_want_turn(sim, words->n);
        return true;
}

static bool be_paused(struct sim *sim, const struct words *words)
{
        words->n->paused_until = sim->now + words->number * MS;
        return true;
}

static bool time_out(struct sim *sim, const struct words *words)
{
        if (!words->n->replica)
                return false;
        words->n->awake = true;
        raft_of(words->n)->election_deadline = 0;
        node_want_turn(sim, words->n);
        return true;
}

static bool be_emptied(struct sim *sim, const struct words *words)
{
        if (words->n->replica)
                return false;
        disk_empty(sim, words->n);
        return true;
}

static bool leads(struct sim *sim, const struct words *words)
{
        (void)sim;
        return words->n->replica && raft_role(raft_of(words->n)) == RAFT_LEADER;
}

static bool does_not_lead(struct sim *sim, const struct words *words)
{
        return !leads(sim, words);
}

static bool is_ready(struct sim *sim, const struct words *words)
{
        return leads(sim, words) && raft_is_ready(raft_of(words->n)) &&
               replica_applied(words->n->replica) >= raft_term_start(raft_of(words->n));
}

static bool is_not_ready(struct sim *sim, const struct words *words)
{
        return !is_ready(sim, words);
}

static bool follows(struct sim *sim, const struct words *words)
{
        return words->n->replica && !leads(sim, words) && raft_leader(raft_of(words->n)) == words->m->disk.node;
}

static bool is_down(struct sim *sim, const struct words *words)
{
        (void)sim;
        return !words->n->replica;
}

static bool has_the_log_of(struct sim *sim, const struct words *words)
{
        const struct raft *raft = raft_of(words->m);

        (void)sim;
        return raft && disk_has(&words->n->disk, raft_last(raft), raft_log_last_term(&raft->log));
}

static bool has_caught_up(struct sim *sim, const struct words *words)
{
        const struct sim_node *leader = node_leader(sim);

        return leader && words->n->replica && replica_applied(words->n->replica) == raft_last(raft_of(leader));
}

static bool gets_a_snapshot(struct sim *sim, const struct words *words)
{
        (void)sim;
        return words->n->replica && raft_is_receiving_snapshot(raft_of(words->n));
}

static bool somebody_leads(struct sim *sim, const struct words *words)
{
        (void)words;
        return node_leader(sim) && raft_is_ready(replica_raft(node_leader(sim)->replica));
}

static bool nobody_leads(struct sim *sim, const struct words *words)
{
        (void)words;
        return !node_leader(sim);
}

/* --- members --- */

static const struct raft_member *member_of(struct sim *sim, const struct sim_node *node)
{
        const struct sim_node *leader = node_leader(sim);

        return leader ? raft_configuration_find_incarnation(raft_configuration(raft_of(leader)), node->disk.incarnation) : NULL;
}

static bool will_be_witness(struct sim *sim, const struct words *words)
{
        (void)sim;
        words->n->witness = true;
        return !words->n->replica;
}

static bool is_voter(struct sim *sim, const struct words *words)
{
        const struct raft_member *member = member_of(sim, words->n);

        return member && member->standing == RAFT_VOTER;
}

static bool is_learner(struct sim *sim, const struct words *words)
{
        const struct raft_member *member = member_of(sim, words->n);

        return member && member->standing == RAFT_LEARNER;
}

static bool is_no_member(struct sim *sim, const struct words *words)
{
        return node_leader(sim) && !member_of(sim, words->n);
}

static bool removes(struct sim *sim, const struct words *words)
{
        node_want_turn(sim, words->n);
        return leads(sim, words) && raft_remove(raft_of(words->n), words->m->disk.node) != 0;
}

static bool cannot_remove(struct sim *sim, const struct words *words)
{
        return !removes(sim, words);
}

static bool demotes(struct sim *sim, const struct words *words)
{
        node_want_turn(sim, words->n);
        return leads(sim, words) && raft_demote(raft_of(words->n), words->m->disk.node) != 0;
}

static bool allow_voters(struct sim *sim, const struct words *words)
{
        sim->max_voters = (unsigned)words->number;
        for (unsigned i = 0; i < sim->node_count; i++)
                if (sim->nodes[i].replica)
                        raft_set_max_voters(raft_of(&sim->nodes[i]), sim->max_voters);
        return true;
}

static bool keep_entries(struct sim *sim, const struct words *words)
{
        for (unsigned i = 0; i < sim->node_count; i++) {
                struct sim_node *node = &sim->nodes[i];
                struct replica_settings settings = { .keep_entries = node->keep_entries = words->number,
                                                     .raft = { .election_timeout_ms = TIMEOUT_MS, .heartbeat_ms = HEARTBEAT_MS,
                                                               .max_voters = sim->max_voters } };

                if (node->replica)
                        replica_set_settings(node->replica, &settings);
        }
        return true;
}

static bool hands_over(struct sim *sim, const struct words *words)
{
        node_want_turn(sim, words->n);
        return leads(sim, words) && raft_transfer(raft_of(words->n), words->m->disk.node, true);
}

static bool cannot_hand_over(struct sim *sim, const struct words *words)
{
        return !hands_over(sim, words);
}

static bool gives_up_handing_over(struct sim *sim, const struct words *words)
{
        return leads(sim, words) && raft_transfer_target(raft_of(words->n)) == 0;
}

/* --- the network and disks --- */

static bool set_cut(struct sim *sim, const struct words *words, bool cut)
{
        sim->cut[words->n->number][words->m->number] = sim->cut[words->m->number][words->n->number] = cut;
        if (cut)
                net_break(sim, words->n->number, words->m->number, 1);
        return true;
}

static bool cut(struct sim *sim, const struct words *words)
{
        return set_cut(sim, words, true);
}

static bool heal(struct sim *sim, const struct words *words)
{
        return set_cut(sim, words, false);
}

static bool isolate(struct sim *sim, const struct words *words)
{
        for (unsigned i = 0; i < sim->node_count; i++)
                if (i != words->n->number)
                        (void)set_cut(sim, &(struct words){ .n = words->n, .m = &sim->nodes[i] }, true);
        return true;
}

static bool join_again(struct sim *sim, const struct words *words)
{
        for (unsigned i = 0; i < sim->node_count; i++)
                if (i != words->n->number)
                        (void)set_cut(sim, &(struct words){ .n = words->n, .m = &sim->nodes[i] }, false);
        return true;
}

static bool hold(struct sim *sim, const struct words *words)
{
        static const struct { const char *word; enum net_hold kinds; } kinds[] = {
                { "entries", HOLD_ENTRIES }, { "heartbeats", HOLD_HEARTBEATS },
                { "appends", HOLD_ENTRIES | HOLD_HEARTBEATS }, { "replies", HOLD_REPLIES }, { "votes", HOLD_VOTES },
                { "snapshots", HOLD_SNAPSHOTS }, { "requests", HOLD_REQUESTS }, { "everything", HOLD_EVERYTHING },
        };

        for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
                if (strcmp(words->word, kinds[i].word) == 0) {
                        net_hold(sim, words->n->number, words->m->number, kinds[i].kinds);
                        return true;
                }
        return false;
}

static bool release(struct sim *sim, const struct words *words)
{
        net_release(sim, words->n->number, words->m->number, NET_RELEASE);
        return true;
}

static bool lose(struct sim *sim, const struct words *words)
{
        net_release(sim, words->n->number, words->m->number, NET_LOSE);
        return true;
}

static bool repeat(struct sim *sim, const struct words *words)
{
        net_release(sim, words->n->number, words->m->number, NET_REPEAT);
        return true;
}

static bool repeat_first(struct sim *sim, const struct words *words)
{
        net_release(sim, words->n->number, words->m->number, NET_REPEAT_FIRST);
        return true;
}

static bool is_held(struct sim *sim, const struct words *words)
{
        return net_held(sim, words->n->number, words->m->number) > 0;
}

static bool nothing_is_held(struct sim *sim, const struct words *words)
{
        return !is_held(sim, words);
}

static bool disk_holds(struct sim *sim, const struct words *words)
{
        disk_hold(sim, words->n, true);
        return true;
}

static bool disk_goes_on(struct sim *sim, const struct words *words)
{
        disk_hold(sim, words->n, false);
        return true;
}

static bool disk_writes_one(struct sim *sim, const struct words *words)
{
        if (!words->n->replica || !words->n->disk.writes)
                return false;
        disk_sync(sim, words->n);
        node_want_turn(sim, words->n);
        return true;
}

static bool disk_has_writes(struct sim *sim, const struct words *words)
{
        (void)sim;
        return words->n->disk.writes != NULL;
}

static bool wait_ms(struct sim *sim, const struct words *words)
{
        uint64_t until = sim->now + words->number * MS;

        while (sim->now < until && run_step(sim))
                ;
        return true;
}

/* --- clients --- */

/* The node has taken it in. */
static bool asked(struct sim *sim, const struct sim_node *node)
{
        while (node->replica && node->turn_wanted && node->paused_until <= sim->now && run_step(sim))
                ;
        return true;
}

static bool asks(struct sim *sim, const struct words *words)
{
        client_ask(sim, words->c, words->n, LOCK_CHANGE_PREEMPT, words->lock);
        return asked(sim, words->n);
}

static bool asks_for_a_lease(struct sim *sim, const struct words *words)
{
        client_ask_lease(sim, words->c, words->n, words->lock, (uint32_t)words->number);
        return asked(sim, words->n);
}

/* Of all leases and sessions that it asks for. */
static bool wants_delay(struct sim *sim, const struct words *words)
{
        (void)sim;
        words->c->delay_ms = (uint32_t)words->number;
        return true;
}

/* Of all locks that it asks for from now on. */
static bool wants_share(struct sim *sim, const struct words *words)
{
        (void)sim;
        words->c->wanted_slots = SLOTS_SHARED;
        return true;
}

/* With whatever it asks for from now on that comes before it. */
static bool wants_as_well(struct sim *sim, const struct words *words)
{
        (void)sim;
        words->c->wanted_locks |= 1u << words->lock;
        return true;
}

static bool wants_slot(struct sim *sim, const struct words *words)
{
        (void)sim;
        words->c->wanted_slots = (uint16_t)words->number;
        return true;
}

static bool so_many_own(struct sim *sim, const struct words *words)
{
        return history_holders(sim, words->lock) == words->number;
}

static bool waits_for_a_lease(struct sim *sim, const struct words *words)
{
        client_ask_to_wait(sim, words->c, words->n, words->lock, (uint32_t)words->number, 0);
        return asked(sim, words->n);
}

static bool waits_for_once(struct sim *sim, const struct words *words)
{
        client_ask_to_wait(sim, words->c, words->n, words->lock, 60000, words->number);
        return asked(sim, words->n);
}

static bool waits_in_session(struct sim *sim, const struct words *words)
{
        client_ask_to_wait(sim, words->c, words->n, words->lock, 0, 0);
        return asked(sim, words->n);
}

static bool is_told_to_wait(struct sim *sim, const struct words *words)
{
        (void)sim;
        return words->c->wait.id != 0;
}

static bool comes_in_vain(struct sim *sim, const struct words *words)
{
        (void)sim;
        return words->c->wait.in_vain && !words->c->busy;
}

static bool leaves(struct sim *sim, const struct words *words)
{
        client_leave(sim, words->c, words->n);
        return asked(sim, words->n);
}

static bool breaks(struct sim *sim, const struct words *words)
{
        client_break(sim, words->c, words->n, words->lock, false);
        return asked(sim, words->n);
}

static bool breaks_at_once(struct sim *sim, const struct words *words)
{
        client_break(sim, words->c, words->n, words->lock, true);
        return asked(sim, words->n);
}

static bool keeps(struct sim *sim, const struct words *words)
{
        client_ask(sim, words->c, words->n, LOCK_CHANGE_KEEP, words->lock);
        return asked(sim, words->n);
}

static bool calls_off(struct sim *sim, const struct words *words)
{
        client_call_off(sim, words->c);
        return true;
}

static bool so_many_wait(struct sim *sim, const struct words *words)
{
        return history_queue_length(sim, words->lock) == words->number;
}

static bool asks_for_once(struct sim *sim, const struct words *words)
{
        client_ask_once(sim, words->c, words->n, words->lock, words->number);
        return asked(sim, words->n);
}

static bool opens_session(struct sim *sim, const struct words *words)
{
        client_open(sim, words->c, words->n, (uint32_t)words->number);
        return asked(sim, words->n);
}

static bool closes_session(struct sim *sim, const struct words *words)
{
        client_close(sim, words->c, words->n);
        return asked(sim, words->n);
}

static bool asks_in_session(struct sim *sim, const struct words *words)
{
        client_ask_in_session(sim, words->c, words->n, words->lock);
        return asked(sim, words->n);
}

static bool asks_for_many(struct sim *sim, const struct words *words)
{
        client_hold_many(sim, words->c, words->n, words->number);
        return asked(sim, words->n);
}

static bool so_many_are_held(struct sim *sim, const struct words *words)
{
        return lock_table_lock_count(sim->truth) == words->number;
}

static bool fewer_are_held(struct sim *sim, const struct words *words)
{
        return lock_table_lock_count(sim->truth) < words->number;
}

static bool term_is_low(struct sim *sim, const struct words *words)
{
        for (unsigned i = 0; i < sim->node_count; i++)
                if (sim->nodes[i].replica && raft_term(replica_raft(sim->nodes[i].replica)) > words->number)
                        return false;
        return true;
}

static bool renews_lease(struct sim *sim, const struct words *words)
{
        lease_renew(sim, words->c, words->n, words->c->tokens[words->lock]);
        return asked(sim, words->n);
}

static bool renews_session(struct sim *sim, const struct words *words)
{
        lease_renew(sim, words->c, words->n, words->c->opened.id);
        return asked(sim, words->n);
}

static bool listens_to_lease(struct sim *sim, const struct words *words)
{
        lease_listen(sim, words->c, words->n, words->c->tokens[words->lock]);
        return asked(sim, words->n);
}

static bool listens_to_session(struct sim *sim, const struct words *words)
{
        lease_listen(sim, words->c, words->n, words->c->opened.id);
        return asked(sim, words->n);
}

static bool hears_end(struct sim *sim, const struct words *words)
{
        (void)sim;
        return words->c->listens.origin == 0 && words->c->listens.outcome == REPLICA_ENDED;
}

static bool hears_break(struct sim *sim, const struct words *words)
{
        (void)sim;
        return words->c->listens.origin == 0 && words->c->listens.outcome == REPLICA_BROKEN;
}

static bool hears_nothing(struct sim *sim, const struct words *words)
{
        (void)sim;
        return words->c->listens.origin != 0;
}

static bool has_renewed(struct sim *sim, const struct words *words)
{
        if (words->c->renewal.origin == 0 && words->c->renewal.outcome != REPLICA_YES)
                sim_fail(sim, "client %u was told %s", words->c->number, client_outcomes[words->c->renewal.outcome]);
        return words->c->renewal.origin == 0;
}

static bool has_not_renewed(struct sim *sim, const struct words *words)
{
        (void)sim;
        return words->c->renewal.origin != 0;
}

static bool has_lost_session(struct sim *sim, const struct words *words)
{
        (void)sim;
        return words->c->renewal.origin == 0 && words->c->renewal.outcome == REPLICA_NO_SESSION;
}

static bool lock_is_free(struct sim *sim, const struct words *words)
{
        return history_holders(sim, words->lock) == 0;
}

static bool lock_is_owned(struct sim *sim, const struct words *words)
{
        return history_owns(sim, words->lock, words->c);
}

static bool gives_back(struct sim *sim, const struct words *words)
{
        client_ask(sim, words->c, words->n, LOCK_CHANGE_RELEASE, words->lock);
        return asked(sim, words->n);
}

static bool asks_again(struct sim *sim, const struct words *words)
{
        client_ask_again(sim, words->c, words->n);
        return asked(sim, words->n);
}

static bool checks(struct sim *sim, const struct words *words)
{
        client_read(sim, words->c, words->n, words->lock, false);
        return asked(sim, words->n);
}

static bool checks_for_sure(struct sim *sim, const struct words *words)
{
        client_read(sim, words->c, words->n, words->lock, true);
        return asked(sim, words->n);
}

static bool waits_no_longer(struct sim *sim, const struct words *words)
{
        client_wait_no_longer(sim, words->c);
        return true;
}

static bool hangs_up(struct sim *sim, const struct words *words)
{
        client_hang_up(sim, words->c);
        return true;
}

/* Another answer than the expected one does not become it by waiting. */
static bool is_told(struct sim *sim, const struct words *words)
{
        if (words->c->busy)
                return false;
        if (strcmp(client_outcomes[words->c->outcome], words->word) != 0)
                sim_fail(sim, "client %u was told %s", words->c->number, client_outcomes[words->c->outcome]);
        return true;
}

static bool has_no_answer(struct sim *sim, const struct words *words)
{
        (void)sim;
        return words->c->busy;
}

static bool saw_owner(struct sim *sim, const struct words *words)
{
        (void)sim;
        return words->c->read_owner && words->c->read_owner[1] == (char)('0' + words->d->number);
}

static bool saw_nobody(struct sim *sim, const struct words *words)
{
        (void)sim;
        return !words->c->read_owner;
}

/* --- the list: DO it, UNTIL it is so, or it must be so NOW --- */

static const struct sentence {
        const char *pattern;
        enum { DO, UNTIL, NOW } mode;
        saying *say;
} sentences[] = {
        { "node N starts", DO, start },
        { "node N loses power", DO, lose_power },
        { "node N is killed", DO, be_killed },
        { "node N is killed but its writes stay", DO, be_killed_late },
        { "node N is asked to stop", DO, be_asked_to_stop },
        { "node N is paused for # ms", DO, be_paused },
        { "node N times out", DO, time_out },
        { "node N loses its disk", DO, be_emptied },
        { "node N leads", UNTIL, leads },
        { "node N does not lead", NOW, does_not_lead },
        { "node N leads no more", UNTIL, does_not_lead },
        { "node N is ready", UNTIL, is_ready },
        { "no term is above #", NOW, term_is_low },
        { "node N is not ready", NOW, is_not_ready },
        { "node N follows node M", UNTIL, follows },
        { "node N is down", UNTIL, is_down },
        { "node N has the log of node M", UNTIL, has_the_log_of },
        { "node N has caught up", UNTIL, has_caught_up },
        { "node N gets a snapshot", UNTIL, gets_a_snapshot },
        { "somebody leads", UNTIL, somebody_leads },
        { "nobody leads", NOW, nobody_leads },
        { "node N will be a witness", DO, will_be_witness },
        { "node N is a voter", UNTIL, is_voter },
        { "node N is a learner", UNTIL, is_learner },
        { "node N is no member", UNTIL, is_no_member },
        { "node N removes node M", DO, removes },
        { "node N cannot remove node M", DO, cannot_remove },
        { "node N demotes node M", DO, demotes },
        { "there may be # voters", DO, allow_voters },
        { "logs keep # entries", DO, keep_entries },
        { "node N hands over to node M", DO, hands_over },
        { "node N cannot hand over to node M", DO, cannot_hand_over },
        { "node N gives up handing over", UNTIL, gives_up_handing_over },
        { "cut N M", DO, cut },
        { "heal N M", DO, heal },
        { "node N is cut off", DO, isolate },
        { "node N is connected again", DO, join_again },
        { "hold W from N to M", DO, hold },
        { "release from N to M", DO, release },
        { "lose from N to M", DO, lose },
        { "repeat from N to M", DO, repeat },
        { "repeat the first from N to M", DO, repeat_first },
        { "something is held from N to M", UNTIL, is_held },
        { "nothing is held from N to M", NOW, nothing_is_held },
        { "disk N holds", DO, disk_holds },
        { "disk N goes on", DO, disk_goes_on },
        { "disk N writes one", DO, disk_writes_one },
        { "disk N has something to write", UNTIL, disk_has_writes },
        { "wait # ms", DO, wait_ms },
        { "C asks node N for L", DO, asks },
        { "C asks node N for L for # ms", DO, asks_for_a_lease },
        { "C asks node N for L once in # ms", DO, asks_for_once },
        { "C wants a delay of # ms", DO, wants_delay },
        { "C wants to share", DO, wants_share },
        { "C wants one of # slots", DO, wants_slot },
        { "C wants L as well", DO, wants_as_well },
        { "# own L", UNTIL, so_many_own },
        { "C waits for L for # ms at node N", DO, waits_for_a_lease },
        { "C waits for L once in # ms at node N", DO, waits_for_once },
        { "C waits for L in it at node N", DO, waits_in_session },
        { "C is told to wait", UNTIL, is_told_to_wait },
        { "C comes in vain", UNTIL, comes_in_vain },
        { "C leaves L at node N", DO, leaves },
        { "C breaks L at node N", DO, breaks },
        { "C breaks L at node N at once", DO, breaks_at_once },
        { "C calls it off", DO, calls_off },
        { "C keeps L at node N", DO, keeps },
        { "# wait for L", UNTIL, so_many_wait },
        { "# waits for L", UNTIL, so_many_wait },
        { "C opens a session of # ms at node N", DO, opens_session },
        { "C closes it at node N", DO, closes_session },
        { "C asks node N for L in it", DO, asks_in_session },
        { "C asks node N for # others in it", DO, asks_for_many },
        { "# locks are held", UNTIL, so_many_are_held },
        { "fewer than # locks are held", UNTIL, fewer_are_held },
        { "C renews L at node N", DO, renews_lease },
        { "C renews it at node N", DO, renews_session },
        { "C listens to L at node N", DO, listens_to_lease },
        { "C listens to it at node N", DO, listens_to_session },
        { "C hears that it has ended", UNTIL, hears_end },
        { "C hears that it is broken", UNTIL, hears_break },
        { "C hears nothing", NOW, hears_nothing },
        { "C has renewed", UNTIL, has_renewed },
        { "C has not renewed", NOW, has_not_renewed },
        { "C has lost it", UNTIL, has_lost_session },
        { "L is free", NOW, lock_is_free },
        { "L becomes free", UNTIL, lock_is_free },
        { "C owns L", NOW, lock_is_owned },
        { "C gives L back through node N", DO, gives_back },
        { "C asks again through node N", DO, asks_again },
        { "C checks L at node N", DO, checks },
        { "C checks L at node N for sure", DO, checks_for_sure },
        { "C hangs up", DO, hangs_up },
        { "C waits no longer", DO, waits_no_longer },
        { "C is told W", UNTIL, is_told },
        { "C has no answer", NOW, has_no_answer },
        { "C saw that D had it", NOW, saw_owner },
        { "C saw that nobody had it", NOW, saw_nobody },
};

static bool take_node(struct sim *sim, const char *text, struct sim_node **ret_node)
{
        uint64_t number;

        if (!parse_u64(text, &number) || number == 0 || number > sim->node_count)
                return false;
        *ret_node = &sim->nodes[number - 1];
        return true;
}

/* ann, bob, cid, dan, eve */
static bool take_client(struct sim *sim, const char *text, struct sim_client **ret_client)
{
        unsigned number = (unsigned)(text[0] - 'a');

        if (number >= SIM_CLIENTS || !islower((unsigned char)text[0]))
                return false;
        *ret_client = &sim->clients[number];
        (*ret_client)->number = number;
        (*ret_client)->clock_rate = 1000;
        return true;
}

static bool take_lock(const char *text, unsigned *ret_lock)
{
        if (strncmp(text, "lock/", 5) != 0 || text[5] < 'a' || text[5] >= 'a' + SIM_LOCKS || text[6] != 0)
                return false;
        *ret_lock = (unsigned)(text[5] - 'a');
        return true;
}

static bool take_word(struct sim *sim, const char *pattern, const char *text, struct words *words)
{
        if (pattern[0] == 0 || pattern[1] != 0 || islower((unsigned char)pattern[0]))
                return strcmp(pattern, text) == 0;
        switch (pattern[0]) {
        case 'N':
                return take_node(sim, text, &words->n);
        case 'M':
                return take_node(sim, text, &words->m);
        case 'C':
                return take_client(sim, text, &words->c);
        case 'D':
                return take_client(sim, text, &words->d);
        case 'L':
                return take_lock(text, &words->lock);
        case 'W':
                words->word = text;
                return true;
        case '#':
                return parse_u64(text, &words->number);
        }
        return false;
}

/* Word by word; text is kept cut into words in COPY, which words may point into. */
static bool fits(struct sim *sim, const char *pattern, char *copy, struct words *words)
{
        char wanted[128], *wanted_rest, *rest;
        const char *word, *part;

        (void)snprintf(wanted, sizeof(wanted), "%s", pattern);
        word = strtok_r(copy, " ", &rest);
        part = strtok_r(wanted, " ", &wanted_rest);
        while (word && part) {
                if (!take_word(sim, part, word, words))
                        return false;
                word = strtok_r(NULL, " ", &rest);
                part = strtok_r(NULL, " ", &wanted_rest);
        }
        return !word && !part;
}

static void say(struct sim *sim, const struct sentence *sentence, const struct words *words)
{
        uint64_t until = sim->now + WAIT_MS * MS;

        switch (sentence->mode) {
        case NOW:
                if (!sentence->say(sim, words))
                        sim_fail(sim, "it is not so");
                return;
        case DO:
                if (!sentence->say(sim, words))
                        sim_fail(sim, "that cannot be done");
                return;
        case UNTIL:
                while (!sentence->say(sim, words))
                        if (!run_step(sim) || sim->now > until) {
                                node_tell_all(sim);
                                sim_fail(sim, "it is not so after %u ms", WAIT_MS);
                        }
                return;
        }
}

bool sentence_do(struct sim *sim, const char *text)
{
        for (size_t i = 0; i < ARRAY_SIZE(sentences); i++) {
                struct words words = { 0 };
                char copy[256];

                (void)snprintf(copy, sizeof(copy), "%s", text);
                if (!fits(sim, sentences[i].pattern, copy, &words))
                        continue;
                say(sim, &sentences[i], &words);
                return true;
        }
        return false;
}
