/* The client library with sessions and leases: what is asked, and until when an answer lets a client believe that it lives. */
#include "base/clock.h"
#include "unit/fake_node.h"

#define SESSION 77
#define TTL_MS 10050

/* The same less 1 %, rounded so that it is never too long. */
#define LIFE_MS (TTL_MS - 101)

static struct dlock_request open_request(void)
{
        return (struct dlock_request){ .operation = DLOCK_OP_OPEN, .ttl_ms = TTL_MS };
}

static struct dlock_request lease_request(void)
{
        return (struct dlock_request){ .operation = DLOCK_OP_PREEMPT, .lock = "x", .ttl_ms = TTL_MS };
}

static struct dlock_request renew_request(void)
{
        return (struct dlock_request){ .operation = DLOCK_OP_RENEW, .session = SESSION, .ttl_ms = TTL_MS };
}

static struct dlock_request close_request(void)
{
        return (struct dlock_request){ .operation = DLOCK_OP_CLOSE, .session = SESSION };
}

static void submit(struct dlock_request request)
{
        ck_assert_msg(dlock_submit(dlock, &request) > 0, "%s", dlock_get_error(dlock));
}

static struct wire_request asked(unsigned n, struct dlock_request request)
{
        submit(request);
        return node_wait_request(n);
}

/* The answer was sent for between two moments, and no earlier one is told. */
static void check_deadline(const struct dlock_answer *answer, uint64_t sent_after, uint64_t sent_before)
{
        ck_assert_uint_eq(answer->ttl_ms, TTL_MS);
        ck_assert_uint_ge(answer->deadline_ms, sent_after + LIFE_MS);
        ck_assert_uint_le(answer->deadline_ms, sent_before + LIFE_MS);
}

START_TEST(open_asks_for_a_session_and_tells_until_when_it_lives)
{
        struct dlock_request request = open_request();
        struct wire_request seen;
        struct dlock_answer answer;
        struct holder holder;
        uint64_t before, after;

        greeted_handle();
        request.note = "worker";
        before = clock_boottime_ms();
        seen = asked(0, request);
        after = clock_boottime_ms();
        ck_assert_int_eq(seen.type, WIRE_OPEN);
        ck_assert_str_eq(seen.client.text, "me");
        ck_assert(!id128_is_null(seen.handle));
        ck_assert_uint_eq(seen.seq, 1);
        ck_assert_uint_eq(seen.ttl_ms, TTL_MS);
        ck_assert(holder_get(seen.holder, &holder));
        ck_assert_str_eq(holder.note, "worker");
        ck_assert_uint_eq(holder.pid, (uint32_t)getpid());
        pass_ms(500);                        /* on its way */
        node_answer(0, &seen, WIRE_YES, SESSION);
        answer = wait_answer();
        ck_assert_int_eq(answer.operation, DLOCK_OP_OPEN);
        ck_assert_int_eq(answer.outcome, DLOCK_YES);
        ck_assert_str_eq(answer.lock, "");
        ck_assert_uint_eq(answer.session, SESSION);
        ck_assert_uint_eq(answer.token, 0);
        ck_assert_uint_eq(answer.index, SESSION);
        check_deadline(&answer, before, after);
}
END_TEST

START_TEST(lease_is_its_token_and_tells_until_when_it_lives)
{
        struct wire_request seen;
        struct dlock_answer answer;
        uint64_t before, after;

        greeted_handle();
        before = clock_boottime_ms();
        seen = asked(0, lease_request());
        after = clock_boottime_ms();
        ck_assert_int_eq(seen.type, WIRE_PREEMPT);
        ck_assert_uint_eq(seen.session, 0);
        ck_assert_uint_eq(seen.ttl_ms, TTL_MS);
        node_answer(0, &seen, WIRE_YES, 12);
        answer = wait_answer();
        ck_assert_int_eq(answer.outcome, DLOCK_YES);
        ck_assert_uint_eq(answer.token, 12);
        ck_assert_uint_eq(answer.session, 12);
        check_deadline(&answer, before, after);

        /* Refused: nothing lives. */
        seen = asked(0, lease_request());
        node_answer(0, &seen, WIRE_NO, 13);
        answer = wait_answer();
        ck_assert_int_eq(answer.outcome, DLOCK_NO);
        ck_assert_uint_eq(answer.session, 0);
        ck_assert_uint_eq(answer.deadline_ms, 0);
        ck_assert_uint_eq(answer.ttl_ms, 0);
}
END_TEST

