/* The client library with releases, each of one hold: who does not say which is asked for the token first. */
#include "unit/fake_node.h"

static void say_owner(unsigned n, const struct wire_request *request, const char *owner, uint64_t token)
{
        struct wire_result result = { .tag = request->tag, .outcome = WIRE_YES, .token = token, .index = 30, .leader_age_ms = 4 };
        struct bytes out = { 0 };

        ck_assert(client_id_set(&result.owner, owner, strlen(owner)));
        wire_write_result(&out, &result);
        node_say(n, &out);
}

static void release(uint64_t token)
{
        ck_assert_int_gt(dlock_submit(dlock, &(struct dlock_request){ .operation = DLOCK_OP_RELEASE, .lock = "x", .token = token }), 0);
}

static struct wire_request wait_question(unsigned n)
{
        struct wire_request request = node_wait_request(n);

        ck_assert_int_eq(request.type, WIRE_CHECK);
        ck_assert(request.consistent);
        ck_assert_str_eq(request.client.text, "me");      /* of those who hold it together this one is meant */
        ck_assert_uint_eq(request.token, 0);
        ck_assert_str_eq(request.name.text, "x");
        return request;
}

static struct wire_request wait_release(unsigned n, uint64_t token)
{
        struct wire_request request = node_wait_request(n);

        ck_assert_int_eq(request.type, WIRE_RELEASE);
        ck_assert_str_eq(request.client.text, "me");
        ck_assert_uint_eq(request.token, token);
        return request;
}

START_TEST(token_that_is_known_goes_out_at_once)
{
        struct wire_request request;
        struct dlock_answer answer;

        greeted_handle();
        release(17);
        request = wait_release(0, 17);
        node_answer(0, &request, WIRE_YES, 17);
        answer = wait_answer();
        ck_assert_int_eq(answer.outcome, DLOCK_YES);
        ck_assert_int_eq(answer.operation, DLOCK_OP_RELEASE);
        ck_assert_uint_eq(answer.token, 17);
}
END_TEST

START_TEST(token_is_asked_for_when_it_is_not_known)
{
        struct wire_request request;
        struct dlock_answer answer;

        greeted_handle();
        release(0);
        request = wait_question(0);
        say_owner(0, &request, "me", 21);
        request = wait_release(0, 21);
        ck_assert_uint_eq(request.seq, 1);
        node_answer(0, &request, WIRE_YES, 21);
        answer = wait_answer();
        ck_assert_int_eq(answer.outcome, DLOCK_YES);
        ck_assert_uint_eq(answer.token, 21);
        ck_assert_int_eq(answer.leader_age_ms, -1);
}
END_TEST

START_TEST(lock_of_another_is_not_released)
{
        struct wire_request request;
        struct dlock_answer answer;
        struct wire_frame frame;

        greeted_handle();
        release(0);
        request = wait_question(0);
        if (_i == 0)
                say_owner(0, &request, "another", 22);
        else
                node_answer(0, &request, WIRE_NO, 30);
        answer = wait_answer();
        ck_assert_int_eq(answer.outcome, DLOCK_NO);
        if (_i == 0)
                ck_assert_str_eq(answer.owner, "another");
        go_on(5);
        ck_assert(!node_hears(0, &frame));
}
END_TEST

/* Nothing was released: that is no outcome of a release that nobody knows. But who has the lock nobody knows either. */
START_TEST(question_without_an_answer_releases_nothing)
{
        struct wire_request request;
        struct dlock_answer answer;

        greeted_handle();
        release(0);
        request = wait_question(0);
        if (_i == 0) {
                node_answer(0, &request, WIRE_UNKNOWN, 0);
                answer = wait_answer();
                ck_assert_int_eq(answer.outcome, DLOCK_UNKNOWN);
                ck_assert_ptr_nonnull(strstr(answer.reason, "because"));
        } else {
                node_stop(0);
                pass_s(11);
                answer = wait_answer();
                ck_assert_int_eq(answer.outcome, DLOCK_UNREACHABLE);
        }
        ck_assert_ptr_null(strstr(answer.reason, "may have happened"));
}
END_TEST

