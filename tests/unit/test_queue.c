/* The lock room: who waits for a lock, in which order it is granted, and how nobody stands in the queue who has died or given up. */
#include <check.h>
#include <stdio.h>
#include <string.h>

#include "unit/lock_kit.h"
#include "unit/suite.h"

static uint64_t hold(const char *client, const char *lock)
{
        const struct lock_request request = request_of(LOCK_CHANGE_PREEMPT, client, lock);

        return make(&request);
}

static uint64_t wait_for(const char *client, const char *lock)
{
        const struct lock_request request = wait_of(client, lock, 5000);

        return make(&request);
}

static uint64_t give_up(const char *client, const char *lock, uint64_t token)
{
        const struct lock_request request = release_of(client, lock, token);

        return make(&request);
}

static struct lock_change pending_change(const struct lock_request *request)
{
        struct lock_decision decision = decide(request);

        ck_assert_int_eq(decision.verdict, LOCK_ACCEPTED);
        return decision.change;
}

START_TEST(lock_goes_to_who_waited_longest_by_the_change_that_frees_it)
{
        uint64_t token = hold("alice", "a"), bob = wait_for("bob", "a"), cid = wait_for("cid", "a"), granted;

        ck_assert_uint_eq(queue_length("a"), 2);
        granted = give_up("alice", "a", token);
        expect_owner("a", "bob", granted);
        ck_assert_uint_eq(lock_table_granted(table, &(struct lock_name){ .size = 1, .text = "a" }, bob), granted);
        ck_assert_uint_eq(lock_table_granted(table, &(struct lock_name){ .size = 1, .text = "a" }, cid), 0);
        ck_assert_uint_eq(queue_length("a"), 1);
        granted = give_up("bob", "a", granted);
        expect_owner("a", "cid", granted);
        give_up("cid", "a", granted);
        ck_assert(!is_owned("a"));
        ck_assert_uint_eq(lock_table_session_count(table), 0);
        ck_assert_uint_eq(held_by("bob"), 0);
        ck_assert_uint_eq(held_by("cid"), 0);
}
END_TEST

START_TEST(free_lock_is_granted_at_once_to_who_would_wait)
{
        const struct lock_request request = wait_of("alice", "a", 5000);
        struct lock_decision decision = decide(&request);

        ck_assert_int_eq(decision.verdict, LOCK_ACCEPTED);
        ck_assert_int_eq(decision.change.kind, LOCK_CHANGE_PREEMPT);
        ck_assert_uint_eq(make(&request), 1);
        expect_owner("a", "alice", 1);
}
END_TEST

START_TEST(who_waits_dies_with_its_session)
{
        uint64_t token = hold("alice", "a"), bob = wait_for("bob", "a"), cid = wait_for("cid", "a");

        expire(bob, "bob");
        ck_assert_uint_eq(queue_length("a"), 1);
        ck_assert_uint_eq(held_by("bob"), 0);
        token = give_up("alice", "a", token);
        expect_owner("a", "cid", token);
        expire(cid, "cid");
        ck_assert(!is_owned("a"));
}
END_TEST

START_TEST(what_a_session_held_goes_to_who_waits_when_it_ends)
{
        uint64_t session = open_session("alice", 5000), bob;
        struct lock_request request = in_session("alice", "a", session);

        (void)make(&request);
        request = in_session("alice", "b", session);
        (void)make(&request);
        bob = wait_for("bob", "a");
        hold("dan", "c");
        request = in_session("alice", "c", session);
        request.wait = true;
        (void)make(&request);
        ck_assert_uint_eq(queue_length("c"), 1);
        expire(session, "alice");
        expect_owner("a", "bob", index_next - 1);
        ck_assert(!is_owned("b"));
        ck_assert_uint_eq(queue_length("c"), 0);
        ck_assert_uint_eq(lock_table_session_count(table), 1);
        expire(bob, "bob");
        ck_assert(!is_owned("a"));
}
END_TEST

START_TEST(try_does_not_get_in_between_a_release_and_who_waits)
{
        uint64_t token = hold("alice", "a");
        struct lock_request release = release_of("alice", "a", token), request;

        (void)wait_for("bob", "a");
        (void)append(&release);
        request = request_of(LOCK_CHANGE_PREEMPT, "cid", "a");
        ck_assert_int_eq(decide(&request).verdict, LOCK_LATER);
        request = wait_of("cid", "a", 5000);
        ck_assert_int_eq(pending_change(&request).kind, LOCK_CHANGE_WAIT);
}
END_TEST

