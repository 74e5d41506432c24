/* The client library with nodes that are gone, busy, silent, or of another cluster. */
#include "unit/fake_node.h"

/* --- servers that are not there, or cannot --- */

START_TEST(nobody_there_is_unreachable_within_seconds)
{
        struct dlock_answer answer;

        make_handle(3);
        (void)ask(DLOCK_OP_PREEMPT, "x");
        (void)ask(DLOCK_OP_CHECK, "x");
        for (int i = 0; i < 2; i++) {
                answer = wait_answer();
                ck_assert_int_eq(answer.outcome, DLOCK_UNREACHABLE);
                ck_assert_ptr_nonnull(strstr(answer.reason, "2.sock: No such file"));
                ck_assert_str_eq(answer.server, "");
        }
}
END_TEST

START_TEST(server_that_is_just_starting_is_waited_for)
{
        struct wire_request request;

        make_handle(1);
        (void)ask(DLOCK_OP_PREEMPT, "x");
        go_on(300);
        node_start(0);
        node_greet(0);
        request = node_wait_request(0);
        node_answer(0, &request, WIRE_YES, 4);
        ck_assert_int_eq(wait_answer().outcome, DLOCK_YES);
}
END_TEST

START_TEST(what_was_sent_is_never_called_unreachable)
{
        struct dlock_answer answer;

        node_start(0);
        make_handle(1);
        (void)ask(DLOCK_OP_PREEMPT, "x");
        (void)ask(DLOCK_OP_CHECK, "x");
        node_greet(0);
        (void)node_wait_request(0);
        (void)node_wait_request(0);
        node_stop(0);
        /* A read that nobody answered has not happened; a change may have. */
        answer = wait_answer();
        ck_assert_int_eq(answer.operation, DLOCK_OP_CHECK);
        ck_assert_int_eq(answer.outcome, DLOCK_UNREACHABLE);
        pass_s(11);
        answer = wait_answer();
        ck_assert_int_eq(answer.operation, DLOCK_OP_PREEMPT);
        ck_assert_int_eq(answer.outcome, DLOCK_UNKNOWN);
}
END_TEST

START_TEST(busy_or_stopping_nodes_are_left_for_the_next)
{
        node_start(0);
        node_start(1);
        make_handle(2);
        (void)ask(DLOCK_OP_PREEMPT, "x");
        (void)node_wait_hello(0);
        node_refuse(0, _i == 0 ? WIRE_REFUSAL_BUSY : WIRE_REFUSAL_STOPPING);
        node_greet(1);
        ck_assert_int_eq(node_wait_request(1).type, WIRE_PREEMPT);
}
END_TEST

START_TEST(node_that_stops_hands_its_requests_to_the_next)
{
        struct wire_request first, again;

        node_start(0);
        node_start(1);
        make_handle(2);
        (void)ask(DLOCK_OP_PREEMPT, "x");
        node_greet(0);
        first = node_wait_request(0);
        node_refuse(0, WIRE_REFUSAL_STOPPING);
        node_greet(1);
        again = node_wait_request(1);
        ck_assert(id128_equal(first.handle, again.handle));
}
END_TEST

START_TEST(node_that_cannot_tell_is_left_for_the_next)
{
        struct wire_request first, again;
        struct dlock_answer answer;

        node_start(0);
        node_start(1);
        make_handle(2);
        (void)ask(DLOCK_OP_PREEMPT, "x");
        node_greet(0);
        first = node_wait_request(0);
        /* It does not get all the time there is. */
        ck_assert_uint_le(first.deadline_ms, DLOCK_TIMEOUT_DEFAULT / 2);
        node_answer(0, &first, WIRE_UNKNOWN, 0);
        node_greet(1);
        again = node_wait_request(1);
        ck_assert(id128_equal(first.handle, again.handle));
        ck_assert_uint_eq(again.seq, 1);
        /* The last one's word is final. */
        ck_assert_uint_gt(again.deadline_ms, DLOCK_TIMEOUT_DEFAULT / 2);
        node_answer(1, &again, WIRE_UNKNOWN, 0);
        answer = wait_answer();
        ck_assert_int_eq(answer.outcome, DLOCK_UNKNOWN);
        ck_assert_str_eq(answer.reason, "because");
}
END_TEST

