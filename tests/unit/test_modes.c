/* The lock room: locks that several hold together, shared or by so many as have slots; who may join them, and who waits. */
#include <check.h>
#include <stdio.h>
#include <string.h>

#include "unit/lock_kit.h"
#include "unit/suite.h"

static struct lock_request together(const char *client, uint16_t slots)
{
        struct lock_request request = request_of(LOCK_CHANGE_PREEMPT, client, "a");

        request.slots = slots;
        return request;
}

static struct lock_request wait_together(const char *client, uint16_t slots)
{
        struct lock_request request = wait_of(client, "a", 5000);

        request.slots = slots;
        return request;
}

static uint64_t hold(const char *client, uint16_t slots)
{
        const struct lock_request request = together(client, slots);

        return make(&request);
}

static uint64_t wait_for(const char *client, uint16_t slots)
{
        const struct lock_request request = wait_together(client, slots);

        return make(&request);
}

static uint64_t give_back(const char *client, uint64_t token)
{
        const struct lock_request request = release_of(client, "a", token);

        return make(&request);
}

static const struct lock_name name_a = { .size = 1, .text = "a" };

static size_t holders(void)
{
        struct lock_view view;

        return lock_table_find(table, &name_a, &view) ? view.holders : 0;
}

static bool holds(const char *client)
{
        struct lock_view view;

        return lock_table_find_of(table, &name_a, client, 0, &view);
}

/* What the leader says when there is room for more than an entry lets in. */
static uint64_t grant(void)
{
        struct lock_change change = { .kind = LOCK_CHANGE_GRANT, .name = name_a };

        ck_assert(client_id_set(&change.client, "x", 1));
        ck_assert(principal_set(&change.principal, "uid:1", 5));
        apply(index_next, &change);
        return index_next++;
}

static size_t due(void)
{
        return lock_table_due_count(table, &name_a, index_next * 10, 1000);
}

static enum lock_verdict verdict_of(struct lock_request request)
{
        return decide(&request).verdict;
}

START_TEST(readers_hold_it_together_and_nobody_else_with_them)
{
        uint64_t alice = hold("alice", SLOTS_SHARED), bob = hold("bob", SLOTS_SHARED);
        struct lock_request request = together("cid", 0);
        struct lock_decision decision = decide(&request);

        ck_assert_uint_eq(holders(), 2);
        ck_assert_int_eq(decision.verdict, LOCK_HELD);
        ck_assert_str_eq(decision.owner.text, "alice");
        ck_assert_uint_eq(decision.token, alice);
        ck_assert_int_eq(verdict_of(together("cid", 2)), LOCK_HELD);
        give_back("alice", alice);
        ck_assert_int_eq(verdict_of(together("cid", 0)), LOCK_HELD);
        give_back("bob", bob);
        hold("cid", 0);
        ck_assert_int_eq(verdict_of(together("alice", SLOTS_SHARED)), LOCK_HELD);
}
END_TEST

START_TEST(no_more_than_it_has_slots_and_all_say_the_same_number)
{
        uint64_t alice = hold("alice", 2);

        ck_assert_int_eq(verdict_of(together("cid", 3)), LOCK_HELD);
        ck_assert_int_eq(verdict_of(together("cid", SLOTS_SHARED)), LOCK_HELD);
        hold("alice", 2);                    /* each is a hold of its own, also of one client */
        ck_assert_uint_eq(holders(), 2);
        ck_assert_int_eq(verdict_of(together("cid", 2)), LOCK_HELD);
        give_back("alice", alice);
        ck_assert_int_eq(verdict_of(together("cid", 2)), LOCK_ACCEPTED);
        ck_assert_uint_eq(held_by("alice"), 1);
}
END_TEST

START_TEST(shared_lock_has_a_bound)
{
        for (unsigned i = 0; i < LIMIT_SLOTS; i++)
                hold("alice", SLOTS_SHARED);
        ck_assert_int_eq(verdict_of(together("bob", SLOTS_SHARED)), LOCK_HELD);
}
END_TEST

