/* The client library where it is treated badly: by nodes that talk nonsense, by
 * fork(2), by connections that break. And pages, which nodes could make endless. */
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "unit/fake_node.h"

static struct wire_request greeted_request(enum dlock_operation operation)
{
        node_start(0);
        make_handle(1);
        ck_assert_int_eq(dlock_set_timeout(dlock, 3000), 0);
        (void)ask(operation, operation == DLOCK_OP_STATUS ? NULL : "x");
        node_greet(0);
        return node_wait_request(0);
}

/* --- pages --- */

static void say_rows(const struct wire_request *request, const struct wire_page *page, unsigned rows)
{
        struct wire_row row = { .holders = 1, .token = 7, .held_ms = 8, .since_wall_ms = 9 };
        struct wire_page head = *page;
        struct bytes out = { 0 };
        size_t frame;

        ck_assert(client_id_set(&row.owner, "owner", 5) && principal_set(&row.principal, "uid:1", 5));
        head.tag = request->tag;
        frame = wire_write_page_begin(&out, WIRE_ROWS, &head);
        for (unsigned i = 0; i < rows; i++) {
                char text[16];

                ck_assert(lock_name_set(&row.lock, text, (size_t)snprintf(text, sizeof(text), "lock-%u", i)));
                wire_write_row(&out, &row);
        }
        wire_write_page_end(&out, frame);
        node_say(0, &out);
}

START_TEST(rows_of_a_list_are_handed_out)
{
        struct dlock_request list = { .operation = DLOCK_OP_LIST, .lock = "lo", .after = "lock", .limit = 3 };
        struct wire_request request;
        struct dlock_answer answer;

        node_start(0);
        make_handle(1);
        ck_assert_int_gt(dlock_submit(dlock, &list), 0);
        node_greet(0);
        request = node_wait_request(0);
        ck_assert_int_eq(request.type, WIRE_LIST);
        ck_assert_str_eq(request.name.text, "lo");
        ck_assert_str_eq(request.after.text, "lock");
        ck_assert_uint_eq(request.limit, 3);
        say_rows(&request, &(struct wire_page){ .outcome = WIRE_YES, .index = 70, .leader_age_ms = 4, .more = true, .count = 3 }, 3);
        answer = wait_answer();
        ck_assert_int_eq(answer.outcome, DLOCK_YES);
        ck_assert_uint_eq(answer.count, 3);
        ck_assert(answer.more);
        ck_assert_uint_eq(answer.index, 70);
        ck_assert_int_eq(answer.leader_age_ms, 4);
        ck_assert_str_eq(answer.rows[2].lock, "lock-2");
        ck_assert_str_eq(answer.rows[2].owner, "owner");
        ck_assert_uint_eq(answer.rows[2].token, 7);
        ck_assert_uint_eq(answer.rows[2].held_ms, 8);
        ck_assert_uint_eq(answer.rows[2].since_wall_ms, 9);
        /* What the page was read at is seen. */
        (void)ask(DLOCK_OP_CHECK, "x");
        ck_assert_uint_eq(node_wait_request(0).min_index, 70);
}
END_TEST

START_TEST(whole_pages_of_rows_are_handed_out)
{
        struct wire_request request = greeted_request(DLOCK_OP_LIST);
        struct dlock_answer answer;

        ck_assert_uint_eq(request.limit, DLOCK_PAGE_MAX);
        say_rows(&request, &(struct wire_page){ .outcome = WIRE_YES, .count = DLOCK_PAGE_MAX }, DLOCK_PAGE_MAX);
        answer = wait_answer();
        ck_assert_uint_eq(answer.count, DLOCK_PAGE_MAX);
        ck_assert_str_eq(answer.rows[999].lock, "lock-999");
}
END_TEST

