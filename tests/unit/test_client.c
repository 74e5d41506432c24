/* The client library with a node that answers: requests, their ids and deadlines. */
#include "unit/fake_node.h"

/* --- one request --- */

START_TEST(request_carries_all_that_the_node_needs)
{
        struct wire_hello hello;
        struct wire_request request;

        node_start(0);
        make_handle(1);
        (void)ask(DLOCK_OP_PREEMPT, "db/backup");
        hello = node_wait_hello(0);
        ck_assert_uint_eq(hello.version_min, WIRE_VERSION_MIN);
        ck_assert_uint_eq(hello.version_max, WIRE_VERSION_MAX);
        ck_assert(id128_is_null(hello.cluster));
        ck_assert_str_eq(hello.client.text, "me");
        ck_assert(!hello.assign);
        node_welcome(0, cluster, "me");
        request = node_wait_request(0);
        ck_assert_int_eq(request.type, WIRE_PREEMPT);
        ck_assert_str_eq(request.name.text, "db/backup");
        ck_assert_str_eq(request.client.text, "me");
        ck_assert(!id128_is_null(request.handle));
        ck_assert_uint_eq(request.seq, 1);
        ck_assert_uint_gt(request.deadline_ms, DLOCK_TIMEOUT_DEFAULT - 1500);
        ck_assert_uint_lt(request.deadline_ms, DLOCK_TIMEOUT_DEFAULT);
}
END_TEST

START_TEST(preempt_says_who_will_hold_the_lock_and_what_for)
{
        struct dlock_request request = { .operation = DLOCK_OP_PREEMPT, .lock = "a", .note = "nightly" };
        struct wire_request seen;
        struct holder holder;
        char host[LIMIT_HOST_BYTES + 1];

        ck_assert_int_eq(gethostname(host, sizeof(host)), 0);
        greeted_handle();
        ck_assert_int_gt(dlock_submit(dlock, &request), 0);
        seen = node_wait_request(0);
        ck_assert(holder_get(seen.holder, &holder));
        ck_assert_str_eq(holder.note, "nightly");
        ck_assert_str_eq(holder.host, host);
        ck_assert_uint_eq(holder.pid, (uint32_t)getpid());
        node_answer(0, &seen, WIRE_YES, 12);
        (void)wait_answer();

        /* On behalf of another process. */
        request = (struct dlock_request){ .operation = DLOCK_OP_PREEMPT, .lock = "b", .pid = (uint32_t)getppid() };
        ck_assert_int_gt(dlock_submit(dlock, &request), 0);
        seen = node_wait_request(0);
        ck_assert(holder_get(seen.holder, &holder));
        ck_assert_str_eq(holder.note, "");
        ck_assert_uint_eq(holder.pid, (uint32_t)getppid());
        node_answer(0, &seen, WIRE_YES, 13);
        (void)wait_answer();
}
END_TEST

/* The rows of an answer to show: of holds with tokens from row->token on, so far from each other. */
static void show_holds(const struct wire_request *request, const char *lock, const struct wire_row *first, uint16_t count, uint64_t distance, bool more)
{
        struct wire_page page = { .tag = request->tag, .outcome = WIRE_YES, .index = 30, .leader_age_ms = 4, .count = count, .more = more };
        struct wire_row row = *first;
        struct holder holder = { .note = "why", .host = "web1", .pid = 7 };
        struct bytes out = { 0 }, bytes = { 0 };
        size_t frame;

        holder_put(&bytes, &holder);
        row.holder = (struct holder_view){ .data = bytes.data, .size = (uint16_t)bytes.size };
        ck_assert(lock_name_set(&row.lock, lock, strlen(lock)) && client_id_set(&row.owner, "alice", 5) && principal_set(&row.principal, "uid:9", 5));
        frame = wire_write_page_begin(&out, WIRE_ROWS, &page);
        for (unsigned i = 0; i < count; i++) {
                wire_write_row(&out, &row);
                row.token += distance;
        }
        wire_write_page_end(&out, frame);
        node_say(0, &out);
        bytes_done(&bytes);
}

/* count: of what should be one or none. */
static void show_rows(const struct wire_request *request, const char *lock, uint16_t count)
{
        show_holds(request, lock, &(struct wire_row){ .holders = 1, .token = 12, .held_ms = 5, .since_wall_ms = 6 }, count, 0, false);
}

