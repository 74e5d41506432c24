/* The client library's waiting: from the node's word that a request waits to the answer, whatever happens in between. */
#include <sys/wait.h>

#include "base/clock.h"
#include "unit/fake_node.h"

#define WAITER 7
#define GRANT 9
#define TTL_MS 6000

static uint64_t wait_id;

static void say(unsigned n, const struct wire_request *request, enum wire_outcome outcome, uint64_t token, const char *owner, const char *reason)
{
        struct wire_result result = { .tag = request->tag, .outcome = outcome, .token = token, .index = 20, .leader_age_ms = -1 };
        struct bytes out = { 0 };

        if (owner)
                ck_assert(client_id_set(&result.owner, owner, strlen(owner)));
        (void)snprintf(result.reason, sizeof(result.reason), "%s", reason ? reason : "");
        wire_write_result(&out, &result);
        node_say(n, &out);
}

/* The next request of that type; renewals before it are answered. */
static struct wire_request hear(unsigned n, enum wire_type type)
{
        for (;;) {
                struct wire_request request = node_wait_request(n);

                if (request.type == type)
                        return request;
                ck_assert_int_eq(request.type, WIRE_RENEW);
                say(n, &request, WIRE_YES, request.session, NULL, NULL);
        }
}

static uint64_t submit(uint32_t ttl_ms, uint64_t session, uint64_t wait_ms)
{
        const struct dlock_request request = { .operation = DLOCK_OP_PREEMPT, .lock = "x", .ttl_ms = ttl_ms, .session = session, .wait_ms = wait_ms };
        int64_t id = dlock_submit(dlock, &request);

        ck_assert_int_gt(id, 0);
        return (uint64_t)id;
}

/* A handle whose request waits at node 0, which has been asked how it stands. */
static struct wire_request waiting(uint32_t ttl_ms, uint64_t session, uint64_t wait_ms)
{
        struct wire_request request;

        greeted_handle();
        wait_id = submit(ttl_ms, session, wait_ms);
        request = node_wait_request(0);
        ck_assert_int_eq(request.type, WIRE_PREEMPT);
        ck_assert(request.wait);
        say(0, &request, WIRE_WAITING, WAITER, NULL, NULL);
        request = hear(0, WIRE_AWAIT);
        ck_assert_uint_eq(request.token, WAITER);
        ck_assert_str_eq(request.name.text, "x");
        return request;
}

/* It gives up its waiter, whatever has become of it, and has nothing. */
static struct dlock_answer leaves(unsigned n, enum wire_outcome outcome)
{
        struct wire_request request = hear(n, WIRE_RELEASE);
        struct dlock_answer answer;

        ck_assert_uint_eq(request.token, WAITER);
        say(n, &request, outcome, WAITER, NULL, outcome == WIRE_UNKNOWN ? "no leader" : NULL);
        answer = wait_answer();
        ck_assert_uint_eq(answer.id, wait_id);
        ck_assert_uint_eq(answer.session, 0);
        ck_assert_uint_eq(answer.deadline_ms, 0);
        ck_assert_ptr_null(answer.owner);
        return answer;
}

static void expect_quiet(unsigned n)
{
        struct wire_frame frame;

        go_on(5);
        ck_assert(!node_hears(n, &frame));
}

START_TEST(granted_lease_is_the_waiter_and_lives_from_its_last_renewal)
{
        struct wire_request await = waiting(TTL_MS, 0, DLOCK_WAIT_FOREVER), renew;
        struct dlock_answer answer;
        uint64_t asked;

        stop_clock();
        pass_ms(TTL_MS / 2);
        asked = clock_boottime_ms();
        renew = node_wait_request(0);
        ck_assert_int_eq(renew.type, WIRE_RENEW);
        ck_assert_uint_eq(renew.session, WAITER);
        say(0, &renew, WIRE_YES, WAITER, NULL, NULL);
        go_on(5);
        say(0, &await, WIRE_YES, GRANT, "me", NULL);
        answer = wait_answer();
        ck_assert_uint_eq(answer.id, wait_id);
        ck_assert_int_eq(answer.outcome, DLOCK_YES);
        ck_assert_uint_eq(answer.token, GRANT);
        ck_assert_uint_eq(answer.session, WAITER);
        ck_assert_uint_eq(answer.ttl_ms, TTL_MS);
        ck_assert_uint_eq(answer.deadline_ms, asked + TTL_MS - TTL_MS / 100);
        ck_assert_str_eq(answer.owner, "me");
        ck_assert(!answer.timed_out);
        /* From here on it is the user's to renew. */
        pass_ms(TTL_MS / 2);
        expect_quiet(0);
        ck_assert_int_eq(dlock_get_timeout(dlock), -1);
}
END_TEST