START_TEST(try_is_decided_later_while_it_is_open_who_gets_the_lock)
{
        uint64_t token = hold("alice", "a");
        struct lock_request release = release_of("alice", "a", token), wait = wait_of("bob", "a", 5000), request;
        struct lock_change freed = pending_change(&release), queued;
        uint64_t at = append(&release), waiting;

        queued = pending_change(&wait);
        ck_assert_int_eq(queued.kind, LOCK_CHANGE_PREEMPT);  /* it is certainly free by then */
        waiting = append(&wait);
        request = request_of(LOCK_CHANGE_PREEMPT, "cid", "a");
        ck_assert_int_eq(decide(&request).verdict, LOCK_HELD);
        apply(at, &freed);
        apply(waiting, &queued);
        expect_owner("a", "bob", waiting);
}
END_TEST

START_TEST(same_request_again_is_told_what_became_of_its_wait)
{
        uint64_t token = hold("alice", "a"), bob;
        const struct lock_request wait = wait_of("bob", "a", 5000);
        struct lock_decision decision;

        bob = make(&wait);
        decision = decide(&wait);
        ck_assert_int_eq(decision.verdict, LOCK_REPEATED);
        ck_assert(decision.waits);
        ck_assert_uint_eq(decision.index, bob);
        ck_assert_uint_eq(decision.token, 0);
        token = give_up("alice", "a", token);
        decision = decide(&wait);
        ck_assert_int_eq(decision.verdict, LOCK_REPEATED);
        ck_assert_uint_eq(decision.token, token);
        /* Also when it is over: it had it. */
        give_up("bob", "a", token);
        ck_assert_uint_eq(decide(&wait).token, token);
}
END_TEST

START_TEST(who_gives_up_leaves_the_queue_or_the_lock_and_nothing_in_between)
{
        uint64_t token = hold("alice", "a"), bob = wait_for("bob", "a"), cid, leaving;
        struct lock_request release = release_of("alice", "a", token), leave = release_of("bob", "a", bob), again;
        struct lock_change freed, left;

        /* A stranger cannot give it up for another. */
        again = release_of("dan", "a", bob);
        ck_assert_int_eq(decide(&again).verdict, LOCK_NOT_OWNER);
        cid = wait_for("cid", "a");
        freed = pending_change(&release);
        token = append(&release);
        left = pending_change(&leave);
        ck_assert_int_eq(left.kind, LOCK_CHANGE_LEAVE);
        leaving = append(&leave);
        again = release_of("bob", "a", bob);
        ck_assert_int_eq(decide(&again).verdict, LOCK_LATER);
        apply(token, &freed);
        expect_owner("a", "bob", token);
        apply(leaving, &left);
        expect_owner("a", "cid", leaving);
        ck_assert_uint_eq(held_by("bob"), 0);
        /* Its request id is the one of a release: the same answer again. */
        ck_assert_int_eq(decide(&leave).verdict, LOCK_REPEATED);
        ck_assert_int_eq(decide(&again).verdict, LOCK_NOT_OWNER);
        /* By the id of the wait, of a hold that came of it long ago. */
        leaving = give_up("cid", "a", cid);
        ck_assert(!is_owned("a"));
}
END_TEST

/* Who asks in the name of one that is dead does not know what that was told. */
START_TEST(waiter_that_has_got_the_lock_is_not_given_up_by_who_asks_for_waiters_only)
{
        uint64_t token = hold("alice", "a"), bob = wait_for("bob", "a"), cid = wait_for("cid", "a");
        struct lock_request gone = release_of("cid", "a", cid);

        gone.if_waits = true;
        ck_assert_int_eq(pending_change(&gone).kind, LOCK_CHANGE_LEAVE);
        (void)make(&gone);
        ck_assert_uint_eq(queue_length("a"), 1);
        token = give_up("alice", "a", token);
        expect_owner("a", "bob", token);
        gone = release_of("bob", "a", bob);
        gone.if_waits = true;
        ck_assert_int_eq(decide(&gone).verdict, LOCK_NOT_OWNER);
        gone.token = token;
        ck_assert_int_eq(decide(&gone).verdict, LOCK_NOT_OWNER);
        gone.token = bob;
        gone.if_waits = false;
        ck_assert_int_eq(pending_change(&gone).kind, LOCK_CHANGE_LEAVE);
}
END_TEST