static struct dlock_answer told(struct wire_result result, const struct wire_request *seen)
{
        struct bytes out = { 0 };

        result.tag = seen->tag;
        wire_write_result(&out, &result);
        node_say(0, &out);
        return wait_answer();
}

/* Nobody owns it: whoever had it is named for people only. */
START_TEST(lock_that_was_lost_is_no_for_as_long_as_its_delay)
{
        const struct wire_result delayed = { .outcome = WIRE_NO, .token = 5, .index = 9, .leader_age_ms = -1, .free_in_ms = 4200, .reason = "free in 4.2 s" };
        struct dlock_request request = lease_request();
        struct wire_request seen;
        struct dlock_answer answer;

        greeted_handle();
        request.lock_delay_ms = 700;
        seen = asked(0, request);
        ck_assert_uint_eq(seen.delay_ms, 700);
        answer = told(delayed, &seen);
        ck_assert_int_eq(answer.outcome, DLOCK_NO);
        ck_assert_uint_eq(answer.free_in_ms, 4200);
        ck_assert_uint_eq(answer.token, 5);
        ck_assert_ptr_null(answer.owner);
        ck_assert_str_eq(answer.reason, "free in 4.2 s");

        seen = asked(0, (struct dlock_request){ .operation = DLOCK_OP_CHECK, .lock = "x" });
        ck_assert_uint_eq(seen.delay_ms, 0);
        answer = told((struct wire_result){ .outcome = WIRE_NO, .leader_age_ms = 1, .free_in_ms = 300 }, &seen);
        ck_assert_uint_eq(answer.free_in_ms, 300);
        ck_assert_str_eq(answer.reason, "");

        request = open_request();
        request.lock_delay_ms = DLOCK_LOCK_DELAY_MAX;
        seen = asked(0, request);
        ck_assert_uint_eq(seen.delay_ms, DLOCK_LOCK_DELAY_MAX);
}
END_TEST

START_TEST(preempt_in_a_session_lives_as_long_as_that)
{
        struct dlock_request request = { .operation = DLOCK_OP_PREEMPT, .lock = "x", .session = SESSION };
        struct wire_request seen;
        struct dlock_answer answer;

        greeted_handle();
        seen = asked(0, request);
        ck_assert_uint_eq(seen.session, SESSION);
        ck_assert_uint_eq(seen.ttl_ms, 0);
        node_answer(0, &seen, WIRE_YES, 80);
        answer = wait_answer();
        ck_assert_int_eq(answer.outcome, DLOCK_YES);
        ck_assert_uint_eq(answer.token, 80);
        ck_assert_uint_eq(answer.session, 0);
        ck_assert_uint_eq(answer.deadline_ms, 0);
        /* A plain one names none. */
        seen = asked(0, (struct dlock_request){ .operation = DLOCK_OP_PREEMPT, .lock = "x" });
        ck_assert_uint_eq(seen.session, 0);
        ck_assert_uint_eq(seen.ttl_ms, 0);
}
END_TEST

