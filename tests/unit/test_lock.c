/* The lock room: what a change does, what may be decided, and what comes back from the disk. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "lock/decide.h"
#include "unit/suite.h"

static struct lock_table *table;
static struct lock_overlay *overlay;
static uint64_t index_next;

static void setup(void)
{
        table = lock_table_new();
        overlay = lock_overlay_new();
        index_next = 1;
}

static void teardown(void)
{
        lock_overlay_free(overlay);
        lock_table_free(table);
}

static struct lock_name name_of(const char *text)
{
        struct lock_name name = { 0 };

        ck_assert(lock_name_set(&name, text, strlen(text)));
        return name;
}

static struct client_id client_of(const char *text)
{
        struct client_id client = { 0 };

        ck_assert(client_id_set(&client, text, strlen(text)));
        return client;
}

/* Of the hold there is now; without one, of the last that the test has asked about. */
static uint64_t token_of(const char *lock)
{
        static uint64_t last;
        const struct lock_name name = name_of(lock);
        struct lock_view view;
        struct lock_overlay_holds pending;

        if (lock_overlay_find(overlay, &name, &pending) && (pending.granted > 0 || pending.released > 0)) {
                if (pending.granted > pending.released)
                        last = pending.newest.token;
        } else if (lock_table_find(table, &name, &view)) {
                last = view.token;
        }
        return last ? last : 1;
}

static struct holder_view holder_of(const char *note)
{
        static struct bytes bytes;
        struct holder holder = { .host = "h", .pid = 1 };

        (void)snprintf(holder.note, sizeof(holder.note), "%s", note);
        bytes_clear(&bytes);
        holder_put(&bytes, &holder);
        return (struct holder_view){ .data = bytes.data, .size = (uint16_t)bytes.size };
}

/* handle: one byte that tells it from others. A release is of the hold there is. */
static struct lock_request request_of(enum lock_change_kind kind, uint8_t handle, uint64_t seq, const char *client, const char *principal,
                                      const char *lock)
{
        struct lock_request request = { .kind = kind, .handle = { { handle } }, .seq = seq, .client = client_of(client) };

        ck_assert(principal_set(&request.principal, principal, strlen(principal)));
        if (lock)
                request.name = name_of(lock);
        if (kind == LOCK_CHANGE_RELEASE)
                request.token = token_of(lock);
        if (kind == LOCK_CHANGE_PREEMPT)
                request.holder = holder_of(client);
        return request;
}

static struct lock_decision decide(const struct lock_request *request)
{
        struct lock_decision decision;

        lock_decide(table, overlay, request, &decision);
        return decision;
}

/* The change is appended: seen by later decisions, not yet in the table. */
static uint64_t append(const struct lock_change *change)
{
        lock_overlay_add(overlay, index_next, change);
        return index_next++;
}

static void apply(uint64_t index, const struct lock_change *change)
{
        const struct lock_moment moment = { .index = index, .cluster_ms = index * 10, .wall_ms = 1000 + index };

        lock_table_apply(table, &moment, change);
        lock_overlay_applied(overlay, index);
}

/* Decides; when accepted, appends and applies. */
static struct lock_decision ask(enum lock_change_kind kind, uint8_t handle, uint64_t seq, const char *client, const char *lock)
{
        const struct lock_request request = request_of(kind, handle, seq, client, "uid:1", lock);
        struct lock_decision decision = decide(&request);

        if (decision.verdict == LOCK_ACCEPTED)
                apply(append(&decision.change), &decision.change);
        return decision;
}

static const char *owner_of(const char *lock)
{
        const struct lock_name name = name_of(lock);
        struct lock_view view;

        return lock_table_find(table, &name, &view) ? view.owner : NULL;
}

/* --- deciding --- */

START_TEST(free_lock_is_granted_and_its_token_is_the_index)
{
        const struct lock_name name = name_of("a");
        struct lock_view view;

        index_next = 42;
        ck_assert_int_eq(ask(LOCK_CHANGE_PREEMPT, 1, 1, "alice", "a").verdict, LOCK_ACCEPTED);
        ck_assert(lock_table_find(table, &name, &view));
        ck_assert_str_eq(view.owner, "alice");
        ck_assert_uint_eq(view.token, 42);
        ck_assert_uint_eq(view.since_cluster_ms, 420);
}
END_TEST

