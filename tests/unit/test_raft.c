/* The raft room, by hand and at random. The kit's watcher checks after every turn: one leader per term, one vote per
 * term, commit never moves back, what is committed is on a majority's disks, the same everywhere, and in every later leader. */
#include <check.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "raft_kit.h"
#include "unit/suite.h"

static struct kit *kit;

static void setup(void)
{
        kit = kit_new(3, false, 1);
}

static void teardown(void)
{
        kit = kit_free(kit);
}

static uint64_t commit_of(uint64_t id)
{
        return raft_commit(kit->nodes[id].raft);
}

START_TEST(leader_takes_office_with_a_noop_and_commits_everywhere)
{
        uint64_t index;

        kit_wait_leader(kit, 1);
        ck_assert_int_eq(kit->nodes[1].log[1]->kind, RAFT_ENTRY_NOOP);
        index = kit_propose(kit, 1, 7);
        ck_assert_uint_eq(index, 2);
        kit_run(kit, 50);                    /* less than a heartbeat: a commit is told at once */
        for (uint64_t id = 1; id <= 3; id++)
                ck_assert_uint_eq(commit_of(id), 2);
}
END_TEST

START_TEST(nothing_is_committed_before_a_majority_has_it_on_disk)
{
        kit_wait_leader(kit, 1);
        kit_hold_disk(kit, 2, true);
        kit_hold_disk(kit, 3, true);
        (void)kit_propose(kit, 1, 7);
        kit_run(kit, 300);
        ck_assert_uint_eq(commit_of(1), 1);
        kit_hold_disk(kit, 3, false);
        kit_run(kit, 50);
        ck_assert_uint_eq(commit_of(1), 2);
}
END_TEST

START_TEST(leader_counts_itself_only_up_to_its_own_disk)
{
        kit_wait_leader(kit, 1);
        kit_cut(kit, 1, 3, true);
        kit_hold_disk(kit, 1, true);
        (void)kit_propose(kit, 1, 7);
        kit_run(kit, 300);
        ck_assert_uint_eq(commit_of(1), 1);
        kit_hold_disk(kit, 1, false);
        kit_run(kit, 50);
        ck_assert_uint_eq(commit_of(1), 2);
}
END_TEST

START_TEST(commit_moves_while_proposals_never_pause)
{
        kit_wait_leader(kit, 1);
        for (uint64_t value = 0; value < 400; value++) {
                (void)kit_propose(kit, 1, value);
                (void)kit_step(kit);
                (void)kit_step(kit);
                if (value % 4 == 0)
                        kit_tick(kit, 1);
                ck_assert_msg(value < 100 || commit_of(1) > 1, "R7: commit starves under load");
        }
        ck_assert_uint_gt(commit_of(1), 10);
}
END_TEST

START_TEST(nothing_may_be_changed_before_an_entry_of_the_term_is_committed)
{
        kit_wait_leader(kit, 1);
        kit_crash(kit, 1);
        kit_hold_disk(kit, 2, false);
        kit_start(kit, 1);
        /* Elected, but its no-op is on no other disk. */
        while (kit_leader(kit) != 1) {
                kit_tick(kit, 10);
                while (kit_step(kit) && kit_leader(kit) != 1)
                        ;
        }
        ck_assert(!raft_may_change(kit->nodes[1].raft) && !raft_may_propose(kit->nodes[1].raft) && !raft_is_ready(kit->nodes[1].raft));
        ck_assert_uint_eq(raft_demote(kit->nodes[1].raft, 3), 0);
        kit_wait_leader(kit, 1);
        ck_assert(raft_may_change(kit->nodes[1].raft));
}
END_TEST

START_TEST(vote_is_spoken_only_when_it_is_on_disk)
{
        kit_hold_disk(kit, 2, true);
        kit_hold_disk(kit, 3, true);
        kit_run(kit, 5000);
        ck_assert_uint_eq(kit_leader(kit), 0);
        kit_hold_disk(kit, 3, false);
        kit_wait_leader(kit, 1);
}
END_TEST