START_TEST(show_tells_who_holds_the_lock)
{
        struct dlock_request request = { .operation = DLOCK_OP_SHOW, .lock = "a", .consistent = 1 };
        struct wire_request seen;
        struct dlock_answer answer;

        greeted_handle();
        ck_assert_int_gt(dlock_submit(dlock, &request), 0);
        seen = node_wait_request(0);
        ck_assert_int_eq(seen.type, WIRE_SHOW);
        ck_assert(seen.consistent);
        show_rows(&seen, "a", 1);
        answer = wait_answer();
        ck_assert_int_eq(answer.outcome, DLOCK_YES);
        ck_assert_str_eq(answer.owner, "alice");
        ck_assert_uint_eq(answer.token, 12);
        ck_assert_uint_eq(answer.index, 30);
        ck_assert_uint_eq(answer.count, 1);
        ck_assert_str_eq(answer.rows[0].user, "uid:9");
        ck_assert_str_eq(answer.rows[0].host, "web1");
        ck_assert_str_eq(answer.rows[0].unit, "");
        ck_assert_str_eq(answer.rows[0].note, "why");
        ck_assert_uint_eq(answer.rows[0].pid, 7);

        (void)ask(DLOCK_OP_SHOW, "b");
        seen = node_wait_request(0);
        ck_assert(!seen.consistent);
        show_rows(&seen, "b", 0);
        answer = wait_answer();
        ck_assert_int_eq(answer.outcome, DLOCK_NO);
        ck_assert_ptr_null(answer.owner);
        ck_assert_ptr_null(answer.rows);
}
END_TEST

static struct wire_request ask_show(uint64_t after_token)
{
        struct dlock_request request = { .operation = DLOCK_OP_SHOW, .lock = "a", .after_token = after_token };

        ck_assert_int_gt(dlock_submit(dlock, &request), 0);
        return node_wait_request(0);
}

START_TEST(show_tells_page_by_page_who_holds_a_lock_together)
{
        const struct wire_row first = { .holders = 3, .slots = SLOTS_SHARED, .token = 12 }, third = { .holders = 3, .slots = SLOTS_SHARED, .token = 14 };
        struct wire_request seen;
        struct dlock_answer answer;

        greeted_handle();
        seen = ask_show(0);
        ck_assert_uint_eq(seen.after_token, 0);
        show_holds(&seen, "a", &first, 2, 1, true);
        answer = wait_answer();
        ck_assert_int_eq(answer.outcome, DLOCK_YES);
        ck_assert_uint_eq(answer.count, 2);
        ck_assert(answer.more);
        ck_assert_uint_eq(answer.token, 12);
        ck_assert_uint_eq(answer.slots, DLOCK_SHARED);
        ck_assert_uint_eq(answer.holders, 3);
        ck_assert_uint_eq(answer.rows[1].token, 13);
        ck_assert_uint_eq(answer.rows[1].slots, DLOCK_SHARED);
        ck_assert_uint_eq(answer.rows[1].holders, 3);
        seen = ask_show(13);
        ck_assert_uint_eq(seen.after_token, 13);
        show_holds(&seen, "a", &third, 1, 0, false);
        answer = wait_answer();
        ck_assert_uint_eq(answer.count, 1);
        ck_assert(!answer.more);
        /* Those who followed are gone. */
        seen = ask_show(14);
        show_rows(&seen, "a", 0);
        ck_assert_int_eq(wait_answer().outcome, DLOCK_NO);
}
END_TEST

/* What would let a reader of pages go round in circles. */
START_TEST(page_of_holds_out_of_order_is_no_answer)
{
        const struct wire_row first = { .holders = 3, .slots = 3, .token = _i == 0 ? 13 : 14 };
        struct wire_request seen;

        greeted_handle();
        seen = ask_show(13);
        show_holds(&seen, "a", &first, _i == 2 ? 0 : 2, _i == 0 ? 1 : 0, true);
        node_hang_up(0);
        node_greet(0);
        seen = node_wait_request(0);
        ck_assert_uint_eq(seen.after_token, 13);
        show_rows(&seen, "a", 0);
        ck_assert_int_eq(wait_answer().outcome, DLOCK_NO);
}
END_TEST

