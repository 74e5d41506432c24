/* The client library: several locks asked for at once, all or nothing. */
#include "unit/fake_node.h"

#define WAITER 7
#define GRANT 9
#define TTL_MS 6000

static const char *const more[] = { "b", "d", "a" };

static struct dlock_request asked_for(size_t count)
{
        return (struct dlock_request){ .operation = DLOCK_OP_PREEMPT, .lock = "c", .further = more, .further_count = count };
}

static uint64_t submit(const struct dlock_request *request)
{
        int64_t id = dlock_submit(dlock, request);

        ck_assert_msg(id > 0, "%s", dlock_get_error(dlock));
        return (uint64_t)id;
}

static void say(unsigned n, const struct wire_request *request, enum wire_outcome outcome, uint64_t token, const char *owner, const char *reason)
{
        struct wire_result result = { .tag = request->tag, .outcome = outcome, .token = token, .index = 20, .leader_age_ms = -1 };
        struct bytes out = { 0 };

        if (owner)
                ck_assert(client_id_set(&result.owner, owner, strlen(owner)));
        (void)strcpy(result.reason, reason);
        wire_write_result(&out, &result);
        node_say(n, &out);
}

/* In order, whatever order they were named in. */
static void check_names(struct wire_request *request)
{
        static const char *const names[] = { "b", "c", "d" };
        struct lock_name name;

        ck_assert_int_eq(request->type, WIRE_PREEMPT);
        ck_assert_str_eq(request->name.text, "a");
        ck_assert_uint_eq(request->further.count, 3);
        for (unsigned i = 0; i < 3; i++) {
                ck_assert(names_view_take(&request->further, &name));
                ck_assert_str_eq(name.text, names[i]);
        }
}

START_TEST(names_are_asked_for_in_order_and_answered_by_the_first_that_was_named)
{
        struct dlock_request asked = asked_for(3);
        struct wire_request request;
        struct dlock_answer answer;

        greeted_handle();
        (void)submit(&asked);
        request = node_wait_request(0);
        check_names(&request);
        node_answer(0, &request, WIRE_YES, GRANT);
        answer = wait_answer();
        ck_assert_int_eq(answer.outcome, DLOCK_YES);
        ck_assert_str_eq(answer.lock, "c");
        ck_assert_uint_eq(answer.token, GRANT);
        /* The next one, in the memory of this, is about one. */
        asked.further_count = 0;
        (void)submit(&asked);
        request = node_wait_request(0);
        ck_assert_str_eq(request.name.text, "c");
        ck_assert_uint_eq(request.further.count, 0);
        node_answer(0, &request, WIRE_YES, GRANT + 1);
        ck_assert_str_eq(wait_answer().lock, "c");
}
END_TEST

START_TEST(other_requests_are_about_one_lock)
{
        static const enum dlock_operation operations[] = { DLOCK_OP_RELEASE, DLOCK_OP_CHECK, DLOCK_OP_KEEP };
        struct dlock_request asked = asked_for(100);
        struct wire_request request;

        asked.operation = operations[_i];
        asked.token = 5;
        greeted_handle();
        (void)submit(&asked);
        request = node_wait_request(0);
        ck_assert_str_eq(request.name.text, "c");
        ck_assert_uint_eq(request.further.count, 0);
}
END_TEST