START_TEST(request_that_is_called_off_takes_its_waiter_with_it)
{
        uint64_t token = hold("alice", "a"), applied;
        struct lock_request wait = wait_of("bob", "a", 5000), cancel = wait, release = release_of("alice", "a", token);
        struct lock_change change;

        cancel.kind = LOCK_CHANGE_CANCEL;
        cancel.wait = false;
        cancel.ttl_ms = 0;
        change = pending_change(&wait);
        applied = append(&wait);
        ck_assert_int_eq(decide(&cancel).verdict, LOCK_LATER);
        apply(applied, &change);
        (void)make(&cancel);
        ck_assert_uint_eq(queue_length("a"), 0);
        ck_assert_uint_eq(held_by("bob"), 0);
        ck_assert_int_eq(decide(&wait).verdict, LOCK_UNKNOWABLE);
        /* One that has been granted has happened. */
        wait = wait_of("bob", "a", 5000);
        cancel.handle = wait.handle;
        (void)make(&wait);
        token = make(&release);
        ck_assert_int_eq(decide(&cancel).verdict, LOCK_REPEATED);
        ck_assert_uint_eq(decide(&cancel).token, token);
}
END_TEST

START_TEST(lease_of_who_waits_lives_while_somebody_else_gives_the_lock_back)
{
        uint64_t token = hold("alice", "a"), bob = wait_for("bob", "a");
        struct lock_request release = release_of("alice", "a", token), renew = of_session(LOCK_RENEW, "bob", bob), leave;
        struct lock_change freed = pending_change(&release);

        ck_assert_int_eq(decide(&renew).verdict, LOCK_RENEWED);
        token = append(&release);
        ck_assert_int_eq(decide(&renew).verdict, LOCK_RENEWED);
        apply(token, &freed);
        ck_assert_int_eq(decide(&renew).verdict, LOCK_RENEWED);
        leave = release_of("bob", "a", token);
        (void)append(&leave);
        ck_assert_int_eq(decide(&renew).verdict, LOCK_NO_SESSION);
}
END_TEST

/* One entry may free many locks, and whoever gets one of them has the token that the others have. */
START_TEST(lease_lives_while_another_lock_of_the_same_token_is_given_back)
{
        uint64_t session = open_session("alice", 5000), bob, cid, token;
        struct lock_request request = in_session("alice", "a", session), release, renew, keep;

        (void)make(&request);
        request = in_session("alice", "b", session);
        (void)make(&request);
        bob = wait_for("bob", "a");
        cid = wait_for("cid", "b");
        expire(session, "alice");
        token = index_next - 1;
        expect_owner("a", "bob", token);
        expect_owner("b", "cid", token);
        release = release_of("bob", "a", token);
        (void)append(&release);
        renew = of_session(LOCK_RENEW, "cid", cid);
        ck_assert_int_eq(decide(&renew).verdict, LOCK_RENEWED);
        renew = of_session(LOCK_RENEW, "bob", bob);
        ck_assert_int_eq(decide(&renew).verdict, LOCK_NO_SESSION);
        keep = request_of(LOCK_CHANGE_KEEP, "cid", "b");
        keep.token = token;
        ck_assert_int_eq(decide(&keep).verdict, LOCK_ACCEPTED);
        release = release_of("cid", "b", cid);
        ck_assert_int_eq(decide(&release).verdict, LOCK_ACCEPTED);
}
END_TEST

START_TEST(hold_that_is_kept_outlives_its_session)
{
        uint64_t token = hold("alice", "a"), bob = wait_for("bob", "a"), session;
        struct lock_request keep = request_of(LOCK_CHANGE_KEEP, "bob", "a"), request;

        token = give_up("alice", "a", token);
        keep.token = bob;
        ck_assert_int_eq(decide(&keep).verdict, LOCK_NOT_OWNER);
        keep.token = token;
        (void)make(&keep);
        ck_assert_int_eq(decide(&keep).verdict, LOCK_REPEATED);
        ck_assert_uint_eq(lock_table_session_count(table), 0);
        expire(bob, "bob");
        expect_owner("a", "bob", token);
        session = open_session("cid", 5000);
        request = in_session("cid", "b", session);
        token = make(&request);
        keep = request_of(LOCK_CHANGE_KEEP, "cid", "b");
        keep.token = token;
        (void)make(&keep);
        expire(session, "cid");
        expect_owner("b", "cid", token);
}
END_TEST

START_TEST(lock_that_the_session_has_already_is_no_second_hold)
{
        uint64_t session = open_session("alice", 5000), token;
        struct lock_request request = in_session("alice", "a", session), again;

        token = make(&request);
        again = in_session("alice", "a", session);
        ck_assert_int_eq(decide(&again).verdict, LOCK_REENTERED);
        ck_assert_uint_eq(decide(&again).token, token);
        again.wait = true;
        ck_assert_int_eq(decide(&again).verdict, LOCK_REENTERED);
        /* Another session of the same client is another holder. */
        again = in_session("alice", "a", open_session("alice", 5000));
        ck_assert_int_eq(decide(&again).verdict, LOCK_HELD);
        again = request_of(LOCK_CHANGE_PREEMPT, "alice", "a");
        ck_assert_int_eq(decide(&again).verdict, LOCK_HELD);
}
END_TEST