START_TEST(list_goes_on_after_a_name_or_after_a_hold_of_it)
{
        static const struct {
                const char *after;
                uint64_t after_token, sent;
        } lists[] = { { NULL, 0, 0 }, { "a", 0, UINT64_MAX }, { "a", 12, 12 } };
        struct dlock_request request = { .operation = DLOCK_OP_LIST, .after = lists[_i].after, .after_token = lists[_i].after_token };
        struct wire_request seen;

        greeted_handle();
        ck_assert_int_gt(dlock_submit(dlock, &request), 0);
        seen = node_wait_request(0);
        ck_assert_int_eq(seen.type, WIRE_LIST);
        if (lists[_i].after)
                ck_assert_uint_eq(seen.after_token, lists[_i].sent);
        show_holds(&seen, "a", &(struct wire_row){ .holders = 2, .slots = 2, .token = 13 }, 2, 1, false);
        ck_assert_uint_eq(wait_answer().rows[1].token, 14);
}
END_TEST

START_TEST(lock_is_asked_for_alone_or_with_others)
{
        static const struct {
                uint32_t asked;
                uint16_t sent;
        } modes[] = { { 0, 0 }, { 1, 0 }, { 2, 2 }, { DLOCK_SLOTS_MAX, LIMIT_SLOTS }, { DLOCK_SHARED, SLOTS_SHARED } };
        static const uint32_t wrong[] = { DLOCK_SLOTS_MAX + 1, DLOCK_SHARED - 1, DLOCK_SHARED + 1, UINT32_MAX };
        struct dlock_request request = { .operation = DLOCK_OP_PREEMPT, .lock = "a" };
        struct wire_request seen;

        greeted_handle();
        for (unsigned i = 0; i < ARRAY_SIZE(modes); i++) {
                request.slots = modes[i].asked;
                ck_assert_int_gt(dlock_submit(dlock, &request), 0);
                seen = node_wait_request(0);
                ck_assert_uint_eq(seen.slots, modes[i].sent);
                node_answer(0, &seen, WIRE_YES, 12 + i);
                ck_assert_int_eq(wait_answer().outcome, DLOCK_YES);
        }
        for (unsigned i = 0; i < ARRAY_SIZE(wrong); i++) {
                request.slots = wrong[i];
                ck_assert_int_eq(dlock_submit(dlock, &request), -EINVAL);
                ck_assert_ptr_nonnull(strstr(dlock_get_error(dlock), "1 to 4096 slots"));
        }
}
END_TEST

START_TEST(check_says_who_asks_and_about_which_hold)
{
        struct dlock_request request = { .operation = DLOCK_OP_CHECK, .lock = "a", .token = 14 };
        struct wire_result result = { .outcome = WIRE_YES, .token = 14, .index = 30, .leader_age_ms = 4, .slots = 3, .holders = 2 };
        struct bytes out = { 0 };
        struct wire_request seen;
        struct dlock_answer answer;

        greeted_handle();
        ck_assert_int_gt(dlock_submit(dlock, &request), 0);
        seen = node_wait_request(0);
        ck_assert_str_eq(seen.client.text, "me");
        ck_assert_uint_eq(seen.token, 14);
        result.tag = seen.tag;
        ck_assert(client_id_set(&result.owner, "me", 2));
        wire_write_result(&out, &result);
        node_say(0, &out);
        answer = wait_answer();
        ck_assert_uint_eq(answer.token, 14);
        ck_assert_uint_eq(answer.slots, 3);
        ck_assert_uint_eq(answer.holders, 2);
}
END_TEST

/* Of another lock, or twice the same hold: no answer. The connection is given up, and another one asks again. */
START_TEST(show_of_something_else_is_no_answer)
{
        struct wire_request seen;
        struct dlock_answer answer;

        greeted_handle();
        (void)ask(DLOCK_OP_SHOW, "a");
        seen = node_wait_request(0);
        show_rows(&seen, _i == 0 ? "b" : "a", _i == 0 ? 1 : 2);
        node_hang_up(0);
        node_greet(0);
        seen = node_wait_request(0);
        show_rows(&seen, "a", 0);
        answer = wait_answer();
        ck_assert_int_eq(answer.outcome, DLOCK_NO);
        ck_assert_ptr_null(answer.rows);     /* nothing is left of what was no answer */
}
END_TEST