START_TEST(renew_needs_no_request_id_and_moves_the_deadline)
{
        struct wire_request seen;
        struct dlock_answer answer;
        uint64_t before, after;

        greeted_handle();
        before = clock_boottime_ms();
        seen = asked(0, renew_request());
        after = clock_boottime_ms();
        ck_assert_int_eq(seen.type, WIRE_RENEW);
        ck_assert_str_eq(seen.client.text, "me");
        ck_assert_uint_eq(seen.session, SESSION);
        node_answer(0, &seen, WIRE_YES, SESSION);
        answer = wait_answer();
        ck_assert_int_eq(answer.outcome, DLOCK_YES);
        ck_assert_uint_eq(answer.session, SESSION);
        ck_assert_uint_eq(answer.token, 0);
        check_deadline(&answer, before, after);

        /* Whoever does not say how long it lives is not told until when. */
        seen = asked(0, (struct dlock_request){ .operation = DLOCK_OP_RENEW, .session = SESSION });
        pass_s(5);
        node_answer(0, &seen, WIRE_YES, SESSION);
        answer = wait_answer();
        ck_assert_int_eq(answer.outcome, DLOCK_YES);
        ck_assert_uint_eq(answer.session, SESSION);
        ck_assert_uint_eq(answer.deadline_ms, 0);

        seen = asked(0, renew_request());
        node_answer(0, &seen, WIRE_NO, 90);
        answer = wait_answer();
        ck_assert_int_eq(answer.outcome, DLOCK_NO);
        ck_assert_uint_eq(answer.session, 0);
        ck_assert_uint_eq(answer.deadline_ms, 0);
}
END_TEST

START_TEST(close_is_asked_under_a_request_id)
{
        static const enum wire_outcome outcomes[] = { WIRE_YES, WIRE_NO };
        static const enum dlock_outcome told[] = { DLOCK_YES, DLOCK_NO };
        struct wire_request seen;
        struct dlock_answer answer;

        greeted_handle();
        seen = asked(0, close_request());
        ck_assert_int_eq(seen.type, WIRE_CLOSE);
        ck_assert_str_eq(seen.client.text, "me");
        ck_assert(!id128_is_null(seen.handle));
        ck_assert_uint_eq(seen.session, SESSION);
        node_answer(0, &seen, outcomes[_i], SESSION);
        answer = wait_answer();
        ck_assert_int_eq(answer.outcome, told[_i]);
        ck_assert_uint_eq(answer.token, 0);
        ck_assert_uint_eq(answer.session, 0);
        ck_assert_uint_eq(answer.deadline_ms, 0);
}
END_TEST

/* One has been sent to node 0, which took it with it, and then to node 1 half a second later. */
static struct wire_request sent_twice(struct dlock_request request, struct wire_request *ret_first, uint64_t sent_before[2])
{
        struct wire_request again;

        node_start(0);
        node_start(1);
        make_handle(2);
        submit(request);
        node_greet(0);
        *ret_first = node_wait_request(0);
        sent_before[0] = clock_boottime_ms();
        pass_ms(500);
        node_stop(0);
        node_greet(1);
        again = node_wait_request(1);
        sent_before[1] = clock_boottime_ms();
        return again;
}

START_TEST(deadline_counts_from_the_first_copy_of_what_happens_once)
{
        struct wire_request first, again;
        struct dlock_answer answer;
        uint64_t sent_before[2];

        again = sent_twice(_i == 0 ? open_request() : lease_request(), &first, sent_before);
        ck_assert(id128_equal(first.handle, again.handle));
        ck_assert_uint_eq(first.seq, again.seq);
        ck_assert_uint_eq(first.ttl_ms, again.ttl_ms);
        node_answer(1, &again, WIRE_YES, SESSION);
        answer = wait_answer();
        ck_assert_int_eq(answer.outcome, DLOCK_YES);
        ck_assert_uint_le(answer.deadline_ms, sent_before[0] + LIFE_MS);
}
END_TEST

START_TEST(deadline_counts_from_the_copy_of_a_renewal_that_was_answered)
{
        struct wire_request first, again;
        struct dlock_answer answer;
        uint64_t sent_before[2];

        again = sent_twice(renew_request(), &first, sent_before);
        node_answer(1, &again, WIRE_YES, SESSION);
        answer = wait_answer();
        check_deadline(&answer, sent_before[0] + 500, sent_before[1]);
}
END_TEST