static struct lock_request break_of(const char *client, const char *lock, uint64_t token, bool now)
{
        struct lock_request request = request_of(LOCK_CHANGE_BREAK, client, lock);

        request.token = token;
        request.now = now;
        return request;
}

START_TEST(lease_that_is_broken_lives_to_its_end_and_is_renewed_no_more)
{
        struct lock_request lease = lease_of("alice", "a", 5000), request;
        uint64_t token = make(&lease);
        struct lock_request renew = of_session(LOCK_RENEW, "alice", token);
        struct lock_change change;
        uint64_t at;

        (void)wait_for("bob", "a");
        request = break_of("root", "a", token + 1, false);
        ck_assert_int_eq(decide(&request).verdict, LOCK_NOT_OWNER);
        request = break_of("root", "a", token, false);
        change = pending_change(&request);
        at = append(&request);
        ck_assert_int_eq(decide(&renew).verdict, LOCK_NO_SESSION);
        apply(at, &change);
        expect_owner("a", "alice", token);
        ck_assert_int_eq(decide(&renew).verdict, LOCK_NO_SESSION);
        ck_assert_int_eq(decide(&request).verdict, LOCK_REPEATED);
        expire(token, "alice");
        expect_owner("a", "bob", index_next - 1);
        request = break_of("root", "a", index_next - 1, true);
        at = make(&request);
        ck_assert(!is_owned("a"));
        ck_assert_uint_eq(lock_table_session_count(table), 0);
        ck_assert_uint_eq(held_by("bob"), 0);
}
END_TEST

/* L2: free when it is over. */
START_TEST(lease_that_is_broken_is_not_kept)
{
        const struct lock_request lease = lease_of("alice", "a", 5000);
        uint64_t token = make(&lease);
        struct lock_request request;

        request = break_of("root", "a", token, false);
        (void)make(&request);
        request = request_of(LOCK_CHANGE_KEEP, "alice", "a");
        request.token = token;
        ck_assert_int_eq(decide(&request).verdict, LOCK_NO_SESSION);
}
END_TEST

START_TEST(what_nobody_counts_on_is_free_when_it_is_broken)
{
        uint64_t token = hold("alice", "a"), session = open_session("bob", 5000), granted;
        struct lock_request request = break_of("root", "a", token, false);
        const struct lock_request release = release_of("alice", "a", token);
        struct lock_change change = pending_change(&request);
        uint64_t at = append(&request);

        ck_assert_int_eq(decide(&release).verdict, LOCK_LATER);
        apply(at, &change);
        ck_assert(!is_owned("a"));
        ck_assert_int_eq(decide(&release).verdict, LOCK_NOT_OWNER);
        request = in_session("bob", "b", session);
        granted = make(&request);
        request = break_of("root", "b", granted, false);
        ck_assert_int_eq(decide(&request).verdict, LOCK_NOT_ALONE);
        request.now = true;
        (void)make(&request);
        ck_assert(!is_owned("b"));
        ck_assert_uint_eq(lock_table_session_count(table), 1);
        request = break_of("root", "c", 1, false);
        ck_assert_int_eq(decide(&request).verdict, LOCK_NOT_OWNER);
}
END_TEST

/* cluster time is ten times the index */
START_TEST(who_comes_too_soon_is_passed_over_until_its_period_is_over)
{
        uint64_t token = hold("alice", "a"), bob;
        struct lock_request wait = wait_of("bob", "a", 5000);
        struct lock_waiter_view waiter;
        const uint64_t *settled;

        wait.period_ms = 1000;
        bob = make(&wait);
        wait = wait_of("cid", "a", 5000);
        wait.period_ms = 1000;
        (void)make(&wait);
        token = give_up("alice", "a", token);
        expect_owner("a", "bob", token);
        ck_assert_uint_eq(lock_table_settled(table, &settled), 1);
        ck_assert_uint_eq(settled[0], bob);
        give_up("bob", "a", token);
        ck_assert(!is_owned("a"));
        ck_assert_uint_eq(queue_length("a"), 1);
        ck_assert(lock_table_next_held_up(table, NULL, index_next * 10, &waiter));
        ck_assert_uint_eq(waiter.id, 0);
        /* Whoever just wants it is not kept from it. */
        token = hold("dan", "a");
        ck_assert(!lock_table_next_held_up(table, NULL, index_next * 10, &waiter));
        give_up("dan", "a", token);
        ck_assert(lock_table_next_held_up(table, NULL, token * 10 + 2000, &waiter));
        ck_assert_uint_ne(waiter.id, 0);
        ck_assert_str_eq(waiter.client, "cid");
        ck_assert(!lock_table_next_held_up(table, &(struct lock_name){ .size = 1, .text = "a" }, token * 10 + 2000, &waiter));
}
END_TEST