START_TEST(answer_tells_what_the_node_said)
{
        struct wire_request request;
        struct dlock_answer answer;
        uint64_t id;

        node_start(0);
        make_handle(1);
        id = ask(DLOCK_OP_PREEMPT, "a");
        node_greet(0);
        request = node_wait_request(0);
        node_answer(0, &request, WIRE_YES, 12);
        answer = wait_answer();
        ck_assert_uint_eq(answer.id, id);
        ck_assert_int_eq(answer.operation, DLOCK_OP_PREEMPT);
        ck_assert_int_eq(answer.outcome, DLOCK_YES);
        ck_assert_str_eq(answer.lock, "a");
        ck_assert_str_eq(answer.owner, "somebody");
        ck_assert_uint_eq(answer.token, 12);
        ck_assert_uint_eq(answer.index, 12);
        ck_assert_str_eq(answer.reason, "");
        ck_assert_ptr_nonnull(strstr(answer.server, "0.sock"));
        ck_assert_int_eq(dlock_get_timeout(dlock), -1);

        (void)ask(DLOCK_OP_RELEASE, "b");
        request = node_wait_request(0);
        ck_assert_int_eq(request.type, WIRE_RELEASE);
        node_answer(0, &request, WIRE_NO, 13);
        ck_assert_int_eq(wait_answer().outcome, DLOCK_NO);

        (void)ask(DLOCK_OP_CHECK, "c");
        request = node_wait_request(0);
        node_answer(0, &request, WIRE_REJECTED, 0);
        answer = wait_answer();
        ck_assert_int_eq(answer.outcome, DLOCK_REJECTED);
        ck_assert_str_eq(answer.reason, "because");
        ck_assert_ptr_null(answer.owner);
}
END_TEST

static void node_give(const struct wire_request *request, uint64_t offset, const char *data)
{
        struct wire_piece piece = { .tag = request->tag, .outcome = WIRE_YES, .index = 40, .leader_age_ms = 3, .backup = 9, .offset = offset, .total = 10,
                                    .data = (const uint8_t *)data, .size = strlen(data) };
        struct bytes out = { 0 };

        wire_write_piece(&out, &piece);
        node_say(0, &out);
}

static struct wire_request ask_backup(uint64_t backup, uint64_t offset)
{
        ck_assert_int_gt(dlock_submit(dlock, &(struct dlock_request){ .operation = DLOCK_OP_BACKUP, .backup = backup, .offset = offset }), 0);
        return node_wait_request(0);
}

START_TEST(backup_comes_piece_by_piece)
{
        struct wire_request request;
        struct dlock_answer answer;

        greeted_handle();
        request = ask_backup(0, 0);
        ck_assert_int_eq(request.type, WIRE_BACKUP);
        ck_assert_uint_eq(request.backup, 0);
        node_give(&request, 0, "");
        answer = wait_answer();
        ck_assert_int_eq(answer.outcome, DLOCK_YES);
        ck_assert_uint_eq(answer.backup, 9);
        ck_assert_uint_eq(answer.total, 10);
        ck_assert_uint_eq(answer.size, 0);
        ck_assert_uint_eq(answer.index, 40);
        request = ask_backup(9, 4);
        ck_assert_uint_eq(request.backup, 9);
        ck_assert_uint_eq(request.offset, 4);
        node_give(&request, 4, "pieces");
        answer = wait_answer();
        ck_assert_uint_eq(answer.offset, 4);
        ck_assert_uint_eq(answer.size, 6);
        ck_assert_mem_eq(answer.data, "pieces", 6);
        ck_assert_int_eq(dlock_submit(dlock, &(struct dlock_request){ .operation = DLOCK_OP_BACKUP, .offset = 4 }), -EINVAL);
}
END_TEST

START_TEST(another_piece_than_the_one_asked_for_is_no_answer)
{
        static const struct {
                uint64_t offset;
                const char *data;
        } wrong[] = { { 3, "piece" }, { 4, "" } };
        struct wire_request request;

        greeted_handle();
        request = ask_backup(9, 4);
        node_give(&request, wrong[_i].offset, wrong[_i].data);
        go_on(20);
        node_hang_up(0);
        node_greet(0);                       /* it has come back, and asks again */
        request = node_wait_request(0);
        ck_assert_uint_eq(request.offset, 4);
        node_give(&request, 4, "pieces");
        ck_assert_int_eq(wait_answer().outcome, DLOCK_YES);
}
END_TEST