START_TEST(configuration_that_was_never_committed_is_rolled_back)
{
        uint64_t index;

        kit_free(kit);
        kit = kit_new(3, true, 5);
        kit_run(kit, 5000);
        index = kit_leader(kit);
        ck_assert_uint_ne(index, 0);
        /* The leader alone has an entry that demotes another; it restarts with it, and it is in force there (R5). */
        for (uint64_t id = 1, leader = index; id <= 3; id++)
                if (id != leader)
                        kit_cut(kit, leader, id, true);
        {
                uint64_t leader = index, other = leader == 1 ? 2 : 1, entry = raft_demote(kit->nodes[leader].raft, other);

                ck_assert_uint_gt(entry, 0);
                kit_run(kit, 20);
                kit_crash(kit, leader);
                kit_start(kit, leader);
                ck_assert(!raft_configuration_votes(raft_configuration(kit->nodes[leader].raft), other));
                kit_run(kit, 5000);          /* the others elect one of them */
                ck_assert_uint_ne(kit_leader(kit), 0);
                for (uint64_t id = 1; id <= 3; id++)
                        if (id != leader)
                                kit_cut(kit, leader, id, false);
                kit_run(kit, 3000);
                ck_assert(raft_configuration_votes(raft_configuration(kit->nodes[leader].raft), other));
                ck_assert_uint_eq(raft_configuration_voters(raft_configuration(kit->nodes[leader].raft)), 3);
        }
}
END_TEST

START_TEST(leader_that_cannot_reach_a_majority_steps_down)
{
        uint64_t contact = 0, cut;

        kit_wait_leader(kit, 1);
        cut = kit->now;
        kit_cut(kit, 1, 2, true);
        kit_cut(kit, 1, 3, true);
        kit_run(kit, 2500);
        ck_assert_int_ne(raft_role(kit->nodes[1].raft), RAFT_LEADER);
        /* The last leader it knows of was itself, for as long as a majority answered. */
        ck_assert(raft_leader_contact(kit->nodes[1].raft, &contact));
        ck_assert_uint_ge(contact + 200, cut);
        ck_assert_uint_le(contact, cut + 200);
        kit_cut(kit, 1, 2, false);
        kit_cut(kit, 1, 3, false);
        kit_wait_leader(kit, 1);
}
END_TEST

/* A cluster in which everybody campaigns, and node 1 leads. */
static void all_campaign(size_t count)
{
        kit_free(kit);
        kit = kit_new(count, true, 1);
        kit_run(kit, 30000);
        kit_wait_leader(kit, 1);
}

START_TEST(preferred_leader_leads_again_although_its_log_is_shorter)
{
        all_campaign(3);
        kit_hold_disk(kit, 1, true);
        for (uint64_t value = 0; value < 5; value++)
                (void)kit_propose(kit, 1, value);
        kit_run(kit, 30);                    /* sent, written by the others, not by itself */
        ck_assert_uint_eq(kit->nodes[1].last + 5, kit->nodes[2].last);
        kit_crash(kit, 1);
        kit_hold_disk(kit, 1, false);
        kit_run(kit, 3000);
        ck_assert_uint_gt(kit_leader(kit), 1);
        kit_start(kit, 1);
        kit_run(kit, 5000);
        ck_assert_uint_gt(kit_leader(kit), 1);       /* not before it has been there for 10 s */
        kit_run(kit, 7000);
        ck_assert_uint_eq(kit_leader(kit), 1);
        ck_assert_uint_eq(commit_of(1), raft_last(kit->nodes[2].raft));
}
END_TEST

START_TEST(leader_that_dies_is_followed_at_once_when_its_links_end)
{
        all_campaign(3);
        (void)kit_propose(kit, 1, 7);
        kit_run(kit, 100);
        kit_crash(kit, 1);
        kit_run(kit, 300);                   /* well below the election timeout of a second */
        ck_assert_uint_gt(kit_leader(kit), 1);
        ck_assert(raft_may_propose(kit->nodes[kit_leader(kit)].raft));
}
END_TEST

