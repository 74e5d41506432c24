/* The client library with watches: what is asked, what is told, and what becomes of it when nodes go, forget, or talk nonsense. */
#include <sys/wait.h>

#include "base/clock.h"
#include "unit/fake_node.h"

static struct dlock_watch *watch;

/* Changes of a page are of the locks of these names. */
struct event {
        uint8_t kind;
        uint64_t index;
        const char *lock;
};

static const uint64_t *event_tokens;         /* of a page of changes; NULL: as their indexes */
static uint64_t first_token;                 /* of a page of rows */
static uint16_t slots;

static void say_changes(unsigned n, const struct wire_request *request, const struct wire_page *head, const struct event *events)
{
        struct wire_page page = *head;
        struct bytes out = { 0 };
        size_t frame;

        page.tag = request->tag;
        frame = wire_write_page_begin(&out, WIRE_CHANGES, &page);
        for (unsigned i = 0; i < page.count; i++) {
                struct wire_change change = { .kind = events[i].kind, .index = events[i].index, .token = event_tokens ? event_tokens[i] : events[i].index, .slots = slots };

                ck_assert(lock_name_set(&change.lock, events[i].lock, strlen(events[i].lock)));
                ck_assert(client_id_set(&change.client, "ann", 3));
                wire_write_change(&out, &change);
        }
        wire_write_page_end(&out, frame);
        node_say(n, &out);
}

static void say_events(unsigned n, const struct wire_request *request, uint64_t next_after, const struct event *events, uint16_t count)
{
        say_changes(n, request, &(struct wire_page){ .outcome = WIRE_YES, .index = next_after, .next_after = next_after, .count = count }, events);
}

static void say_rows(unsigned n, const struct wire_request *request, uint64_t at, bool more, const char *const *locks)
{
        struct wire_page page = { .tag = request->tag, .outcome = WIRE_YES, .index = at, .more = more };
        struct bytes out = { 0 };
        size_t frame;

        while (locks[page.count])
                page.count++;
        frame = wire_write_page_begin(&out, WIRE_ROWS, &page);
        for (unsigned i = 0; i < page.count; i++) {
                struct wire_row row = { .holders = slots ? 3 : 1, .slots = slots, .token = first_token + i + 1, .expires_ms = -1 };

                ck_assert(lock_name_set(&row.lock, locks[i], strlen(locks[i])));
                ck_assert(client_id_set(&row.owner, "ann", 3));
                ck_assert(principal_set(&row.principal, "tcp", 3));
                wire_write_row(&out, &row);
        }
        wire_write_page_end(&out, frame);
        node_say(n, &out);
}

#define ROWS(n, request, at, more, ...) say_rows(n, request, at, more, (const char *const[]){ __VA_ARGS__ __VA_OPT__(,) NULL })
#define EVENTS(n, request, next_after, ...) \
        say_events(n, request, next_after, (const struct event[]){ __VA_ARGS__ }, sizeof((const struct event[]){ __VA_ARGS__ }) / sizeof(struct event))

static struct dlock_change wait_change(void)
{
        struct dlock_change change;

        for (int i = 0; i < PATIENCE_MS; i++) {
                int r = dlock_watch_next(watch, &change);

                ck_assert_int_ge(r, 0);
                if (r == 1)
                        return change;
                (void)poll(NULL, 0, 1);
                ck_assert_int_eq(dlock_process(dlock), 0);
        }
        ck_abort_msg("nothing is told");
}

static void expect(int kind, const char *lock, uint64_t at, uint64_t after)
{
        struct dlock_change change = wait_change();

        ck_assert_str_eq(dlock_change_name(change.kind), dlock_change_name(kind));
        ck_assert_int_eq(change.kind, kind);
        ck_assert_str_eq(change.lock, lock);
        ck_assert_uint_eq(change.index, at);
        ck_assert_uint_eq(change.after, after);
}

static void expect_nothing(void)
{
        struct dlock_change change;

        for (int i = 0; i < 20; i++) {
                ck_assert_int_eq(dlock_process(dlock), 0);
                ck_assert_int_eq(dlock_watch_next(watch, &change), 0);
                (void)poll(NULL, 0, 1);
        }
}