START_TEST(grant_in_a_session_of_the_users_is_told_as_it_is)
{
        struct wire_request await = waiting(0, 77, DLOCK_WAIT_FOREVER);
        struct dlock_answer answer;

        pass_ms(1500);
        expect_quiet(0);                     /* it is the user's to renew */
        say(0, &await, WIRE_YES, GRANT, "me", NULL);
        answer = wait_answer();
        ck_assert_int_eq(answer.outcome, DLOCK_YES);
        ck_assert_uint_eq(answer.token, GRANT);
        ck_assert_uint_eq(answer.session, 0);
}
END_TEST

START_TEST(hold_without_a_time_to_live_is_made_one_that_lasts)
{
        struct wire_request request = waiting(0, 0, DLOCK_WAIT_FOREVER);
        struct dlock_answer answer;

        say(0, &request, WIRE_YES, GRANT, "me", NULL);
        request = hear(0, WIRE_KEEP);
        ck_assert_uint_eq(request.token, GRANT);
        say(0, &request, _i ? WIRE_NO : WIRE_YES, GRANT, NULL, NULL);
        answer = wait_answer();
        ck_assert_int_eq(answer.outcome, _i ? DLOCK_NO : DLOCK_YES);
        ck_assert_uint_eq(answer.token, _i ? 0 : GRANT);
        ck_assert_uint_eq(answer.session, 0);
        ck_assert_uint_eq(answer.ttl_ms, 0);
        ck_assert_uint_eq(answer.deadline_ms, 0);
        pass_s(20);
        expect_quiet(0);
}
END_TEST

START_TEST(free_lock_is_kept_at_once)
{
        struct wire_request request;

        greeted_handle();
        wait_id = submit(0, 0, 1000);
        request = node_wait_request(0);
        ck_assert_uint_gt(request.ttl_ms, 0);
        say(0, &request, WIRE_YES, WAITER, "me", NULL);
        request = hear(0, WIRE_KEEP);
        ck_assert_uint_eq(request.token, WAITER);
        say(0, &request, WIRE_YES, WAITER, NULL, NULL);
        ck_assert_int_eq(wait_answer().outcome, DLOCK_YES);
}
END_TEST

START_TEST(who_is_out_of_patience_gives_up_its_waiter)
{
        struct dlock_answer answer;

        (void)waiting(TTL_MS, 0, 1000);
        pass_ms(1000);
        answer = leaves(0, _i ? WIRE_NO : WIRE_YES);
        ck_assert_int_eq(answer.outcome, DLOCK_NO);
        ck_assert(answer.timed_out);
        ck_assert_uint_eq(answer.token, 0);
        ck_assert_ptr_nonnull(strstr(answer.reason, "not granted in time"));
}
END_TEST

START_TEST(grant_that_comes_while_it_is_given_up_is_none)
{
        struct wire_request await = waiting(TTL_MS, 0, DLOCK_WAIT_FOREVER);
        struct dlock_answer answer;

        ck_assert_int_eq(dlock_give_up(dlock, wait_id), 0);
        ck_assert_int_eq(dlock_give_up(dlock, wait_id), 0);
        say(0, &await, WIRE_YES, GRANT, "me", NULL);
        answer = leaves(0, WIRE_YES);
        ck_assert_int_eq(answer.outcome, DLOCK_NO);
        ck_assert(!answer.timed_out);
        ck_assert_uint_eq(answer.token, 0);
        ck_assert_int_eq(dlock_give_up(dlock, wait_id), -ENOENT);
}
END_TEST

START_TEST(who_gives_up_before_it_knows_that_it_waits_leaves_as_soon_as_it_does)
{
        struct wire_request request;

        greeted_handle();
        wait_id = submit(TTL_MS, 0, DLOCK_WAIT_FOREVER);
        if (_i)
                ck_assert_int_eq(dlock_give_up(dlock, wait_id), 0);
        request = node_wait_request(0);
        ck_assert_int_eq(dlock_give_up(dlock, wait_id), 0);
        say(0, &request, WIRE_WAITING, WAITER, NULL, NULL);
        ck_assert_int_eq(leaves(0, WIRE_YES).outcome, DLOCK_NO);
}
END_TEST

START_TEST(who_gives_up_what_does_not_wait_is_told_so)
{
        greeted_handle();
        ck_assert_int_eq(dlock_give_up(dlock, ask(DLOCK_OP_PREEMPT, "x")), -ENOENT);
        ck_assert_int_eq(dlock_give_up(dlock, 12345), -ENOENT);
}
END_TEST