/* Else the token of the one would be the id of the other, and what one gives up that of both. */
/* The leader looks at so many at a time. */
START_TEST(queue_of_which_somebody_may_be_let_in_is_before_those_that_wait_for_a_time)
{
        uint64_t writer = hold("alice", "z"), token;
        struct lock_request wait;
        struct lock_waiter_view waiter;
        char name[16];

        for (unsigned i = 0; i < 20; i++) {
                (void)snprintf(name, sizeof(name), "n%u", i);
                wait = lease_of("dan", name, 5000);
                wait.delay_ms = 60000;
                token = make(&wait);
                wait = wait_of("bob", name, 5000);
                (void)make(&wait);
                expire(token, "dan");
        }
        for (unsigned i = 0; i < 2; i++) {
                wait = wait_of("cid", "z", 5000);
                wait.slots = SLOTS_SHARED;
                (void)make(&wait);
        }
        give_up("alice", "z", writer);
        ck_assert(lock_table_take_due(table));
        ck_assert(lock_table_next_held_up(table, NULL, index_next * 10, &waiter));
        ck_assert_str_eq(waiter.name, "z");
        ck_assert_uint_ne(waiter.id, 0);
}
END_TEST

/* They come without a pause, behind it. */
START_TEST(who_tries_is_told_that_somebody_waits_for_several_while_others_come_to_wait)
{
        struct lock_request wait = wait_of("bob", "a", 5000);
        const struct lock_request try = request_of(LOCK_CHANGE_PREEMPT, "eve", "a");

        hold("alice", "b");
        wait.further = (struct names_view){ .data = (const uint8_t *)"\1b", .size = 2, .count = 1 };
        (void)make(&wait);
        ck_assert_int_eq(decide(&try).verdict, LOCK_HELD);
        wait = wait_of("cid", "a", 5000);
        (void)append(&wait);
        wait = wait_of("dan", "b", 5000);
        (void)append(&wait);
        ck_assert_int_eq(decide(&try).verdict, LOCK_HELD);
}
END_TEST

START_TEST(who_comes_lets_nobody_in_who_was_there_before)
{
        uint64_t token = hold("alice", "a"), cid;
        struct lock_request wait = wait_of("bob", "a", 5000);
        struct lock_waiter_view waiter;
        struct lock_change grant = { .kind = LOCK_CHANGE_GRANT };

        lock_table_be_quiet(table, 60);
        (void)make(&wait);
        give_up("alice", "a", token);
        ck_assert(!is_owned("a"));
        index_next = 7;
        cid = wait_for("cid", "a");
        ck_assert(!is_owned("a"));
        ck_assert_uint_eq(queue_length("a"), 2);
        ck_assert(lock_table_next_held_up(table, NULL, index_next * 10, &waiter));
        ck_assert_str_eq(waiter.client, "bob");
        ck_assert(client_id_set(&grant.client, "bob", 3) && principal_set(&grant.principal, "uid:1", 5) && lock_name_set(&grant.name, "a", 1));
        apply(index_next++, &grant);
        expect_owner("a", "bob", cid + 1);
        ck_assert(!lock_table_next_held_up(table, NULL, index_next * 10, &waiter));
}
END_TEST

/* The time has passed that kept it from the lock, and the leader has not said so yet. */
START_TEST(try_does_not_get_in_between_when_the_turn_of_who_waits_has_come)
{
        uint64_t token = hold("alice", "a");
        struct lock_request request = wait_of("bob", "a", 5000);

        lock_table_be_quiet(table, 1000);
        (void)make(&request);
        give_up("alice", "a", token);
        request = request_of(LOCK_CHANGE_PREEMPT, "cid", "a");
        request.cluster_ms = 999;
        ck_assert_int_eq(decide(&request).verdict, LOCK_QUIET);
        request.cluster_ms = 1000;
        ck_assert_int_eq(decide(&request).verdict, LOCK_LATER);
        request = wait_of("cid", "a", 5000);
        request.cluster_ms = 1000;
        ck_assert_int_eq(pending_change(&request).kind, LOCK_CHANGE_WAIT);
}
END_TEST