static void begin(const char *lock, int exact, uint64_t after, unsigned servers)
{
        for (unsigned n = 0; n < servers; n++)
                node_start(n);
        make_handle(servers);
        ck_assert_int_eq(dlock_watch_new(&watch, dlock, lock, exact, after), 0);
        node_greet(0);
}

static void stop_watching(void)
{
        watch = dlock_watch_free(watch);
        tear_down();
}

static struct wire_request wait_watch(unsigned n, uint64_t after)
{
        struct wire_request request = node_wait_request(n);

        ck_assert_int_eq(request.type, WIRE_WATCH);
        ck_assert_uint_eq(request.after_index, after);
        return request;
}

/* --- one question --- */

START_TEST(question_and_answer_are_those_of_the_wire)
{
        struct dlock_request asked = { .operation = DLOCK_OP_WATCH, .lock = "db", .exact = 1, .after_index = 7, .limit = 3 };
        struct wire_request request;
        struct dlock_answer answer;

        greeted_handle();
        ck_assert_int_gt(dlock_submit(dlock, &asked), 0);
        request = node_wait_request(0);
        ck_assert_int_eq(request.type, WIRE_WATCH);
        ck_assert_str_eq(request.name.text, "db");
        ck_assert(request.exact);
        ck_assert_uint_eq(request.after_index, 7);
        ck_assert_uint_eq(request.limit, 3);
        EVENTS(0, &request, 12, { 1, 8, "db" }, { 2, 10, "db" }, { 3, 10, "db" }, { 99, 11, "db" });
        answer = wait_answer();
        ck_assert_int_eq(answer.outcome, DLOCK_YES);
        ck_assert_uint_eq(answer.count, 4);
        ck_assert_uint_eq(answer.next_after, 12);
        ck_assert_uint_eq(answer.changes[0].after, 8);
        ck_assert_uint_eq(answer.changes[1].after, 8);    /* more of that entry is to come */
        ck_assert_uint_eq(answer.changes[2].after, 10);
        ck_assert_str_eq(answer.changes[3].owner, "ann");
        ck_assert_str_eq(dlock_change_name(answer.changes[3].kind), "freed");
        ck_assert_int_gt(dlock_submit(dlock, &asked), 0);
        request = node_wait_request(0);
        say_changes(0, &request, &(struct wire_page){ .outcome = WIRE_NO, .index = 30, .log_first = 20, .reason = "gone" }, NULL);
        answer = wait_answer();
        ck_assert_int_eq(answer.outcome, DLOCK_NO);
        ck_assert_uint_eq(answer.log_first, 20);
}
END_TEST

START_TEST(question_that_cannot_be_is_not_asked)
{
        greeted_handle();
        ck_assert_int_eq(dlock_submit(dlock, &(struct dlock_request){ .operation = DLOCK_OP_WATCH, .exact = 1 }), -EINVAL);
        ck_assert_int_eq(dlock_submit(dlock, &(struct dlock_request){ .operation = DLOCK_OP_WATCH, .lock = "a\n" }), -EINVAL);
        ck_assert_int_eq(dlock_watch_new(&watch, dlock, NULL, 1, 0), -EINVAL);
        ck_assert_ptr_null(watch);
}
END_TEST

/* W3: what would go back, come twice, or leave a gap is no answer. */
START_TEST(page_out_of_order_is_not_believed)
{
        static const struct {
                uint64_t next_after;
                struct event events[2];
        } pages[] = {
                { 12, { { 1, 7, "a" }, { 1, 8, "a" } } },    /* seen before */
                { 12, { { 1, 9, "a" }, { 1, 8, "a" } } },
                { 12, { { 1, 9, "a" }, { 1, 13, "a" } } },   /* beyond what it covers */
        };
        struct wire_request request;
        struct dlock_answer answer;

        greeted_handle();
        ck_assert_int_gt(dlock_submit(dlock, &(struct dlock_request){ .operation = DLOCK_OP_WATCH, .after_index = 7, .timeout_ms = 60000 }), 0);
        for (unsigned i = 0; i < ARRAY_SIZE(pages); i++) {
                request = node_wait_request(0);
                say_events(0, &request, pages[i].next_after, pages[i].events, 2);
                go_on(5);
                node_hang_up(0);
                node_greet(0);
        }
        request = node_wait_request(0);
        say_events(0, &request, 6, NULL, 0);              /* less than was seen */
        go_on(5);
        node_hang_up(0);
        node_greet(0);
        request = node_wait_request(0);
        say_events(0, &request, 8, NULL, 0);
        answer = wait_answer();
        ck_assert_int_eq(answer.outcome, DLOCK_YES);
        ck_assert_uint_eq(answer.count, 0);
}
END_TEST