START_TEST(bad_requests_are_told_and_not_sent)
{
        char name[DLOCK_NAME_MAX + 2];
        struct dlock_request request = { .operation = DLOCK_OP_PREEMPT };

        memset(name, 'n', sizeof(name) - 1);
        name[sizeof(name) - 1] = 0;
        make_handle(1);
        ck_assert_int_eq(dlock_submit(dlock, &request), -EINVAL);
        ck_assert_ptr_nonnull(strstr(dlock_get_error(dlock), "1 to 255 bytes"));
        request.lock = "";
        ck_assert_int_eq(dlock_submit(dlock, &request), -EINVAL);
        request.lock = name;
        ck_assert_int_eq(dlock_submit(dlock, &request), -EINVAL);
        request.lock = "a\nb";
        ck_assert_int_eq(dlock_submit(dlock, &request), -EINVAL);
        request.lock = "\xc3\x28";
        ck_assert_int_eq(dlock_submit(dlock, &request), -EINVAL);
        request = (struct dlock_request){ .operation = DLOCK_OP_PREEMPT, .lock = "a", .note = "line\nbreak" };
        ck_assert_int_eq(dlock_submit(dlock, &request), -EINVAL);
        ck_assert_ptr_nonnull(strstr(dlock_get_error(dlock), "not a note"));
        name[DLOCK_NAME_MAX] = 'n';
        request.note = name;
        ck_assert_int_eq(dlock_submit(dlock, &request), -EINVAL);
        request = (struct dlock_request){ .operation = DLOCK_OP_LIST, .limit = DLOCK_PAGE_MAX + 1 };
        ck_assert_int_eq(dlock_submit(dlock, &request), -EINVAL);
        request = (struct dlock_request){ .operation = DLOCK_OP_STATUS, .timeout_ms = 3600001 };
        ck_assert_int_eq(dlock_submit(dlock, &request), -EINVAL);
        request.operation = (enum dlock_operation)99;
        ck_assert_int_eq(dlock_submit(dlock, &request), -EINVAL);
        ck_assert_int_eq(dlock_set_timeout(dlock, 0), -EINVAL);
        ck_assert_int_eq(dlock_get_timeout(dlock), -1);
        /* Nothing was asked: the id may still change. */
        ck_assert_int_eq(dlock_set_client(dlock, "other"), 0);
        (void)ask(DLOCK_OP_CHECK, "x");
        ck_assert_int_eq(dlock_set_client(dlock, "third"), -EBUSY);
}
END_TEST

START_TEST(so_many_requests_at_once_and_no_more)
{
        struct dlock_request request = { .operation = DLOCK_OP_PREEMPT, .lock = "x" };

        node_start(0);
        make_handle(1);
        for (int i = 0; i < 1024; i++)
                ck_assert_int_gt(dlock_submit(dlock, &request), 0);
        ck_assert_int_eq(dlock_submit(dlock, &request), -EAGAIN);
        node_greet(0);
        /* Fewer than make a node stop reading are on the connection; the others follow when answers come. */
        for (int i = 0; i < 1024; i++) {
                struct wire_request asked = node_wait_request(0);

                node_answer(0, &asked, WIRE_NO, 1);
        }
        for (int i = 0; i < 1024; i++)
                (void)wait_answer();
        ck_assert_int_eq(dlock_get_timeout(dlock), -1);
}
END_TEST

START_TEST(answers_may_come_in_any_order_and_requests_have_handles_of_their_own)
{
        uint64_t first = 0, second = 0;
        struct wire_request a, b;
        struct dlock_answer answer;

        node_start(0);
        make_handle(1);
        first = ask(DLOCK_OP_PREEMPT, "a");
        second = ask(DLOCK_OP_PREEMPT, "b");
        node_greet(0);
        a = node_wait_request(0);
        b = node_wait_request(0);
        ck_assert(!id128_equal(a.handle, b.handle));
        node_answer(0, &b, WIRE_YES, 5);
        node_answer(0, &a, WIRE_YES, 6);
        answer = wait_answer();
        ck_assert_uint_eq(answer.id, second);
        ck_assert_str_eq(answer.lock, "b");
        ck_assert_uint_eq(wait_answer().id, first);
}
END_TEST

/* --- request ids --- */

static struct wire_request preempt_answered(enum wire_outcome outcome, enum dlock_outcome seen)
{
        struct wire_request request;