/* Another node has applied it, and told its client, before the leader did. */
START_TEST(what_is_not_applied_yet_is_not_said_to_be_gone)
{
        const struct lock_request wait = wait_of("bob", "a", 5000);
        struct lock_request leave, renew, close, preempt, opening = request_of(LOCK_CHANGE_OPEN, "bob", NULL);
        struct lock_change waits, opened;
        uint64_t waiter, session;

        hold("alice", "a");
        waits = pending_change(&wait);
        waiter = append(&wait);
        opening.ttl_ms = 5000;
        opened = pending_change(&opening);
        session = append(&opening);
        leave = release_of("bob", "a", waiter);
        renew = of_session(LOCK_RENEW, "bob", waiter);
        close = of_session(LOCK_CHANGE_CLOSE, "bob", session);
        preempt = in_session("bob", "b", session);
        ck_assert_int_eq(decide(&leave).verdict, LOCK_LATER);
        ck_assert_int_eq(decide(&renew).verdict, LOCK_LATER);
        ck_assert_int_eq(decide(&close).verdict, LOCK_LATER);
        ck_assert_int_eq(decide(&preempt).verdict, LOCK_LATER);
        apply(waiter, &waits);
        apply(session, &opened);
        ck_assert_int_eq(decide(&leave).verdict, LOCK_ACCEPTED);
        ck_assert_int_eq(decide(&renew).verdict, LOCK_RENEWED);
        ck_assert_int_eq(decide(&close).verdict, LOCK_ACCEPTED);
        ck_assert_int_eq(decide(&preempt).verdict, LOCK_ACCEPTED);
}
END_TEST

START_TEST(lease_that_is_being_broken_is_not_said_to_have_ended)
{
        struct lock_request lease = lease_of("alice", "a", 5000), break_it = request_of(LOCK_CHANGE_BREAK, "root", "a"), close;
        struct lock_change broken;
        uint64_t token = make(&lease), at;

        break_it.token = token;
        broken = pending_change(&break_it);
        at = append(&break_it);
        close = of_session(LOCK_CHANGE_CLOSE, "alice", token);
        ck_assert_int_eq(decide(&close).verdict, LOCK_LATER);
        apply(at, &broken);
        (void)make(&close);
        ck_assert(!is_owned("a"));
}
END_TEST

/* A delay is over, and the leader has not said yet who has the lock: whoever leaves the queue lets the first one in by that. */
START_TEST(lock_whose_turn_has_come_is_not_said_to_be_free)
{
        struct lock_request lease = lease_of("alice", "a", 5000), request;
        uint64_t token, cid;

        lease.delay_ms = 100;
        token = make(&lease);
        (void)wait_for("bob", "a");
        cid = wait_for("cid", "a");
        expire(token, "alice");
        request = release_of("cid", "a", cid);
        (void)append(&request);
        request = release_of("alice", "a", token);
        ck_assert_int_eq(decide(&request).verdict, LOCK_NOT_OWNER);
        request.cluster_ms = index_next * 10 + 100;
        ck_assert_int_eq(decide(&request).verdict, LOCK_LATER);
}
END_TEST

START_TEST(who_waits_is_told_in_turn)
{
        const struct lock_name name = { .size = 1, .text = "a" };
        struct lock_view view;
        uint64_t bob, cid;

        hold("alice", "a");
        ck_assert(!lock_table_next_waiting(table, &name, 0, &view));
        bob = wait_for("bob", "a");
        wait_for("eve", "b");
        cid = wait_for("cid", "a");
        ck_assert(lock_table_next_waiting(table, &name, 0, &view));
        ck_assert_str_eq(view.owner, "bob");
        ck_assert_uint_eq(view.token, bob);
        ck_assert_uint_eq(view.session, bob);
        ck_assert_uint_eq(view.ttl_ms, 5000);
        ck_assert(lock_table_next_waiting(table, &name, view.token, &view));
        ck_assert_str_eq(view.owner, "cid");
        ck_assert(!lock_table_next_waiting(table, &name, cid, &view));
        ck_assert(!lock_table_next_waiting(table, &name, cid + 7, &view));
        expire(bob, "bob");
        ck_assert(lock_table_next_waiting(table, &name, 0, &view));
        ck_assert_uint_eq(view.token, cid);
}
END_TEST