START_TEST(reason_of_the_node_that_could_not_tell_outlives_the_silence_of_the_next)
{
        struct wire_request request;
        struct dlock_answer answer;

        node_start(0);
        node_start(1);
        make_handle(2);
        (void)ask(DLOCK_OP_PREEMPT, "x");
        node_greet(0);
        request = node_wait_request(0);
        node_answer(0, &request, WIRE_UNKNOWN, 0);
        node_greet(1);
        (void)node_wait_request(1);
        pass_s(11);
        answer = wait_answer();
        ck_assert_int_eq(answer.outcome, DLOCK_UNKNOWN);
        ck_assert_ptr_nonnull(strstr(answer.reason, "1.sock in time: it may have happened or not; "));
        ck_assert_ptr_nonnull(strstr(answer.reason, "0.sock: because"));
}
END_TEST

START_TEST(node_that_could_not_tell_and_is_silent_later_is_named_once)
{
        struct wire_request request;
        struct dlock_answer answer;

        node_start(0);
        make_handle(2);                      /* the other one is not there */
        (void)ask(_i == 0 ? DLOCK_OP_PREEMPT : DLOCK_OP_CHECK, "x");
        node_greet(0);
        request = node_wait_request(0);
        node_answer(0, &request, WIRE_UNKNOWN, 0);
        node_hang_up(0);
        node_greet(0);
        (void)node_wait_request(0);
        pass_s(11);
        answer = wait_answer();
        ck_assert_int_eq(answer.outcome, DLOCK_UNKNOWN);
        ck_assert_ptr_nonnull(strstr(answer.reason, _i == 0 ? "0.sock: because: it may have happened or not" : "0.sock: because"));
        ck_assert_ptr_null(strstr(strstr(answer.reason, "0.sock") + 1, "0.sock"));
}
END_TEST

START_TEST(silent_node_is_asked_how_it_is_and_then_left)
{
        struct wire_request first, ping, again;

        node_start(0);
        node_start(1);
        make_handle(2);
        ck_assert_int_eq(dlock_set_timeout(dlock, 60000), 0);
        (void)ask(DLOCK_OP_PREEMPT, "x");
        node_greet(0);
        first = node_wait_request(0);
        pass_s(3);
        ping = node_wait_request(0);
        ck_assert_int_eq(ping.type, WIRE_STATUS);
        pass_s(3);
        node_greet(1);
        again = node_wait_request(1);
        ck_assert(id128_equal(first.handle, again.handle));
}
END_TEST

START_TEST(slow_node_that_says_how_it_is_is_kept)
{
        struct wire_request first, ping;
        struct wire_state state = { .node = "n", .role = "follower", .version = "1" };
        struct bytes out = { 0 };

        node_start(0);
        node_start(1);
        make_handle(2);
        ck_assert_int_eq(dlock_set_timeout(dlock, 60000), 0);
        (void)ask(DLOCK_OP_PREEMPT, "x");
        node_greet(0);
        first = node_wait_request(0);
        for (int i = 0; i < 5; i++) {
                pass_s(3);
                ping = node_wait_request(0);
                ck_assert_int_eq(ping.type, WIRE_STATUS);
                state.tag = ping.tag;
                wire_write_state(&out, &state);
                node_say(0, &out);
                go_on(10);
        }
        node_answer(0, &first, WIRE_YES, 8);
        ck_assert_int_eq(wait_answer().outcome, DLOCK_YES);
}
END_TEST

START_TEST(node_that_takes_connections_only_is_left_for_the_next)
{
        node_start(0);
        node_start(1);
        make_handle(2);
        (void)ask(DLOCK_OP_PREEMPT, "x");
        (void)node_wait_hello(0);
        pass_s(2);
        node_greet(1);
        ck_assert_int_eq(node_wait_request(1).type, WIRE_PREEMPT);
}
END_TEST

START_TEST(only_server_gets_all_the_time_to_say_hello)
{
        node_start(0);
        make_handle(1);
        ck_assert_int_eq(dlock_set_timeout(dlock, 60000), 0);
        (void)ask(DLOCK_OP_PREEMPT, "x");
        (void)node_wait_hello(0);
        pass_s(50);
        go_on(20);
        node_welcome(0, cluster, NULL);
        ck_assert_int_eq(node_wait_request(0).type, WIRE_PREEMPT);
}
END_TEST

START_TEST(idle_connection_that_ended_is_replaced_unnoticed)
{
        struct wire_request request;

        node_start(0);
        make_handle(1);
        (void)ask(DLOCK_OP_CHECK, "x");
        node_greet(0);
        request = node_wait_request(0);
        node_answer(0, &request, WIRE_NO, 4);
        (void)wait_answer();
        if (_i == 0) {
                node_refuse(0, WIRE_REFUSAL_STOPPING);
                go_on(10);
        }
        node_hang_up(0);
        pass_s(1);
        (void)ask(DLOCK_OP_PREEMPT, "x");
        node_greet(0);
        request = node_wait_request(0);
        ck_assert_int_eq(request.type, WIRE_PREEMPT);
        node_answer(0, &request, WIRE_YES, 4);
        ck_assert_int_eq(wait_answer().outcome, DLOCK_YES);
}
END_TEST

