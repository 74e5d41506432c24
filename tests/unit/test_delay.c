/* The lock room: a lock that was lost is nobody's for a while, one that was given back is free at once. Cluster time is ten times the index. */
#include <check.h>
#include <stdio.h>
#include <string.h>

#include "unit/lock_kit.h"
#include "unit/suite.h"

static uint64_t lease(const char *client, const char *lock, uint32_t delay_ms)
{
        struct lock_request request = lease_of(client, lock, 5000);

        request.delay_ms = delay_ms;
        return make(&request);
}

static uint64_t session(const char *client, uint32_t delay_ms)
{
        struct lock_request request = request_of(LOCK_CHANGE_OPEN, client, NULL);

        request.ttl_ms = 5000;
        request.delay_ms = delay_ms;
        return make(&request);
}

static uint64_t hold_in(const char *client, const char *lock, uint64_t id)
{
        struct lock_request request = in_session(client, lock, id);

        return make(&request);
}

static void break_now(const char *lock, uint64_t token)
{
        struct lock_request request = request_of(LOCK_CHANGE_BREAK, "root", lock);

        request.token = token;
        request.now = true;
        (void)make(&request);
}

/* Of cluster time: how long the lock is nobody's as of now; 0: not at all. */
static uint64_t left(const char *lock)
{
        struct lock_name name = { 0 };
        struct lock_delay_view delay;
        uint64_t now = (index_next - 1) * 10;

        ck_assert(lock_name_set(&name, lock, strlen(lock)));
        return lock_table_find_delay(table, &name, now, &delay) ? delay.until_cluster_ms - now : 0;
}

static struct lock_decision try_at(const char *client, const char *lock, uint64_t cluster_ms)
{
        struct lock_request request = request_of(LOCK_CHANGE_PREEMPT, client, lock);

        request.cluster_ms = cluster_ms;
        return decide(&request);
}

static void let_in(const char *client, const char *lock)
{
        struct lock_change grant = { .kind = LOCK_CHANGE_GRANT };

        ck_assert(client_id_set(&grant.client, client, strlen(client)) && principal_set(&grant.principal, "uid:1", 5) && lock_name_set(&grant.name, lock, strlen(lock)));
        apply(index_next++, &grant);
}

START_TEST(lease_that_expires_delays_whoever_comes_also_who_had_it)
{
        uint64_t token = lease("alice", "a", 700), until;
        struct lock_decision decision;

        expire(token, "alice");
        ck_assert(!is_owned("a"));
        ck_assert_uint_eq(left("a"), 700);
        until = (index_next - 1) * 10 + 700;
        decision = try_at("bob", "a", until - 1);
        ck_assert_int_eq(decision.verdict, LOCK_DELAYED);
        ck_assert_uint_eq(decision.token, token);
        ck_assert_str_eq(decision.owner.text, "alice");
        ck_assert_uint_eq(decision.until_cluster_ms, until);
        ck_assert_int_eq(try_at("alice", "a", until - 1).verdict, LOCK_DELAYED);
        ck_assert_int_eq(try_at("bob", "b", until - 1).verdict, LOCK_ACCEPTED);
        ck_assert_int_eq(try_at("bob", "a", until).verdict, LOCK_ACCEPTED);
}
END_TEST

START_TEST(delay_of_zero_is_none)
{
        expire(lease("alice", "a", 0), "alice");
        ck_assert_uint_eq(left("a"), 0);
        ck_assert_uint_eq(lock_table_delay_count(table), 0);
        ck_assert_int_eq(try_at("bob", "a", index_next * 10).verdict, LOCK_ACCEPTED);
}
END_TEST

START_TEST(who_gives_back_closes_or_keeps_delays_nobody)
{
        uint64_t token = lease("alice", "a", 700), id;
        struct lock_request request = release_of("alice", "a", token);

        (void)make(&request);
        ck_assert_uint_eq(left("a"), 0);
        id = session("alice", 700);
        (void)hold_in("alice", "b", id);
        request = of_session(LOCK_CHANGE_CLOSE, "alice", id);
        (void)make(&request);
        ck_assert_uint_eq(left("b"), 0);
        token = lease("alice", "c", 700);
        request = request_of(LOCK_CHANGE_KEEP, "alice", "c");
        request.token = token;
        (void)make(&request);
        break_now("c", token);               /* it is in no session any more */
        ck_assert_uint_eq(left("c"), 0);
        ck_assert_uint_eq(lock_table_delay_count(table), 0);
}
END_TEST