START_TEST(held_lock_is_refused_naming_the_owner_also_to_the_owner)
{
        (void)ask(LOCK_CHANGE_PREEMPT, 1, 1, "alice", "a");
        for (uint8_t handle = 2; handle < 4; handle++) {
                struct lock_decision no = ask(LOCK_CHANGE_PREEMPT, handle, 1, handle == 2 ? "alice" : "bob", "a");

                ck_assert_int_eq(no.verdict, LOCK_HELD);
                ck_assert_str_eq(no.owner.text, "alice");
                ck_assert_uint_eq(no.token, 1);
        }
}
END_TEST

START_TEST(only_the_owner_releases)
{
        ck_assert_int_eq(ask(LOCK_CHANGE_RELEASE, 1, 1, "alice", "a").verdict, LOCK_NOT_OWNER);
        (void)ask(LOCK_CHANGE_PREEMPT, 2, 1, "alice", "a");
        ck_assert_int_eq(ask(LOCK_CHANGE_RELEASE, 3, 1, "bob", "a").verdict, LOCK_NOT_OWNER);
        ck_assert_str_eq(owner_of("a"), "alice");
        ck_assert_int_eq(ask(LOCK_CHANGE_RELEASE, 2, 2, "alice", "a").verdict, LOCK_ACCEPTED);
        ck_assert_ptr_null(owner_of("a"));
}
END_TEST

START_TEST(release_is_of_one_hold)
{
        struct lock_request late, again;
        struct lock_decision no;

        (void)ask(LOCK_CHANGE_PREEMPT, 1, 1, "alice", "a");
        late = request_of(LOCK_CHANGE_RELEASE, 2, 1, "alice", "uid:1", "a");
        again = request_of(LOCK_CHANGE_RELEASE, 3, 1, "alice", "uid:1", "a");
        ck_assert_int_eq(ask(LOCK_CHANGE_RELEASE, 3, 1, "alice", "a").verdict, LOCK_ACCEPTED);
        (void)ask(LOCK_CHANGE_PREEMPT, 4, 1, "alice", "a");
        no = decide(&late);
        ck_assert_int_eq(no.verdict, LOCK_NOT_OWNER);
        ck_assert_str_eq(no.owner.text, "alice");
        ck_assert_uint_eq(no.token, 3);
        /* The first answer again, but not under another token. */
        ck_assert_int_eq(decide(&again).verdict, LOCK_REPEATED);
        again.token = 3;
        ck_assert_int_eq(decide(&again).verdict, LOCK_UNKNOWABLE);
        ck_assert_str_eq(owner_of("a"), "alice");
}
END_TEST

START_TEST(what_is_appended_counts_before_it_is_applied)
{
        const struct lock_request alice = request_of(LOCK_CHANGE_PREEMPT, 1, 1, "alice", "uid:1", "a");
        const struct lock_request bob = request_of(LOCK_CHANGE_PREEMPT, 2, 1, "bob", "uid:2", "a");
        const struct lock_request back = request_of(LOCK_CHANGE_RELEASE, 1, 2, "alice", "uid:1", "a");
        struct lock_decision first = decide(&alice), release;
        uint64_t at = append(&first.change);

        ck_assert_ptr_null(owner_of("a"));
        ck_assert_int_eq(decide(&bob).verdict, LOCK_HELD);
        ck_assert_str_eq(decide(&bob).owner.text, "alice");
        /* Another node may have told her the token. */
        ck_assert_int_eq(decide(&back).verdict, LOCK_LATER);
        apply(at, &first.change);
        release = decide(&back);
        ck_assert_int_eq(release.verdict, LOCK_ACCEPTED);
        ck_assert_uint_eq(release.change.token, 1);
        (void)append(&release.change);
        ck_assert_int_eq(decide(&bob).verdict, LOCK_ACCEPTED);

        /* Leadership is lost: nothing of it happened. */
        lock_overlay_clear(overlay);
        ck_assert_uint_eq(lock_overlay_count(overlay), 0);
        ck_assert_int_eq(decide(&bob).verdict, LOCK_HELD);
}
END_TEST

START_TEST(overlay_forgets_what_is_applied_and_keeps_what_is_newer)
{
        const struct lock_request first = request_of(LOCK_CHANGE_PREEMPT, 1, 1, "alice", "uid:1", "a");
        const struct lock_request second = request_of(LOCK_CHANGE_RELEASE, 1, 2, "alice", "uid:1", "a");
        const struct lock_request third = request_of(LOCK_CHANGE_PREEMPT, 2, 1, "bob", "uid:2", "a");
        const struct lock_request fourth = request_of(LOCK_CHANGE_PREEMPT, 3, 1, "cid", "uid:3", "a");
        struct lock_decision grant = decide(&first), release, next;
        uint64_t at = append(&grant.change);

        apply(at, &grant.change);
        release = decide(&second);
        at = append(&release.change);
        next = decide(&third);
        ck_assert_int_eq(next.verdict, LOCK_ACCEPTED);
        (void)append(&next.change);
        apply(at, &release.change);
        ck_assert_ptr_null(owner_of("a"));
        ck_assert_int_eq(decide(&second).verdict, LOCK_REPEATED);
        ck_assert_str_eq(decide(&fourth).owner.text, "bob");
        ck_assert_uint_eq(lock_overlay_count(overlay), 1);
}
END_TEST