START_TEST(queue_comes_back_from_the_disk_in_its_order)
{
        uint64_t token = hold("alice", "a"), session = open_session("eve", 5000);
        struct lock_table *other = lock_table_new(), *mine = table;
        struct lock_request request;
        char client[8];

        for (unsigned i = 0; i < 12; i++) {
                (void)snprintf(client, sizeof(client), "c%u", i);
                (void)wait_for(client, "a");
        }
        request = in_session("eve", "a", session);
        request.wait = true;
        (void)make(&request);
        load_all(table, other);
        table = other;
        for (unsigned i = 0; i < 12; i++) {
                (void)snprintf(client, sizeof(client), "c%u", i);
                token = give_up(i == 0 ? "alice" : (const char *)memcpy((char[8]){ 0 }, client, sizeof(client)), "a", token);
                break;
        }
        expect_owner("a", "c0", token);
        ck_assert_uint_eq(queue_length("a"), 12);
        expire(session, "eve");
        ck_assert_uint_eq(queue_length("a"), 11);
        table = mine;
        lock_table_free(other);
}
END_TEST

/* The time that it takes grows with them, not with their square: all came after the period that they ask for, and what is remembered of it is looked at. */
START_TEST(long_queue_of_those_who_want_it_once_in_a_period_comes_back_at_once)
{
        struct lock_table *other = lock_table_new();
        struct lock_request job = lease_of("alice", "a", 5000);
        struct lock_change wait = { .kind = LOCK_CHANGE_WAIT, .seq = 1, .ttl_ms = 5000, .period_ms = 1000 };
        uint64_t index;

        job.period_ms = LIMIT_PERIOD_MS;
        (void)make(&job);
        wait.client = job.client;
        wait.principal = job.principal;
        wait.name = job.name;
        for (index = 1000; index < 41000; index++) {
                memcpy(wait.handle.bytes, &index, sizeof(index));
                apply(index, &wait);
        }
        load_all(table, other);
        ck_assert_uint_eq(lock_table_queue_length(other, &job.name), 40000);
        lock_table_free(other);
}
END_TEST

START_TEST(waiter_that_was_tampered_with_is_refused)
{
        struct lock_table *other = lock_table_new();
        struct lock_image image = { .kind = LOCK_IMAGE_LOCK };
        unsigned refused = 0;

        hold("alice", "a");
        (void)wait_for("bob", "a");
        while (lock_table_take_image(table, &image)) {
                bool is_session = image.kind == LOCK_IMAGE_SESSION;

                if (image.kind == LOCK_IMAGE_WAITER) {
                        refused += !lock_table_load(other, image.kind, image.key, image.label, image.number, image.body.data, image.body.size - 1);
                        refused += !lock_table_load(other, image.kind, "99", image.label, image.number, image.body.data, image.body.size);
                } else if (!is_session) {
                        ck_assert(lock_table_load(other, image.kind, image.key, image.label, image.number, image.body.data, image.body.size));
                }
        }
        ck_assert_uint_eq(refused, 2);
        bytes_done(&image.body);
        ck_assert(!lock_table_load_finish(other));   /* its session is missing */
        lock_table_free(other);
}
END_TEST

START_TEST(changes_read_back_whole_and_not_in_part)
{
        static const enum lock_change_kind kinds[] = { LOCK_CHANGE_WAIT, LOCK_CHANGE_LEAVE, LOCK_CHANGE_KEEP, LOCK_CHANGE_GRANT, LOCK_CHANGE_BREAK };
        struct lock_change change = { .kind = kinds[_i], .seq = kinds[_i] == LOCK_CHANGE_GRANT ? 0 : 7 }, back;
        struct bytes bytes = { 0 };

        if (kinds[_i] != LOCK_CHANGE_GRANT)
                change.handle.bytes[0] = 1;
        ck_assert(client_id_set(&change.client, "bob", 3));
        ck_assert(principal_set(&change.principal, "uid:1", 5));
        ck_assert(lock_name_set(&change.name, "a", 1));
        change.ttl_ms = kinds[_i] == LOCK_CHANGE_WAIT ? 5000 : 0;
        change.token = kinds[_i] == LOCK_CHANGE_LEAVE || kinds[_i] == LOCK_CHANGE_KEEP || kinds[_i] == LOCK_CHANGE_BREAK ? 9 : 0;
        lock_change_put(&bytes, &change);
        ck_assert(lock_change_get(change.kind, bytes.data, bytes.size, &back));
        ck_assert_uint_eq(back.token, change.token);
        ck_assert_uint_eq(back.ttl_ms, change.ttl_ms);
        for (size_t size = 0; size < bytes.size; size++)
                ck_assert(!lock_change_get(change.kind, bytes.data, size, &back));
        /* Nobody waits without a session. */
        bytes_clear(&bytes);
        change.ttl_ms = 0;
        lock_change_put(&bytes, &change);
        ck_assert(lock_change_get(change.kind, bytes.data, bytes.size, &back) == (change.kind != LOCK_CHANGE_WAIT));
        bytes_done(&bytes);
}
END_TEST