        (void)ask(DLOCK_OP_PREEMPT, "x");
        request = node_wait_request(0);
        node_answer(0, &request, outcome, 9);
        ck_assert_int_eq(wait_answer().outcome, seen);
        return request;
}

START_TEST(sequence_goes_on_only_after_what_the_nodes_remember)
{
        struct wire_request first, next;

        greeted_handle();
        /* A refusal is not remembered for long: another handle. */
        first = preempt_answered(WIRE_NO, DLOCK_NO);
        next = preempt_answered(WIRE_YES, DLOCK_YES);
        ck_assert(!id128_equal(first.handle, next.handle));
        ck_assert_uint_eq(next.seq, 1);
        first = next;
        next = preempt_answered(WIRE_YES, DLOCK_YES);
        ck_assert(id128_equal(first.handle, next.handle));
        ck_assert_uint_eq(next.seq, 2);
        /* A refusal in between uses its number up. */
        next = preempt_answered(WIRE_NO, DLOCK_NO);
        ck_assert_uint_eq(next.seq, 3);
        next = preempt_answered(WIRE_YES, DLOCK_YES);
        ck_assert(id128_equal(first.handle, next.handle));
        ck_assert_uint_eq(next.seq, 4);
        /* What may still be on its way is not followed by another under the same handle. */
        next = preempt_answered(WIRE_UNKNOWN, DLOCK_UNKNOWN);
        ck_assert_uint_eq(next.seq, 5);
        next = preempt_answered(WIRE_YES, DLOCK_YES);
        ck_assert(!id128_equal(first.handle, next.handle));
        ck_assert_uint_eq(next.seq, 1);
        /* And what the nodes will soon have forgotten is not built upon. */
        first = next;
        pass_s(301);
        next = preempt_answered(WIRE_YES, DLOCK_YES);
        ck_assert(!id128_equal(first.handle, next.handle));
        ck_assert_uint_eq(next.seq, 1);
}
END_TEST

START_TEST(lost_connection_sends_the_same_request_to_the_next_node)
{
        struct wire_request first, again;

        node_start(0);
        node_start(1);
        make_handle(2);
        (void)ask(DLOCK_OP_PREEMPT, "x");
        node_greet(0);
        first = node_wait_request(0);
        node_stop(0);
        node_greet(1);
        again = node_wait_request(1);
        ck_assert(id128_equal(first.handle, again.handle));
        ck_assert_uint_eq(first.seq, again.seq);
        ck_assert_str_eq(again.name.text, "x");
        node_answer(1, &again, WIRE_YES, 4);
        ck_assert_int_eq(wait_answer().outcome, DLOCK_YES);
}
END_TEST

START_TEST(half_an_answer_is_none)
{
        struct wire_request first, again;
        struct wire_result result = { .outcome = WIRE_YES, .leader_age_ms = -1 };
        struct bytes out = { 0 };

        node_start(0);
        make_handle(1);
        (void)ask(DLOCK_OP_PREEMPT, "x");
        node_greet(0);
        first = node_wait_request(0);
        result.tag = first.tag;
        wire_write_result(&out, &result);
        out.size--;
        node_say(0, &out);
        go_on(20);
        node_hang_up(0);
        node_greet(0);
        again = node_wait_request(0);
        ck_assert(id128_equal(first.handle, again.handle));
        ck_assert_uint_eq(again.seq, 1);
        node_answer(0, &again, WIRE_YES, 4);
        ck_assert_int_eq(wait_answer().outcome, DLOCK_YES);
}
END_TEST

START_TEST(nothing_is_sent_again_after_a_minute)
{
        struct wire_frame frame;
        struct dlock_answer answer;

        node_start(0);
        make_handle(1);
        ck_assert_int_eq(dlock_set_timeout(dlock, 3600000), 0);
        (void)ask(DLOCK_OP_PREEMPT, "x");
        (void)ask(DLOCK_OP_CHECK, "x");
        node_greet(0);
        (void)node_wait_request(0);
        (void)node_wait_request(0);
        pass_s(59);
        node_hang_up(0);
        node_greet(0);
        (void)node_wait_request(0);
        (void)node_wait_request(0);
        pass_s(2);
        node_hang_up(0);
        answer = wait_answer();
        ck_assert_int_eq(answer.operation, DLOCK_OP_PREEMPT);
        ck_assert_int_eq(answer.outcome, DLOCK_UNKNOWN);
        ck_assert_ptr_nonnull(strstr(answer.reason, "it may have happened or not"));
        node_greet(0);
        frame = node_wait(0);
        ck_assert_uint_eq(frame.type, WIRE_CHECK);
}
END_TEST