START_TEST(what_is_appended_counts_for_slots)
{
        const struct lock_request alice = together("alice", 2), bob = together("bob", 2), cid = together("cid", 2);
        struct lock_decision first = decide(&alice);
        uint64_t at = append(&alice);
        struct lock_request back;

        append(&bob);
        ck_assert_int_eq(decide(&cid).verdict, LOCK_HELD);
        ck_assert_str_eq(decide(&cid).owner.text, "bob");
        ck_assert_int_eq(verdict_of(together("dan", 0)), LOCK_HELD);
        apply(at, &first.change);
        ck_assert_int_eq(decide(&cid).verdict, LOCK_HELD);
        back = release_of("alice", "a", at);
        append(&back);
        ck_assert_int_eq(decide(&cid).verdict, LOCK_ACCEPTED);
        ck_assert_int_eq(verdict_of(together("dan", SLOTS_SHARED)), LOCK_HELD);
}
END_TEST

/* All of it is given back by what is appended: it may be had in another way. */
START_TEST(lock_that_will_be_free_may_be_had_in_any_way)
{
        uint64_t alice = hold("alice", SLOTS_SHARED);
        const struct lock_request back = release_of("alice", "a", alice);
        const struct lock_request bob = together("bob", 3);

        append(&back);
        append(&bob);
        ck_assert_int_eq(verdict_of(together("cid", SLOTS_SHARED)), LOCK_HELD);
        ck_assert_int_eq(verdict_of(together("cid", 3)), LOCK_ACCEPTED);
}
END_TEST

START_TEST(who_comes_does_not_pass_who_waits)
{
        uint64_t alice = hold("alice", SLOTS_SHARED);

        wait_for("bob", 0);
        ck_assert_int_eq(verdict_of(together("cid", SLOTS_SHARED)), LOCK_HELD);
        wait_for("cid", SLOTS_SHARED);
        ck_assert_uint_eq(due(), 0);
        ck_assert(!lock_table_take_due(table));
        give_back("alice", alice);
        ck_assert(holds("bob"));
        ck_assert(!holds("cid"));
        ck_assert_uint_eq(queue_length("a"), 1);
}
END_TEST

START_TEST(one_entry_lets_in_one_and_the_leader_sees_to_the_others)
{
        uint64_t alice = hold("alice", 0), granted;
        struct lock_waiter_view waiter;

        wait_for("bob", SLOTS_SHARED);
        wait_for("cid", SLOTS_SHARED);
        wait_for("dan", SLOTS_SHARED);
        wait_for("eve", 0);
        wait_for("fay", SLOTS_SHARED);
        ck_assert(!lock_table_next_held_up(table, NULL, index_next * 10, &waiter));
        granted = give_back("alice", alice);
        expect_owner("a", "bob", granted);
        ck_assert_uint_eq(holders(), 1);
        ck_assert(lock_table_take_due(table));
        ck_assert(lock_table_next_held_up(table, NULL, index_next * 10, &waiter));
        ck_assert_str_eq(waiter.client, "cid");
        ck_assert_uint_eq(due(), 2);
        /* Whoever comes now does not get in between. */
        ck_assert_int_eq(verdict_of(together("gil", SLOTS_SHARED)), LOCK_LATER);
        ck_assert_uint_eq(lock_table_granted(table, &name_a, waiter.id), 0);
        granted = grant();
        ck_assert_uint_eq(lock_table_granted(table, &name_a, waiter.id), granted);
        ck_assert_uint_gt(grant(), granted);
        ck_assert_uint_eq(holders(), 3);
        ck_assert_uint_eq(due(), 0);
        grant();                             /* nobody is to be let in: nothing happens */
        ck_assert_uint_eq(holders(), 3);
        ck_assert(!lock_table_next_held_up(table, NULL, index_next * 10, &waiter));
        ck_assert_int_eq(verdict_of(together("gil", SLOTS_SHARED)), LOCK_HELD);
}
END_TEST

START_TEST(those_behind_get_in_when_the_one_in_front_leaves_or_dies)
{
        uint64_t eve;

        hold("alice", SLOTS_SHARED);
        eve = wait_for("eve", 0);
        wait_for("bob", SLOTS_SHARED);
        if (_i == 0)
                give_back("eve", eve);
        else
                expire(eve, "eve");
        ck_assert(holds("bob"));
        ck_assert_uint_eq(holders(), 2);
        ck_assert_uint_eq(queue_length("a"), 0);
}
END_TEST