START_TEST(events_of_history_are_handed_out)
{
        struct wire_request request = greeted_request(DLOCK_OP_HISTORY);
        struct wire_page page = { .tag = request.tag, .outcome = WIRE_YES, .index = 9, .leader_age_ms = -1, .next_after = 6, .log_first = 2, .more = true, .count = 2 };
        struct wire_event event = { .index = 5, .term = 2, .cluster_ms = 3, .wall_ms = 4, .kind = "address", .detail = "follower-1 at host:7402" };
        struct dlock_answer answer;
        struct bytes out = { 0 };
        size_t frame;

        ck_assert_int_eq(request.type, WIRE_HISTORY);
        ck_assert_str_eq(request.name.text, "x");
        frame = wire_write_page_begin(&out, WIRE_EVENTS, &page);
        wire_write_event(&out, &event);
        event.index = 6;
        (void)strcpy(event.kind, "preempt");
        event.detail[0] = 0;
        ck_assert(lock_name_set(&event.lock, "x", 1));
        ck_assert(client_id_set(&event.client, "c", 1));
        event.token = 6;
        wire_write_event(&out, &event);
        wire_write_page_end(&out, frame);
        node_say(0, &out);
        answer = wait_answer();
        ck_assert_uint_eq(answer.count, 2);
        ck_assert_uint_eq(answer.next_after, 6);
        ck_assert_uint_eq(answer.log_first, 2);
        ck_assert(answer.more);
        ck_assert_str_eq(answer.events[0].kind, "address");
        ck_assert_str_eq(answer.events[0].detail, "follower-1 at host:7402");
        ck_assert_str_eq(answer.events[1].detail, "");
        ck_assert_str_eq(answer.events[0].lock, "");
        ck_assert_str_eq(answer.events[0].client, "");
        ck_assert_uint_eq(answer.events[1].index, 6);
        ck_assert_uint_eq(answer.events[1].term, 2);
        ck_assert_str_eq(answer.events[1].kind, "preempt");
        ck_assert_str_eq(answer.events[1].lock, "x");
        ck_assert_str_eq(answer.events[1].client, "c");
        ck_assert_uint_eq(answer.events[1].token, 6);
}
END_TEST

START_TEST(status_is_handed_out)
{
        struct wire_request request = greeted_request(DLOCK_OP_STATUS);
        struct wire_state state = { .tag = request.tag, .node = "follower-1", .role = "learner", .leader = "leader", .version = "9.9", .cluster = cluster, .term = 1,
                                    .commit = 2, .applied = 3, .log_first = 4, .log_last = 5, .locks = 6, .voters = 7, .members = 8, .leader_age_ms = 9 };
        char text[ID128_TEXT_BYTES];
        struct dlock_answer answer;
        struct bytes out = { 0 };

        wire_write_state(&out, &state);
        node_say(0, &out);
        answer = wait_answer();
        ck_assert_int_eq(answer.outcome, DLOCK_YES);
        ck_assert_str_eq(answer.status->node, "follower-1");
        ck_assert_str_eq(answer.status->role, "learner");
        ck_assert_str_eq(answer.status->leader, "leader");
        ck_assert_str_eq(answer.status->version, "9.9");
        ck_assert_str_eq(answer.status->cluster, id128_format(cluster, text));
        ck_assert_uint_eq(answer.status->term, 1);
        ck_assert_uint_eq(answer.status->commit, 2);
        ck_assert_uint_eq(answer.status->applied, 3);
        ck_assert_uint_eq(answer.status->log_first, 4);
        ck_assert_uint_eq(answer.status->log_last, 5);
        ck_assert_uint_eq(answer.status->locks, 6);
        ck_assert_uint_eq(answer.status->voters, 7);
        ck_assert_uint_eq(answer.status->members, 8);
        ck_assert_int_eq(answer.status->leader_age_ms, 9);
}
END_TEST

/* --- nodes that talk nonsense --- */

/* What the node just said made the client leave, and ask again. */
static void expect_left(void)
{
        char nothing;

        for (int i = 0; i < PATIENCE_MS; i++) {
                ck_assert_int_eq(dlock_process(dlock), 0);
                if (recv(nodes[0].fd, &nothing, 1, MSG_DONTWAIT) == 0)
                        break;
                (void)poll(NULL, 0, 1);
        }
        node_hang_up(0);
        node_greet(0);
        (void)node_wait_request(0);
}

START_TEST(pages_that_never_end_are_not_believed)
{
        struct wire_request request = greeted_request(DLOCK_OP_LIST);
        struct wire_page page = { .tag = request.tag, .outcome = WIRE_YES, .more = true };

        say_rows(&request, &page, 0);
        expect_left();
}
END_TEST

START_TEST(more_rows_than_were_asked_for_are_not_believed)
{
        struct dlock_request list = { .operation = DLOCK_OP_LIST, .limit = 3 };
        struct wire_request request;

        node_start(0);
        make_handle(1);
        ck_assert_int_gt(dlock_submit(dlock, &list), 0);
        node_greet(0);
        request = node_wait_request(0);
        say_rows(&request, &(struct wire_page){ .outcome = WIRE_YES, .count = 4 }, 4);
        expect_left();
}
END_TEST