START_TEST(break_delays_when_its_holder_may_count_on_the_lock_still)
{
        uint64_t token = lease("alice", "a", 700), id = session("alice", 500);
        struct lock_request request;

        break_now("a", token);
        ck_assert_uint_eq(left("a"), 700);
        token = hold_in("alice", "b", id);
        break_now("b", token);
        ck_assert_uint_eq(left("b"), 500);
        token = lease("alice", "c", 700);
        request = request_of(LOCK_CHANGE_BREAK, "root", "c");
        request.token = token;
        (void)make(&request);
        request = release_of("alice", "c", token);   /* it was told, and stopped */
        (void)make(&request);
        ck_assert_uint_eq(left("c"), 0);
        token = lease("alice", "d", 700);
        request = request_of(LOCK_CHANGE_BREAK, "root", "d");
        request.token = token;
        (void)make(&request);
        expire(token, "alice");              /* it did not stop */
        ck_assert_uint_eq(left("d"), 700);
}
END_TEST

START_TEST(who_waits_gets_it_when_the_delay_is_over)
{
        uint64_t token = lease("alice", "a", 100), until;
        struct lock_request wait = wait_of("bob", "a", 5000), late = wait_of("cid", "a", 5000);
        struct lock_waiter_view waiter;

        (void)make(&wait);
        expire(token, "alice");
        until = (index_next - 1) * 10 + 100;
        ck_assert(!is_owned("a"));
        ck_assert_uint_eq(queue_length("a"), 1);
        (void)make(&late);                   /* it does not get in either, nor let anybody in */
        ck_assert(!is_owned("a"));
        let_in("bob", "a");
        ck_assert(!is_owned("a"));
        ck_assert(lock_table_next_held_up(table, NULL, until - 1, &waiter));
        ck_assert_uint_eq(waiter.id, 0);
        ck_assert(!lock_table_is_due(table, &wait.name, until - 1));
        ck_assert(lock_table_next_held_up(table, NULL, until, &waiter));
        ck_assert_str_eq(waiter.client, "bob");
        ck_assert_int_eq(try_at("dan", "a", until).verdict, LOCK_LATER);
        index_next = until / 10;
        let_in("bob", "a");
        expect_owner("a", "bob", until / 10);
}
END_TEST

START_TEST(who_comes_to_wait_in_the_delay_waits)
{
        struct lock_request wait = wait_of("bob", "a", 5000);
        struct lock_decision decision;

        expire(lease("alice", "a", 700), "alice");
        wait.cluster_ms = index_next * 10;
        decision = decide(&wait);
        ck_assert_int_eq(decision.verdict, LOCK_ACCEPTED);
        ck_assert_int_eq(decision.change.kind, LOCK_CHANGE_WAIT);
        wait.cluster_ms = index_next * 10 + 700;
        ck_assert_int_eq(decide(&wait).change.kind, LOCK_CHANGE_PREEMPT);
}
END_TEST

static uint64_t share(const char *client, const char *lock, uint32_t delay_ms)
{
        struct lock_request request = lease_of(client, lock, 5000);

        request.slots = SLOTS_SHARED;
        request.delay_ms = delay_ms;
        request.cluster_ms = index_next * 10;
        return make(&request);
}

/* Those who have it go on to. */
/* However many come to wait, without a pause. */
START_TEST(who_tries_in_the_delay_is_told_so_while_others_come_to_wait)
{
        uint64_t token = lease("alice", "a", 700), until;
        struct lock_request wait = wait_of("bob", "a", 5000);

        expire(token, "alice");
        until = (index_next - 1) * 10 + 700;
        wait.cluster_ms = until - 1;
        (void)append(&wait);
        ck_assert_int_eq(try_at("cid", "a", until - 1).verdict, LOCK_DELAYED);
        ck_assert_int_eq(try_at("cid", "a", until).verdict, LOCK_LATER);
}
END_TEST

START_TEST(one_of_those_who_hold_it_together_delays_all_who_come_and_the_later_end_counts)
{
        uint64_t ann = share("ann", "a", 300), bob = share("bob", "a", 700), cid = share("cid", "a", 100);
        struct lock_request late = lease_of("dan", "a", 5000);
        struct lock_change end = end_of(ann, "ann");
        uint64_t index;

        late.slots = SLOTS_SHARED;
        late.cluster_ms = index_next * 10;
        index = index_next++;
        lock_overlay_add(overlay, index, &end);
        ck_assert_int_eq(decide(&late).verdict, LOCK_LATER); /* it is about to be lost */
        apply(index, &end);
        ck_assert_uint_eq(left("a"), 300);
        ck_assert_int_eq(decide(&late).verdict, LOCK_DELAYED);
        expire(bob, "bob");
        ck_assert_uint_eq(left("a"), 700);
        ck_assert_uint_eq(lock_table_delay_count(table), 1);
        expire(cid, "cid");
        ck_assert_uint_eq(left("a"), 690);
        ck_assert_uint_eq(decide(&late).token, bob);
        late.cluster_ms = index_next * 10 + 700;
        ck_assert_int_eq(decide(&late).verdict, LOCK_ACCEPTED);
}
END_TEST