START_TEST(retry_gets_its_first_answer_whatever_happened_since)
{
        struct lock_decision again;

        (void)ask(LOCK_CHANGE_PREEMPT, 1, 1, "alice", "a");
        again = ask(LOCK_CHANGE_PREEMPT, 1, 1, "alice", "a");
        ck_assert_int_eq(again.verdict, LOCK_REPEATED);
        ck_assert_uint_eq(again.token, 1);
        ck_assert_uint_eq(again.index, 1);
        (void)ask(LOCK_CHANGE_RELEASE, 2, 1, "alice", "a");
        (void)ask(LOCK_CHANGE_PREEMPT, 3, 1, "bob", "a");
        ck_assert_uint_eq(ask(LOCK_CHANGE_PREEMPT, 1, 1, "alice", "a").token, 1);
        ck_assert_str_eq(owner_of("a"), "bob");
}
END_TEST

START_TEST(retry_that_cannot_be_told_from_a_forgotten_one_is_not_known)
{
        ck_assert_int_eq(ask(LOCK_CHANGE_PREEMPT, 1, 2, "alice", "a").verdict, LOCK_UNKNOWABLE);
        (void)ask(LOCK_CHANGE_PREEMPT, 2, 1, "alice", "a");
        (void)ask(LOCK_CHANGE_RELEASE, 2, 2, "alice", "a");
        ck_assert_int_eq(ask(LOCK_CHANGE_PREEMPT, 2, 1, "alice", "a").verdict, LOCK_UNKNOWABLE);
        /* The same id for something else is no retry. */
        ck_assert_int_eq(ask(LOCK_CHANGE_PREEMPT, 2, 2, "alice", "b").verdict, LOCK_UNKNOWABLE);
        ck_assert_ptr_null(owner_of("b"));
}
END_TEST

START_TEST(results_are_forgotten_after_ten_minutes_of_cluster_time)
{
        struct lock_decision first = ask(LOCK_CHANGE_PREEMPT, 1, 1, "alice", "a");
        struct lock_change late = first.change;
        const struct lock_moment moment = { .index = 2, .cluster_ms = 10 + LIMIT_REQUEST_KEPT_MS + 1 };

        ck_assert_uint_eq(lock_table_result_count(table), 1);
        late.handle = (struct id128){ { 9 } };
        late.name = name_of("b");
        lock_table_apply(table, &moment, &late);
        ck_assert_uint_eq(lock_table_result_count(table), 1);
        ck_assert_int_eq(ask(LOCK_CHANGE_RELEASE, 1, 2, "alice", "a").verdict, LOCK_UNKNOWABLE);
}
END_TEST

START_TEST(id_of_one_local_user_is_refused_to_another_but_not_to_root)
{
        struct lock_request other = request_of(LOCK_CHANGE_PREEMPT, 2, 1, "alice", "uid:2", "b");
        struct lock_request root = request_of(LOCK_CHANGE_PREEMPT, 3, 1, "alice", "uid:0", "b");

        (void)ask(LOCK_CHANGE_PREEMPT, 1, 1, "alice", "a");
        ck_assert_int_eq(decide(&other).verdict, LOCK_FOREIGN_CLIENT);
        ck_assert_int_eq(decide(&root).verdict, LOCK_ACCEPTED);
}
END_TEST

START_TEST(assigned_id_belongs_to_who_asked_for_it)
{
        struct lock_request other = request_of(LOCK_CHANGE_PREEMPT, 2, 1, "assigned", "uid:2", "b");
        struct lock_client_view view;
        const struct client_id id = client_of("assigned");

        ck_assert_int_eq(ask(LOCK_CHANGE_CLIENT, 1, 1, "assigned", NULL).verdict, LOCK_ACCEPTED);
        ck_assert(lock_table_find_client(table, &id, &view));
        ck_assert_str_eq(view.principal, "uid:1");
        ck_assert_int_eq(decide(&other).verdict, LOCK_FOREIGN_CLIENT);
}
END_TEST

/* --- looking --- */