START_TEST(rows_in_place_of_a_result_are_not_believed)
{
        struct wire_request request = greeted_request(_i == 0 ? DLOCK_OP_CHECK : _i == 1 ? DLOCK_OP_HISTORY : DLOCK_OP_STATUS);

        say_rows(&request, &(struct wire_page){ .outcome = WIRE_YES, .count = 1 }, 1);
        expect_left();
}
END_TEST

START_TEST(result_in_place_of_rows_is_not_believed)
{
        struct wire_request request = greeted_request(DLOCK_OP_LIST);

        node_answer(0, &request, WIRE_YES, 4);
        expect_left();
}
END_TEST

START_TEST(request_of_a_node_is_not_believed)
{
        struct wire_request request = greeted_request(DLOCK_OP_CHECK);
        struct bytes out = { 0 };

        wire_write_request(&out, &request);
        node_say(0, &out);
        expect_left();
}
END_TEST

START_TEST(frame_that_is_too_long_is_left_at_its_length)
{
        struct bytes out = { 0 };

        (void)greeted_request(DLOCK_OP_CHECK);
        bytes_put_u32(&out, _i == 0 ? LIMIT_CLIENT_REPLY_BYTES : UINT32_MAX);
        node_say(0, &out);
        expect_left();
}
END_TEST

START_TEST(welcome_that_never_comes_right_is_unreachable)
{
        struct wire_frame frame;
        struct dlock_answer answer;
        struct bytes out = { 0 };

        node_start(0);
        make_handle(1);
        (void)ask(DLOCK_OP_PREEMPT, "x");
        for (int i = 0; i < PATIENCE_MS; i++) {
                ck_assert_int_eq(dlock_process(dlock), 0);
                if (dlock_next(dlock, &answer) == 1)
                        break;
                if (node_hears(0, &frame)) {
                        ck_assert_uint_eq(frame.type, WIRE_HELLO);
                        bytes_put(&out, "HTTP/1.1 400 Bad Request\r\n\r\n", 28);
                        node_say(0, &out);
                        node_hang_up(0);
                }
                (void)poll(NULL, 0, 1);
        }
        ck_assert_int_eq(answer.outcome, DLOCK_UNREACHABLE);
        ck_assert_ptr_nonnull(strstr(answer.reason, "not the dlock protocol"));
}
END_TEST

/* A stream of good answers with some bytes changed: whatever comes of it, the client
 * stays within its memory (a sanitizer looks) and goes on. */
START_TEST(damaged_answers_do_no_harm)
{
        struct dlock_request list = { .operation = DLOCK_OP_LIST };
        unsigned seed = 1 + (unsigned)_i;

        node_start(0);
        make_handle(1);
        ck_assert_int_eq(dlock_set_timeout(dlock, 3600000), 0);
        for (int i = 0; i < 200; i++) {
                struct wire_page page = { .outcome = WIRE_YES, .count = 2 };
                struct wire_result result = { .outcome = WIRE_NO };
                struct wire_row row = { .holders = 1, .token = 1 };
                struct bytes out = { 0 };
                struct dlock_answer answer;
                struct wire_frame frame;
                size_t start;

                if (dlock_submit(dlock, &list) < 0)
                        break;
                (void)ask(DLOCK_OP_CHECK, "x");
                (void)lock_name_set(&row.lock, "name", 4);
                (void)client_id_set(&row.owner, "owner", 5);
                (void)principal_set(&row.principal, "uid:1", 5);
                for (int j = 0; j < 20; j++) {
                        ck_assert_int_eq(dlock_process(dlock), 0);
                        while (dlock_next(dlock, &answer) == 1)
                                ;
                        if (!node_hears(0, &frame))
                                continue;
                        bytes_clear(&out);
                        page.tag = result.tag = frame.tag;
                        if (frame.type == WIRE_HELLO) {
                                node_welcome(0, cluster, NULL);
                                continue;
                        }
                        if (frame.type == WIRE_LIST) {
                                start = wire_write_page_begin(&out, WIRE_ROWS, &page);
                                wire_write_row(&out, &row);
                                wire_write_row(&out, &row);
                                wire_write_page_end(&out, start);
                        } else {
                                wire_write_result(&out, &result);
                        }
                        for (unsigned k = (unsigned)rand_r(&seed) % 3; k > 0; k--)
                                out.data[(unsigned)rand_r(&seed) % out.size] ^= (uint8_t)(1u << (unsigned)rand_r(&seed) % 8);
                        (void)!send(nodes[0].fd, out.data, out.size, MSG_NOSIGNAL);
                }
                bytes_done(&out);
                node_hang_up(0);
                pass_s(1);
        }
}
END_TEST

