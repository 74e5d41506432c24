/* The client library with what an operator asks: consistent checks, who is a member, who shall lead, who shall go. */
#include "unit/fake_node.h"

static uint64_t ask_node(enum dlock_operation operation, const char *node)
{
        int64_t id = dlock_submit(dlock, &(struct dlock_request){ .operation = operation, .node = node });

        ck_assert_int_gt(id, 0);
        return (uint64_t)id;
}

START_TEST(check_is_consistent_when_that_is_wanted)
{
        struct dlock_request check = { .operation = DLOCK_OP_CHECK, .lock = "x", .consistent = 1 };
        struct wire_request request;
        struct dlock_answer answer;

        greeted_handle();
        ck_assert_int_gt(dlock_submit(dlock, &check), 0);
        request = node_wait_request(0);
        ck_assert_int_eq(request.type, WIRE_CHECK);
        ck_assert(request.consistent);
        node_answer(0, &request, WIRE_UNKNOWN, 0);
        answer = wait_answer();
        ck_assert_int_eq(answer.outcome, DLOCK_UNKNOWN);
        ck_assert_str_eq(answer.reason, "because");
        (void)ask(DLOCK_OP_CHECK, "x");
        ck_assert(!node_wait_request(0).consistent);
        /* It means nothing to what is not a check. */
        check.operation = DLOCK_OP_PREEMPT;
        ck_assert_int_gt(dlock_submit(dlock, &check), 0);
        ck_assert_int_eq(node_wait_request(0).type, WIRE_PREEMPT);
}
END_TEST

/* Nobody was there for it but one who could not tell: that is not the same as nobody. */
START_TEST(check_that_one_node_could_not_answer_is_unknown)
{
        struct dlock_request check = { .operation = DLOCK_OP_CHECK, .lock = "x", .consistent = 1 };
        struct wire_request request;
        struct dlock_answer answer;

        node_start(0);
        make_handle(2);
        ck_assert_int_gt(dlock_submit(dlock, &check), 0);
        node_greet(0);
        request = node_wait_request(0);
        node_answer(0, &request, WIRE_UNKNOWN, 0);
        go_on(5);
        node_stop(0);
        pass_s(11);
        answer = wait_answer();
        ck_assert_int_eq(answer.outcome, DLOCK_UNKNOWN);
        ck_assert_ptr_nonnull(strstr(answer.reason, "because"));
}
END_TEST

static void say_members(const struct wire_request *request, const struct wire_member *members, uint16_t count, bool more)
{
        struct wire_page page = { .tag = request->tag, .outcome = WIRE_YES, .index = 30, .leader_age_ms = 0, .count = count, .more = more };
        struct bytes out = { 0 };
        size_t frame = wire_write_page_begin(&out, WIRE_ROSTER, &page);

        for (uint16_t i = 0; i < count; i++)
                wire_write_member(&out, &members[i]);
        wire_write_page_end(&out, frame);
        node_say(0, &out);
}

static const struct wire_member two_members[] = {
        { .id = 1, .name = "leader", .address = "10.0.0.1:7402", .voter = true, .preferred = true, .leader = true, .linked = true, .match = 30, .level = 1 },
        { .id = 4, .name = "follower-1", .witness = true, .away = true },
};

START_TEST(members_are_handed_out)
{
        struct wire_request request;
        struct dlock_answer answer;

        greeted_handle();
        (void)ask(DLOCK_OP_MEMBERS, NULL);
        request = node_wait_request(0);
        ck_assert_int_eq(request.type, WIRE_MEMBERS);
        say_members(&request, two_members, 2, false);
        answer = wait_answer();
        ck_assert_int_eq(answer.operation, DLOCK_OP_MEMBERS);
        ck_assert_int_eq(answer.outcome, DLOCK_YES);
        ck_assert_uint_eq(answer.count, 2);
        ck_assert_uint_eq(answer.index, 30);
        ck_assert_str_eq(answer.lock, "");
        ck_assert_uint_eq(answer.members[0].id, 1);
        ck_assert_str_eq(answer.members[0].name, "leader");
        ck_assert_str_eq(answer.members[0].address, "10.0.0.1:7402");
        ck_assert(answer.members[0].voter && answer.members[0].preferred && answer.members[0].leader && answer.members[0].linked);
        ck_assert(!answer.members[0].witness && !answer.members[0].away);
        ck_assert_uint_eq(answer.members[0].match, 30);
        ck_assert_uint_eq(answer.members[0].level, 1);
        ck_assert_uint_eq(answer.members[1].id, 4);
        ck_assert_str_eq(answer.members[1].address, "");
        ck_assert(answer.members[1].witness && answer.members[1].away && !answer.members[1].voter && !answer.members[1].linked);
        ck_assert_uint_eq(answer.members[1].match, 0);
}
END_TEST

START_TEST(members_have_one_page)
{
        struct wire_request request;

        greeted_handle();
        (void)ask(DLOCK_OP_MEMBERS, NULL);
        request = node_wait_request(0);
        say_members(&request, two_members, 2, true);
        /* Not a node to believe: it is asked anew. */
        go_on(20);
        node_hang_up(0);
        node_greet(0);
        request = node_wait_request(0);
        say_members(&request, two_members, 0, false);
        ck_assert_uint_eq(wait_answer().count, 0);
}
END_TEST