/* Two holds of one name that one entry frees must not let two in under one token. */
START_TEST(session_that_held_it_twice_lets_in_one_by_one)
{
        uint64_t session = open_session("alice", 5000);
        struct lock_request request = in_session("alice", "a", session);

        hold("bob", 3);
        hold("bob", 3);
        hold("bob", 3);
        request.slots = 3;
        request.wait = true;
        make(&request);
        request = in_session("alice", "a", session);
        request.slots = 3;
        request.wait = true;
        make(&request);
        for (unsigned i = 0; i < 3; i++) {
                struct lock_view view;

                ck_assert(lock_table_find_of(table, &name_a, "bob", 0, &view));
                give_back("bob", view.token);
        }
        ck_assert_uint_eq(holders(), 2);
        wait_for("cid", 0);
        wait_for("dan", SLOTS_SHARED);
        expire(session, "alice");
        ck_assert(holds("cid"));
        ck_assert_uint_eq(holders(), 1);
        ck_assert_uint_eq(queue_length("a"), 1);
}
END_TEST

START_TEST(session_has_it_once_in_one_way)
{
        uint64_t session = open_session("alice", 5000), token;
        const struct lock_request bob = together("bob", SLOTS_SHARED);
        struct lock_request request = in_session("alice", "a", session);
        struct lock_decision decision;

        request.slots = SLOTS_SHARED;
        token = append(&request);
        append(&bob);                        /* the newest that is appended is another's; but its own is seen, too */
        request = in_session("alice", "a", session);
        request.slots = SLOTS_SHARED;
        decision = decide(&request);
        ck_assert_int_eq(decision.verdict, LOCK_REENTERED);
        ck_assert_uint_eq(decision.token, token);
        request.slots = 0;
        request.wait = _i;
        decision = decide(&request);
        ck_assert_int_eq(decision.verdict, LOCK_HELD);
        ck_assert_str_eq(decision.owner.text, "alice");
}
END_TEST

START_TEST(release_keep_and_break_are_of_one_hold)
{
        uint64_t alice = hold("alice", 3), bob = hold("bob", 3);
        struct lock_request request = release_of("bob", "a", alice);
        struct lock_decision decision = decide(&request);

        ck_assert_int_eq(decision.verdict, LOCK_NOT_OWNER);
        request = request_of(LOCK_CHANGE_BREAK, "root", "a");
        request.token = bob;
        make(&request);
        ck_assert(holds("alice"));
        ck_assert(!holds("bob"));
        request = request_of(LOCK_CHANGE_BREAK, "root", "a");
        request.token = bob;
        ck_assert_int_eq(decide(&request).verdict, LOCK_NOT_OWNER);
        request = request_of(LOCK_CHANGE_KEEP, "alice", "a");
        request.token = alice;
        ck_assert_int_eq(decide(&request).verdict, LOCK_ACCEPTED);
}
END_TEST

/* L1: it is nobody's for a while what one of them lost; who comes by then is told so, though there is room. */
START_TEST(what_one_of_them_lost_keeps_others_out_until_its_delay_is_over)
{
        struct lock_request request = lease_of("alice", "a", 5000);
        uint64_t alice;
        struct lock_change end;

        request.slots = SLOTS_SHARED;
        request.delay_ms = 1000;
        alice = make(&request);
        hold("bob", SLOTS_SHARED);
        ck_assert_int_eq(verdict_of(together("cid", SLOTS_SHARED)), LOCK_ACCEPTED);
        end = end_of(alice, "alice");
        lock_overlay_add(overlay, index_next, &end);
        ck_assert_int_eq(verdict_of(together("cid", SLOTS_SHARED)), LOCK_LATER);
        apply(index_next++, &end);
        request = together("cid", SLOTS_SHARED);
        request.cluster_ms = index_next * 10;
        ck_assert_int_eq(decide(&request).verdict, LOCK_DELAYED);
        wait_for("cid", SLOTS_SHARED);
        ck_assert_uint_eq(holders(), 1);
        request.cluster_ms += 1000;
        ck_assert_uint_eq(lock_table_due_count(table, &name_a, request.cluster_ms, 10), 1);
}
END_TEST

/* L1: so does what is granted by a change that is under way, and lost by the next. */
START_TEST(what_is_lost_before_it_is_applied_that_it_was_granted_keeps_others_out_too)
{
        struct lock_request open = request_of(LOCK_CHANGE_OPEN, "alice", NULL), request;
        struct lock_change end;
        uint64_t session;

        open.ttl_ms = 5000;
        open.delay_ms = 1000;
        session = make(&open);
        hold("bob", SLOTS_SHARED);
        request = together("alice", SLOTS_SHARED);
        request.session = session;
        (void)append(&request);
        request = together("dan", SLOTS_SHARED);
        (void)append(&request);
        end = end_of(session, "alice");
        lock_overlay_add(overlay, index_next++, &end);
        ck_assert_int_eq(verdict_of(together("cid", SLOTS_SHARED)), LOCK_LATER);
}
END_TEST