START_TEST(what_cannot_be_asked_for_at_once_is_told)
{
        static const char *const twice[] = { "a", "b", "a" }, *const itself[] = { "c" }, *const none[] = { NULL }, *const bad[] = { "a\nb" }, *const empty[] = { "" },
                                 *const many[] = { "1", "2", "3", "4", "5", "6", "7", "8" };
        static const struct {
                const char *const *further;
                size_t count;
                uint32_t slots;
                uint64_t period_ms;
                const char *words;
        } wrong[] = {
                { twice, 3, 0, 0, "a is asked for twice: each lock once would be right" },
                { itself, 1, 0, 0, "c is asked for twice: each lock once would be right" },
                { none, 1, 0, 0, "not a lock name" },
                { bad, 1, 0, 0, "not a lock name" },
                { empty, 1, 0, 0, "not a lock name" },
                { many, 8, 0, 0, "up to 8 locks at once would be right" },
                { many, SIZE_MAX, 0, 0, "up to 8 locks at once would be right" },
                { many, 7, 2, 0, "without slots and period would be right" },
                { many, 7, DLOCK_SHARED, 0, "without slots and period would be right" },
                { many, 7, 0, DLOCK_PERIOD_MIN, "without slots and period would be right" },
        };
        struct dlock_request asked = asked_for(0);
        struct wire_request request;

        greeted_handle();
        for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
                asked.further = wrong[i].further;
                asked.further_count = wrong[i].count;
                asked.slots = wrong[i].slots;
                asked.period_ms = wrong[i].period_ms;
                ck_assert_int_eq(dlock_submit(dlock, &asked), -EINVAL);
                ck_assert_msg(strstr(dlock_get_error(dlock), wrong[i].words) != NULL, "%zu: %s", i, dlock_get_error(dlock));
        }
        asked = asked_for(0);
        asked.further = many;
        asked.further_count = DLOCK_LOCKS_MAX - 1;
        asked.slots = 1;
        (void)submit(&asked);
        request = node_wait_request(0);
        ck_assert_uint_eq(request.further.count, DLOCK_LOCKS_MAX - 1);
        ck_assert_str_eq(request.name.text, "1");
}
END_TEST

START_TEST(longest_names_fit)
{
        static char names[DLOCK_LOCKS_MAX][DLOCK_NAME_MAX + 1], note[DLOCK_NOTE_MAX + 1];
        const char *further[DLOCK_LOCKS_MAX - 1];
        struct dlock_request asked = { .operation = DLOCK_OP_PREEMPT, .lock = names[0], .further = further, .further_count = DLOCK_LOCKS_MAX - 1, .note = note };
        struct wire_request request;

        (void)memset(note, 'n', DLOCK_NOTE_MAX);
        for (unsigned i = 0; i < DLOCK_LOCKS_MAX; i++) {
                (void)memset(names[i], 'x', DLOCK_NAME_MAX - 1);
                names[i][DLOCK_NAME_MAX - 1] = (char)('8' - i);
                if (i > 0)
                        further[i - 1] = names[i];
        }
        greeted_handle();
        (void)submit(&asked);
        request = node_wait_request(0);
        ck_assert_uint_eq(request.further.count, DLOCK_LOCKS_MAX - 1);
        ck_assert_str_eq(request.name.text, names[DLOCK_LOCKS_MAX - 1]);
}
END_TEST

START_TEST(who_is_refused_for_one_that_waits_is_told_so)
{
        struct dlock_request asked = asked_for(3);
        struct wire_request request;
        struct dlock_answer answer;

        greeted_handle();
        (void)submit(&asked);
        request = node_wait_request(0);
        say(0, &request, WIRE_NO, 0, NULL, "it is free, but somebody waits for it and for others together");
        answer = wait_answer();
        ck_assert_int_eq(answer.outcome, DLOCK_NO);
        ck_assert_str_eq(answer.lock, "c");
        ck_assert_ptr_null(answer.owner);
        ck_assert_uint_eq(answer.token, 0);
        ck_assert_str_eq(answer.reason, "it is free, but somebody waits for it and for others together");
        (void)submit(&asked);
        request = node_wait_request(0);
        say(0, &request, WIRE_NO, 3, "bob", "");
        answer = wait_answer();
        ck_assert_str_eq(answer.owner, "bob");
        ck_assert_str_eq(answer.reason, "");
}
END_TEST

START_TEST(lease_of_them_is_renewed_as_one)
{
        struct dlock_request asked = asked_for(3);
        struct wire_request request;
        struct dlock_answer answer;
        struct dlock_hold *hold;

        asked.ttl_ms = TTL_MS;
        greeted_handle();
        (void)submit(&asked);
        request = node_wait_request(0);
        check_names(&request);
        say(0, &request, WIRE_YES, GRANT, "me", "");
        answer = wait_answer();
        ck_assert_uint_eq(answer.session, GRANT);
        ck_assert_int_eq(dlock_hold_new(&hold, dlock, &answer, 0, NULL, NULL), 0);
        pass_ms(TTL_MS / 2);
        request = node_wait_request(0);
        ck_assert_int_eq(request.type, WIRE_RENEW);
        ck_assert_uint_eq(request.session, GRANT);
        say(0, &request, WIRE_YES, GRANT, NULL, "");
        go_on(5);
        ck_assert_int_eq(dlock_hold_get_state(hold), DLOCK_HELD);
        hold = dlock_hold_free(hold);
}
END_TEST

