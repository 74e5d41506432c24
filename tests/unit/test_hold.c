/* The client library's holds: when they are renewed, through whom, and when they are at risk and lost. Time is the test's. */
#include <sys/wait.h>

#include "base/clock.h"
#include "unit/fake_node.h"

#define SESSION 77
/* Time goes by in steps of so much. */
#define STEP_MS 5
#define SLACK_MS (2 * STEP_MS)

/* --- nodes that answer by themselves --- */

static enum mood { ANSWERS, CANNOT_TELL, IS_SILENT } moods[NODES];
/* Of one session, from a renewal to its node to the next. */
static unsigned renewals, renewals_of[NODES];
static uint64_t renewed_at, wait_min, wait_max;

/* A renewal that a node cannot answer yet: it says so when the patience of the request is over. */
static struct late {
        struct wire_request request;
        uint64_t at;
} late[NODES];

/* The last question for the end of a session. */
static struct wire_request listened;

static void answer_renewal(unsigned n, const struct wire_request *request, enum wire_outcome outcome)
{
        struct wire_result result = { .tag = request->tag, .outcome = outcome, .token = outcome == WIRE_YES ? request->session : 0, .index = 5, .leader_age_ms = -1 };
        struct bytes out = { 0 };

        if (outcome == WIRE_UNKNOWN)
                (void)strcpy(result.reason, "no leader");
        wire_write_result(&out, &result);
        node_say(n, &out);
}

static void count_renewal(unsigned n)
{
        uint64_t now = clock_boottime_ms(), waited = now - renewed_at;

        if (renewed_at) {
                wait_min = MIN(wait_min, waited);
                wait_max = MAX(wait_max, waited);
        }
        renewed_at = now;
        renewals++;
        renewals_of[n]++;
}

static void serve_frame(unsigned n, const struct wire_frame *frame)
{
        struct wire_request request;

        if (frame->type == WIRE_HELLO) {
                node_welcome(n, cluster, NULL);
                return;
        }
        ck_assert(wire_read_request(frame, &request));
        if (request.type == WIRE_AWAIT)
                listened = request;
        if (request.type != WIRE_RENEW)
                return;
        ck_assert_str_eq(request.client.text, "me");
        count_renewal(n);
        if (moods[n] == ANSWERS)
                answer_renewal(n, &request, WIRE_YES);
        else
                late[n] = (struct late){ .request = request, .at = clock_boottime_ms() + request.deadline_ms };
}