START_TEST(names_come_in_bytewise_order_by_prefix_and_after)
{
        static const char *const names[] = { "b", "a/2", "a", "a/1", "a0", "a/", "\xc3\xa4" };
        const char *expected[] = { "a/", "a/1", "a/2" };
        struct lock_view view = { .name = "", .name_size = 0 };

        for (size_t i = 0; i < ARRAY_SIZE(names); i++)
                (void)ask(LOCK_CHANGE_PREEMPT, (uint8_t)(i + 1), 1, "alice", names[i]);
        for (size_t i = 0; i < ARRAY_SIZE(expected); i++) {
                ck_assert(lock_table_next(table, "a/", 2, view.name, view.name_size, view.token, &view));
                ck_assert_uint_eq(view.name_size, strlen(expected[i]));
                ck_assert_mem_eq(view.name, expected[i], view.name_size);
        }
        ck_assert(!lock_table_next(table, "a/", 2, view.name, view.name_size, view.token, &view));
        ck_assert(!lock_table_next(table, "zz", 2, "", 0, 0, &view));
        ck_assert_uint_eq(lock_table_lock_count(table), 7);
}
END_TEST

/* --- to the disk and back --- */

static void load_image(struct lock_table *other, const struct lock_image *image)
{
        ck_assert(!image->deleted);
        ck_assert(lock_table_load(other, image->kind, image->key, image->label, image->number, image->body.data, image->body.size));
}

/* Of alice, as request_of has her. */
static void expect_holder(const struct lock_view *view)
{
        struct holder holder;

        ck_assert_str_eq(view->principal, "uid:1");
        ck_assert(holder_get(view->holder, &holder));
        ck_assert_str_eq(holder.note, "alice");
        ck_assert_str_eq(holder.host, "h");
        ck_assert_str_eq(holder.unit, "");
        ck_assert_uint_eq(holder.pid, 1);
}

START_TEST(table_tells_who_holds_a_lock)
{
        struct lock_view view;
        const struct lock_name a = name_of("a");

        (void)ask(LOCK_CHANGE_PREEMPT, 1, 1, "alice", "a");
        ck_assert(lock_table_find(table, &a, &view));
        expect_holder(&view);
}
END_TEST

START_TEST(images_of_all_that_is_dirty_make_an_equal_table)
{
        struct lock_table *other = lock_table_new(), *mine;
        struct lock_image image = { .kind = LOCK_IMAGE_LOCK };
        struct lock_view view;
        const struct lock_name a = name_of("a"), b = name_of("b");

        (void)ask(LOCK_CHANGE_PREEMPT, 1, 1, "alice", "a");
        (void)ask(LOCK_CHANGE_PREEMPT, 2, 1, "bob", "b");
        (void)ask(LOCK_CHANGE_RELEASE, 2, 2, "bob", "b");
        while (lock_table_take_image(table, &image))
                load_image(other, &image);
        ck_assert(lock_table_load_finish(other));
        ck_assert_uint_eq(lock_table_dirty_count(table), 0);
        ck_assert_uint_eq(lock_table_lock_count(other), 1);
        ck_assert_uint_eq(lock_table_client_count(other), lock_table_client_count(table));
        ck_assert_uint_eq(lock_table_result_count(other), lock_table_result_count(table));
        ck_assert(lock_table_find(other, &a, &view) && !lock_table_find(other, &b, &view));
        expect_holder(&view);

        /* It goes on as the first would: a retry, and the next grant. */
        mine = table;
        table = other;
        ck_assert_int_eq(ask(LOCK_CHANGE_PREEMPT, 1, 1, "alice", "a").verdict, LOCK_REPEATED);
        ck_assert_int_eq(ask(LOCK_CHANGE_PREEMPT, 3, 1, "bob", "a").verdict, LOCK_HELD);
        table = mine;
        lock_table_free(other);
        bytes_done(&image.body);
}
END_TEST

START_TEST(deletion_of_what_the_disk_has_is_an_image_of_its_own)
{
        struct lock_image image = { .kind = LOCK_IMAGE_LOCK };
        bool deleted = false;

        (void)ask(LOCK_CHANGE_PREEMPT, 1, 1, "alice", "a");
        while (lock_table_take_image(table, &image))
                ck_assert(!image.deleted);
        (void)ask(LOCK_CHANGE_RELEASE, 1, 2, "alice", "a");
        while (lock_table_take_image(table, &image))
                if (image.deleted) {
                        ck_assert_int_eq(image.kind, LOCK_IMAGE_LOCK);
                        ck_assert_str_eq(image.key, "a");
                        deleted = true;
                }
        ck_assert(deleted);
        bytes_done(&image.body);
}
END_TEST