START_TEST(expired_session_delays_all_that_it_held_also_what_is_freed_later)
{
        uint64_t id = session("alice", 5000);
        char name[16];

        for (unsigned i = 0; i < LOCK_FREED_PER_ENTRY + 3; i++) {
                (void)snprintf(name, sizeof(name), "n%02u", i);
                (void)hold_in("alice", name, id);
        }
        expire(id, "alice");
        ck_assert_uint_eq(lock_table_delay_count(table), LOCK_FREED_PER_ENTRY);
        expire(id, "alice");
        ck_assert_uint_eq(lock_table_delay_count(table), LOCK_FREED_PER_ENTRY + 3);
        ck_assert_uint_eq(left("n00"), 4990);
        ck_assert_uint_eq(left("n34"), 5000);
}
END_TEST

START_TEST(delay_comes_back_from_the_disk_and_is_forgotten_when_it_is_over)
{
        struct lock_table *copy = lock_table_new();
        struct lock_request other;
        uint64_t token;

        token = lease("alice", "a", 500);
        expire(token, "alice");
        (void)lease("bob", "b", 400);
        load_all(table, copy);
        lock_table_free(table);
        table = copy;
        ck_assert_uint_eq(left("a"), 490);       /* by the time that another entry took */
        ck_assert_uint_eq(try_at("bob", "a", index_next * 10).token, token);
        expire(token + 2, "bob");
        ck_assert_uint_eq(left("b"), 400);   /* the session knew its delay still */
        ck_assert_uint_eq(lock_table_longest_ttl_ms(table), 5500);
        for (unsigned i = 0; i < 60; i++) {
                other = request_of(LOCK_CHANGE_CANCEL, "bob", "x");
                (void)make(&other);
        }
        ck_assert_uint_eq(lock_table_delay_count(table), 0);
}
END_TEST

START_TEST(delay_without_a_time_to_live_or_beyond_the_limit_is_not_well_formed)
{
        struct lock_change change = { .kind = LOCK_CHANGE_PREEMPT, .seq = 1, .ttl_ms = 5000, .delay_ms = LIMIT_DELAY_MS }, seen;
        struct bytes body = { 0 };

        ck_assert(client_id_set(&change.client, "alice", 5) && principal_set(&change.principal, "uid:1", 5) && lock_name_set(&change.name, "a", 1));
        lock_change_put(&body, &change);
        ck_assert(lock_change_get(change.kind, body.data, body.size, &seen));
        ck_assert_uint_eq(seen.delay_ms, LIMIT_DELAY_MS);
        bytes_clear(&body);
        change.delay_ms++;
        lock_change_put(&body, &change);
        ck_assert(!lock_change_get(change.kind, body.data, body.size, &seen));
        bytes_clear(&body);
        change.delay_ms = 1;
        change.ttl_ms = 0;
        lock_change_put(&body, &change);
        ck_assert(!lock_change_get(change.kind, body.data, body.size, &seen));
        bytes_done(&body);
}
END_TEST

static Suite *suite(void)
{
        Suite *s = suite_create("delay");
        TCase *c = tcase_create("delay");

        tcase_add_checked_fixture(c, lock_setup, lock_teardown);
        tcase_add_test(c, lease_that_expires_delays_whoever_comes_also_who_had_it);
        tcase_add_test(c, delay_of_zero_is_none);
        tcase_add_test(c, who_gives_back_closes_or_keeps_delays_nobody);
        tcase_add_test(c, break_delays_when_its_holder_may_count_on_the_lock_still);
        tcase_add_test(c, who_waits_gets_it_when_the_delay_is_over);
        tcase_add_test(c, who_comes_to_wait_in_the_delay_waits);
        tcase_add_test(c, who_tries_in_the_delay_is_told_so_while_others_come_to_wait);
        tcase_add_test(c, one_of_those_who_hold_it_together_delays_all_who_come_and_the_later_end_counts);
        tcase_add_test(c, expired_session_delays_all_that_it_held_also_what_is_freed_later);
        tcase_add_test(c, delay_comes_back_from_the_disk_and_is_forgotten_when_it_is_over);
        tcase_add_test(c, delay_without_a_time_to_live_or_beyond_the_limit_is_not_well_formed);
        suite_add_tcase(s, c);
        return s;
}

int main(void)
{
        return run_suite(suite());
}