/* Two of three are left, and ask for votes in the same moment: whatever comes of it, it costs no election timeout. */
START_TEST(two_that_split_the_votes_of_a_dead_leader_try_again_soon)
{
        uint64_t waited = 0, leader;

        kit_free(kit);
        kit = kit_new(3, true, (uint64_t)_i * 31 + 1);
        kit_run(kit, 3000);
        leader = kit_leader(kit);
        ck_assert_uint_ne(leader, 0);
        if (_i % 2) {                        /* one of them lacks what the other has */
                kit_cut(kit, leader, leader % 3 + 1, true);
                (void)kit_propose(kit, leader, 7);
                kit_run(kit, 20);
        }
        kit_crash(kit, leader);
        for (; waited < 900 && kit_leader(kit) == 0; waited += 10)
                kit_run(kit, 10);
        ck_assert_uint_lt(waited, 800);      /* the timeout is 1000 */
}
END_TEST

START_TEST(cluster_time_goes_on_where_the_leader_before_was)
{
        uint64_t before;

        all_campaign(3);
        kit_run(kit, 50000);                 /* not one entry in this time */
        before = raft_cluster_ms(kit->nodes[1].raft);
        kit_crash(kit, 1);
        kit_run(kit, 3000);
        ck_assert_uint_ne(kit_leader(kit), 0);
        ck_assert_uint_ge(raft_entry_at(kit->nodes[2].raft, raft_term_start(kit->nodes[kit_leader(kit)].raft))->cluster_ms + 100, before);
}
END_TEST

START_TEST(leadership_is_handed_over_and_stays_where_it_was_sent)
{
        uint64_t term;

        all_campaign(3);
        term = raft_term(kit->nodes[1].raft);
        ck_assert(raft_transfer(kit->nodes[1].raft, 3, true));
        ck_assert(!raft_may_propose(kit->nodes[1].raft));
        ck_assert(!raft_may_change(kit->nodes[1].raft));
        kit_run(kit, 50);
        ck_assert_uint_eq(kit_leader(kit), 3);
        ck_assert_uint_eq(raft_term(kit->nodes[3].raft), term + 1);
        kit_run(kit, 100000);
        ck_assert_uint_eq(kit_leader(kit), 3);
        kit_crash(kit, 3);                   /* until it dies */
        kit_run(kit, 15000);
        ck_assert_uint_eq(kit_leader(kit), 1);
}
END_TEST

START_TEST(transfer_that_cannot_be_finished_is_given_up)
{
        all_campaign(3);
        kit_hold_disk(kit, 3, true);         /* it cannot write its vote for itself */
        ck_assert(raft_transfer(kit->nodes[1].raft, 3, false));
        ck_assert(!raft_transfer(kit->nodes[1].raft, 2, false));
        kit_run(kit, 600);
        ck_assert(!raft_may_propose(kit->nodes[1].raft));
        kit_run(kit, 600);
        ck_assert_uint_eq(kit_leader(kit), 1);
        ck_assert(raft_may_propose(kit->nodes[1].raft));
        ck_assert_uint_ne(kit_propose(kit, 1, 5), 0);
}
END_TEST

START_TEST(transfer_to_who_is_not_there_is_refused)
{
        all_campaign(3);
        ck_assert(!raft_transfer(kit->nodes[1].raft, 1, false));
        ck_assert(!raft_transfer(kit->nodes[1].raft, 9, false));
        ck_assert(!raft_transfer(kit->nodes[2].raft, 3, false));
        kit_crash(kit, 3);
        kit_run(kit, 100);
        ck_assert(!raft_transfer(kit->nodes[1].raft, 3, false));
        ck_assert(raft_may_propose(kit->nodes[1].raft));
}
END_TEST

START_TEST(preferred_leader_that_is_lost_soon_after_its_return_waits_longer)
{
        uint64_t waited;

        all_campaign(3);
        for (unsigned round = 0; round < 3; round++) {
                kit_crash(kit, 1);
                kit_run(kit, 3000);
                kit_start(kit, 1);
                for (waited = 0; kit_leader(kit) != 1; waited++)
                        kit_run(kit, 1000);
                switch (round) {             /* seconds */
                case 0:
                        ck_assert(waited >= 9 && waited < 20);
                        break;
                case 1:
                        ck_assert(waited >= 50 && waited < 70);
                        break;
                case 2:
                        ck_assert(waited >= 110 && waited < 130);
                        break;
                }
                kit_run(kit, 1000);
        }
        kit_run(kit, 100000);                /* it stays: forgiven */
        kit_crash(kit, 1);
        kit_run(kit, 3000);
        kit_start(kit, 1);
        kit_run(kit, 15000);
        ck_assert_uint_eq(kit_leader(kit), 1);
}
END_TEST