/* Who is behind one of its waiters, too. */
START_TEST(what_a_session_held_is_lost_before_its_waiters_leave)
{
        struct lock_request open = request_of(LOCK_CHANGE_OPEN, "alice", NULL), request;
        uint64_t carol = hold("carol", 0), session;

        open.ttl_ms = 5000;
        open.delay_ms = 1000;
        session = make(&open);
        for (unsigned i = 0; i < 2; i++) {
                request = in_session("alice", "a", session);
                request.wait = true;
                request.slots = i == 0 ? SLOTS_SHARED : 0;
                (void)make(&request);
        }
        wait_for("dan", SLOTS_SHARED);
        give_back("carol", carol);
        ck_assert(holds("alice") && !holds("dan"));
        expire(session, "alice");
        ck_assert_uint_eq(holders(), 0);
        ck_assert_uint_eq(queue_length("a"), 1);
}
END_TEST

/* However many come and go, somebody who tries is told. */
START_TEST(what_is_given_back_keeps_nobody_from_being_decided)
{
        struct lock_request alice = lease_of("alice", "a", 5000), back;
        uint64_t token;

        alice.slots = SLOTS_SHARED;
        alice.delay_ms = 1000;
        token = make(&alice);
        hold("bob", SLOTS_SHARED);
        back = release_of("alice", "a", token);
        (void)append(&back);
        ck_assert_int_eq(verdict_of(together("cid", SLOTS_SHARED)), LOCK_ACCEPTED);
}
END_TEST

START_TEST(who_tries_is_decided_while_others_come_to_wait_who_get_in)
{
        struct lock_request wait = wait_together("bob", 3), other = wait_together("dan", 2), once = wait_together("eve", 3);
        struct lock_change come = { .kind = LOCK_CHANGE_WAIT };

        hold("alice", 3);
        come.handle = wait.handle;
        come.client = wait.client;
        come.principal = wait.principal;
        come.name = name_a;
        come.ttl_ms = wait.ttl_ms;
        come.slots = 3;
        lock_overlay_add(overlay, index_next, &come);
        ck_assert_int_eq(verdict_of(together("cid", 3)), LOCK_ACCEPTED);
        apply(index_next++, &come);
        ck_assert_uint_eq(holders(), 2);
        come.handle = other.handle;
        lock_overlay_add(overlay, index_next++, &come);
        ck_assert_int_eq(verdict_of(together("cid", 3)), LOCK_LATER); /* it may be the last slot */
        come.handle = once.handle;
        come.slots = 2;
        lock_overlay_add(overlay, index_next++, &come);
        ck_assert_int_eq(verdict_of(together("cid", 3)), LOCK_LATER);
}
END_TEST

/* A slot that is free when all is applied is not refused. */
START_TEST(who_may_have_what_is_about_to_be_free_is_not_refused)
{
        struct lock_request lease = lease_of("alice", "a", 5000);
        struct lock_change end;
        uint64_t alice;

        lease.slots = 2;
        alice = make(&lease);
        hold("bob", 2);
        ck_assert_int_eq(verdict_of(together("cid", 2)), LOCK_HELD);
        end = end_of(alice, "alice");
        lock_overlay_add(overlay, index_next, &end);
        ck_assert_int_eq(verdict_of(together("cid", 2)), LOCK_LATER);
        apply(index_next++, &end);
        ck_assert_int_eq(verdict_of(together("cid", 2)), LOCK_ACCEPTED);
}
END_TEST

START_TEST(who_is_behind_one_that_is_about_to_leave_is_not_refused)
{
        struct lock_request leave;
        uint64_t waiter;

        hold("alice", SLOTS_SHARED);
        waiter = wait_for("bob", 0);
        ck_assert_int_eq(verdict_of(together("cid", SLOTS_SHARED)), LOCK_HELD);
        leave = release_of("bob", "a", waiter);
        (void)append(&leave);
        ck_assert_int_eq(verdict_of(together("cid", SLOTS_SHARED)), LOCK_LATER);
}
END_TEST