START_TEST(wait_ends_with_its_lease)
{
        struct wire_request renew;
        struct dlock_answer answer;

        (void)waiting(TTL_MS, 0, DLOCK_WAIT_FOREVER);
        pass_ms(TTL_MS / 2);
        renew = node_wait_request(0);
        ck_assert_int_eq(renew.type, WIRE_RENEW);
        say(0, &renew, WIRE_NO, 0, NULL, "this client has no such session");
        answer = leaves(0, WIRE_NO);
        ck_assert_int_eq(answer.outcome, DLOCK_NO);
        ck_assert_ptr_nonnull(strstr(answer.reason, "it waits no more"));
}
END_TEST

/* Nobody may count on a lease that may be over, so it is given back at once. */
START_TEST(grant_that_is_told_too_late_is_given_up)
{
        struct wire_request await = waiting(TTL_MS, 0, DLOCK_WAIT_FOREVER);

        say(0, &await, WIRE_YES, GRANT, "me", NULL);
        pass_ms(TTL_MS);
        ck_assert_int_eq(leaves(0, WIRE_YES).outcome, DLOCK_NO);
}
END_TEST

START_TEST(who_comes_too_soon_is_told_after_it_has_left)
{
        struct wire_request await = waiting(TTL_MS, 0, DLOCK_WAIT_FOREVER);
        struct dlock_answer answer;

        say(0, &await, WIRE_NO, 5, NULL, "it was granted within the period already, to bob");
        answer = leaves(0, WIRE_YES);
        ck_assert_int_eq(answer.outcome, DLOCK_NO);
        ck_assert_uint_eq(answer.token, 5);
        ck_assert_ptr_nonnull(strstr(answer.reason, "within the period"));
}
END_TEST

START_TEST(waiter_that_is_gone_is_a_no)
{
        struct wire_request await = waiting(TTL_MS, 0, DLOCK_WAIT_FOREVER);
        struct dlock_answer answer;

        say(0, &await, WIRE_NO, 0, NULL, "it waits no more");
        answer = wait_answer();
        ck_assert_int_eq(answer.outcome, DLOCK_NO);
        ck_assert_uint_eq(answer.token, 0);
        ck_assert(!answer.timed_out);
        pass_ms(TTL_MS / 2);
        expect_quiet(0);
}
END_TEST

START_TEST(wait_goes_on_at_another_node)
{
        struct wire_request await;
        struct dlock_answer answer;

        node_start(0);
        node_start(1);
        make_handle(2);
        wait_id = submit(TTL_MS, 0, DLOCK_WAIT_FOREVER);
        node_greet(0);
        await = node_wait_request(0);
        say(0, &await, WIRE_WAITING, WAITER, NULL, NULL);
        (void)hear(0, WIRE_AWAIT);
        node_stop(0);
        node_greet(1);
        await = hear(1, WIRE_AWAIT);
        ck_assert_uint_eq(await.token, WAITER);
        say(1, &await, WIRE_YES, GRANT, "me", NULL);
        answer = wait_answer();
        ck_assert_int_eq(answer.outcome, DLOCK_YES);
        ck_assert_uint_eq(answer.token, GRANT);
}
END_TEST

/* The lease is over by then, and so is the wait. */
START_TEST(who_finds_no_server_any_more_waits_no_more)
{
        struct dlock_answer answer;

        (void)waiting(TTL_MS, 0, DLOCK_WAIT_FOREVER);
        node_stop(0);
        for (int i = 0; i < 200; i++) {
                pass_ms(100);
                ck_assert_int_eq(dlock_process(dlock), 0);
                if (dlock_next(dlock, &answer) == 1)
                        break;
                (void)poll(NULL, 0, 1);
        }
        ck_assert_uint_eq(answer.id, wait_id);
        ck_assert_int_eq(answer.outcome, DLOCK_NO);
        ck_assert(!answer.timed_out);
}
END_TEST

/* In a session that somebody else renews it may be granted still. */
START_TEST(wait_in_a_session_that_nobody_could_give_up_is_not_known)
{
        struct wire_request release;
        struct dlock_answer answer;

        (void)waiting(0, 77, 1000);
        pass_ms(1000);
        release = hear(0, WIRE_RELEASE);
        say(0, &release, WIRE_UNKNOWN, 0, NULL, "no leader");
        answer = wait_answer();
        ck_assert_int_eq(answer.outcome, DLOCK_UNKNOWN);
        ck_assert_ptr_nonnull(strstr(answer.reason, "may be granted still"));
}
END_TEST