/* Node 1 leads, 3 is a witness. */
static void with_witness(void)
{
        kit_free(kit);
        kit = kit_new(3, true, 1);
        kit->witness = 3;
        for (uint64_t id = 1; id <= 3; id++)
                kit_crash(kit, id);
        for (uint64_t id = 1; id <= 3; id++)
                kit_start(kit, id);
        kit_run(kit, 30000);
        kit_wait_leader(kit, 1);
}

START_TEST(witness_leaves_the_lead_to_a_full_node)
{
        for (unsigned round = 0; round < 10; round++) {
                with_witness();
                kit->seed += round;
                (void)kit_propose(kit, 1, round);
                kit_run(kit, 100);
                kit_crash(kit, 1);
                for (unsigned ms = 0; ms < 5000; ms += 10) {
                        kit_run(kit, 10);
                        ck_assert_uint_ne(kit_leader(kit), 3);
                }
                ck_assert_uint_eq(kit_leader(kit), 2);
                ck_assert_uint_ne(kit_propose(kit, 2, round), 0);
        }
}
END_TEST

START_TEST(witness_that_must_lead_hands_over_to_the_full_node_that_has_caught_up)
{
        uint64_t last, waited = 0;

        with_witness();
        kit_cut(kit, 1, 2, true);
        kit_cut(kit, 2, 3, true);
        for (uint64_t value = 0; value < 20; value++)
                ck_assert_uint_ne(kit_propose(kit, 1, value), 0);
        kit_run(kit, 100);
        last = raft_last(kit->nodes[1].raft);
        ck_assert_uint_eq(commit_of(1), last);
        kit_crash(kit, 1);                   /* only the witness has it all */
        kit_cut(kit, 1, 2, false);
        kit_cut(kit, 2, 3, false);
        while (kit_leader(kit) != 3 && waited++ < 1000)
                kit_run(kit, 10);
        ck_assert_uint_eq(kit_leader(kit), 3);
        ck_assert_uint_ge(commit_of(3), last);
        for (waited = 0; kit_leader(kit) != 2; waited++) {
                ck_assert_uint_lt(waited, 100);      /* not 10 s, as among full nodes */
                kit_run(kit, 10);
        }
        ck_assert_uint_gt(commit_of(2), last);
        kit_crash(kit, 2);                   /* the witness alone is no majority */
        kit_run(kit, 5000);
        ck_assert(!raft_has_quorum(kit->nodes[3].raft));
        kit_start(kit, 2);
        kit_run(kit, 5000);
        ck_assert_uint_eq(kit_leader(kit), 2);
}
END_TEST

START_TEST(leader_that_stops_hands_over_to_a_full_node_and_to_a_witness_only_without_one)
{
        with_witness();
        ck_assert(!raft_transfer_to_best(kit->nodes[1].raft, (const uint64_t[]){ 3, 2 }, 2));
        ck_assert(raft_transfer_to_best(kit->nodes[1].raft, (const uint64_t[]){ 3 }, 1));
        ck_assert_uint_eq(raft_transfer_target(kit->nodes[1].raft), 2);
        kit_run(kit, 100);
        ck_assert_uint_eq(kit_leader(kit), 2);
        kit_crash(kit, 1);
        kit_run(kit, 100);
        ck_assert(raft_transfer_to_best(kit->nodes[2].raft, NULL, 0));
        ck_assert_uint_eq(raft_transfer_target(kit->nodes[2].raft), 3);
}
END_TEST