START_TEST(refused_open_and_close_are_told_at_once_although_sent_twice)
{
        static const enum wire_outcome outcomes[] = { WIRE_NO, WIRE_REJECTED };
        static const enum dlock_outcome told[] = { DLOCK_NO, DLOCK_REJECTED };
        struct wire_request first, again;
        struct wire_frame frame;
        uint64_t sent_before[2];

        again = sent_twice(_i / 2 == 0 ? open_request() : close_request(), &first, sent_before);
        node_answer(1, &again, outcomes[_i % 2], 9);
        ck_assert_int_eq(wait_answer().outcome, told[_i % 2]);
        go_on(5);
        ck_assert(!node_hears(1, &frame));
}
END_TEST

START_TEST(refused_lease_that_was_sent_twice_is_called_off)
{
        struct wire_request first, again, cancel;
        struct wire_result result = { .outcome = WIRE_YES, .token = _i == 0 ? 0 : 15, .index = 20, .leader_age_ms = -1 };
        struct bytes out = { 0 };
        struct dlock_answer answer;
        uint64_t sent_before[2];

        again = sent_twice(lease_request(), &first, sent_before);
        node_answer(1, &again, WIRE_NO, 9);
        cancel = node_wait_request(1);
        ck_assert_int_eq(cancel.type, WIRE_CANCEL);
        result.tag = cancel.tag;
        wire_write_result(&out, &result);
        node_say(1, &out);
        answer = wait_answer();
        ck_assert_int_eq(answer.outcome, _i == 0 ? DLOCK_NO : DLOCK_YES);
        ck_assert_uint_eq(answer.session, _i == 0 ? 0 : 15);
        if (_i == 1)
                ck_assert_uint_le(answer.deadline_ms, sent_before[0] + LIFE_MS);
}
END_TEST

START_TEST(yes_after_the_time_to_live_is_unknown)
{
        struct dlock_request requests[] = { open_request(), lease_request(), renew_request() };
        struct wire_request seen;
        struct dlock_answer answer;

        greeted_handle();
        requests[_i].timeout_ms = 60000;
        seen = asked(0, requests[_i]);
        pass_ms(LIFE_MS);
        node_answer(0, &seen, WIRE_YES, SESSION);
        answer = wait_answer();
        ck_assert_int_eq(answer.outcome, DLOCK_UNKNOWN);
        ck_assert_ptr_nonnull(strstr(answer.reason, "granted as 77, but told so late"));
        ck_assert_uint_eq(answer.session, 0);
        ck_assert_uint_eq(answer.deadline_ms, 0);
        /* Whoever wants to give it up knows which it is. */
        ck_assert_uint_eq(answer.token, _i == 1 ? SESSION : 0);
}
END_TEST

/* Of another session, or of none: the connection is given up, and another one asks again. */
START_TEST(yes_for_something_else_is_no_answer)
{
        struct dlock_request requests[] = { renew_request(), open_request(), lease_request() };
        struct wire_request seen;
        struct wire_result result = { .outcome = WIRE_YES, .token = _i == 0 ? SESSION + 1 : 0, .index = 20, .leader_age_ms = -1 };
        struct bytes out = { 0 };

        greeted_handle();
        seen = asked(0, requests[_i]);
        result.tag = seen.tag;
        wire_write_result(&out, &result);
        node_say(0, &out);
        go_on(5);
        node_hang_up(0);
        node_greet(0);
        seen = node_wait_request(0);
        node_answer(0, &seen, WIRE_YES, SESSION);
        ck_assert_int_eq(wait_answer().outcome, DLOCK_YES);
}
END_TEST

START_TEST(open_and_close_that_nobody_answered_may_have_happened_and_a_renewal_is_only_not_known)
{
        struct dlock_request requests[] = { open_request(), close_request(), renew_request() };
        struct dlock_answer answer;

        greeted_handle();
        (void)asked(0, requests[_i]);
        pass_s(11);
        answer = wait_answer();
        ck_assert_int_eq(answer.outcome, DLOCK_UNKNOWN);
        ck_assert_int_eq(strstr(answer.reason, "it may have happened or not") != NULL, _i < 2);
        ck_assert_uint_eq(answer.session, 0);
}
END_TEST