START_TEST(image_that_was_tampered_with_is_refused)
{
        struct lock_image image = { .kind = LOCK_IMAGE_LOCK };

        (void)ask(LOCK_CHANGE_PREEMPT, 1, 1, "alice", "a");
        while (lock_table_take_image(table, &image)) {
                struct lock_table *other = lock_table_new();

                ck_assert(!lock_table_load(other, image.kind, "other", image.label, image.number, image.body.data, image.body.size));
                lock_table_free(other);
                other = lock_table_new();
                ck_assert(!lock_table_load(other, image.kind, image.key, image.label, image.number + 1, image.body.data, image.body.size));
                lock_table_free(other);
                other = lock_table_new();
                ck_assert(!lock_table_load(other, image.kind, image.key, image.label, image.number, image.body.data, image.body.size - 1));
                lock_table_free(other);
                other = lock_table_new();
                load_image(other, &image);
                ck_assert(!lock_table_load(other, image.kind, image.key, image.label, image.number, image.body.data, image.body.size));
                lock_table_free(other);
        }
        bytes_done(&image.body);
}
END_TEST

START_TEST(lock_whose_owner_is_missing_is_refused)
{
        struct lock_table *other = lock_table_new();
        struct lock_image image = { .kind = LOCK_IMAGE_LOCK };

        (void)ask(LOCK_CHANGE_PREEMPT, 1, 1, "alice", "a");
        while (lock_table_take_image(table, &image))
                if (image.kind == LOCK_IMAGE_LOCK)
                        load_image(other, &image);
        ck_assert(!lock_table_load_finish(other));
        lock_table_free(other);
        bytes_done(&image.body);
}
END_TEST

/* --- a change as bytes --- */

START_TEST(change_reads_back_whole_and_not_in_part)
{
        const struct lock_request request = request_of(LOCK_CHANGE_PREEMPT, 1, 1, "alice", "uid:1", "a");
        struct lock_decision decision = decide(&request);
        struct bytes bytes = { 0 };
        struct lock_change again;

        lock_change_put(&bytes, &decision.change);
        ck_assert(lock_change_get(LOCK_CHANGE_PREEMPT, bytes.data, bytes.size, &again));
        ck_assert(lock_name_equal(&again.name, &decision.change.name) && client_id_equal(&again.client, &decision.change.client));
        ck_assert(id128_equal(again.handle, decision.change.handle) && again.seq == 1);
        for (size_t size = 0; size < bytes.size; size++)
                ck_assert(!lock_change_get(LOCK_CHANGE_PREEMPT, bytes.data, size, &again));
        bytes_put_u8(&bytes, 0);
        ck_assert(!lock_change_get(LOCK_CHANGE_PREEMPT, bytes.data, bytes.size, &again));
        bytes_done(&bytes);
}
END_TEST

static Suite *suite(void)
{
        Suite *s = suite_create("lock");
        TCase *c = tcase_create("lock");

        tcase_add_checked_fixture(c, setup, teardown);
        tcase_add_test(c, free_lock_is_granted_and_its_token_is_the_index);
        tcase_add_test(c, held_lock_is_refused_naming_the_owner_also_to_the_owner);
        tcase_add_test(c, only_the_owner_releases);
        tcase_add_test(c, release_is_of_one_hold);
        tcase_add_test(c, what_is_appended_counts_before_it_is_applied);
        tcase_add_test(c, overlay_forgets_what_is_applied_and_keeps_what_is_newer);
        tcase_add_test(c, retry_gets_its_first_answer_whatever_happened_since);
        tcase_add_test(c, retry_that_cannot_be_told_from_a_forgotten_one_is_not_known);
        tcase_add_test(c, results_are_forgotten_after_ten_minutes_of_cluster_time);
        tcase_add_test(c, id_of_one_local_user_is_refused_to_another_but_not_to_root);
        tcase_add_test(c, assigned_id_belongs_to_who_asked_for_it);
        tcase_add_test(c, names_come_in_bytewise_order_by_prefix_and_after);
        tcase_add_test(c, table_tells_who_holds_a_lock);
        tcase_add_test(c, images_of_all_that_is_dirty_make_an_equal_table);
        tcase_add_test(c, deletion_of_what_the_disk_has_is_an_image_of_its_own);
        tcase_add_test(c, image_that_was_tampered_with_is_refused);
        tcase_add_test(c, lock_whose_owner_is_missing_is_refused);
        tcase_add_test(c, change_reads_back_whole_and_not_in_part);
        suite_add_tcase(s, c);
        return s;
}

int main(void)
{
        return run_suite(suite());
}