/* --- what the client has seen --- */

static struct wire_request preempt_answered(enum wire_outcome outcome, enum dlock_outcome seen)
{
        struct wire_request request;

        (void)ask(DLOCK_OP_PREEMPT, "x");
        request = node_wait_request(0);
        node_answer(0, &request, outcome, 9);
        ck_assert_int_eq(wait_answer().outcome, seen);
        return request;
}

static uint64_t min_index_of_check(uint64_t answered)
{
        struct wire_request request;

        (void)ask(DLOCK_OP_CHECK, "x");
        request = node_wait_request(0);
        node_answer(0, &request, WIRE_YES, answered);
        (void)wait_answer();
        return request.min_index;
}

START_TEST(reads_name_the_highest_index_that_was_seen)
{
        greeted_handle();
        ck_assert_uint_eq(min_index_of_check(5), 0);
        (void)preempt_answered(WIRE_YES, DLOCK_YES);
        ck_assert_uint_eq(min_index_of_check(40), 9);
        ck_assert_uint_eq(min_index_of_check(39), 40);
        ck_assert_uint_eq(min_index_of_check(41), 40);
        ck_assert_uint_eq(min_index_of_check(50), 41);
}
END_TEST

/* --- the cluster --- */

START_TEST(first_cluster_is_pinned_and_another_is_refused)
{
        struct dlock_answer answer;
        struct wire_request request;
        struct wire_hello hello;
        char text[ID128_TEXT_BYTES], kept[ID128_TEXT_BYTES];

        node_start(0);
        make_handle(1);
        ck_assert_int_eq(dlock_get_cluster(dlock, kept, sizeof(kept)), -ENOENT);
        (void)ask(DLOCK_OP_CHECK, "x");
        node_greet(0);
        request = node_wait_request(0);
        node_answer(0, &request, WIRE_NO, 30);
        (void)wait_answer();
        ck_assert_int_eq(dlock_get_cluster(dlock, kept, sizeof(kept)), 0);
        ck_assert_str_eq(kept, id128_format(cluster, text));
        /* Another program of this user, and a node of another cluster. */
        dlock = dlock_free(dlock);
        node_hang_up(0);
        make_handle(1);
        (void)ask(DLOCK_OP_CHECK, "x");
        hello = node_wait_hello(0);
        ck_assert(id128_equal(hello.cluster, cluster));
        node_welcome(0, id128_random(), NULL);
        node_hang_up(0);
        for (int i = 0; i < 200 && dlock_next(dlock, &answer) == 0; i++) {
                struct wire_frame frame;

                /* It tries again for a second, and is never asked about the lock. */
                ck_assert_int_eq(dlock_process(dlock), 0);
                if (node_hears(0, &frame)) {
                        ck_assert_uint_eq(frame.type, WIRE_HELLO);
                        node_refuse(0, WIRE_REFUSAL_CLUSTER);
                        node_hang_up(0);
                }
                (void)poll(NULL, 0, 10);
        }
        ck_assert_int_eq(answer.outcome, DLOCK_UNREACHABLE);
        ck_assert_ptr_nonnull(strstr(answer.reason, text));
        ck_assert_ptr_nonnull(strstr(answer.reason, "forget-cluster"));
        ck_assert_int_eq(dlock_forget_cluster(dlock), 0);
        ck_assert_int_eq(dlock_get_cluster(dlock, kept, sizeof(kept)), -ENOENT);
        (void)ask(DLOCK_OP_CHECK, "x");
        node_hang_up(0);
        hello = node_wait_hello(0);
        ck_assert(id128_is_null(hello.cluster));
        cluster = id128_random();
        node_welcome(0, cluster, NULL);
        ck_assert_uint_eq(node_wait_request(0).min_index, 0);
        ck_assert_int_eq(dlock_get_cluster(dlock, kept, sizeof(kept)), 0);
        ck_assert_str_eq(kept, id128_format(cluster, text));
}
END_TEST