/* However many wait in a session, one entry changes little. */
START_TEST(session_with_many_waiters_ends_in_parts)
{
        uint64_t session = open_session("alice", 5000);
        unsigned parts = 0;
        char name[16];

        for (unsigned i = 0; i < 100; i++) {
                struct lock_request request;

                (void)snprintf(name, sizeof(name), "lock/%u", i);
                hold("bob", name);
                request = in_session("alice", name, session);
                request.wait = true;
                (void)make(&request);
        }
        ck_assert_uint_eq(lock_table_waiter_count(table), 100);
        while (lock_table_session_count(table) > 0) {
                size_t before = lock_table_waiter_count(table);

                expire(session, "alice");
                ck_assert_uint_le(before - lock_table_waiter_count(table), LOCK_FREED_PER_ENTRY);
                ck_assert_uint_lt(lock_table_waiter_count(table), before);
                parts++;
        }
        ck_assert_uint_gt(parts, 1);
        ck_assert_uint_eq(lock_table_waiter_count(table), 0);
        ck_assert_uint_eq(held_by("alice"), 0);
}
END_TEST

static Suite *suite(void)
{
        Suite *s = suite_create("queue");
        TCase *c = tcase_create("queue");

        tcase_add_checked_fixture(c, lock_setup, lock_teardown);
        tcase_add_test(c, lock_goes_to_who_waited_longest_by_the_change_that_frees_it);
        tcase_add_test(c, free_lock_is_granted_at_once_to_who_would_wait);
        tcase_add_test(c, who_waits_dies_with_its_session);
        tcase_add_test(c, what_a_session_held_goes_to_who_waits_when_it_ends);
        tcase_add_test(c, try_does_not_get_in_between_a_release_and_who_waits);
        tcase_add_test(c, try_is_decided_later_while_it_is_open_who_gets_the_lock);
        tcase_add_test(c, same_request_again_is_told_what_became_of_its_wait);
        tcase_add_test(c, who_gives_up_leaves_the_queue_or_the_lock_and_nothing_in_between);
        tcase_add_test(c, waiter_that_has_got_the_lock_is_not_given_up_by_who_asks_for_waiters_only);
        tcase_add_test(c, request_that_is_called_off_takes_its_waiter_with_it);
        tcase_add_test(c, lease_of_who_waits_lives_while_somebody_else_gives_the_lock_back);
        tcase_add_test(c, lease_lives_while_another_lock_of_the_same_token_is_given_back);
        tcase_add_test(c, hold_that_is_kept_outlives_its_session);
        tcase_add_test(c, lock_that_the_session_has_already_is_no_second_hold);
        tcase_add_test(c, lease_that_is_broken_lives_to_its_end_and_is_renewed_no_more);
        tcase_add_test(c, lease_that_is_broken_is_not_kept);
        tcase_add_test(c, what_nobody_counts_on_is_free_when_it_is_broken);
        tcase_add_test(c, who_comes_too_soon_is_passed_over_until_its_period_is_over);
        tcase_add_test(c, queue_of_which_somebody_may_be_let_in_is_before_those_that_wait_for_a_time);
        tcase_add_test(c, who_tries_is_told_that_somebody_waits_for_several_while_others_come_to_wait);
        tcase_add_test(c, who_comes_lets_nobody_in_who_was_there_before);
        tcase_add_test(c, try_does_not_get_in_between_when_the_turn_of_who_waits_has_come);
        tcase_add_test(c, what_is_not_applied_yet_is_not_said_to_be_gone);
        tcase_add_test(c, lease_that_is_being_broken_is_not_said_to_have_ended);
        tcase_add_test(c, lock_whose_turn_has_come_is_not_said_to_be_free);
        tcase_add_test(c, who_waits_is_told_in_turn);
        tcase_add_test(c, queue_comes_back_from_the_disk_in_its_order);
        tcase_add_test(c, long_queue_of_those_who_want_it_once_in_a_period_comes_back_at_once);
        tcase_add_test(c, waiter_that_was_tampered_with_is_refused);
        tcase_add_loop_test(c, changes_read_back_whole_and_not_in_part, 0, 5);
        tcase_add_test(c, session_with_many_waiters_ends_in_parts);
        suite_add_tcase(s, c);
        return s;
}

int main(void)
{
        return run_suite(suite());
}