/* --- a watch --- */

START_TEST(locks_are_listed_and_changes_follow_without_gap_or_repetition)
{
        struct wire_request request;

        begin("", 0, 0, 1);
        request = node_wait_request(0);
        ck_assert_int_eq(request.type, WIRE_LIST);
        ROWS(0, &request, 10, true, "a", "m");
        expect(DLOCK_CHANGE_LISTED, "a", 10, 0);
        expect(DLOCK_CHANGE_LISTED, "m", 10, 0);
        expect_nothing();
        request = node_wait_request(0);
        ck_assert_str_eq(request.after.text, "m");
        ck_assert_uint_ge(request.min_index, 10);
        ROWS(0, &request, 12, false, "z");
        expect(DLOCK_CHANGE_LISTED, "z", 12, 0);
        expect_nothing();
        request = wait_watch(0, 10);
        /* z was granted before its page was read; what lies between two pages is of the second. */
        EVENTS(0, &request, 14, { 1, 11, "z" }, { 2, 11, "n" }, { 2, 12, "a" }, { 2, 13, "z" }, { 1, 13, "b" });
        expect(DLOCK_CHANGE_RELEASED, "a", 12, 0);
        expect(DLOCK_CHANGE_COMPLETE, "", 12, 12);
        ck_assert_uint_eq(dlock_watch_get_index(watch), 12);
        expect(DLOCK_CHANGE_RELEASED, "z", 13, 12);
        ck_assert_uint_eq(dlock_watch_get_index(watch), 12);
        expect(DLOCK_CHANGE_GRANTED, "b", 13, 13);
        expect_nothing();
        ck_assert_uint_eq(dlock_watch_get_index(watch), 14);
        request = wait_watch(0, 14);
        say_events(0, &request, 20, NULL, 0);
        (void)wait_watch(0, 20);
        expect_nothing();
        ck_assert_uint_eq(dlock_watch_get_index(watch), 20);
}
END_TEST

/* A page may end in the middle of those who hold one lock together: each of them is told once. */
START_TEST(holds_of_one_lock_are_told_each_on_its_page)
{
        struct wire_request request;
        struct dlock_change change;

        slots = SLOTS_SHARED;
        begin(_i == 0 ? "" : "a", _i, 0, 1);
        request = node_wait_request(0);
        ck_assert_int_eq(request.type, _i == 0 ? WIRE_LIST : WIRE_SHOW);
        ROWS(0, &request, 10, true, "a", "a");
        change = wait_change();
        ck_assert_uint_eq(change.token, 1);
        ck_assert_uint_eq(change.slots, DLOCK_SHARED);
        ck_assert_uint_eq(wait_change().token, 2);
        expect_nothing();
        request = node_wait_request(0);
        if (_i == 0)
                ck_assert_str_eq(request.after.text, "a");
        ck_assert_uint_eq(request.after_token, 2);
        first_token = 10;
        ROWS(0, &request, 13, false, "a");
        ck_assert_uint_eq(wait_change().token, 11);
        expect_nothing();
        request = wait_watch(0, 10);
        /* 11 and 12 came and 12 went before the second page was read; 2 went after the first. */
        event_tokens = (const uint64_t[]){ 11, 12, 2, 12, 1 };
        EVENTS(0, &request, 14, { 1, 11, "a" }, { 1, 12, "a" }, { 2, 12, "a" }, { 2, 13, "a" }, { 2, 14, "a" });
        change = wait_change();
        ck_assert_int_eq(change.kind, DLOCK_CHANGE_RELEASED);
        ck_assert_uint_eq(change.token, 2);
        ck_assert_uint_eq(change.slots, DLOCK_SHARED);
        expect(DLOCK_CHANGE_COMPLETE, "", 13, 13);
        change = wait_change();
        ck_assert_int_eq(change.kind, DLOCK_CHANGE_RELEASED);
        ck_assert_uint_eq(change.token, 1);
        expect_nothing();
}
END_TEST