START_TEST(copies_of_the_question_are_no_copies_of_the_release)
{
        struct wire_request request;

        node_start(0);
        node_start(1);
        make_handle(2);
        release(0);
        node_greet(0);
        (void)wait_question(0);
        node_stop(0);
        node_greet(1);
        request = wait_question(1);
        say_owner(1, &request, "me", 21);
        request = wait_release(1, 21);
        node_answer(1, &request, WIRE_NO, 30);   /* the only copy: nothing to cancel */
        ck_assert_int_eq(wait_answer().outcome, DLOCK_NO);
}
END_TEST

START_TEST(release_that_was_found_is_sent_again_as_it_is)
{
        struct wire_request request, again;

        node_start(0);
        node_start(1);
        make_handle(2);
        release(0);
        node_greet(0);
        request = wait_question(0);
        say_owner(0, &request, "me", 21);
        request = wait_release(0, 21);
        node_stop(0);
        node_greet(1);
        again = wait_release(1, 21);
        ck_assert(id128_equal(again.handle, request.handle));
        ck_assert_uint_eq(again.seq, request.seq);
        node_answer(1, &again, WIRE_YES, 21);
        ck_assert_int_eq(wait_answer().outcome, DLOCK_YES);
}
END_TEST

/* The nodes forget a handle in ten minutes, and finding out may take longer. */
START_TEST(release_that_was_found_late_has_a_new_handle)
{
        struct wire_request request;
        struct id128 handle;

        greeted_handle();
        ck_assert_int_eq(dlock_set_timeout(dlock, 3600000), 0);
        (void)ask(DLOCK_OP_PREEMPT, "x");
        request = node_wait_request(0);
        handle = request.handle;
        node_answer(0, &request, WIRE_YES, 21);
        (void)wait_answer();
        release(0);
        request = wait_question(0);
        pass_s(_i ? 1200 : 10);
        say_owner(0, &request, "me", 21);
        request = wait_release(0, 21);
        ck_assert(id128_equal(request.handle, handle) == (_i == 0));
        ck_assert_uint_eq(request.seq, _i ? 1 : 2);
}
END_TEST

START_TEST(question_without_an_answer_in_time_says_that_nothing_was_released)
{
        struct dlock_answer answer;

        greeted_handle();
        ck_assert_int_eq(dlock_set_timeout(dlock, 1000), 0);
        release(0);
        (void)wait_question(0);
        pass_s(1);
        answer = wait_answer();
        ck_assert_int_eq(answer.outcome, DLOCK_UNKNOWN);
        ck_assert_ptr_nonnull(strstr(answer.reason, "nothing was released"));
}
END_TEST

START_TEST(what_a_node_said_of_the_question_is_not_said_of_the_release)
{
        struct wire_request request;
        struct dlock_answer answer;

        node_start(0);
        node_start(1);
        make_handle(2);
        release(0);
        node_greet(0);
        request = wait_question(0);
        node_answer(0, &request, WIRE_UNKNOWN, 0);
        node_greet(1);
        request = wait_question(1);
        say_owner(1, &request, "me", 21);
        (void)wait_release(1, 21);
        pass_s(11);
        answer = wait_answer();
        ck_assert_int_eq(answer.outcome, DLOCK_UNKNOWN);
        ck_assert_ptr_nonnull(strstr(answer.reason, "may have happened"));
        ck_assert_ptr_null(strstr(answer.reason, "because"));
}
END_TEST

static Suite *suite(void)
{
        Suite *s = suite_create("release");
        TCase *c = tcase_create("release");

        tcase_add_checked_fixture(c, set_up, tear_down);
        tcase_set_timeout(c, 120);
        suite_add_tcase(s, c);
        tcase_add_test(c, token_that_is_known_goes_out_at_once);
        tcase_add_test(c, token_is_asked_for_when_it_is_not_known);
        tcase_add_loop_test(c, lock_of_another_is_not_released, 0, 2);
        tcase_add_loop_test(c, question_without_an_answer_releases_nothing, 0, 2);
        tcase_add_test(c, copies_of_the_question_are_no_copies_of_the_release);
        tcase_add_test(c, release_that_was_found_is_sent_again_as_it_is);
        tcase_add_loop_test(c, release_that_was_found_late_has_a_new_handle, 0, 2);
        tcase_add_test(c, question_without_an_answer_in_time_says_that_nothing_was_released);
        tcase_add_test(c, what_a_node_said_of_the_question_is_not_said_of_the_release);
        return s;
}

int main(void)
{
        return run_suite(suite());
}