/* --- the process around --- */

START_TEST(broken_connection_raises_no_signal)
{
        struct wire_request request = greeted_request(DLOCK_OP_CHECK);

        ck_assert_ptr_ne(signal(SIGPIPE, SIG_DFL), SIG_ERR);
        node_answer(0, &request, WIRE_NO, 3);
        (void)wait_answer();
        node_stop(0);
        for (int i = 0; i < 20; i++)
                (void)ask(DLOCK_OP_PREEMPT, "x");
        for (int i = 0; i < 20; i++)
                ck_assert_int_ne(wait_answer().outcome, DLOCK_YES);
}
END_TEST

/* Not every kernel can empty a page: some are built without madvise(2), and sandboxes know little of it. */
static bool pages_stay;

int madvise(void *page, size_t size, int advice)
{
        if (pages_stay) {
                errno = EINVAL;
                return -1;
        }
        return (int)syscall(SYS_madvise, page, size, advice);
}

START_TEST(child_of_fork_is_told_and_disturbs_nobody)
{
        struct wire_request request;
        pid_t child;
        int status;

        pages_stay = _i % 2 == 1;
        request = greeted_request(DLOCK_OP_PREEMPT);
        child = fork();
        ck_assert_int_ge(child, 0);
        if (child == 0) {
                struct dlock_answer answer;
                char text[64];
                struct dlock *own = NULL;
                /* Also when the child has a handle of its own. */
                bool made = _i < 2 || (dlock_new(&own, "127.0.0.1:1", NULL, 0) == 0 && dlock_process(own) == 0);
                bool told = made && dlock_process(dlock) == -ECHILD && dlock_next(dlock, &answer) == -ECHILD && dlock_check(dlock, "x", &answer) == -ECHILD &&
                            dlock_get_fd(dlock) == -ECHILD && dlock_get_timeout(dlock) == -ECHILD && dlock_set_client(dlock, "y") == -ECHILD &&
                            dlock_submit(dlock, &(struct dlock_request){ .operation = DLOCK_OP_STATUS }) == -ECHILD &&
                            dlock_set_timeout(dlock, 5) == -ECHILD && dlock_get_cluster(dlock, text, sizeof(text)) == -ECHILD &&
                            dlock_forget_cluster(dlock) == -ECHILD && dlock_get_events(dlock) == -ECHILD && strstr(dlock_get_error(dlock), "fork");

                own = dlock_free(own);
                dlock = dlock_free(dlock);
                _exit(told ? 0 : 1);
        }
        ck_assert_int_eq(waitpid(child, &status, 0), child);
        ck_assert_int_eq(status, 0);
        /* The parent's descriptor still wakes it. */
        node_answer(0, &request, WIRE_YES, 3);
        ck_assert_int_eq(poll(&(struct pollfd){ .fd = dlock_get_fd(dlock), .events = (short)dlock_get_events(dlock) }, 1, 5000), 1);
        ck_assert_int_eq(wait_answer().outcome, DLOCK_YES);
}
END_TEST

START_TEST(descriptor_wakes_for_all_that_there_is_to_do)
{
        struct wire_request request;
        struct dlock_answer answer;
        struct wire_frame frame;
        bool answered = false;
        int fd, wakes = 0;

        node_start(0);
        make_handle(1);
        fd = dlock_get_fd(dlock);
        (void)ask(DLOCK_OP_PREEMPT, "x");
        ck_assert_int_eq(dlock_get_timeout(dlock), 0);
        /* As an event loop would: nothing is called but what fd and timeout ask for. */
        for (int i = 0; i < PATIENCE_MS && !answered; i++) {
                int timeout = dlock_get_timeout(dlock);

                if (timeout == 0 || poll(&(struct pollfd){ .fd = fd, .events = POLLIN }, 1, 1) > 0) {
                        wakes++;
                        ck_assert_int_eq(dlock_process(dlock), 0);
                        answered = dlock_next(dlock, &answer) == 1;
                }
                if (!answered && node_hears(0, &frame)) {
                        if (frame.type == WIRE_HELLO) {
                                node_welcome(0, cluster, NULL);
                        } else {
                                ck_assert(wire_read_request(&frame, &request));
                                node_answer(0, &request, WIRE_YES, 2);
                        }
                }
        }
        ck_assert(answered);
        ck_assert_int_le(wakes, 5);
        ck_assert_int_eq(dlock_get_fd(dlock), fd);
        ck_assert_int_eq(poll(&(struct pollfd){ .fd = fd, .events = POLLIN }, 1, 0), 0);
}
END_TEST