START_TEST(list_of_one_page_is_complete_at_once_also_when_it_is_empty)
{
        struct wire_request request;

        begin("w/", 0, 0, 1);
        request = node_wait_request(0);
        ck_assert_str_eq(request.name.text, "w/");
        ROWS(0, &request, 10, false);
        expect(DLOCK_CHANGE_COMPLETE, "", 10, 10);
        expect_nothing();
        request = wait_watch(0, 10);
        ck_assert_str_eq(request.name.text, "w/");
        ck_assert(!request.exact);
}
END_TEST

START_TEST(one_lock_is_shown_instead_of_listed)
{
        struct wire_request request;

        begin("a", 1, 0, 1);
        request = node_wait_request(0);
        ck_assert_int_eq(request.type, WIRE_SHOW);
        ROWS(0, &request, 10, false, "a");
        expect(DLOCK_CHANGE_LISTED, "a", 10, 0);
        expect(DLOCK_CHANGE_COMPLETE, "", 10, 10);
        expect_nothing();
        request = wait_watch(0, 10);
        ck_assert(request.exact);
        ck_assert_str_eq(request.name.text, "a");
}
END_TEST

START_TEST(nothing_is_asked_for_while_something_is_unread)
{
        struct wire_request request;
        struct wire_frame frame;

        begin("", 0, 5, 1);
        request = wait_watch(0, 5);
        EVENTS(0, &request, 9, { 1, 6, "a" }, { 1, 7, "b" });
        expect(DLOCK_CHANGE_GRANTED, "a", 6, 6);
        for (int i = 0; i < 20; i++) {
                ck_assert_int_eq(dlock_process(dlock), 0);
                ck_assert(!node_hears(0, &frame));
                (void)poll(NULL, 0, 1);
        }
        ck_assert_int_eq(dlock_get_timeout(dlock), -1);
        expect(DLOCK_CHANGE_GRANTED, "b", 7, 7);
        expect_nothing();
        (void)wait_watch(0, 9);
}
END_TEST

START_TEST(what_is_not_remembered_begins_the_list_anew)
{
        struct wire_request request;

        begin("", 0, 5, 1);
        request = wait_watch(0, 5);
        say_changes(0, &request, &(struct wire_page){ .outcome = WIRE_NO, .index = 30, .log_first = 20, .reason = "gone" }, NULL);
        expect(DLOCK_CHANGE_ANEW, "", 0, 0);
        ck_assert_uint_eq(dlock_watch_get_index(watch), 0);
        expect_nothing();
        request = node_wait_request(0);
        ck_assert_int_eq(request.type, WIRE_LIST);
        ROWS(0, &request, 30, false, "a");
        expect(DLOCK_CHANGE_LISTED, "a", 30, 0);
        expect(DLOCK_CHANGE_COMPLETE, "", 30, 30);
        expect_nothing();
        (void)wait_watch(0, 30);
}
END_TEST

START_TEST(another_node_goes_on_where_the_first_ended)
{
        struct wire_request request;

        begin("", 0, 5, 2);
        request = wait_watch(0, 5);
        EVENTS(0, &request, 9, { 1, 6, "a" });
        expect(DLOCK_CHANGE_GRANTED, "a", 6, 6);
        expect_nothing();
        (void)wait_watch(0, 9);
        node_stop(0);
        node_greet(1);
        request = wait_watch(1, 9);
        EVENTS(1, &request, 11, { 2, 10, "a" });
        expect(DLOCK_CHANGE_RELEASED, "a", 10, 10);
        expect_nothing();
        /* One that is behind says so, and the next is asked. */
        request = wait_watch(1, 11);
        node_start(0);
        say_changes(1, &request, &(struct wire_page){ .outcome = WIRE_UNKNOWN, .index = 3, .reason = "behind" }, NULL);
        node_greet(0);
        request = wait_watch(0, 11);
        EVENTS(0, &request, 12, { 1, 12, "a" });
        expect(DLOCK_CHANGE_GRANTED, "a", 12, 12);
}
END_TEST