START_TEST(renewal_is_not_awaited_from_servers_that_are_gone)
{
        struct dlock_answer answer;
        struct dlock_request request = renew_request();

        request.timeout_ms = 3600000;
        greeted_handle();
        (void)asked(0, request);
        node_stop(0);
        answer = wait_answer();
        ck_assert_int_eq(answer.outcome, DLOCK_UNREACHABLE);
}
END_TEST

START_TEST(bad_requests_about_sessions_are_told_and_not_sent)
{
        static const struct {
                struct dlock_request request;
                const char *why;
        } bad[] = {
                { { .operation = DLOCK_OP_OPEN }, "a time to live of 1000 ms to 24 hours" },
                { { .operation = DLOCK_OP_OPEN, .ttl_ms = DLOCK_TTL_MIN - 1 }, "a time to live" },
                { { .operation = DLOCK_OP_OPEN, .ttl_ms = DLOCK_TTL_MAX + 1 }, "a time to live" },
                { { .operation = DLOCK_OP_OPEN, .ttl_ms = DLOCK_TTL_MIN, .note = "a\nb" }, "not a note" },
                { { .operation = DLOCK_OP_PREEMPT, .lock = "x", .ttl_ms = 1 }, "a time to live" },
                { { .operation = DLOCK_OP_PREEMPT, .lock = "x", .ttl_ms = DLOCK_TTL_MAX + 1 }, "a time to live" },
                { { .operation = DLOCK_OP_PREEMPT, .lock = "x", .ttl_ms = DLOCK_TTL_MIN, .session = 5 }, "one of both" },
                { { .operation = DLOCK_OP_PREEMPT, .lock = "x", .lock_delay_ms = 1 }, "one with a time to live" },
                { { .operation = DLOCK_OP_PREEMPT, .lock = "x", .wait_ms = 1, .lock_delay_ms = 1 }, "one with a time to live" },
                { { .operation = DLOCK_OP_PREEMPT, .lock = "x", .session = 5, .lock_delay_ms = 1 }, "one with a time to live" },
                { { .operation = DLOCK_OP_OPEN, .ttl_ms = DLOCK_TTL_MIN, .lock_delay_ms = DLOCK_LOCK_DELAY_MAX + 1 }, "up to 10 min" },
                { { .operation = DLOCK_OP_CLOSE }, "no session" },
                { { .operation = DLOCK_OP_RENEW, .ttl_ms = DLOCK_TTL_MIN }, "no session" },
                { { .operation = DLOCK_OP_RENEW, .session = 5, .ttl_ms = 1 }, "a time to live" },
        };

        make_handle(1);
        for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
                ck_assert_int_eq(dlock_submit(dlock, &bad[i].request), -EINVAL);
                ck_assert_msg(strstr(dlock_get_error(dlock), bad[i].why) != NULL, "%zu: %s", i, dlock_get_error(dlock));
                ck_assert_ptr_null(strchr(dlock_get_error(dlock), '\n'));
        }
        ck_assert_int_eq(dlock_get_timeout(dlock), -1);
        /* What is not of its operation is not looked at. */
        submit((struct dlock_request){ .operation = DLOCK_OP_RELEASE, .lock = "x", .token = 4, .ttl_ms = 1, .session = 9 });
        submit((struct dlock_request){ .operation = DLOCK_OP_CLOSE, .session = 9, .ttl_ms = 1 });
        submit((struct dlock_request){ .operation = DLOCK_OP_OPEN, .session = 9, .ttl_ms = DLOCK_TTL_MAX });
}
END_TEST

START_TEST(open_and_renew_ask_for_an_id_when_one_is_wanted)
{
        struct wire_hello hello;

        node_start(0);
        make_handle(1);
        ck_assert_int_eq(dlock_set_client(dlock, ""), 0);
        submit(_i == 0 ? open_request() : renew_request());
        hello = node_wait_hello(0);
        ck_assert(hello.assign);
        node_welcome(0, cluster, "assigned-7");
        ck_assert_str_eq(node_wait_request(0).client.text, "assigned-7");
}
END_TEST

