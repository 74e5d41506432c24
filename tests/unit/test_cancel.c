/* The client library with a request that was refused and had been sent more than once: no copy of it may happen later. */
#include "unit/fake_node.h"

static const enum dlock_operation operations[] = { DLOCK_OP_PREEMPT, DLOCK_OP_RELEASE };
static const enum wire_type types[] = { WIRE_PREEMPT, WIRE_RELEASE };

/* A handle whose request has been sent to node 0, which fell silent for ever, and then to node 1. Returns that second copy. */
static struct wire_request sent_twice(enum dlock_operation operation)
{
        struct wire_request first, again;

        node_start(0);
        node_start(1);
        make_handle(2);
        (void)ask(operation, "x");
        node_greet(0);
        first = node_wait_request(0);
        node_stop(0);
        node_greet(1);
        again = node_wait_request(1);
        ck_assert(id128_equal(first.handle, again.handle));
        return again;
}

static void node_says_cancelled(unsigned n, const struct wire_request *request, uint64_t token)
{
        struct wire_result result = { .tag = request->tag, .outcome = WIRE_YES, .token = token, .index = 20, .leader_age_ms = -1 };
        struct bytes out = { 0 };

        wire_write_result(&out, &result);
        node_say(n, &out);
}

static void check_cancel_of(const struct wire_request *cancel, const struct wire_request *request)
{
        ck_assert_int_eq(cancel->type, WIRE_CANCEL);
        ck_assert(id128_equal(cancel->handle, request->handle));
        ck_assert_uint_eq(cancel->seq, request->seq);
        ck_assert_str_eq(cancel->client.text, request->client.text);
        ck_assert_str_eq(cancel->name.text, request->name.text);
        ck_assert_uint_gt(cancel->deadline_ms, 0);
        ck_assert_uint_le(cancel->deadline_ms, DLOCK_TIMEOUT_DEFAULT);
}

/* Node 1 refuses, and is asked that it shall not happen. */
static struct wire_request refused(const struct wire_request *request, enum wire_outcome outcome)
{
        struct wire_request cancel;

        node_answer(1, request, outcome, 9);
        cancel = node_wait_request(1);
        check_cancel_of(&cancel, request);
        return cancel;
}

START_TEST(refusal_of_the_only_copy_is_told_at_once)
{
        static const enum wire_outcome outcomes[] = { WIRE_NO, WIRE_REJECTED };
        static const enum dlock_outcome seen[] = { DLOCK_NO, DLOCK_REJECTED };
        struct wire_request request;
        struct wire_frame frame;

        greeted_handle();
        (void)ask(operations[_i / 2], "x");
        request = node_wait_request(0);
        node_answer(0, &request, outcomes[_i % 2], 9);
        ck_assert_int_eq(wait_answer().outcome, seen[_i % 2]);
        go_on(5);
        ck_assert(!node_hears(0, &frame));
}
END_TEST

START_TEST(refusal_of_one_copy_is_told_when_no_copy_can_happen)
{
        struct wire_request request = sent_twice(operations[_i]), cancel, next;
        struct dlock_answer answer;

        ck_assert_int_eq(request.type, types[_i]);
        cancel = refused(&request, WIRE_NO);
        go_on(5);
        node_says_cancelled(1, &cancel, 0);
        answer = wait_answer();
        ck_assert_int_eq(answer.operation, operations[_i]);
        ck_assert_int_eq(answer.outcome, DLOCK_NO);
        ck_assert_str_eq(answer.owner, "somebody");
        ck_assert_uint_eq(answer.token, 3);
        ck_assert_uint_eq(answer.index, 9);
        ck_assert_str_eq(answer.reason, "");
        ck_assert_ptr_nonnull(strstr(answer.server, "1.sock"));
        ck_assert_int_eq(dlock_get_timeout(dlock), -1);
        /* What the nodes have heard of the handle is in their log. */
        (void)ask(operations[_i], "x");
        next = node_wait_request(1);
        ck_assert_int_eq(next.type, types[_i]);
        ck_assert(id128_equal(next.handle, request.handle));
        ck_assert_uint_eq(next.seq, request.seq + 1);
}
END_TEST