static void serve(unsigned n)
{
        struct wire_frame frame;
        char byte;

        if (moods[n] == IS_SILENT || (nodes[n].listener < 0 && nodes[n].fd < 0))
                return;
        /* No more than fits into a socket before somebody reads. */
        for (int i = 0; i < 100 && node_hears(n, &frame); i++)
                serve_frame(n, &frame);
        if (late[n].at && moods[n] == ANSWERS) {
                late[n].at = 0;
                answer_renewal(n, &late[n].request, WIRE_YES);
        } else if (late[n].at && clock_boottime_ms() >= late[n].at) {
                late[n].at = 0;
                answer_renewal(n, &late[n].request, WIRE_UNKNOWN);
        }
        if (nodes[n].fd >= 0 && recv(nodes[n].fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0) {
                node_hang_up(n);
                late[n].at = 0;
        }
}

/* A while of the test's time goes by, in small steps: nodes answer, and nobody gets an answer that was not asked for. */
static void run_ms(unsigned ms)
{
        for (unsigned passed = 0; passed < ms; passed += STEP_MS) {
                struct dlock_answer answer;

                pass_ms(STEP_MS);
                ck_assert_int_eq(dlock_process(dlock), 0);
                for (unsigned n = 0; n < NODES; n++)
                        serve(n);
                ck_assert_int_eq(dlock_process(dlock), 0);
                ck_assert_int_eq(dlock_next(dlock, &answer), 0);
        }
}

/* The next request to the node that is none for the end of a session. */
static struct wire_request wait_request(unsigned n)
{
        struct wire_request request = node_wait_request(n);

        while (request.type == WIRE_AWAIT)
                request = node_wait_request(n);
        return request;
}

/* --- holds --- */

static struct told {
        unsigned count;
        enum dlock_hold_state state;
        uint64_t at, risk_at, lost_at;
} told;

static void on_state(struct dlock_hold *hold, enum dlock_hold_state state, void *userdata)
{
        struct told *place = userdata;

        ck_assert_int_eq(dlock_hold_get_state(hold), state);
        ck_assert_int_eq(*dlock_hold_get_reason(hold) == 0, state == DLOCK_HELD);
        place->count++;
        place->state = state;
        place->at = clock_boottime_ms();
        if (state == DLOCK_AT_RISK)
                place->risk_at = place->at;
        if (state == DLOCK_LOST)
                place->lost_at = place->at;
}

static struct dlock_hold *holds[2];

/* A yes to an open, which node 0 gives, in the time of this call. */
static struct dlock_answer opened(uint32_t ttl_ms, uint64_t session)
{
        struct wire_request request;

        ck_assert_int_gt(dlock_submit(dlock, &(struct dlock_request){ .operation = DLOCK_OP_OPEN, .ttl_ms = ttl_ms }), 0);
        request = node_wait_request(0);
        node_answer(0, &request, WIRE_YES, session);
        return wait_answer();
}

static struct dlock_hold *hold_of(const struct dlock_answer *answer, uint32_t stop_ms, struct told *place)
{
        struct dlock_hold *hold;

        ck_assert_msg(dlock_hold_new(&hold, dlock, answer, stop_ms, place ? on_state : NULL, place) == 0, "%s", dlock_get_error(dlock));
        return hold;
}

/* One hold of a session; three nodes, of which node 0 has the connection. */
static struct dlock_hold *held(unsigned servers, uint32_t ttl_ms, uint32_t stop_ms)
{
        struct wire_request request;
        struct dlock_answer answer;

        for (unsigned n = 0; n < servers; n++)
                node_start(n);
        make_handle(servers);
        (void)ask(DLOCK_OP_CHECK, "x");
        node_greet(0);
        request = node_wait_request(0);
        node_answer(0, &request, WIRE_NO, 0);
        (void)wait_answer();
        answer = opened(ttl_ms, SESSION);
        holds[0] = hold_of(&answer, stop_ms, &told);
        return holds[0];
}

static void begin(void)
{
        set_up();
        stop_clock();
        for (unsigned n = 0; n < NODES; n++) {
                moods[n] = ANSWERS;
                late[n].at = 0;
                renewals_of[n] = 0;
        }
        renewals = 0;
        renewed_at = wait_max = 0;
        wait_min = UINT64_MAX;
        told = (struct told){ 0 };
}

static void end(void)
{
        for (size_t i = 0; i < ARRAY_SIZE(holds); i++)
                holds[i] = dlock_hold_free(holds[i]);
        tear_down();
}

static void check_near(uint64_t at, uint64_t expected)
{
        ck_assert_uint_ge(at, expected);
        ck_assert_uint_le(at, expected + SLACK_MS);
}

START_TEST(hold_is_renewed_after_a_third_and_lives)
{
        struct dlock_hold *hold = held(1, 9000, 1000);
        uint64_t before = dlock_hold_get_deadline(hold);

        ck_assert_uint_eq(dlock_hold_get_session(hold), SESSION);
        ck_assert_uint_le(before, clock_boottime_ms() + 8910);
        run_ms(90000);
        ck_assert_int_eq(dlock_hold_get_state(hold), DLOCK_HELD);
        ck_assert_str_eq(dlock_hold_get_reason(hold), "");
        ck_assert_uint_eq(told.count, 0);
        ck_assert_uint_ge(wait_min, 2700);
        ck_assert_uint_le(wait_max, 3300 + SLACK_MS);
        ck_assert_uint_gt(wait_max - wait_min, 50);  /* jitter: not all of some 30 are alike */
        /* It counts from the last renewal, and not from its answer. */
        ck_assert_uint_ge(dlock_hold_get_deadline(hold), before + 86000);
        ck_assert_uint_le(dlock_hold_get_deadline(hold), renewed_at + 8910);
        ck_assert_uint_gt(dlock_hold_get_deadline(hold), renewed_at + 8910 - SLACK_MS);
}
END_TEST

/* However long it takes to stop: an answer that comes at once never leaves it at risk. */
START_TEST(hold_that_takes_long_to_stop_is_renewed_earlier)
{
        struct dlock_hold *hold = held(1, 9000, 2909);

        run_ms(90000);
        ck_assert_int_eq(dlock_hold_get_state(hold), DLOCK_HELD);
        ck_assert_uint_eq(told.count, 0);
        ck_assert_uint_le(wait_max, 2500 + SLACK_MS);
}
END_TEST

START_TEST(hold_ends_when_a_node_says_so)
{
        struct dlock_hold *hold = held(1, 9000, 1000);
        struct wire_request request;

        pass_ms(3400);
        request = node_wait_request(0);
        ck_assert_int_eq(request.type, WIRE_RENEW);
        ck_assert_uint_eq(request.session, SESSION);
        /* A tenth, less what it takes to be told in time. */
        ck_assert_uint_le(request.deadline_ms, 900);
        ck_assert_uint_ge(request.deadline_ms, 800);
        answer_renewal(0, &request, WIRE_NO);
        go_on(5);
        ck_assert_uint_eq(told.count, 1);
        ck_assert_int_eq(told.state, DLOCK_LOST);
        ck_assert_int_eq(dlock_hold_get_state(hold), DLOCK_LOST);
        ck_assert_ptr_nonnull(strstr(dlock_hold_get_reason(hold), "0.sock says that it has ended"));
        run_ms(20000);
        ck_assert_uint_eq(renewals, 0);
        ck_assert_uint_eq(told.count, 1);
        ck_assert_int_eq(dlock_get_timeout(dlock), -1);
}
END_TEST

/* stop_ms decides when it is at risk, or the second renewal without an answer does; and lost is always stop_ms before the deadline. */
START_TEST(hold_without_an_answer_is_at_risk_and_then_lost)
{
        static const uint32_t stops[] = { 1000, 2500 };
        struct dlock_hold *hold = held(1, 9000, stops[_i]);
        uint64_t deadline = dlock_hold_get_deadline(hold), sent = deadline - 8910;

        node_stop(0);
        run_ms(9500);
        ck_assert_uint_eq(told.count, 2);
        ck_assert_int_eq(told.state, DLOCK_LOST);
        if (_i == 0) {
                ck_assert_uint_ge(told.risk_at, sent + 2700 + 1800);
                ck_assert_uint_le(told.risk_at, sent + 3300 + 1800 + SLACK_MS);
        } else {
                check_near(told.risk_at, deadline - 5000);
        }
        check_near(told.lost_at, deadline - stops[_i]);
        ck_assert_uint_eq(dlock_hold_get_deadline(hold), deadline);
        ck_assert_ptr_nonnull(strstr(dlock_hold_get_reason(hold), "0.sock"));
        ck_assert_int_eq(dlock_get_timeout(dlock), -1);
        /* For good. */
        node_start(0);
        run_ms(2000);
        ck_assert_uint_eq(told.count, 2);
        ck_assert_uint_eq(renewals, 0);
}
END_TEST

START_TEST(hold_at_risk_is_held_again_when_a_renewal_is_answered)
{
        struct dlock_hold *hold = held(1, 9000, 1000);

        node_stop(0);
        run_ms(6000);
        ck_assert_int_eq(told.state, DLOCK_AT_RISK);
        ck_assert_ptr_nonnull(strstr(dlock_hold_get_reason(hold), "no server could be reached"));
        node_start(0);
        run_ms(1000);
        ck_assert_uint_eq(told.count, 2);
        ck_assert_int_eq(told.state, DLOCK_HELD);
        ck_assert_str_eq(dlock_hold_get_reason(hold), "");
        run_ms(20000);
        ck_assert_uint_eq(told.count, 2);
}
END_TEST

/* The process was stopped, or the machine suspended, with the answer to the renewal on its way. */
START_TEST(answer_after_it_was_lost_does_not_count)
{
        struct dlock_hold *hold = held(1, 9000, 1000);
        uint64_t deadline = dlock_hold_get_deadline(hold);
        struct wire_request request;

        pass_ms(3400);
        request = node_wait_request(0);
        answer_renewal(0, &request, WIRE_YES);
        pass_ms(deadline - 1000 - clock_boottime_ms());
        ck_assert_int_eq(dlock_hold_get_state(hold), DLOCK_LOST);    /* before anything was processed */
        ck_assert_uint_eq(told.count, 0);
        ck_assert_int_eq(dlock_process(dlock), 0);
        ck_assert_uint_eq(told.count, 1);
        ck_assert_int_eq(told.state, DLOCK_LOST);
        ck_assert_uint_eq(dlock_hold_get_deadline(hold), deadline);
        ck_assert_str_eq(dlock_hold_get_reason(hold), "it was not renewed in time");
        run_ms(5000);
        ck_assert_uint_eq(told.count, 1);
        ck_assert_uint_eq(renewals, 0);
}
END_TEST

START_TEST(answer_before_it_is_lost_counts_although_nobody_looked)
{
        struct dlock_hold *hold = held(1, 9000, 1000);
        uint64_t deadline = dlock_hold_get_deadline(hold);
        struct wire_request request;

        pass_ms(3400);
        request = node_wait_request(0);
        answer_renewal(0, &request, WIRE_YES);
        pass_ms(deadline - 1500 - clock_boottime_ms());
        ck_assert_int_eq(dlock_hold_get_state(hold), DLOCK_AT_RISK);
        go_on(5);
        ck_assert_uint_gt(dlock_hold_get_deadline(hold), deadline + 2000);
        run_ms(20000);
        ck_assert_int_eq(dlock_hold_get_state(hold), DLOCK_HELD);
}
END_TEST

START_TEST(timeout_of_an_event_loop_has_the_next_renewal_in_it)
{
        struct dlock_hold *hold = held(1, 1000, 100);

        ck_assert_int_gt(dlock_get_timeout(dlock), 0);
        ck_assert_int_le(dlock_get_timeout(dlock), 366);
        pass_ms(366);
        ck_assert_int_eq(dlock_get_timeout(dlock), 0);
        ck_assert_int_eq(node_wait_request(0).type, WIRE_RENEW);
        ck_assert_int_gt(dlock_get_timeout(dlock), 0);
        holds[0] = dlock_hold_free(hold);
        ck_assert_int_eq(dlock_get_timeout(dlock), -1);
        /* A long one lets nobody sleep for so long that a suspended machine would go unnoticed. */
        tear_down();
        begin();
        (void)held(1, 3600000, 1000);
        ck_assert_int_gt(dlock_get_timeout(dlock), 0);
        ck_assert_int_le(dlock_get_timeout(dlock), 1000);
}
END_TEST

/* --- servers --- */

/* A node vanishes without a word, at some moment between two renewals: the hold is renewed through another one. */
START_TEST(hold_of_three_seconds_survives_a_server_that_vanishes)
{
        struct dlock_hold *hold = held(3, 3000, 500);

        run_ms(3000 + 200 * (unsigned)_i);
        moods[0] = IS_SILENT;
        run_ms(10000);
        ck_assert_int_eq(dlock_hold_get_state(hold), DLOCK_HELD);
        ck_assert_msg(told.lost_at == 0, "lost: %s", dlock_hold_get_reason(hold));
        ck_assert_uint_eq(renewals_of[0] + renewals_of[1], renewals);
        ck_assert_uint_gt(renewals_of[1], 5);
}
END_TEST

/* And the next one in the list is gone as well, with all the time to stop that there may be. */
START_TEST(hold_survives_two_servers_of_which_one_is_silent_and_one_is_gone)
{
        struct dlock_hold *hold = held(3, 3000, 969);

        moods[0] = IS_SILENT;
        if (_i == 0)
                node_stop(1);
        else
                moods[1] = IS_SILENT;
        run_ms(10000);
        ck_assert_int_eq(dlock_hold_get_state(hold), DLOCK_HELD);
        ck_assert_msg(told.lost_at == 0, "lost: %s", dlock_hold_get_reason(hold));
        ck_assert_uint_gt(renewals_of[2], 5);
}
END_TEST

/* The leader's host vanishes right after a renewal, and for up to two and a half seconds nobody else can tell. The deadline is at
 * 2.97, the hold is lost at 2.67: then nobody must be waiting for the host that vanished. */
START_TEST(hold_of_three_seconds_survives_a_change_of_leaders)
{
        struct dlock_hold *hold = held(3, 3000, 300);

        while (renewals < 3)
                run_ms(STEP_MS);
        moods[0] = IS_SILENT;
        moods[1] = moods[2] = CANNOT_TELL;
        run_ms(1500 + 200 * (unsigned)_i);
        moods[1] = moods[2] = ANSWERS;
        run_ms(5000);
        ck_assert_int_eq(dlock_hold_get_state(hold), DLOCK_HELD);
        ck_assert_msg(told.lost_at == 0, "lost: %s", dlock_hold_get_reason(hold));
}
END_TEST

START_TEST(hold_of_three_seconds_survives_that_all_servers_start_anew)
{
        struct dlock_hold *hold = held(3, 3000, 500);

        run_ms(900);
        for (unsigned n = 0; n < 3; n++)
                node_stop(n);
        run_ms(1300);
        for (unsigned n = 0; n < 3; n++)
                node_start(n);
        run_ms(5000);
        ck_assert_int_eq(dlock_hold_get_state(hold), DLOCK_HELD);
        ck_assert_msg(told.lost_at == 0, "lost: %s", dlock_hold_get_reason(hold));
}
END_TEST

/* It is cut off from the others, say. */
START_TEST(node_that_cannot_tell_is_left_after_a_tenth)
{
        struct dlock_hold *hold = held(2, 9000, 1000);

        moods[0] = CANNOT_TELL;
        run_ms(5000);
        ck_assert_int_eq(dlock_hold_get_state(hold), DLOCK_HELD);
        ck_assert_uint_eq(told.count, 0);
        ck_assert_uint_eq(renewals_of[0], 1);
        ck_assert_uint_ge(renewals_of[1], 1);
        ck_assert_uint_ge(wait_min, 800);
        ck_assert_uint_le(wait_min, 900 + SLACK_MS);
}
END_TEST

/* There is no other: it is asked again after every tenth. */
START_TEST(only_node_is_asked_again_after_a_tenth)
{
        struct dlock_hold *hold = held(1, 9000, 1000);

        moods[0] = CANNOT_TELL;
        run_ms(7000);
        ck_assert_int_eq(dlock_hold_get_state(hold), DLOCK_AT_RISK);
        ck_assert_ptr_nonnull(strstr(dlock_hold_get_reason(hold), "no leader"));
        ck_assert_uint_ge(renewals, 3);
        ck_assert_uint_ge(wait_min, 880);
        ck_assert_uint_le(wait_max, 900 + SLACK_MS);
        moods[0] = ANSWERS;
        run_ms(1000);
        ck_assert_int_eq(told.state, DLOCK_HELD);
}
END_TEST

/* What the user asked the node that vanished goes to the next one with the renewal, and is the same request. */
START_TEST(request_of_the_user_moves_with_the_renewal)
{
        struct dlock_hold *hold = held(2, 3000, 500);
        struct wire_request first, again;
        struct wire_frame frame;
        uint64_t id = ask(DLOCK_OP_PREEMPT, "job");

        first = wait_request(0);
        moods[0] = IS_SILENT;
        pass_ms(1200);
        ck_assert_int_eq(wait_request(0).type, WIRE_RENEW);
        pass_ms(600);
        node_greet(1);
        again = wait_request(1);        /* the renewal goes first */
        ck_assert_int_eq(again.type, WIRE_RENEW);
        answer_renewal(1, &again, WIRE_YES);
        again = wait_request(1);
        ck_assert_int_eq(again.type, WIRE_PREEMPT);
        ck_assert(id128_equal(first.handle, again.handle));
        ck_assert_uint_eq(first.seq, again.seq);
        node_answer(1, &again, WIRE_YES, 9);
        ck_assert_uint_eq(wait_answer().id, id);
        ck_assert_int_eq(dlock_hold_get_state(hold), DLOCK_HELD);
        while (node_hears(1, &frame))
                ck_assert(wire_read_request(&frame, &again) && again.type == WIRE_AWAIT);
}
END_TEST

/* --- news --- */

static void tell_listener(enum wire_outcome outcome, const char *reason)
{
        struct wire_result result = { .tag = listened.tag, .outcome = outcome, .token = outcome == WIRE_WAITING ? listened.token : 0, .index = 5, .leader_age_ms = -1 };
        struct bytes out = { 0 };

        (void)strcpy(result.reason, reason);
        wire_write_result(&out, &result);
        node_say(0, &out);
        listened = (struct wire_request){ 0 };
}

/* A renewal is far away. */
static struct dlock_hold *listening(void)
{
        struct dlock_hold *hold = held(1, 60000, 1000);

        run_ms(900);
        ck_assert_int_eq(listened.type, 0);  /* what is held for so short a time costs nothing more */
        run_ms(200);
        ck_assert_int_eq(listened.type, WIRE_AWAIT);
        ck_assert_uint_eq(listened.name.size, 0);
        ck_assert_uint_eq(listened.token, SESSION);
        ck_assert_uint_eq(renewals, 0);
        return hold;
}

static const struct {
        const char *label;
        enum wire_outcome renewal;
        enum dlock_hold_state state;
} after_news[] = {
        { "it is confirmed", WIRE_NO, DLOCK_LOST },
        { "nobody can confirm it", WIRE_UNKNOWN, DLOCK_LOST },
        { "it is not so", WIRE_YES, DLOCK_HELD },
};

START_TEST(end_of_a_lease_is_told_before_its_renewal_would_tell)
{
        struct dlock_hold *hold = listening();
        struct wire_request renewal;
        uint64_t before = clock_boottime_ms();

        tell_listener(WIRE_NO, "an operator has broken it");
        renewal = node_wait_request(0);
        ck_assert_int_eq(renewal.type, WIRE_RENEW);
        ck_assert_int_eq(dlock_hold_get_state(hold), DLOCK_HELD);
        answer_renewal(0, &renewal, after_news[_i].renewal);
        run_ms(20);
        ck_assert_msg(dlock_hold_get_state(hold) == after_news[_i].state, "%s", after_news[_i].label);
        ck_assert_uint_le(clock_boottime_ms() - before, 20 + SLACK_MS);
        ck_assert_int_eq(told.count, after_news[_i].state == DLOCK_LOST);
        if (told.count > 0)
                ck_assert_ptr_nonnull(strstr(dlock_hold_get_reason(hold), "says that an operator has broken it"));
}
END_TEST

/* Its yes may be of before. */
START_TEST(renewal_that_was_under_way_confirms_nothing)
{
        struct dlock_hold *hold = held(1, 9000, 1000);
        struct wire_request request;

        run_ms(1000);
        pass_ms(3000);
        request = wait_request(0);
        ck_assert_int_eq(request.type, WIRE_RENEW);
        tell_listener(WIRE_NO, "it has ended");
        for (int i = 0; i < 10; i++)
                ck_assert_int_eq(dlock_process(dlock), 0);
        answer_renewal(0, &request, WIRE_YES);
        request = wait_request(0);
        ck_assert_int_eq(request.type, WIRE_RENEW);
        answer_renewal(0, &request, WIRE_NO);
        run_ms(20);
        ck_assert_int_eq(dlock_hold_get_state(hold), DLOCK_LOST);
        ck_assert_ptr_nonnull(strstr(dlock_hold_get_reason(hold), "says that it has ended"));
}
END_TEST

/* A node that takes no more such questions says so at once. */
START_TEST(node_without_news_is_asked_again_but_not_all_the_time)
{
        struct dlock_hold *hold = listening();

        tell_listener(WIRE_WAITING, "");
        run_ms(16000);
        ck_assert_int_eq(listened.type, 0);
        run_ms(7000);
        ck_assert_int_eq(listened.type, WIRE_AWAIT);
        ck_assert_uint_eq(told.count, 0);
        ck_assert_int_eq(dlock_hold_get_state(hold), DLOCK_HELD);
}
END_TEST

/* The renewals, and the questions for the end, of two holds. */
static void hear_both(struct wire_request asked[2], bool answers)
{
        unsigned renewed = 0, listening_again = 0;

        while (renewed < 2 || listening_again < 2) {
                struct wire_request request = node_wait_request(0);

                if (request.type == WIRE_AWAIT) {
                        listening_again++;
                        asked[request.token - SESSION] = request;
                } else if (request.type == WIRE_RENEW) {
                        renewed++;
                        if (answers)
                                answer_renewal(0, &request, WIRE_YES);
                }
        }
}

/* Two of them, so that one is behind the other in the lists of the handle. The node says that both have ended, and answers nothing more. */
START_TEST(hold_that_ends_while_its_renewal_gets_no_answer_drops_what_is_asked_for_it_once)
{
        struct wire_request request, asked[2] = { { .tag = 0 } };
        struct dlock_answer answer;

        (void)held(1, 60000, 1000);
        answer = opened(60000, SESSION + 1);
        holds[1] = hold_of(&answer, 1000, NULL);
        pass_ms(1100);
        for (unsigned i = 0; i < 2; i++) {
                request = node_wait_request(0);
                ck_assert_int_eq(request.type, WIRE_AWAIT);
                listened = request;
                tell_listener(WIRE_WAITING, "");
        }
        pass_ms(30000);
        hear_both(asked, true);
        pass_ms(28000);
        for (unsigned i = 0; i < 2; i++) {
                listened = asked[i];
                tell_listener(WIRE_NO, "it has ended");
        }
        hear_both(asked, false);
        pass_ms(70000);
        ck_assert_int_eq(dlock_process(dlock), 0);
        ck_assert_int_eq(dlock_hold_get_state(holds[0]), DLOCK_LOST);
        ck_assert_int_eq(dlock_hold_get_state(holds[1]), DLOCK_LOST);
        run_ms(20);
}
END_TEST

/* It owes no answer to those who listen, and the renewals prove that it lives. */
START_TEST(node_is_not_asked_for_signs_of_life_since_a_hold_listens)
{
        unsigned questions = 0, renewed = 0;

        (void)held(1, 30000, 1000);
        for (unsigned i = 0; i < 12000; i++) {
                struct wire_request request;
                struct wire_frame frame;

                pass_ms(5);
                ck_assert_int_eq(dlock_process(dlock), 0);
                while (node_hears(0, &frame)) {
                        ck_assert(wire_read_request(&frame, &request));
                        questions += request.type == WIRE_STATUS;
                        renewed += request.type == WIRE_RENEW;
                        if (request.type == WIRE_RENEW)
                                answer_renewal(0, &request, WIRE_YES);
                }
        }
        ck_assert_uint_ge(renewed, 5);
        ck_assert_uint_eq(questions, 0);
}
END_TEST

START_TEST(who_gives_up_what_he_holds_is_not_told_that_it_is_lost)
{
        struct dlock_hold *hold = listening();
        struct wire_request request;
        uint64_t id = ask(DLOCK_OP_RELEASE, "x");

        request = node_wait_request(0);
        ck_assert_int_eq(request.type, WIRE_RELEASE);
        tell_listener(WIRE_NO, "it has ended");
        node_answer(0, &request, WIRE_YES, 9);
        ck_assert_uint_eq(wait_answer().id, id);
        holds[0] = dlock_hold_free(hold);
        run_ms(100);
        ck_assert_uint_eq(told.count, 0);
}
END_TEST

/* --- many --- */

START_TEST(two_holds_of_one_handle_are_two)
{
        struct told other = { 0 };
        struct dlock_answer answer;
        struct wire_request request;
        bool refused = false;

        (void)held(1, 9000, 1000);
        answer = opened(3000, SESSION + 1);
        holds[1] = hold_of(&answer, 300, &other);
        ck_assert_uint_eq(dlock_hold_get_session(holds[1]), SESSION + 1);
        /* One ends, the other does not. */
        for (int i = 0; i < 100; i++) {
                struct wire_frame frame;

                pass_ms(100);
                ck_assert_int_eq(dlock_process(dlock), 0);
                while (node_hears(0, &frame)) {
                        ck_assert(wire_read_request(&frame, &request));
                        if (request.type == WIRE_AWAIT)
                                continue;
                        ck_assert_int_eq(request.type, WIRE_RENEW);
                        ck_assert_msg(!refused || request.session == SESSION, "renewed after its end");
                        refused = refused || request.session != SESSION;
                        answer_renewal(0, &request, request.session == SESSION ? WIRE_YES : WIRE_NO);
                }
        }
        ck_assert(refused);
        ck_assert_int_eq(dlock_hold_get_state(holds[0]), DLOCK_HELD);
        ck_assert_uint_eq(told.count, 0);
        ck_assert_int_eq(dlock_hold_get_state(holds[1]), DLOCK_LOST);
        ck_assert_uint_eq(other.count, 1);
}
END_TEST

#define MANY 1000

static void check_many(struct dlock_hold *const many[MANY])
{
        for (unsigned i = 0; i < MANY; i++) {
                ck_assert_int_eq(dlock_hold_get_state(many[i]), DLOCK_HELD);
                ck_assert_uint_ge(dlock_hold_get_deadline(many[i]), clock_boottime_ms() + 9900 - 3670 - SLACK_MS);
        }
}

/* A thousand of one handle are all renewed, also through the next server when the first vanishes. */
START_TEST(thousand_holds_live)
{
        struct dlock_hold *many[MANY];
        struct dlock_answer answer;
        struct told all = { 0 };

        (void)held(2, 10000, 1000);
        holds[0] = dlock_hold_free(holds[0]);
        answer = opened(10000, 1);
        for (unsigned i = 0; i < MANY; i++, answer.session++) {
                many[i] = hold_of(&answer, 1000, &all);
        }
        run_ms(12000);
        check_many(many);
        moods[0] = IS_SILENT;
        run_ms(12000);
        check_many(many);
        ck_assert_uint_eq(all.lost_at, 0);
        ck_assert_uint_ge(renewals, 6 * MANY);
        ck_assert_uint_le(renewals, 11 * MANY);
        for (unsigned i = 0; i < MANY; i++)
                many[i] = dlock_hold_free(many[i]);
        ck_assert_int_eq(dlock_get_timeout(dlock), -1);
}
END_TEST

/* As many requests as there may be wait for an answer, and their ids know nothing of renewals. */
/* All that listen are asked for at once, and nobody answers. */
START_TEST(crowd_that_listens_is_in_nobodys_way)
{
        struct dlock_hold **many = calloc(1200, sizeof(struct dlock_hold *));
        struct wire_request request = { .type = WIRE_AWAIT };
        struct dlock_answer answer;
        uint64_t id;

        (void)held(1, 30000, 1000);
        answer = opened(30000, SESSION + 1);
        for (unsigned i = 0; i < 1200; i++, answer.session++)
                many[i] = hold_of(&answer, 1000, NULL);
        pass_ms(2000);
        for (unsigned i = 0; i < 1201; i++) {
                ck_assert_int_eq(request.type, WIRE_AWAIT);
                request = node_wait_request(0);
        }
        id = ask(DLOCK_OP_CHECK, "x");
        request = wait_request(0);
        ck_assert_int_eq(request.type, WIRE_CHECK);
        node_answer(0, &request, WIRE_NO, 5);
        ck_assert_uint_eq(wait_answer().id, id);
        for (unsigned i = 0; i < 1200; i++)
                (void)dlock_hold_free(many[i]);
        free(many);
}
END_TEST

START_TEST(hold_lives_while_the_handle_is_full)
{
        struct dlock_hold *hold = held(1, 9000, 1000);
        uint64_t first = 0, id;

        run_ms(10000);
        ck_assert_int_eq(dlock_set_timeout(dlock, 3600000), 0);
        for (unsigned i = 0; i < 1024; i++) {
                id = ask(DLOCK_OP_CHECK, "x");
                first = first ? first : id;
                ck_assert_uint_eq(id, first + i);
        }
        ck_assert_int_eq(dlock_submit(dlock, &(struct dlock_request){ .operation = DLOCK_OP_CHECK, .lock = "x" }), -EAGAIN);
        renewals = 0;
        run_ms(30000);
        ck_assert_uint_ge(renewals, 9);
        ck_assert_int_eq(dlock_hold_get_state(hold), DLOCK_HELD);
        ck_assert_uint_eq(told.count, 0);
}
END_TEST

START_TEST(lease_is_held_under_its_token)
{
        struct wire_request request;
        struct dlock_answer answer;

        greeted_handle();
        ck_assert_int_gt(dlock_submit(dlock, &(struct dlock_request){ .operation = DLOCK_OP_PREEMPT, .lock = "x", .ttl_ms = 3000 }), 0);
        request = node_wait_request(0);
        node_answer(0, &request, WIRE_YES, 41);
        answer = wait_answer();
        holds[0] = hold_of(&answer, 300, &told);
        ck_assert_uint_eq(dlock_hold_get_session(holds[0]), 41);
        pass_ms(1100);
        request = node_wait_request(0);
        ck_assert_int_eq(request.type, WIRE_RENEW);
        ck_assert_uint_eq(request.session, 41);
}
END_TEST

START_TEST(hold_that_was_freed_is_not_renewed)
{
        struct dlock_hold *hold = held(1, 9000, 1000);
        struct wire_request request;
        struct dlock_answer answer;

        if (_i == 1) {
                /* With a renewal on its way: its answer is for nobody. */
                pass_ms(3400);
                request = node_wait_request(0);
                holds[0] = dlock_hold_free(hold);
                answer_renewal(0, &request, WIRE_YES);
        } else {
                holds[0] = dlock_hold_free(hold);
        }
        run_ms(10000);
        ck_assert_uint_eq(renewals, 0);
        answer = opened(9000, SESSION + 1);
        ck_assert_int_eq(answer.outcome, DLOCK_YES);
}
END_TEST

START_TEST(hold_without_its_handle_is_lost)
{
        struct dlock_hold *hold = held(1, 9000, 1000);

        pass_ms(3400);
        (void)node_wait_request(0);
        dlock = dlock_free(dlock);
        ck_assert_int_eq(dlock_hold_get_state(hold), DLOCK_LOST);
        ck_assert_str_eq(dlock_hold_get_reason(hold), "nobody renews it here");
}
END_TEST

/* --- handlers, blocking calls, fork --- */

static struct dlock_answer kept;

static void open_another(struct dlock_hold *hold, enum dlock_hold_state state, void *userdata)
{
        (void)hold;
        ck_assert_ptr_eq(userdata, &kept);
        ck_assert_int_eq(state, DLOCK_LOST);
        ck_assert_int_gt(dlock_submit(dlock, &(struct dlock_request){ .operation = DLOCK_OP_RELEASE, .lock = "x", .token = 9 }), 0);
        holds[1] = hold_of(&kept, 1000, &told);
}

START_TEST(handler_may_ask_and_hold)
{
        struct wire_request request;

        greeted_handle();
        kept = opened(9000, SESSION);
        ck_assert_int_eq(dlock_hold_new(&holds[0], dlock, &kept, 1000, open_another, &kept), 0);
        kept = opened(9000, SESSION + 1);
        pass_ms(3400);
        request = wait_request(0);
        answer_renewal(0, &request, WIRE_NO);
        request = wait_request(0);
        while (request.type == WIRE_RENEW) {
                ck_assert_uint_eq(request.session, SESSION + 1);     /* due already */
                answer_renewal(0, &request, WIRE_YES);
                request = wait_request(0);
        }
        ck_assert_int_eq(request.type, WIRE_RELEASE);
        ck_assert_ptr_nonnull(holds[1]);
        ck_assert_int_eq(dlock_hold_get_state(holds[1]), DLOCK_HELD);
}
END_TEST

/* It renews, and answers nothing else. */
static void serve_first(void)
{
        serve(0);
}

START_TEST(blocking_call_does_not_starve_a_hold)
{
        struct dlock_hold *hold;
        struct dlock_answer answer;

        clock_stopped = false;
        hold = held(1, 2000, 100);
        while_blocked = serve_first;
        ck_assert_int_eq(dlock_set_timeout(dlock, 2500), 0);
        ck_assert_int_eq(dlock_check(dlock, "x", &answer), 0);
        ck_assert_int_eq(answer.outcome, DLOCK_UNKNOWN);
        ck_assert_uint_ge(renewals, 3);
        ck_assert_int_eq(dlock_hold_get_state(hold), DLOCK_HELD);
        ck_assert_uint_eq(told.lost_at, 0);
}
END_TEST

static int look_in_a_child(struct dlock_hold *hold, const struct dlock_answer *answer)
{
        struct dlock_hold *another;

        if (dlock_hold_get_state(hold) != DLOCK_LOST || !*dlock_hold_get_reason(hold) || dlock_hold_get_session(hold) != SESSION)
                return 1;
        if (dlock_hold_new(&another, dlock, answer, 1000, NULL, NULL) != -ECHILD)
                return 2;
        if (dlock_process(dlock) != -ECHILD || dlock_hold_free(hold) || dlock_free(dlock))
                return 3;
        return 0;
}

START_TEST(hold_is_dead_in_a_child)
{
        struct dlock_hold *hold = held(1, 9000, 1000);
        struct dlock_answer answer = opened(9000, SESSION + 1);
        struct wire_request request;
        pid_t child;
        int status;

        pass_ms(3400);
        request = node_wait_request(0);
        child = fork();
        ck_assert_int_ge(child, 0);
        if (child == 0)
                _exit(look_in_a_child(hold, &answer));
        ck_assert_int_eq(waitpid(child, &status, 0), child);
        ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
        ck_assert_int_eq(dlock_hold_get_state(hold), DLOCK_HELD);
        answer_renewal(0, &request, WIRE_YES);
        run_ms(20000);
        ck_assert_int_eq(dlock_hold_get_state(hold), DLOCK_HELD);
        ck_assert_uint_eq(told.count, 0);
}
END_TEST

/* --- what cannot be held --- */

START_TEST(only_what_lives_can_be_held)
{
        struct dlock_answer good, bad;
        struct dlock_hold *hold = NULL;
        static const uint32_t ttls[] = { 0, DLOCK_TTL_MIN - 1, DLOCK_TTL_MAX + 1, UINT32_MAX };

        greeted_handle();
        good = opened(9000, SESSION);
        ck_assert_uint_eq(good.ttl_ms, 9000);
        ck_assert_int_eq(dlock_hold_new(&hold, dlock, &good, 2910, NULL, NULL), -EINVAL);
        ck_assert_ptr_nonnull(strstr(dlock_get_error(dlock), "of a time to live of 9000 ms at most 2909 would be right"));
        ck_assert_int_eq(dlock_hold_new(&hold, dlock, &good, UINT32_MAX, NULL, NULL), -EINVAL);
        ck_assert_int_eq(dlock_hold_new(&hold, dlock, NULL, 0, NULL, NULL), -EINVAL);
        for (size_t i = 0; i < ARRAY_SIZE(ttls); i++) {
                bad = good;
                bad.ttl_ms = ttls[i];
                ck_assert_int_eq(dlock_hold_new(&hold, dlock, &bad, 0, NULL, NULL), -EINVAL);
        }
        bad = good;
        bad.outcome = DLOCK_UNKNOWN;
        ck_assert_int_eq(dlock_hold_new(&hold, dlock, &bad, 0, NULL, NULL), -EINVAL);
        bad = good;
        bad.session = 0;
        ck_assert_int_eq(dlock_hold_new(&hold, dlock, &bad, 0, NULL, NULL), -EINVAL);
        bad = good;
        bad.deadline_ms = 0;
        ck_assert_int_eq(dlock_hold_new(&hold, dlock, &bad, 0, NULL, NULL), -EINVAL);
        ck_assert_ptr_nonnull(strstr(dlock_get_error(dlock), "nothing to hold"));
        ck_assert_ptr_null(hold);
        ck_assert_ptr_null(dlock_hold_free(NULL));
        ck_assert_int_eq(dlock_get_timeout(dlock), -1);
}
END_TEST

START_TEST(answer_that_was_kept_for_too_long_is_lost_at_once)
{
        struct dlock_answer answer;

        greeted_handle();
        answer = opened(9000, SESSION);
        pass_ms(8000);
        holds[0] = hold_of(&answer, 1000, &told);
        ck_assert_int_eq(dlock_hold_get_state(holds[0]), DLOCK_LOST);
        ck_assert_uint_eq(told.count, 0);
        ck_assert_int_eq(dlock_get_timeout(dlock), 0);
        run_ms(100);
        ck_assert_uint_eq(told.count, 1);
        ck_assert_uint_eq(renewals, 0);
}
END_TEST

static Suite *suite(void)
{
        Suite *s = suite_create("hold");
        TCase *c = tcase_create("holds");

        tcase_add_checked_fixture(c, begin, end);
        tcase_set_timeout(c, 120);
        suite_add_tcase(s, c);
        tcase_add_test(c, hold_is_renewed_after_a_third_and_lives);
        tcase_add_test(c, hold_that_takes_long_to_stop_is_renewed_earlier);
        tcase_add_test(c, hold_ends_when_a_node_says_so);
        tcase_add_loop_test(c, hold_without_an_answer_is_at_risk_and_then_lost, 0, 2);
        tcase_add_test(c, hold_at_risk_is_held_again_when_a_renewal_is_answered);
        tcase_add_test(c, answer_after_it_was_lost_does_not_count);
        tcase_add_test(c, answer_before_it_is_lost_counts_although_nobody_looked);
        tcase_add_test(c, timeout_of_an_event_loop_has_the_next_renewal_in_it);
        tcase_add_loop_test(c, hold_of_three_seconds_survives_a_server_that_vanishes, 0, 6);
        tcase_add_loop_test(c, hold_survives_two_servers_of_which_one_is_silent_and_one_is_gone, 0, 2);
        tcase_add_loop_test(c, hold_of_three_seconds_survives_a_change_of_leaders, 0, 6);
        tcase_add_test(c, hold_of_three_seconds_survives_that_all_servers_start_anew);
        tcase_add_test(c, node_that_cannot_tell_is_left_after_a_tenth);
        tcase_add_test(c, only_node_is_asked_again_after_a_tenth);
        tcase_add_test(c, request_of_the_user_moves_with_the_renewal);
        tcase_add_loop_test(c, end_of_a_lease_is_told_before_its_renewal_would_tell, 0, sizeof(after_news) / sizeof(after_news[0]));
        tcase_add_test(c, renewal_that_was_under_way_confirms_nothing);
        tcase_add_test(c, node_without_news_is_asked_again_but_not_all_the_time);
        tcase_add_test(c, hold_that_ends_while_its_renewal_gets_no_answer_drops_what_is_asked_for_it_once);
        tcase_add_test(c, node_is_not_asked_for_signs_of_life_since_a_hold_listens);
        tcase_add_test(c, crowd_that_listens_is_in_nobodys_way);
        tcase_add_test(c, who_gives_up_what_he_holds_is_not_told_that_it_is_lost);
        tcase_add_test(c, two_holds_of_one_handle_are_two);
        tcase_add_test(c, thousand_holds_live);
        tcase_add_test(c, hold_lives_while_the_handle_is_full);
        tcase_add_test(c, lease_is_held_under_its_token);
        tcase_add_loop_test(c, hold_that_was_freed_is_not_renewed, 0, 2);
        tcase_add_test(c, hold_without_its_handle_is_lost);
        tcase_add_test(c, handler_may_ask_and_hold);
        tcase_add_test(c, blocking_call_does_not_starve_a_hold);
        tcase_add_test(c, hold_is_dead_in_a_child);
        tcase_add_test(c, only_what_lives_can_be_held);
        tcase_add_test(c, answer_that_was_kept_for_too_long_is_lost_at_once);
        return s;
}

int main(void)
{
        return run_suite(suite());
}