/* Crashes, cuts and slow disks at random; all nodes campaign, so that leaders change often. */
START_TEST(node_that_hears_of_its_transfer_too_late_deposes_nobody)
{
        struct raft_message timeout_now = { .kind = RAFT_TIMEOUT_NOW, .node = 1 };
        uint64_t term;

        all_campaign(3);
        term = timeout_now.term = raft_term(kit->nodes[1].raft);
        timeout_now.index = raft_last(kit->nodes[1].raft);
        /* The leader gave it up and went on: what it had said arrives after the entries of later, or with them. */
        ck_assert_uint_ne(kit_propose(kit, 1, 5), 0);
        kit_run(kit, 100);
        raft_receive(kit->nodes[3].raft, &timeout_now);
        kit_run(kit, 100);
        ck_assert_uint_eq(raft_term(kit->nodes[3].raft), term);
        timeout_now.index = raft_last(kit->nodes[1].raft);
        raft_receive(kit->nodes[3].raft, &timeout_now);
        ck_assert_uint_ne(kit_propose(kit, 1, 6), 0);
        while (kit_step(kit))
                ;
        kit_run(kit, 3000);
        ck_assert_uint_eq(raft_term(kit->nodes[3].raft), term);
        /* It was stopped before it could act on it. */
        timeout_now.index = raft_last(kit->nodes[1].raft);
        raft_receive(kit->nodes[3].raft, &timeout_now);
        raft_tick(kit->nodes[3].raft, kit->now + 1500, kit->now + 1500);
        kit->now += 1500;
        ck_assert_uint_eq(raft_term(kit->nodes[3].raft), term);
}
END_TEST

START_TEST(follower_whose_disk_is_behind_still_hears_its_leader)
{
        static const uint8_t body[60000];
        uint64_t contact = 0;

        all_campaign(3);
        kit_hold_disk(kit, 3, true);
        /* More than may be under way to a follower, and more than stays in memory. */
        for (unsigned i = 0; i < 150; i++) {
                ck_assert(raft_may_propose(kit->nodes[1].raft));
                (void)raft_propose(kit->nodes[1].raft, RAFT_ENTRY_PREEMPT, body, sizeof(body));
                kit_run(kit, 10);
                raft_applied(kit->nodes[1].raft, commit_of(1));
        }
        kit_run(kit, 5000);
        ck_assert_uint_eq(kit_leader(kit), 1);
        ck_assert_uint_eq(raft_leader(kit->nodes[3].raft), 1);
        ck_assert(raft_leader_contact(kit->nodes[3].raft, &contact));
        ck_assert_uint_le(kit->now - contact, 200);
        kit_hold_disk(kit, 3, false);
        kit_run(kit, 1000);
        ck_assert_uint_eq(raft_durable(kit->nodes[3].raft), raft_last(kit->nodes[1].raft));
}
END_TEST

START_TEST(candidate_whose_vote_was_long_on_its_way_to_the_disk_waits_for_the_others)
{
        all_campaign(3);
        kit_hold_disk(kit, 2, true);
        kit_hold_disk(kit, 3, true);
        kit_crash(kit, 1);
        kit_run(kit, 5000);
        ck_assert_int_eq(raft_role(kit->nodes[2].raft), RAFT_CANDIDATE);
        kit_cut(kit, 2, 3, true);            /* nobody answers at once */
        kit_hold_disk(kit, 2, false);
        kit_run(kit, 900);
        ck_assert_int_eq(raft_role(kit->nodes[2].raft), RAFT_CANDIDATE);
}
END_TEST