/* As from a database that gives them in another order than the one in which they were written. */
static void load_backwards(struct lock_table *other)
{
        struct lock_image images[300] = { 0 };
        size_t count = 0;

        while (lock_table_take_image(table, &images[count]))
                ck_assert_uint_lt(++count, 300);
        for (size_t i = count; i-- > 0; bytes_done(&images[i].body))
                ck_assert(lock_table_load(other, images[i].kind, images[i].key, images[i].label, images[i].number, images[i].body.data, images[i].body.size));
        bytes_done(&images[count].body);
        ck_assert(lock_table_load_finish(other));
}

/* One entry may grant a session several locks, all under its index. How the session is taken apart hangs on no node's having been started since. */
START_TEST(what_one_entry_granted_a_session_is_freed_in_the_same_order_on_every_node)
{
        uint64_t alice = open_session("alice", 5000), bob = open_session("bob", 5000);
        const struct lock_moment moment = { .index = 1000, .cluster_ms = 10000 };
        const struct lock_change end = end_of(bob, "bob");
        struct lock_table *other = lock_table_new();
        struct lock_view a = { .token = 0 }, b = { .token = 0 };
        struct lock_request request = in_session("bob", "first", bob);
        char name[16];

        (void)make(&request);
        for (unsigned i = 0; i < LOCK_FREED_PER_ENTRY; i++) {
                (void)snprintf(name, sizeof(name), "n%02u", (i * 7 + 3) % LOCK_FREED_PER_ENTRY);
                request = in_session("alice", name, alice);
                (void)make(&request);
                request = in_session("bob", name, bob);
                request.wait = true;
                (void)make(&request);
        }
        expire(alice, "alice");
        load_backwards(other);
        lock_table_apply(table, &moment, &end);
        lock_table_apply(other, &moment, &end);
        ck_assert_uint_eq(lock_table_lock_count(table), 1);
        ck_assert_uint_eq(lock_table_lock_count(other), 1);
        ck_assert(lock_table_next(table, "", 0, "", 0, 0, &a) && lock_table_next(other, "", 0, "", 0, 0, &b));
        ck_assert_str_eq(a.name, b.name);
        lock_table_free(other);
}
END_TEST

START_TEST(who_wants_to_share_it_once_in_a_period_is_not_told_too_early_that_it_may)
{
        struct lock_request alice = together("alice", SLOTS_SHARED), bob = together("bob", SLOTS_SHARED);
        struct lock_decision first;
        uint64_t at;

        alice.period_ms = bob.period_ms = 5000;
        first = decide(&alice);
        at = append(&alice);
        ck_assert_int_eq(decide(&bob).verdict, LOCK_LATER);
        apply(at, &first.change);
        bob.cluster_ms = at * 10;
        ck_assert_int_eq(decide(&bob).verdict, LOCK_TOO_SOON);
}
END_TEST

START_TEST(who_tries_to_share_it_is_told_of_who_is_first_while_others_come_to_wait)
{
        const struct lock_request dan = wait_together("dan", SLOTS_SHARED), eve = together("eve", SLOTS_SHARED);
        struct lock_request bob;
        uint64_t id;

        hold("alice", SLOTS_SHARED);
        id = wait_for("bob", 0);
        (void)append(&dan);
        ck_assert_int_eq(decide(&eve).verdict, LOCK_HELD);
        bob = release_of("bob", "a", id);
        (void)append(&bob);
        ck_assert_int_eq(decide(&eve).verdict, LOCK_LATER);
}
END_TEST

START_TEST(holds_and_waiters_come_back_from_the_disk)
{
        struct lock_table *other = lock_table_new();
        struct lock_view view;

        hold("alice", 2);
        hold("bob", 2);
        wait_for("cid", 2);
        wait_for("dan", SLOTS_SHARED);
        load_all(table, other);
        expect_equal(table, other);
        ck_assert(lock_table_find(other, &name_a, &view));
        ck_assert_uint_eq(view.slots, 2);
        ck_assert_uint_eq(view.holders, 2);
        ck_assert_uint_eq(lock_table_queue_length(other, &name_a), 2);
        lock_table_free(table);
        table = other;
        ck_assert(lock_table_find_of(table, &name_a, "alice", 0, &view));
        give_back("alice", view.token);
        ck_assert(holds("cid"));
        ck_assert_uint_eq(holders(), 2);
}
END_TEST