START_TEST(rejection_of_one_copy_is_told_when_no_copy_can_happen)
{
        struct wire_request request = sent_twice(operations[_i]), cancel = refused(&request, WIRE_REJECTED);
        struct dlock_answer answer;

        node_says_cancelled(1, &cancel, 0);
        answer = wait_answer();
        ck_assert_int_eq(answer.outcome, DLOCK_REJECTED);
        ck_assert_str_eq(answer.reason, "because");
        ck_assert_ptr_null(answer.owner);
}
END_TEST

START_TEST(refusal_of_one_copy_is_a_yes_when_another_has_happened)
{
        struct wire_request request = sent_twice(operations[_i]), cancel = refused(&request, WIRE_NO);
        struct dlock_answer answer;

        node_says_cancelled(1, &cancel, 17);
        answer = wait_answer();
        ck_assert_int_eq(answer.outcome, DLOCK_YES);
        ck_assert_uint_eq(answer.token, 17);
        ck_assert_uint_eq(answer.index, 20);
        if (_i == 0)
                ck_assert_str_eq(answer.owner, "me");
        else
                ck_assert_ptr_null(answer.owner);
        ck_assert_str_eq(answer.reason, "");
}
END_TEST

/* And nothing of the refusal is left, nor of the handle. */
static void check_unknown(const struct wire_request *request, const char *reason)
{
        struct dlock_answer answer = wait_answer();
        struct wire_request next;

        ck_assert_int_eq(answer.outcome, DLOCK_UNKNOWN);
        ck_assert_ptr_null(answer.owner);
        ck_assert_uint_eq(answer.token, 0);
        ck_assert_uint_eq(answer.index, 0);
        ck_assert_ptr_nonnull(strstr(answer.reason, "it was refused, but had been sent more than once"));
        ck_assert_msg(strstr(answer.reason, reason) != NULL, "%s", answer.reason);
        ck_assert_int_eq(dlock_get_timeout(dlock), -1);
        (void)ask(DLOCK_OP_PREEMPT, "x");
        if (nodes[1].fd < 0)
                node_greet(1);
        next = node_wait_request(1);
        ck_assert(!id128_equal(next.handle, request->handle));
        ck_assert_uint_eq(next.seq, 1);
}

START_TEST(cancel_that_nobody_answers_leaves_the_outcome_unknown)
{
        struct wire_request request = sent_twice(operations[_i]), cancel = refused(&request, WIRE_NO), again;

        /* It is sent again like any other request. */
        node_hang_up(1);
        node_greet(1);
        again = node_wait_request(1);
        check_cancel_of(&again, &request);
        ck_assert_uint_eq(again.tag, cancel.tag);
        pass_s(10);
        check_unknown(&request, "no answer from");
}
END_TEST

START_TEST(cancel_that_finds_no_server_leaves_the_outcome_unknown)
{
        struct wire_request request = sent_twice(operations[_i]);

        (void)refused(&request, WIRE_NO);
        node_stop(1);
        /* Longer than it takes to say that nobody is there, of what has not been sent. */
        go_on(1500);
        pass_s(10);
        ck_assert_int_eq(dlock_process(dlock), 0);
        node_start(1);
        check_unknown(&request, "1.sock");
}
END_TEST

START_TEST(cancel_that_one_node_cannot_carry_out_goes_to_the_next)
{
        struct wire_request request = sent_twice(operations[_i]), cancel = refused(&request, WIRE_NO);

        node_start(0);
        node_answer(1, &cancel, WIRE_UNKNOWN, 0);
        node_greet(0);
        cancel = node_wait_request(0);
        check_cancel_of(&cancel, &request);
        node_says_cancelled(0, &cancel, 0);
        ck_assert_int_eq(wait_answer().outcome, DLOCK_NO);
}
END_TEST