/* The renewal of its lease stands behind the request that ends it. */
START_TEST(lease_that_ends_with_the_patience_of_a_silent_node_is_renewed_no_more)
{
        struct wire_request renew;
        struct wire_frame frame;
        struct dlock_answer answer;

        (void)waiting(60000, 0, 17000);
        stop_clock();
        pass_ms(17000);
        (void)hear(0, WIRE_RELEASE);
        pass_ms(DLOCK_TIMEOUT_DEFAULT - 1);
        do
                renew = node_wait_request(0);        /* or a question for a sign of life */
        while (renew.type != WIRE_RENEW);
        pass_ms(1);
        answer = wait_answer();
        ck_assert_int_eq(answer.outcome, DLOCK_NO);
        ck_assert(answer.timed_out);
        pass_ms(1000);
        go_on(5);
        while (node_hears(0, &frame))
                ck_assert_int_ne(frame.type, WIRE_RENEW);
}
END_TEST

START_TEST(answer_that_cannot_be_is_none)
{
        static const struct {
                enum wire_outcome outcome;
                uint64_t token;
                const char *owner;
        } lies[] = {
                { WIRE_WAITING, 0, NULL },
                { WIRE_WAITING, WAITER + 1, NULL },
                { WIRE_YES, 0, "me" },
                { WIRE_YES, WAITER - 1, "me" },
                { WIRE_YES, GRANT, "somebody" },
                { WIRE_YES, GRANT, NULL },
                { WIRE_REENTERED, GRANT, "me" },
        };
        struct wire_request await = waiting(TTL_MS, 0, DLOCK_WAIT_FOREVER);

        say(0, &await, lies[_i].outcome, lies[_i].token, lies[_i].owner, NULL);
        go_on(20);
        /* The node is left, and asked anew. */
        node_hang_up(0);
        node_greet(0);
        await = hear(0, WIRE_AWAIT);
        say(0, &await, WIRE_YES, GRANT, "me", NULL);
        ck_assert_int_eq(wait_answer().outcome, DLOCK_YES);
}
END_TEST

START_TEST(first_answer_that_cannot_be_is_none)
{
        static const struct {
                uint64_t session, wait_ms, token;
                enum wire_outcome outcome;
        } lies[] = {
                { 0, 0, WAITER, WIRE_WAITING },
                { 0, 1000, 0, WIRE_WAITING },
                { 0, 1000, 0, WIRE_YES },
                { 0, 1000, GRANT, WIRE_REENTERED },
                { 77, 1000, 0, WIRE_REENTERED },
                { 77, 1000, 0, WIRE_YES },
        };
        struct wire_request request;

        greeted_handle();
        (void)submit(lies[_i].session ? 0 : TTL_MS, lies[_i].session, lies[_i].wait_ms);
        request = node_wait_request(0);
        say(0, &request, lies[_i].outcome, lies[_i].token, "me", NULL);
        go_on(20);
        node_hang_up(0);
        node_greet(0);
        ck_assert_int_eq(node_wait_request(0).type, WIRE_PREEMPT);
}
END_TEST

/* A node that has no news at once is not asked all the time. */
START_TEST(node_without_news_is_asked_now_and_then)
{
        struct wire_request await = waiting(60000, 0, DLOCK_WAIT_FOREVER);
        struct wire_frame frame;
        unsigned asked = 1;

        stop_clock();
        say(0, &await, WIRE_WAITING, WAITER, NULL, NULL);
        for (unsigned ms = 0; ms < 5000; ms += 50) {
                pass_ms(50);
                go_on(2);
                if (!node_hears(0, &frame))
                        continue;
                ck_assert(wire_read_request(&frame, &await));
                asked++;
                say(0, &await, WIRE_WAITING, WAITER, NULL, NULL);
        }
        ck_assert_uint_ge(asked, 3);
        ck_assert_uint_le(asked, 12);
}
END_TEST

START_TEST(handle_may_be_freed_while_it_waits)
{
        (void)waiting(_i == 1 ? 0 : TTL_MS, _i == 2 ? 0 : 0, _i == 3 ? 1000 : DLOCK_WAIT_FOREVER);
        if (_i == 3)
                pass_ms(1000);
        if (_i >= 2)
                ck_assert_int_eq(dlock_give_up(dlock, wait_id), 0);
        go_on(5);
        dlock = dlock_free(dlock);
}
END_TEST