START_TEST(node_without_a_leader_is_left_for_another)
{
        struct wire_request request;

        begin("", 0, 5, 2);
        request = wait_watch(0, 5);
        say_changes(0, &request, &(struct wire_page){ .outcome = WIRE_YES, .index = 6, .next_after = 6, .leader_age_ms = 60000 }, NULL);
        node_greet(1);
        (void)wait_watch(1, 6);
}
END_TEST

START_TEST(watch_goes_on_when_nobody_was_there_for_long)
{
        struct wire_request request;

        begin("", 0, 5, 1);
        request = wait_watch(0, 5);
        ck_assert_int_eq(dlock_watch_get_outcome(watch), DLOCK_UNKNOWN);
        ck_assert_str_ne(dlock_watch_get_reason(watch), "");
        ck_assert_uint_le(request.deadline_ms, 500);
        say_events(0, &request, 5, NULL, 0);
        expect_nothing();
        ck_assert_int_eq(dlock_watch_get_outcome(watch), DLOCK_YES);
        request = wait_watch(0, 5);
        ck_assert_uint_gt(request.deadline_ms, 9000);
        node_stop(0);
        for (int i = 0; i < 60; i++) {
                pass_s(1);
                expect_nothing();
                if (dlock_watch_get_outcome(watch) == DLOCK_UNREACHABLE)
                        break;
        }
        ck_assert_int_eq(dlock_watch_get_outcome(watch), DLOCK_UNREACHABLE);
        node_start(0);
        for (int i = 0; i < 10; i++) {
                pass_s(1);
                (void)dlock_process(dlock);
        }
        node_greet(0);
        request = wait_watch(0, 5);
        EVENTS(0, &request, 9, { 1, 6, "a" });
        expect(DLOCK_CHANGE_GRANTED, "a", 6, 6);
        ck_assert_str_eq(dlock_watch_get_reason(watch), "");
}
END_TEST

/* A poll that lasts is no silence: less often than others, the node is asked for a sign of life. */
START_TEST(node_that_is_silent_while_it_is_watched_is_left)
{
        struct wire_frame frame;

        stop_clock();
        begin("", 0, 5, 2);
        (void)wait_watch(0, 5);
        pass_ms(4900);
        expect_nothing();
        ck_assert(!node_hears(0, &frame));
        pass_ms(200);
        ck_assert_int_eq(node_wait_request(0).type, WIRE_STATUS);
        pass_ms(2100);
        node_greet(1);
        (void)wait_watch(1, 5);
}
END_TEST

START_TEST(watches_of_a_handle_are_bounded_and_freed_in_any_order)
{
        struct dlock_watch *watches[33] = { 0 };
        struct dlock_change change;
        pid_t child;
        int status;

        greeted_handle();
        for (unsigned i = 0; i < 32; i++)
                ck_assert_int_eq(dlock_watch_new(&watches[i], dlock, "a", 0, i), 0);
        ck_assert_int_eq(dlock_watch_new(&watches[32], dlock, "a", 0, 0), -EAGAIN);
        watches[7] = dlock_watch_free(watches[7]);
        ck_assert_int_eq(dlock_watch_new(&watches[7], dlock, "a", 0, 0), 0);
        child = fork();
        if (child == 0) {
                bool right = dlock_watch_next(watches[0], &change) == -ECHILD && dlock_watch_new(&watches[32], dlock, "a", 0, 0) == -ECHILD &&
                             !dlock_watch_free(watches[0]);

                _exit(right ? 0 : 1);
        }
        ck_assert_int_eq(waitpid(child, &status, 0), child);
        ck_assert_int_eq(status, 0);
        dlock = dlock_free(dlock);
        ck_assert_int_eq(dlock_watch_next(watches[0], &change), -ECHILD);
        ck_assert_int_eq(dlock_watch_wait(watches[0], 1000, &change), -ECHILD);
        ck_assert_str_ne(dlock_watch_get_reason(watches[0]), "");
        for (unsigned i = 0; i < 32; i++)
                dlock_watch_free(watches[i]);
        ck_assert_ptr_null(dlock_watch_free(NULL));
}
END_TEST

/* --- who leads --- */

/* What the lock has when it is shown for the first time: two who share it, or have two of three slots. */
static uint16_t first_slots;
static unsigned shown;
static uint64_t asked_at;                    /* of the question that waits for a change; 0: none */
static struct wire_request waits;