START_TEST(request_that_nobody_saw_may_still_be_sent_after_a_minute)
{
        make_handle(1);
        ck_assert_int_eq(dlock_set_timeout(dlock, 3600000), 0);
        node_start(0);
        (void)ask(DLOCK_OP_PREEMPT, "x");
        (void)node_wait_hello(0);
        pass_s(90);
        node_welcome(0, cluster, NULL);
        ck_assert_int_eq(node_wait_request(0).type, WIRE_PREEMPT);
}
END_TEST

START_TEST(deadline_of_what_was_sent_is_unknown)
{
        struct dlock_answer answer;
        struct wire_request request;

        node_start(0);
        make_handle(1);
        (void)ask(DLOCK_OP_RELEASE, "x");
        node_greet(0);
        request = node_wait_request(0);
        pass_s(11);
        answer = wait_answer();
        ck_assert_int_eq(answer.outcome, DLOCK_UNKNOWN);
        ck_assert_uint_eq(answer.token, 0);
        ck_assert_ptr_null(answer.owner);
        /* The late answer of the node is for nobody, and no reason to doubt the node. */
        node_answer(0, &request, WIRE_YES, 3);
        go_on(20);
        (void)ask(DLOCK_OP_CHECK, "x");
        request = node_wait_request(0);
        node_answer(0, &request, WIRE_NO, 3);
        ck_assert_int_eq(wait_answer().outcome, DLOCK_NO);
}
END_TEST

START_TEST(answer_that_is_there_counts_although_the_deadline_is_over)
{
        struct wire_request request;

        node_start(0);
        make_handle(1);
        (void)ask(DLOCK_OP_PREEMPT, "x");
        node_greet(0);
        request = node_wait_request(0);
        node_answer(0, &request, WIRE_YES, 3);
        pass_s(3600);
        ck_assert_int_eq(wait_answer().outcome, DLOCK_YES);
}
END_TEST

static Suite *suite(void)
{
        Suite *s = suite_create("client");
        TCase *c = tcase_create("requests");

        tcase_add_checked_fixture(c, set_up, tear_down);
        tcase_set_timeout(c, 120);
        suite_add_tcase(s, c);
        tcase_add_test(c, request_carries_all_that_the_node_needs);
        tcase_add_test(c, preempt_says_who_will_hold_the_lock_and_what_for);
        tcase_add_test(c, show_tells_who_holds_the_lock);
        tcase_add_test(c, show_tells_page_by_page_who_holds_a_lock_together);
        tcase_add_loop_test(c, page_of_holds_out_of_order_is_no_answer, 0, 3);
        tcase_add_loop_test(c, list_goes_on_after_a_name_or_after_a_hold_of_it, 0, 3);
        tcase_add_test(c, lock_is_asked_for_alone_or_with_others);
        tcase_add_test(c, check_says_who_asks_and_about_which_hold);
        tcase_add_loop_test(c, show_of_something_else_is_no_answer, 0, 2);
        tcase_add_test(c, answer_tells_what_the_node_said);
        tcase_add_test(c, backup_comes_piece_by_piece);
        tcase_add_loop_test(c, another_piece_than_the_one_asked_for_is_no_answer, 0, 2);
        tcase_add_test(c, bad_requests_are_told_and_not_sent);
        tcase_add_test(c, so_many_requests_at_once_and_no_more);
        tcase_add_test(c, answers_may_come_in_any_order_and_requests_have_handles_of_their_own);
        tcase_add_test(c, sequence_goes_on_only_after_what_the_nodes_remember);
        tcase_add_test(c, lost_connection_sends_the_same_request_to_the_next_node);
        tcase_add_test(c, half_an_answer_is_none);
        tcase_add_test(c, nothing_is_sent_again_after_a_minute);
        tcase_add_test(c, request_that_nobody_saw_may_still_be_sent_after_a_minute);
        tcase_add_test(c, deadline_of_what_was_sent_is_unknown);
        tcase_add_test(c, answer_that_is_there_counts_although_the_deadline_is_over);
        return s;
}

int main(void)
{
        return run_suite(suite());
}