START_TEST(rows_tell_in_which_session_a_lock_is_held)
{
        struct wire_request seen;
        struct dlock_answer answer;
        struct wire_page page = { .outcome = WIRE_YES, .index = 30, .leader_age_ms = 4, .count = 2 };
        struct wire_row rows[2] = { { .holders = 1, .token = 12, .session = 9, .ttl_ms = 3000, .delay_ms = 1030, .expires_ms = 2345 }, { .holders = 1, .token = 13, .expires_ms = -1 } };
        struct bytes out = { 0 };
        size_t frame;

        greeted_handle();
        seen = asked(0, (struct dlock_request){ .operation = DLOCK_OP_LIST });
        page.tag = seen.tag;
        frame = wire_write_page_begin(&out, WIRE_ROWS, &page);
        for (unsigned i = 0; i < 2; i++) {
                char name[2] = { (char)('a' + (char)i), 0 };

                ck_assert(lock_name_set(&rows[i].lock, name, 1) && client_id_set(&rows[i].owner, "alice", 5) && principal_set(&rows[i].principal, "uid:9", 5));
                wire_write_row(&out, &rows[i]);
        }
        wire_write_page_end(&out, frame);
        node_say(0, &out);
        answer = wait_answer();
        ck_assert_uint_eq(answer.count, 2);
        ck_assert_uint_eq(answer.rows[0].session, 9);
        ck_assert_uint_eq(answer.rows[0].ttl_ms, 3000);
        ck_assert_uint_eq(answer.rows[0].lock_delay_ms, 1030);
        ck_assert_int_eq(answer.rows[0].expires_ms, 2345);
        ck_assert_uint_eq(answer.rows[1].session, 0);
        ck_assert_uint_eq(answer.rows[1].ttl_ms, 0);
        ck_assert_int_eq(answer.rows[1].expires_ms, -1);
}
END_TEST

static Suite *suite(void)
{
        Suite *s = suite_create("session");
        TCase *c = tcase_create("sessions");

        tcase_add_checked_fixture(c, set_up, tear_down);
        tcase_set_timeout(c, 120);
        suite_add_tcase(s, c);
        tcase_add_test(c, open_asks_for_a_session_and_tells_until_when_it_lives);
        tcase_add_test(c, lease_is_its_token_and_tells_until_when_it_lives);
        tcase_add_test(c, lock_that_was_lost_is_no_for_as_long_as_its_delay);
        tcase_add_test(c, preempt_in_a_session_lives_as_long_as_that);
        tcase_add_test(c, renew_needs_no_request_id_and_moves_the_deadline);
        tcase_add_loop_test(c, close_is_asked_under_a_request_id, 0, 2);
        tcase_add_loop_test(c, deadline_counts_from_the_first_copy_of_what_happens_once, 0, 2);
        tcase_add_test(c, deadline_counts_from_the_copy_of_a_renewal_that_was_answered);
        tcase_add_loop_test(c, refused_open_and_close_are_told_at_once_although_sent_twice, 0, 4);
        tcase_add_loop_test(c, refused_lease_that_was_sent_twice_is_called_off, 0, 2);
        tcase_add_loop_test(c, yes_after_the_time_to_live_is_unknown, 0, 3);
        tcase_add_loop_test(c, yes_for_something_else_is_no_answer, 0, 3);
        tcase_add_loop_test(c, open_and_close_that_nobody_answered_may_have_happened_and_a_renewal_is_only_not_known, 0, 3);
        tcase_add_test(c, renewal_is_not_awaited_from_servers_that_are_gone);
        tcase_add_test(c, bad_requests_about_sessions_are_told_and_not_sent);
        tcase_add_loop_test(c, open_and_renew_ask_for_an_id_when_one_is_wanted, 0, 2);
        tcase_add_test(c, rows_tell_in_which_session_a_lock_is_held);
        return s;
}

int main(void)
{
        return run_suite(suite());
}