/* Somebody has edited the database: more than fit, or in two ways. */
START_TEST(holds_that_cannot_be_are_refused)
{
        struct lock_image image = { .kind = LOCK_IMAGE_LOCK };
        struct lock_table *other = lock_table_new();
        bool all = true;

        hold("alice", 2);
        hold("bob", 2);
        while (lock_table_take_image(table, &image)) {
                if (image.kind == LOCK_IMAGE_SHARE && _i == 0)
                        image.body.data[image.body.size - 2] = (uint8_t)(3 + index_next++);  /* of another number each */
                if (image.kind == LOCK_IMAGE_SHARE && _i == 1)
                        image.body.data[image.body.size - 2] = 1;    /* no number of slots */
                if (image.kind == LOCK_IMAGE_SHARE && _i == 2)
                        image.body.data[image.body.size - 2] = 0;    /* alone, which is another table's */
                all = all && lock_table_load(other, image.kind, image.key, image.label, image.number, image.body.data, image.body.size);
        }
        ck_assert(!all);
        bytes_done(&image.body);
        lock_table_free(other);
}
END_TEST

START_TEST(slots_that_cannot_be_are_no_change)
{
        static const uint16_t wrong[] = { 1, LIMIT_SLOTS + 1, SLOTS_SHARED - 1 };
        const struct lock_request request = together("alice", 2);
        struct lock_change change = decide(&request).change, seen;
        struct bytes bytes = { 0 };

        lock_change_put(&bytes, &change);
        ck_assert(lock_change_get(change.kind, bytes.data, bytes.size, &seen));
        ck_assert_uint_eq(seen.slots, 2);
        bytes_clear(&bytes);
        change.slots = wrong[_i];
        lock_change_put(&bytes, &change);
        ck_assert(!lock_change_get(change.kind, bytes.data, bytes.size, &seen));
        bytes_done(&bytes);
}
END_TEST

static Suite *suite(void)
{
        Suite *s = suite_create("modes");
        TCase *c = tcase_create("modes");

        tcase_add_checked_fixture(c, lock_setup, lock_teardown);
        tcase_add_test(c, readers_hold_it_together_and_nobody_else_with_them);
        tcase_add_test(c, no_more_than_it_has_slots_and_all_say_the_same_number);
        tcase_add_test(c, shared_lock_has_a_bound);
        tcase_add_test(c, what_is_appended_counts_for_slots);
        tcase_add_test(c, lock_that_will_be_free_may_be_had_in_any_way);
        tcase_add_test(c, who_comes_does_not_pass_who_waits);
        tcase_add_test(c, one_entry_lets_in_one_and_the_leader_sees_to_the_others);
        tcase_add_loop_test(c, those_behind_get_in_when_the_one_in_front_leaves_or_dies, 0, 2);
        tcase_add_test(c, session_that_held_it_twice_lets_in_one_by_one);
        tcase_add_loop_test(c, session_has_it_once_in_one_way, 0, 2);
        tcase_add_test(c, release_keep_and_break_are_of_one_hold);
        tcase_add_test(c, what_one_of_them_lost_keeps_others_out_until_its_delay_is_over);
        tcase_add_test(c, what_is_lost_before_it_is_applied_that_it_was_granted_keeps_others_out_too);
        tcase_add_test(c, what_a_session_held_is_lost_before_its_waiters_leave);
        tcase_add_test(c, what_is_given_back_keeps_nobody_from_being_decided);
        tcase_add_test(c, who_tries_is_decided_while_others_come_to_wait_who_get_in);
        tcase_add_test(c, who_may_have_what_is_about_to_be_free_is_not_refused);
        tcase_add_test(c, who_is_behind_one_that_is_about_to_leave_is_not_refused);
        tcase_add_test(c, what_one_entry_granted_a_session_is_freed_in_the_same_order_on_every_node);
        tcase_add_test(c, who_wants_to_share_it_once_in_a_period_is_not_told_too_early_that_it_may);
        tcase_add_test(c, who_tries_to_share_it_is_told_of_who_is_first_while_others_come_to_wait);
        tcase_add_test(c, holds_and_waiters_come_back_from_the_disk);
        tcase_add_loop_test(c, holds_that_cannot_be_are_refused, 0, 3);
        tcase_add_loop_test(c, slots_that_cannot_be_are_no_change, 0, 3);
        suite_add_tcase(s, c);
        return s;
}

int main(void)
{
        return run_suite(suite());
}