static const enum dlock_operation wishes[] = { DLOCK_OP_TRANSFER, DLOCK_OP_REMOVE };
static const enum wire_type wish_types[] = { WIRE_TRANSFER, WIRE_REMOVE };

START_TEST(wishes_name_a_node)
{
        static const char *const wrong[] = { NULL, "", "two words", "caf\xc3\xa9", "a/b" };
        char long_name[66] = { 0 };
        struct wire_request request;
        struct dlock_answer answer;

        greeted_handle();
        memset(long_name, 'n', 65);
        for (size_t i = 0; i < ARRAY_SIZE(wrong); i++)
                ck_assert_int_eq(dlock_submit(dlock, &(struct dlock_request){ .operation = wishes[_i], .node = wrong[i] }), -EINVAL);
        ck_assert_int_eq(dlock_submit(dlock, &(struct dlock_request){ .operation = wishes[_i], .node = long_name }), -EINVAL);
        ck_assert_ptr_nonnull(strstr(dlock_get_error(dlock), "1 to 64 letters"));
        (void)ask_node(wishes[_i], "follower-1");
        request = node_wait_request(0);
        ck_assert_int_eq(request.type, wish_types[_i]);
        ck_assert_str_eq(request.node, "follower-1");
        node_answer(0, &request, WIRE_YES, 0);
        ck_assert_int_eq(wait_answer().outcome, DLOCK_YES);
        (void)ask_node(wishes[_i], &long_name[1]);
        request = node_wait_request(0);
        ck_assert_str_eq(request.node, &long_name[1]);
        node_answer(0, &request, WIRE_REJECTED, 0);
        answer = wait_answer();
        ck_assert_int_eq(answer.operation, wishes[_i]);
        ck_assert_int_eq(answer.outcome, DLOCK_REJECTED);
        ck_assert_str_eq(answer.reason, "because");
        ck_assert_int_eq(answer.leader_age_ms, -1);
}
END_TEST

START_TEST(wishes_need_no_client_id)
{
        struct wire_request request;
        char path[108];

        /* With no place to keep one. */
        ck_assert_int_eq(setenv("XDG_STATE_HOME", "/proc/nowhere", 1), 0);
        node_start(0);
        node_path(0, path);
        ck_assert_int_eq(dlock_new(&dlock, path, NULL, 0), 0);
        (void)ask_node(wishes[_i], "follower-1");
        node_greet(0);
        request = node_wait_request(0);
        node_answer(0, &request, WIRE_YES, 0);
        ck_assert_int_eq(wait_answer().outcome, DLOCK_YES);
}
END_TEST

START_TEST(wishes_that_were_sent_are_never_called_unreachable)
{
        struct dlock_answer answer;

        node_start(0);
        make_handle(1);
        (void)ask_node(wishes[_i], "follower-1");
        node_greet(0);
        (void)node_wait_request(0);
        node_stop(0);
        go_on(1500);
        pass_s(11);
        answer = wait_answer();
        ck_assert_int_eq(answer.outcome, DLOCK_UNKNOWN);
        ck_assert_ptr_nonnull(strstr(answer.reason, "it may have happened or not"));
}
END_TEST

/* The name of a node that is gone is nobody's, so that the second node calls it wrong what the first has done. */
START_TEST(rejection_of_a_wish_that_was_asked_before)
{
        struct wire_request request;
        struct dlock_answer answer;

        node_start(0);
        node_start(1);
        make_handle(2);
        (void)ask_node(wishes[_i], "follower-1");
        node_greet(0);
        (void)node_wait_request(0);
        node_stop(0);
        node_greet(1);
        request = node_wait_request(1);
        ck_assert_int_eq(request.type, wish_types[_i]);
        node_answer(1, &request, WIRE_REJECTED, 0);
        answer = wait_answer();
        ck_assert_ptr_nonnull(strstr(answer.reason, "because"));
        ck_assert_ptr_nonnull(strstr(answer.server, "1.sock"));
        if (wishes[_i] == DLOCK_OP_REMOVE)
                ck_assert_int_eq(answer.outcome, DLOCK_UNKNOWN);
        else
                ck_assert_int_eq(answer.outcome, DLOCK_REJECTED);
}
END_TEST

static Suite *suite(void)
{
        Suite *s = suite_create("operator");
        TCase *c = tcase_create("operator");

        tcase_add_checked_fixture(c, set_up, tear_down);
        tcase_set_timeout(c, 120);
        suite_add_tcase(s, c);
        tcase_add_test(c, check_is_consistent_when_that_is_wanted);
        tcase_add_test(c, check_that_one_node_could_not_answer_is_unknown);
        tcase_add_test(c, members_are_handed_out);
        tcase_add_test(c, members_have_one_page);
        tcase_add_loop_test(c, wishes_name_a_node, 0, 2);
        tcase_add_loop_test(c, wishes_need_no_client_id, 0, 2);
        tcase_add_loop_test(c, wishes_that_were_sent_are_never_called_unreachable, 0, 2);
        tcase_add_loop_test(c, rejection_of_a_wish_that_was_asked_before, 0, 2);
        return s;
}

int main(void)
{
        return run_suite(suite());
}