/* Hello, then one result for everything. */
static void serve(void)
{
        struct wire_frame frame;
        struct wire_request request;

        while (node_hears(0, &frame)) {
                if (frame.type == WIRE_HELLO)
                        node_welcome(0, cluster, NULL);
                else if (wire_read_request(&frame, &request))
                        node_answer(0, &request, request.type == WIRE_PREEMPT ? WIRE_YES : WIRE_NO, 7);
        }
}

START_TEST(blocking_calls_return_with_their_own_answer)
{
        struct dlock_answer answer;
        uint64_t other;

        node_start(0);
        while_blocked = serve;
        make_handle(1);
        other = ask(DLOCK_OP_CHECK, "other");
        ck_assert_int_eq(dlock_preempt(dlock, "a", &answer), 0);
        ck_assert_int_eq(answer.outcome, DLOCK_YES);
        ck_assert_uint_eq(answer.token, 7);
        ck_assert_str_eq(answer.lock, "a");
        ck_assert_int_eq(dlock_release(dlock, "b", &answer), 0);
        ck_assert_int_eq(answer.outcome, DLOCK_NO);
        ck_assert_int_eq(dlock_check(dlock, "c", NULL), 0);
        /* The other answer waited for who asked. */
        ck_assert_int_eq(dlock_next(dlock, &answer), 1);
        ck_assert_uint_eq(answer.id, other);
        ck_assert_int_eq(dlock_next(dlock, &answer), 0);
}
END_TEST

START_TEST(handle_may_be_freed_at_any_moment)
{
        struct wire_request request;

        node_start(0);
        make_handle(1);
        (void)ask(DLOCK_OP_PREEMPT, "x");
        (void)ask(DLOCK_OP_PREEMPT, "y");
        if (_i == 0)
                return;
        node_greet(0);
        request = node_wait_request(0);
        if (_i == 1)
                return;
        node_answer(0, &request, WIRE_YES, 2);
        go_on(0);
        (void)poll(NULL, 0, 10);
        ck_assert_int_eq(dlock_process(dlock), 0);
        if (_i == 2)
                return;
        (void)wait_answer();
        ck_assert_ptr_null(dlock_free(NULL));
}
END_TEST

static Suite *suite(void)
{
        Suite *s = suite_create("hostile");
        TCase *c = tcase_create("nodes and processes");

        tcase_add_checked_fixture(c, set_up, tear_down);
        tcase_set_timeout(c, 120);
        suite_add_tcase(s, c);
        tcase_add_test(c, rows_of_a_list_are_handed_out);
        tcase_add_test(c, whole_pages_of_rows_are_handed_out);
        tcase_add_test(c, events_of_history_are_handed_out);
        tcase_add_test(c, status_is_handed_out);
        tcase_add_test(c, pages_that_never_end_are_not_believed);
        tcase_add_test(c, more_rows_than_were_asked_for_are_not_believed);
        tcase_add_loop_test(c, rows_in_place_of_a_result_are_not_believed, 0, 3);
        tcase_add_test(c, result_in_place_of_rows_is_not_believed);
        tcase_add_test(c, request_of_a_node_is_not_believed);
        tcase_add_loop_test(c, frame_that_is_too_long_is_left_at_its_length, 0, 2);
        tcase_add_test(c, welcome_that_never_comes_right_is_unreachable);
        tcase_add_loop_test(c, damaged_answers_do_no_harm, 0, 4);
        tcase_add_test(c, broken_connection_raises_no_signal);
        tcase_add_loop_test(c, child_of_fork_is_told_and_disturbs_nobody, 0, 4);
        tcase_add_test(c, descriptor_wakes_for_all_that_there_is_to_do);
        tcase_add_test(c, blocking_calls_return_with_their_own_answer);
        tcase_add_loop_test(c, handle_may_be_freed_at_any_moment, 0, 4);
        return s;
}

int main(void)
{
        return run_suite(suite());
}