/* Asked about by the first name in order; kept, or given up, by it too. */
START_TEST(who_waits_for_them_does_so_by_the_first)
{
        struct dlock_request asked = asked_for(3);
        struct wire_request request;
        struct dlock_answer answer;
        uint64_t id;

        asked.wait_ms = DLOCK_WAIT_FOREVER;
        greeted_handle();
        id = submit(&asked);
        request = node_wait_request(0);
        check_names(&request);
        ck_assert(request.wait);
        say(0, &request, WIRE_WAITING, WAITER, NULL, "");
        request = node_wait_request(0);
        ck_assert_int_eq(request.type, WIRE_AWAIT);
        ck_assert_str_eq(request.name.text, "a");
        ck_assert_uint_eq(request.token, WAITER);
        if (_i)
                ck_assert_int_eq(dlock_give_up(dlock, id), 0);
        else
                say(0, &request, WIRE_YES, GRANT, "me", "");
        request = node_wait_request(0);
        ck_assert_int_eq(request.type, _i ? WIRE_RELEASE : WIRE_KEEP);
        ck_assert_str_eq(request.name.text, "a");
        ck_assert_uint_eq(request.token, _i ? WAITER : GRANT);
        say(0, &request, WIRE_YES, request.token, NULL, "");
        answer = wait_answer();
        ck_assert_uint_eq(answer.id, id);
        ck_assert_int_eq(answer.outcome, _i ? DLOCK_NO : DLOCK_YES);
        ck_assert_str_eq(answer.lock, "c");
        ck_assert_uint_eq(answer.token, _i ? 0 : GRANT);
}
END_TEST

START_TEST(copy_for_another_node_has_all_names)
{
        struct dlock_request asked = asked_for(3);
        struct wire_request first, again, cancel;
        struct dlock_answer answer;

        node_start(0);
        node_start(1);
        make_handle(2);
        (void)submit(&asked);
        node_greet(0);
        first = node_wait_request(0);
        check_names(&first);
        node_stop(0);
        node_greet(1);
        again = node_wait_request(1);
        ck_assert(id128_equal(first.handle, again.handle));
        check_names(&again);
        say(1, &again, WIRE_NO, 3, "bob", "");
        cancel = node_wait_request(1);
        ck_assert_int_eq(cancel.type, WIRE_CANCEL);
        ck_assert_str_eq(cancel.name.text, "a");
        say(1, &cancel, WIRE_YES, _i ? GRANT : 0, NULL, "");
        answer = wait_answer();
        ck_assert_int_eq(answer.outcome, _i ? DLOCK_YES : DLOCK_NO);
        ck_assert_str_eq(answer.lock, "c");
        ck_assert_str_eq(answer.owner, _i ? "me" : "bob");
}
END_TEST

static Suite *suite(void)
{
        Suite *s = suite_create("further");
        TCase *c = tcase_create("further");

        tcase_add_checked_fixture(c, set_up, tear_down);
        tcase_set_timeout(c, 120);
        tcase_add_test(c, names_are_asked_for_in_order_and_answered_by_the_first_that_was_named);
        tcase_add_loop_test(c, other_requests_are_about_one_lock, 0, 3);
        tcase_add_test(c, what_cannot_be_asked_for_at_once_is_told);
        tcase_add_test(c, longest_names_fit);
        tcase_add_test(c, who_is_refused_for_one_that_waits_is_told_so);
        tcase_add_test(c, lease_of_them_is_renewed_as_one);
        tcase_add_loop_test(c, who_waits_for_them_does_so_by_the_first, 0, 2);
        tcase_add_loop_test(c, copy_for_another_node_has_all_names, 0, 2);
        suite_add_tcase(s, c);
        return s;
}

int main(void)
{
        return run_suite(suite());
}