START_TEST(child_does_not_wait_for_its_parent)
{
        int status;
        pid_t child;

        (void)waiting(TTL_MS, 0, DLOCK_WAIT_FOREVER);
        child = fork();
        if (child == 0) {
                struct dlock_answer answer;
                bool well = dlock_give_up(dlock, wait_id) == -ECHILD && dlock_process(dlock) == -ECHILD && dlock_next(dlock, &answer) == -ECHILD;

                dlock_free(dlock);
                _exit(well ? 0 : 1);
        }
        ck_assert_int_eq(waitpid(child, &status, 0), child);
        ck_assert_int_eq(status, 0);
        expect_quiet(0);
        ck_assert_int_eq(dlock_give_up(dlock, wait_id), 0);
        ck_assert_int_eq(leaves(0, WIRE_YES).outcome, DLOCK_NO);
}
END_TEST

/* It was refused by one node and had got the lock through another: what is told then is the waiter, as to any retry. */
START_TEST(wait_that_was_called_off_too_late_goes_on)
{
        struct wire_request request;
        struct dlock_answer answer;

        node_start(0);
        node_start(1);
        make_handle(2);
        wait_id = submit(_i ? 0 : TTL_MS, 0, DLOCK_WAIT_FOREVER);
        node_greet(0);
        (void)node_wait_request(0);
        node_stop(0);
        node_greet(1);
        request = node_wait_request(1);
        ck_assert_int_eq(request.type, WIRE_PREEMPT);
        say(1, &request, WIRE_NO, 5, NULL, "it was granted within the period already, to bob");
        request = node_wait_request(1);
        ck_assert_int_eq(request.type, WIRE_CANCEL);
        say(1, &request, WIRE_WAITING, WAITER, NULL, NULL);
        request = hear(1, WIRE_AWAIT);
        say(1, &request, WIRE_YES, GRANT, "me", NULL);
        if (_i) {
                request = hear(1, WIRE_KEEP);
                ck_assert_uint_eq(request.token, GRANT);
                say(1, &request, WIRE_YES, GRANT, NULL, NULL);
        }
        answer = wait_answer();
        ck_assert_int_eq(answer.outcome, DLOCK_YES);
        ck_assert_uint_eq(answer.token, GRANT);
        ck_assert_uint_eq(answer.session, _i ? 0 : WAITER);
        ck_assert_str_eq(answer.owner, "me");
        ck_assert_str_eq(answer.reason, "");
}
END_TEST

static Suite *suite(void)
{
        Suite *s = suite_create("wait");
        TCase *c = tcase_create("wait");

        tcase_add_checked_fixture(c, set_up, tear_down);
        tcase_set_timeout(c, 120);
        tcase_add_test(c, granted_lease_is_the_waiter_and_lives_from_its_last_renewal);
        tcase_add_test(c, grant_in_a_session_of_the_users_is_told_as_it_is);
        tcase_add_loop_test(c, hold_without_a_time_to_live_is_made_one_that_lasts, 0, 2);
        tcase_add_test(c, free_lock_is_kept_at_once);
        tcase_add_loop_test(c, who_is_out_of_patience_gives_up_its_waiter, 0, 2);
        tcase_add_test(c, grant_that_comes_while_it_is_given_up_is_none);
        tcase_add_loop_test(c, who_gives_up_before_it_knows_that_it_waits_leaves_as_soon_as_it_does, 0, 2);
        tcase_add_test(c, who_gives_up_what_does_not_wait_is_told_so);
        tcase_add_test(c, wait_ends_with_its_lease);
        tcase_add_test(c, grant_that_is_told_too_late_is_given_up);
        tcase_add_test(c, who_comes_too_soon_is_told_after_it_has_left);
        tcase_add_test(c, waiter_that_is_gone_is_a_no);
        tcase_add_test(c, wait_goes_on_at_another_node);
        tcase_add_test(c, who_finds_no_server_any_more_waits_no_more);
        tcase_add_test(c, wait_in_a_session_that_nobody_could_give_up_is_not_known);
        tcase_add_test(c, lease_that_ends_with_the_patience_of_a_silent_node_is_renewed_no_more);
        tcase_add_loop_test(c, answer_that_cannot_be_is_none, 0, 7);
        tcase_add_loop_test(c, first_answer_that_cannot_be_is_none, 0, 6);
        tcase_add_test(c, node_without_news_is_asked_now_and_then);
        tcase_add_loop_test(c, handle_may_be_freed_while_it_waits, 0, 4);
        tcase_add_test(c, child_does_not_wait_for_its_parent);
        tcase_add_loop_test(c, wait_that_was_called_off_too_late_goes_on, 0, 2);
        suite_add_tcase(s, c);
        return s;
}

int main(void)
{
        return run_suite(suite());
}