START_TEST(cancel_that_is_not_carried_out_leaves_the_outcome_unknown)
{
        static const enum wire_outcome outcomes[] = { WIRE_UNKNOWN, WIRE_REJECTED, WIRE_NO };
        struct wire_request request = sent_twice(DLOCK_OP_PREEMPT), cancel = refused(&request, WIRE_NO);

        node_answer(1, &cancel, outcomes[_i], 30);
        if (_i == 0) {                       /* the other one, too, cannot tell */
                node_start(0);
                node_greet(0);
                cancel = node_wait_request(0);
                node_answer(0, &cancel, WIRE_UNKNOWN, 0);
                node_stop(0);
                node_hang_up(1);
        }
        check_unknown(&request, _i == 2 ? "could not say" : "because");
}
END_TEST

START_TEST(copy_that_a_node_could_not_judge_is_a_copy)
{
        struct wire_request first, again, cancel;

        node_start(0);
        node_start(1);
        make_handle(2);
        (void)ask(DLOCK_OP_PREEMPT, "x");
        node_greet(0);
        first = node_wait_request(0);
        node_answer(0, &first, WIRE_UNKNOWN, 0);
        node_greet(1);
        again = node_wait_request(1);
        cancel = refused(&again, WIRE_NO);
        node_says_cancelled(1, &cancel, 0);
        ck_assert_int_eq(wait_answer().outcome, DLOCK_NO);
}
END_TEST

START_TEST(refusal_after_a_minute_is_not_cancelled_any_more)
{
        struct wire_request first, again;
        struct wire_frame frame;

        node_start(1);
        node_start(0);
        make_handle(2);
        ck_assert_int_eq(dlock_set_timeout(dlock, 600000), 0);
        (void)ask(DLOCK_OP_PREEMPT, "x");
        node_greet(0);
        first = node_wait_request(0);
        node_stop(0);
        node_greet(1);
        again = node_wait_request(1);
        ck_assert(id128_equal(first.handle, again.handle));
        pass_s(61);
        node_answer(1, &again, WIRE_NO, 9);
        ck_assert_int_eq(wait_answer().outcome, DLOCK_UNKNOWN);
        ck_assert(!node_hears(1, &frame));
}
END_TEST

START_TEST(reads_that_were_sent_twice_are_just_answered)
{
        struct wire_request request = sent_twice(DLOCK_OP_CHECK);

        node_answer(1, &request, WIRE_NO, 9);
        ck_assert_int_eq(wait_answer().outcome, DLOCK_NO);
}
END_TEST

static Suite *suite(void)
{
        Suite *s = suite_create("cancel");
        TCase *c = tcase_create("cancel");

        tcase_add_checked_fixture(c, set_up, tear_down);
        tcase_set_timeout(c, 120);
        suite_add_tcase(s, c);
        tcase_add_loop_test(c, refusal_of_the_only_copy_is_told_at_once, 0, 4);
        tcase_add_loop_test(c, refusal_of_one_copy_is_told_when_no_copy_can_happen, 0, 2);
        tcase_add_loop_test(c, rejection_of_one_copy_is_told_when_no_copy_can_happen, 0, 2);
        tcase_add_loop_test(c, refusal_of_one_copy_is_a_yes_when_another_has_happened, 0, 2);
        tcase_add_loop_test(c, cancel_that_nobody_answers_leaves_the_outcome_unknown, 0, 2);
        tcase_add_loop_test(c, cancel_that_finds_no_server_leaves_the_outcome_unknown, 0, 2);
        tcase_add_loop_test(c, cancel_that_one_node_cannot_carry_out_goes_to_the_next, 0, 2);
        tcase_add_loop_test(c, cancel_that_is_not_carried_out_leaves_the_outcome_unknown, 0, 3);
        tcase_add_test(c, copy_that_a_node_could_not_judge_is_a_copy);
        tcase_add_test(c, refusal_after_a_minute_is_not_cancelled_any_more);
        tcase_add_test(c, reads_that_were_sent_twice_are_just_answered);
        return s;
}

int main(void)
{
        return run_suite(suite());
}