START_TEST(node_without_a_cluster_is_asked_for_status_only_once_a_cluster_is_known)
{
        struct wire_request request;
        struct wire_frame frame;

        node_start(0);
        make_handle(1);
        (void)ask(DLOCK_OP_CHECK, "x");
        node_greet(0);
        request = node_wait_request(0);
        node_answer(0, &request, WIRE_NO, 30);
        (void)wait_answer();
        /* The node comes back with an emptied disk. */
        node_hang_up(0);
        go_on(5);
        (void)ask(DLOCK_OP_PREEMPT, "x");
        (void)ask(DLOCK_OP_STATUS, NULL);
        (void)node_wait_hello(0);
        node_welcome(0, (struct id128){ 0 }, NULL);
        frame = node_wait(0);
        ck_assert_uint_eq(frame.type, WIRE_STATUS);
        go_on(20);
        ck_assert(!node_hears(0, &frame));
        /* Some time later it is a member. */
        node_hang_up(0);
        node_greet(0);
        ck_assert_int_eq(node_wait_request(0).type, WIRE_STATUS);
        ck_assert_int_eq(node_wait_request(0).type, WIRE_PREEMPT);
}
END_TEST

START_TEST(node_without_a_cluster_is_good_enough_for_a_newcomer)
{
        node_start(0);
        make_handle(1);
        (void)ask(DLOCK_OP_PREEMPT, "x");
        (void)node_wait_hello(0);
        node_welcome(0, (struct id128){ 0 }, NULL);
        ck_assert_int_eq(node_wait_request(0).type, WIRE_PREEMPT);
}
END_TEST

START_TEST(id_is_assigned_when_it_is_wanted)
{
        struct wire_request request;
        struct wire_hello hello;

        node_start(0);
        make_handle(1);
        ck_assert_int_eq(dlock_set_client(dlock, ""), 0);
        ck_assert_ptr_null(dlock_get_client(dlock));
        /* A read needs none. */
        (void)ask(DLOCK_OP_CHECK, "x");
        hello = node_wait_hello(0);
        ck_assert(!hello.assign);
        node_welcome(0, cluster, NULL);
        request = node_wait_request(0);
        node_answer(0, &request, WIRE_NO, 3);
        (void)wait_answer();
        (void)ask(DLOCK_OP_PREEMPT, "x");
        go_on(5);
        node_hang_up(0);
        hello = node_wait_hello(0);
        ck_assert(hello.assign);
        ck_assert_uint_eq(hello.client.size, 0);
        node_welcome(0, cluster, "assigned-7");
        request = node_wait_request(0);
        ck_assert_str_eq(request.client.text, "assigned-7");
        ck_assert_str_eq(dlock_get_client(dlock), "assigned-7");
        /* And kept for the handle's life. */
        node_hang_up(0);
        hello = node_wait_hello(0);
        ck_assert(!hello.assign);
        ck_assert_str_eq(hello.client.text, "assigned-7");
}
END_TEST

static Suite *suite(void)
{
        Suite *s = suite_create("failover");
        TCase *c = tcase_create("servers");

        tcase_add_checked_fixture(c, set_up, tear_down);
        tcase_set_timeout(c, 120);
        suite_add_tcase(s, c);
        tcase_add_test(c, nobody_there_is_unreachable_within_seconds);
        tcase_add_test(c, server_that_is_just_starting_is_waited_for);
        tcase_add_test(c, what_was_sent_is_never_called_unreachable);
        tcase_add_loop_test(c, busy_or_stopping_nodes_are_left_for_the_next, 0, 2);
        tcase_add_test(c, node_that_stops_hands_its_requests_to_the_next);
        tcase_add_test(c, node_that_cannot_tell_is_left_for_the_next);
        tcase_add_test(c, reason_of_the_node_that_could_not_tell_outlives_the_silence_of_the_next);
        tcase_add_loop_test(c, node_that_could_not_tell_and_is_silent_later_is_named_once, 0, 2);
        tcase_add_test(c, silent_node_is_asked_how_it_is_and_then_left);
        tcase_add_test(c, slow_node_that_says_how_it_is_is_kept);
        tcase_add_test(c, node_that_takes_connections_only_is_left_for_the_next);
        tcase_add_test(c, only_server_gets_all_the_time_to_say_hello);
        tcase_add_loop_test(c, idle_connection_that_ended_is_replaced_unnoticed, 0, 2);
        tcase_add_test(c, reads_name_the_highest_index_that_was_seen);
        tcase_add_test(c, first_cluster_is_pinned_and_another_is_refused);
        tcase_add_test(c, node_without_a_cluster_is_asked_for_status_only_once_a_cluster_is_known);
        tcase_add_test(c, node_without_a_cluster_is_good_enough_for_a_newcomer);
        tcase_add_test(c, id_is_assigned_when_it_is_wanted);
        return s;
}

int main(void)
{
        return run_suite(suite());
}