START_TEST(random_faults_never_fork_what_is_committed)
{
        uint64_t committed = 0;

        kit_free(kit);
        kit = kit_new(_i % 2 ? 5 : 3, true, (uint64_t)_i + 1);
        for (unsigned step = 0; step < 3000; step++) {
                uint64_t a = kit_random(kit, kit->count) + 1, b = kit_random(kit, kit->count) + 1;

                switch (kit_random(kit, 40)) {
                case 0:
                        if (kit->nodes[a].raft)
                                kit_crash(kit, a);
                        break;
                case 1:
                case 2:
                        if (!kit->nodes[a].raft)
                                kit_start(kit, a);
                        break;
                case 3:
                        if (a != b)
                                kit_cut(kit, a, b, kit_random(kit, 3) == 0);
                        break;
                case 4:
                        kit_hold_disk(kit, a, kit_random(kit, 3) == 0);
                        break;
                case 5:
                case 6:
                case 7:
                        (void)kit_propose(kit, a, step);
                        break;
                case 8:
                case 9:
                case 10:
                        kit_tick(kit, kit_random(kit, 60));
                        break;
                case 11:
                        kit_run(kit, kit_random(kit, 20) == 0 ? 3000 : 30);
                        break;
                default:
                        (void)kit_step(kit);
                        break;
                }
        }
        committed = kit->committed_last;
        /* The faults stop: a leader, and all that was committed on every node. */
        for (uint64_t a = 1; a <= kit->count; a++) {
                kit_hold_disk(kit, a, false);
                if (!kit->nodes[a].raft)
                        kit_start(kit, a);
                for (uint64_t b = 1; b <= kit->count; b++)
                        if (a != b)
                                kit_cut(kit, a, b, false);
        }
        for (uint64_t end = kit->now + 60000; kit->now < end; kit_run(kit, 50)) {
                uint64_t leader = kit_leader(kit);

                if (leader != 0 && kit_propose(kit, leader, 99) != 0)
                        break;
        }
        kit_run(kit, 3000);
        ck_assert_uint_ne(kit_leader(kit), 0);
        ck_assert_uint_gt(kit->committed_last, committed);
        for (uint64_t id = 1; id <= kit->count; id++)
                ck_assert_uint_eq(raft_commit(kit->nodes[id].raft), kit->committed_last);
}
END_TEST

static Suite *suite(void)
{
        Suite *s = suite_create("raft");
        TCase *c = tcase_create("raft");

        tcase_add_checked_fixture(c, setup, teardown);
        tcase_set_timeout(c, 120);
        tcase_add_test(c, leader_takes_office_with_a_noop_and_commits_everywhere);
        tcase_add_test(c, nothing_is_committed_before_a_majority_has_it_on_disk);
        tcase_add_test(c, leader_counts_itself_only_up_to_its_own_disk);
        tcase_add_test(c, commit_moves_while_proposals_never_pause);
        tcase_add_test(c, nothing_may_be_changed_before_an_entry_of_the_term_is_committed);
        tcase_add_test(c, vote_is_spoken_only_when_it_is_on_disk);
        tcase_add_test(c, configuration_that_was_never_committed_is_rolled_back);
        tcase_add_test(c, leader_that_cannot_reach_a_majority_steps_down);
        tcase_add_test(c, preferred_leader_leads_again_although_its_log_is_shorter);
        tcase_add_test(c, leader_that_dies_is_followed_at_once_when_its_links_end);
        tcase_add_loop_test(c, two_that_split_the_votes_of_a_dead_leader_try_again_soon, 0, 100);
        tcase_add_test(c, cluster_time_goes_on_where_the_leader_before_was);
        tcase_add_test(c, leadership_is_handed_over_and_stays_where_it_was_sent);
        tcase_add_test(c, transfer_that_cannot_be_finished_is_given_up);
        tcase_add_test(c, transfer_to_who_is_not_there_is_refused);
        tcase_add_test(c, witness_leaves_the_lead_to_a_full_node);
        tcase_add_test(c, witness_that_must_lead_hands_over_to_the_full_node_that_has_caught_up);
        tcase_add_test(c, leader_that_stops_hands_over_to_a_full_node_and_to_a_witness_only_without_one);
        tcase_add_test(c, preferred_leader_that_is_lost_soon_after_its_return_waits_longer);
        tcase_add_test(c, node_that_hears_of_its_transfer_too_late_deposes_nobody);
        tcase_add_test(c, follower_whose_disk_is_behind_still_hears_its_leader);
        tcase_add_test(c, candidate_whose_vote_was_long_on_its_way_to_the_disk_waits_for_the_others);
        tcase_add_loop_test(c, random_faults_never_fork_what_is_committed, 0, 300);
        suite_add_tcase(s, c);
        return s;
}

int main(void)
{
        return run_suite(suite());
}