static void show_who_holds_it(const struct wire_request *request)
{
        bool alone = shown++ > 0 && first_slots == SLOTS_SHARED;

        ck_assert(request->type == WIRE_SHOW);
        slots = alone ? 0 : first_slots;
        first_token = alone ? 20 : 0;
        if (alone)
                ROWS(0, request, 13, false, "a");
        else
                ROWS(0, request, 10, false, "a", "a");
}

/* A change comes 50 ms after it was asked for, if at all. */
static void serve_observer(void)
{
        struct wire_frame frame;
        struct wire_request request;

        while (node_hears(0, &frame)) {
                if (frame.type == WIRE_HELLO) {
                        node_welcome(0, cluster, NULL);
                        continue;
                }
                ck_assert(wire_read_request(&frame, &request));
                if (request.type != WIRE_WATCH) {
                        show_who_holds_it(&request);
                        continue;
                }
                ck_assert(request.exact);
                ck_assert_uint_eq(request.after_index, 10);
                waits = request;
                asked_at = clock_boottime_ms();
        }
        if (asked_at == 0 || clock_boottime_ms() < asked_at + 50)
                return;
        asked_at = 0;
        if (first_slots == SLOTS_SHARED)
                EVENTS(0, &waits, 12, { 2, 12, "a" });
        else
                say_events(0, &waits, 10, NULL, 0);
}

static struct dlock_answer observe(uint16_t who, uint32_t timeout_ms)
{
        struct dlock_answer answer;

        first_slots = who;
        node_start(0);
        make_handle(1);
        while_blocked = serve_observer;
        ck_assert_int_eq(dlock_observe(dlock, "a", 0, timeout_ms, &answer), 0);
        return answer;
}

START_TEST(who_leads_is_who_holds_it_alone)
{
        struct dlock_answer answer = observe(SLOTS_SHARED, PATIENCE_MS);

        ck_assert_int_eq(answer.outcome, DLOCK_YES);
        ck_assert_uint_eq(answer.rows[0].token, 21);
        ck_assert_uint_eq(shown, 2);
}
END_TEST

START_TEST(nobody_leads_while_several_hold_it)
{
        uint64_t begin = clock_boottime_ms();
        struct dlock_answer answer = observe(3, 600);

        ck_assert_int_eq(answer.outcome, DLOCK_NO);
        ck_assert(!answer.owner && !answer.rows && answer.token == 0 && answer.count == 0 && answer.slots == 0);
        ck_assert_uint_ge(clock_boottime_ms(), begin + 500);
        ck_assert_uint_ge(shown, 1);
}
END_TEST

static Suite *suite(void)
{
        Suite *s = suite_create("watch");
        TCase *c = tcase_create("watch");

        tcase_set_timeout(c, 120);
        tcase_add_checked_fixture(c, set_up, stop_watching);
        tcase_add_test(c, question_and_answer_are_those_of_the_wire);
        tcase_add_test(c, question_that_cannot_be_is_not_asked);
        tcase_add_test(c, page_out_of_order_is_not_believed);
        tcase_add_test(c, locks_are_listed_and_changes_follow_without_gap_or_repetition);
        tcase_add_loop_test(c, holds_of_one_lock_are_told_each_on_its_page, 0, 2);
        tcase_add_test(c, list_of_one_page_is_complete_at_once_also_when_it_is_empty);
        tcase_add_test(c, one_lock_is_shown_instead_of_listed);
        tcase_add_test(c, nothing_is_asked_for_while_something_is_unread);
        tcase_add_test(c, what_is_not_remembered_begins_the_list_anew);
        tcase_add_test(c, another_node_goes_on_where_the_first_ended);
        tcase_add_test(c, node_without_a_leader_is_left_for_another);
        tcase_add_test(c, watch_goes_on_when_nobody_was_there_for_long);
        tcase_add_test(c, node_that_is_silent_while_it_is_watched_is_left);
        tcase_add_test(c, watches_of_a_handle_are_bounded_and_freed_in_any_order);
        tcase_add_test(c, who_leads_is_who_holds_it_alone);
        tcase_add_test(c, nobody_leads_while_several_hold_it);
        suite_add_tcase(s, c);
        return s;
}

int main(void)
{
        return run_suite(suite());
}
