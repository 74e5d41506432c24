/* The client protocol as bytes: what is written is read again, and nothing else is. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/random.h"
#include "wire/wire.h"
#include "unit/suite.h"

typedef bool (*frame_reader)(const struct wire_frame *frame);

static struct bytes out;

static void clear_out(void)
{
        bytes_done(&out);
}

static struct client_id client_of(const char *text)
{
        struct client_id id = { 0 };

        ck_assert(client_id_set(&id, text, strlen(text)));
        return id;
}

static struct lock_name name_of(const char *text)
{
        struct lock_name name = { 0 };

        ck_assert(lock_name_set(&name, text, strlen(text)));
        return name;
}

static struct wire_frame only_frame(void)
{
        struct wire_frame frame;

        ck_assert_int_eq(wire_frame_parse(out.data, out.size, LIMIT_CLIENT_REPLY_BYTES, &frame), WIRE_FRAME_READY);
        ck_assert_uint_eq(frame.total, out.size);
        return frame;
}

/* The readers in one shape; pages with their rows. */
static bool reads_hello(const struct wire_frame *frame)
{
        struct wire_hello hello;

        return wire_read_hello(frame, &hello);
}

static bool reads_welcome(const struct wire_frame *frame)
{
        struct wire_welcome welcome;

        return wire_read_welcome(frame, &welcome);
}

static bool reads_refusal(const struct wire_frame *frame)
{
        struct wire_refusal refusal;

        return wire_read_refusal(frame, &refusal);
}

static bool reads_request(const struct wire_frame *frame)
{
        struct wire_request request;

        return wire_read_request(frame, &request);
}

static bool reads_result(const struct wire_frame *frame)
{
        struct wire_result result;

        return wire_read_result(frame, &result);
}

static bool reads_state(const struct wire_frame *frame)
{
        struct wire_state state;

        return wire_read_state(frame, &state);
}

static bool reads_piece(const struct wire_frame *frame)
{
        struct wire_piece piece;

        return wire_read_piece(frame, &piece);
}

static bool reads_page(const struct wire_frame *frame)
{
        struct wire_page page;
        struct bytes_reader rows;

        if (!wire_read_page(frame, &page, &rows))
                return false;
        for (unsigned i = 0; i < page.count; i++) {
                struct wire_row row;
                struct wire_event event;
                struct wire_member member;
                struct wire_change change;

                if (frame->type == WIRE_ROWS      ? !wire_read_row(&rows, &row)
                    : frame->type == WIRE_EVENTS  ? !wire_read_event(&rows, &event)
                    : frame->type == WIRE_CHANGES ? !wire_read_change(&rows, &change)
                                                  : !wire_read_member(&rows, &member))
                        return false;
        }
        return bytes_reader_finished(&rows);
}

/* The frame in out is read; shorter by any count, or longer by one byte, it is not. The
 * copies end where the body ends, so that a sanitizer sees every step beyond. */
static void expect_exact(frame_reader reads)
{
        struct wire_frame frame = only_frame();

        for (size_t size = 0; size <= frame.body_size + 1; size++) {
                _cleanup_free_ uint8_t *body = calloc(1, size + 1);
                struct wire_frame cut = frame;

                memcpy(body, frame.body, MIN(size, frame.body_size));
                body = realloc(body, size ? size : 1);
                cut.body = body;
                cut.body_size = size;
                ck_assert_msg(reads(&cut) == (size == frame.body_size), "body of %zu bytes where %zu are right", size, frame.body_size);
        }
}

/* Of all types only the frame's own may be read by reads. */
static void expect_types(frame_reader reads, const uint8_t *right, size_t count)
{
        struct wire_frame frame = only_frame();

        for (unsigned type = 0; type < 256; type++) {
                bool expected = false;

                for (size_t i = 0; i < count; i++)
                        expected = expected || right[i] == type;
                frame.type = (uint8_t)type;
                if (!expected)
                        ck_assert_msg(!reads(&frame), "type %u", type);
        }
}

/* Body byte at set to value: refused. */
static void expect_refused_with(frame_reader reads, size_t at, uint8_t value)
{
        struct wire_frame frame = only_frame();
        uint8_t kept = out.data[WIRE_HEADER_BYTES + at];

        ck_assert(reads(&frame));
        out.data[WIRE_HEADER_BYTES + at] = value;
        ck_assert_msg(!reads(&frame), "byte %zu = %u", at, value);
        out.data[WIRE_HEADER_BYTES + at] = kept;
}

/* --- frames --- */

START_TEST(frame_is_taken_only_when_it_is_whole)
{
        struct wire_frame frame;
        struct wire_request request = { .type = WIRE_STATUS, .tag = 0x0102030405060708, .deadline_ms = 5 };

        wire_write_request(&out, &request);
        wire_write_request(&out, &request);
        ck_assert_uint_eq(out.size, 2 * (WIRE_HEADER_BYTES + 4));
        for (size_t size = 0; size < WIRE_HEADER_BYTES + 4; size++)
                ck_assert_int_eq(wire_frame_parse(out.data, size, LIMIT_CLIENT_REQUEST_BYTES, &frame), WIRE_FRAME_INCOMPLETE);
        ck_assert_int_eq(wire_frame_parse(out.data, out.size, LIMIT_CLIENT_REQUEST_BYTES, &frame), WIRE_FRAME_READY);
        ck_assert_uint_eq(frame.type, WIRE_STATUS);
        ck_assert_uint_eq(frame.tag, 0x0102030405060708);
        ck_assert_uint_eq(frame.body_size, 4);
        ck_assert_uint_eq(frame.total, WIRE_HEADER_BYTES + 4);
}
END_TEST

START_TEST(frame_layout_is_little_endian_and_fixed)
{
        static const uint8_t expected[] = { 13, 0, 0, 0, 7, 8, 7, 6, 5, 4, 3, 2, 1, 0x10, 0x27, 0, 0 };

        wire_write_request(&out, &(struct wire_request){ .type = WIRE_STATUS, .tag = 0x0102030405060708, .deadline_ms = 10000 });
        ck_assert_uint_eq(out.size, sizeof(expected));
        ck_assert_mem_eq(out.data, expected, sizeof(expected));
}
END_TEST

START_TEST(frame_that_is_too_long_is_known_by_its_length_alone)
{
        struct wire_frame frame;
        uint8_t head[4] = { 0 };

        for (unsigned shift = 0; shift < 32; shift++) {
                uint32_t length = UINT32_C(1) << shift;

                for (unsigned i = 0; i < 4; i++)
                        head[i] = (uint8_t)(length >> (8 * i));
                ck_assert_int_eq(wire_frame_parse(head, 4, 4096, &frame),
                                 length < 9 ? WIRE_FRAME_MALFORMED : length > 4092 ? WIRE_FRAME_TOO_LONG : WIRE_FRAME_INCOMPLETE);
        }
        memcpy(head, "\xff\xff\xff\xff", 4);
        ck_assert_int_eq(wire_frame_parse(head, 4, 4096, &frame), WIRE_FRAME_TOO_LONG);
        memcpy(head, "\xfc\x0f\0\0", 4);
        ck_assert_int_eq(wire_frame_parse(head, 4, 4096, &frame), WIRE_FRAME_INCOMPLETE);
        memcpy(head, "\xfd\x0f\0\0", 4);
        ck_assert_int_eq(wire_frame_parse(head, 4, 4096, &frame), WIRE_FRAME_TOO_LONG);
}
END_TEST

START_TEST(frame_shorter_than_type_and_tag_is_malformed)
{
        struct wire_frame frame;

        for (uint8_t length = 0; length < 9; length++)
                ck_assert_int_eq(wire_frame_parse((const uint8_t[]){ length, 0, 0, 0 }, 4, 4096, &frame), WIRE_FRAME_MALFORMED);
}
END_TEST

/* --- client to node --- */

START_TEST(hello_is_read_as_written)
{
        struct wire_hello hello = { .version_min = 1, .version_max = 1, .cluster = id128_random(), .client = client_of("backup@host"), .pid = 0x10203 }, seen;
        struct wire_frame frame;

        wire_write_hello(&out, &hello);
        frame = only_frame();
        ck_assert(wire_read_hello(&frame, &seen));
        ck_assert_uint_eq(seen.version_min, 1);
        ck_assert_uint_eq(seen.version_max, 1);
        ck_assert(id128_equal(seen.cluster, hello.cluster));
        ck_assert_str_eq(seen.client.text, "backup@host");
        ck_assert(!seen.assign);
        ck_assert_uint_eq(seen.pid, 0x10203);
        expect_exact(reads_hello);
        expect_types(reads_hello, (const uint8_t[]){ WIRE_HELLO }, 1);
        expect_refused_with(reads_hello, out.size - WIRE_HEADER_BYTES - 5, 2);        /* neither yes nor no */
        expect_refused_with(reads_hello, out.size - WIRE_HEADER_BYTES - 5, 1);        /* an id, and wants one */
        expect_refused_with(reads_hello, 0, 0);                                       /* version 0 */
        expect_refused_with(reads_hello, 0, 2);                                       /* a range that is none */
        expect_refused_with(reads_hello, 21, ' ');                                    /* no client id has spaces */
        expect_refused_with(reads_hello, 21, '\n');
        expect_refused_with(reads_hello, 20, 65);
        out.data[5] = 1;                                                              /* a hello has no tag */
        frame = only_frame();
        ck_assert(!wire_read_hello(&frame, &seen));
}
END_TEST

START_TEST(hello_may_ask_for_an_id)
{
        struct wire_hello hello = { .version_min = 1, .version_max = 1, .assign = true }, seen;
        struct wire_frame frame;

        wire_write_hello(&out, &hello);
        frame = only_frame();
        ck_assert(wire_read_hello(&frame, &seen));
        ck_assert(seen.assign);
        ck_assert_uint_eq(seen.client.size, 0);
        expect_exact(reads_hello);
}
END_TEST

START_TEST(hello_of_a_newer_client_may_be_longer)
{
        struct wire_hello hello = { .version_min = 1, .version_max = WIRE_VERSION_MAX + 1 }, seen;
        struct wire_frame frame;

        wire_write_hello(&out, &hello);
        bytes_put(&out, "more to say", 11);
        bytes_set_u32(&out, 0, (uint32_t)out.size - 4);
        frame = only_frame();
        ck_assert(wire_read_hello(&frame, &seen));
        ck_assert_uint_eq(seen.version_max, WIRE_VERSION_MAX + 1);
}
END_TEST

static struct holder_view holder_of(const char *note)
{
        static struct bytes bytes;
        struct holder holder = { .host = "web1", .unit = "cron.service", .pid = 77 };

        (void)snprintf(holder.note, sizeof(holder.note), "%s", note);
        bytes_clear(&bytes);
        holder_put(&bytes, &holder);
        return (struct holder_view){ .data = bytes.data, .size = (uint16_t)bytes.size };
}

static void expect_note(struct holder_view view, const char *note)
{
        struct holder holder;

        ck_assert(holder_get(view, &holder));
        ck_assert_str_eq(holder.note, note);
        ck_assert_str_eq(holder.unit, *note ? "cron.service" : "");
}

static struct wire_request change_of(enum wire_type type)
{
        return (struct wire_request){ .type = type, .tag = 7, .deadline_ms = 1000, .handle = id128_random(), .seq = 3,
                                      .client = client_of("c"), .name = name_of("db/backup"), .token = type == WIRE_RELEASE || type == WIRE_KEEP || type == WIRE_BREAK ? 12 : 0, .now = type == WIRE_BREAK,
                                      
                                      .holder = type == WIRE_PREEMPT || type == WIRE_BREAK ? holder_of("nightly") : (struct holder_view){ .size = 0 } };
}

static struct wire_request read_back(void)
{
        struct wire_frame frame = only_frame();
        struct wire_request seen;

        ck_assert(wire_read_request(&frame, &seen));
        return seen;
}

START_TEST(changes_are_read_as_written)
{
        struct wire_request request = change_of(_i == 0 ? WIRE_PREEMPT : _i == 1 ? WIRE_RELEASE : _i == 2 ? WIRE_CANCEL : _i == 3 ? WIRE_KEEP : WIRE_BREAK), seen;

        wire_write_request(&out, &request);
        seen = read_back();
        ck_assert_int_eq(seen.type, request.type);
        ck_assert_uint_eq(seen.tag, 7);
        ck_assert_uint_eq(seen.deadline_ms, 1000);
        ck_assert(id128_equal(seen.handle, request.handle));
        ck_assert_uint_eq(seen.seq, 3);
        ck_assert_str_eq(seen.client.text, "c");
        ck_assert_str_eq(seen.name.text, "db/backup");
        ck_assert_uint_eq(seen.token, request.token);
        expect_note(seen.holder, request.type == WIRE_PREEMPT || request.type == WIRE_BREAK ? "nightly" : "");
        ck_assert(seen.now == request.now);
        ck_assert_uint_eq(seen.limit, 0);
        expect_exact(reads_request);
        expect_refused_with(reads_request, 3, 0x80);              /* patience of 24 days */
        expect_refused_with(reads_request, 28, 0);                /* without a client the c belongs to the name */
        expect_refused_with(reads_request, 31, 0);                /* a zero in the name */
        expect_refused_with(reads_request, 31, 0x1b);
        expect_refused_with(reads_request, 31, 0x7f);
        expect_refused_with(reads_request, 31, 0x80);             /* a continuation without a start */
        expect_refused_with(reads_request, 31, 0xff);
        expect_refused_with(reads_request, 30, 0);
}
END_TEST

START_TEST(wait_is_asked_for_in_a_session_only)
{
        struct wire_request request = change_of(WIRE_PREEMPT);

        request.ttl_ms = _i == 0 ? LIMIT_TTL_MIN_MS : 0;
        request.session = _i == 0 ? 0 : 12;
        request.wait = true;
        wire_write_request(&out, &request);
        ck_assert(read_back().wait);
        expect_exact(reads_request);
        expect_refused_with(reads_request, 67, 2);                /* more than true */
        bytes_clear(&out);
        request.ttl_ms = 0;
        request.session = 0;
        wire_write_request(&out, &request);
        {
                struct wire_frame frame = only_frame();
                struct wire_request seen;

                ck_assert(!wire_read_request(&frame, &seen));
        }
}
END_TEST

/* All or nothing: each once, in order, so many at most, each alone, and not once in a period. */
START_TEST(several_locks_are_asked_for_in_order)
{
        static const uint8_t right[] = { 4, 'd', 'b', '/', 'c', 1, 'e' }, twice[] = { 9, 'd', 'b', '/', 'b', 'a', 'c', 'k', 'u', 'p' }, before[] = { 1, 'a' },
                             unordered[] = { 1, 'f', 1, 'e' }, many[] = { 1, 'e', 1, 'f', 1, 'g', 1, 'h', 1, 'i', 1, 'j', 1, 'k', 1, 'l' };
        static const struct names_view wrong[] = {
                { .data = twice, .size = sizeof(twice), .count = 1 },
                { .data = before, .size = sizeof(before), .count = 1 },
                { .data = unordered, .size = sizeof(unordered), .count = 2 },
                { .data = many, .size = sizeof(many), .count = 8 },
        };
        struct wire_request request = change_of(WIRE_PREEMPT), seen;
        struct lock_name name;

        request.name = name_of("db/backup");
        request.further = (struct names_view){ .data = right, .size = sizeof(right), .count = 2 };
        wire_write_request(&out, &request);
        seen = read_back();
        ck_assert_uint_eq(seen.further.count, 2);
        ck_assert(names_view_take(&seen.further, &name));
        ck_assert_str_eq(name.text, "db/c");
        ck_assert(names_view_take(&seen.further, &name));
        ck_assert_str_eq(name.text, "e");
        ck_assert(!names_view_take(&seen.further, &name));
        expect_exact(reads_request);
        for (unsigned i = 0; i < 2 + ARRAY_SIZE(wrong); i++) {
                bytes_clear(&out);
                request.slots = i == 0 ? 2 : 0;
                request.period_ms = i == 1 ? LIMIT_PERIOD_MIN_MS : 0;
                if (i >= 2)
                        request.further = wrong[i - 2];
                wire_write_request(&out, &request);
                ck_assert_msg(!reads_request(&(struct wire_frame){ .type = WIRE_PREEMPT, .body = out.data + WIRE_HEADER_BYTES, .body_size = out.size - WIRE_HEADER_BYTES }), "%u", i);
        }
}
END_TEST

START_TEST(question_about_a_wait_names_it)
{
        struct wire_request request = { .type = WIRE_AWAIT, .tag = 7, .deadline_ms = 1000, .name = name_of("db/backup"), .token = 12 }, seen;

        wire_write_request(&out, &request);
        seen = read_back();
        ck_assert_str_eq(seen.name.text, "db/backup");
        ck_assert_uint_eq(seen.token, 12);
        expect_exact(reads_request);
        expect_refused_with(reads_request, 14, 0);                /* none */
}
END_TEST

START_TEST(question_about_a_session_names_no_lock)
{
        struct wire_request request = { .type = WIRE_AWAIT, .tag = 7, .deadline_ms = 1000, .token = 12, .bound = true }, seen;

        wire_write_request(&out, &request);
        seen = read_back();
        ck_assert_uint_eq(seen.name.size, 0);
        ck_assert_uint_eq(seen.token, 12);
        ck_assert(seen.bound);
        expect_exact(reads_request);
}
END_TEST

/* As a lease, in a session, or neither; a time to live is from a second to a day, and a session has its own. */
START_TEST(preempt_says_how_long_it_lives)
{
        static const uint64_t sessions[] = { 0, LIMIT_TOKEN, 0, 0 };
        static const uint32_t ttls[] = { 0, 0, LIMIT_TTL_MIN_MS, LIMIT_TTL_MS };
        struct wire_request request = change_of(WIRE_PREEMPT), seen;

        request.session = sessions[_i];
        request.ttl_ms = ttls[_i];
        request.delay_ms = _i < 2 ? 0 : _i == 2 ? 1 : LIMIT_DELAY_MS;
        request.period_ms = _i == 0 ? 0 : _i == 1 ? LIMIT_PERIOD_MIN_MS : LIMIT_PERIOD_MS;
        wire_write_request(&out, &request);
        seen = read_back();
        ck_assert_uint_eq(seen.session, sessions[_i]);
        ck_assert_uint_eq(seen.ttl_ms, ttls[_i]);
        ck_assert_uint_eq(seen.delay_ms, request.delay_ms);
        ck_assert_uint_eq(seen.period_ms, request.period_ms);
        expect_note(seen.holder, "nightly");
        expect_exact(reads_request);
        if (_i == 0)
                expect_refused_with(reads_request, 48, 1);        /* a millisecond */
        if (_i == 1)
                expect_refused_with(reads_request, 49, 4);        /* a second, in a session */
        if (_i == 2)
                expect_refused_with(reads_request, 48, 0xe7);     /* 999 ms */
        if (_i >= 2)
                expect_refused_with(reads_request, 40, 1);        /* and a session */
        if (_i == 3)
                expect_refused_with(reads_request, 48, 1);        /* a day and a millisecond */
        if (_i < 2)
                expect_refused_with(reads_request, 52, 1);        /* a delay, and no time to live of its own */
        if (_i == 3)
                expect_refused_with(reads_request, 55, 1);        /* a delay of hours */
}
END_TEST

static struct wire_request about_session(enum wire_type type)
{
        return (struct wire_request){ .type = type, .tag = 7, .deadline_ms = 1000, .handle = type == WIRE_RENEW ? (struct id128){ 0 } : id128_random(),
                                      .seq = type == WIRE_RENEW ? 0 : 3, .client = client_of("c"), .session = type == WIRE_OPEN ? 0 : 12,
                                      .ttl_ms = type == WIRE_CLOSE ? 0 : 30000, .delay_ms = type == WIRE_OPEN ? 700 : 0, .holder = type == WIRE_OPEN ? holder_of("worker") : (struct holder_view){ .size = 0 } };
}

START_TEST(requests_about_sessions_are_read_as_written)
{
        static const enum wire_type types[] = { WIRE_OPEN, WIRE_CLOSE, WIRE_RENEW };
        struct wire_request request = about_session(types[_i]), seen;
        size_t named = types[_i] == WIRE_RENEW ? 6 : 30;          /* what comes after the client */

        wire_write_request(&out, &request);
        seen = read_back();
        ck_assert_int_eq(seen.type, types[_i]);
        ck_assert_uint_eq(seen.tag, 7);
        ck_assert(id128_equal(seen.handle, request.handle));
        ck_assert_uint_eq(seen.seq, request.seq);
        ck_assert_str_eq(seen.client.text, "c");
        ck_assert_uint_eq(seen.name.size, 0);
        ck_assert_uint_eq(seen.session, request.session);
        ck_assert_uint_eq(seen.ttl_ms, request.ttl_ms);
        ck_assert_uint_eq(seen.delay_ms, request.delay_ms);
        expect_note(seen.holder, types[_i] == WIRE_OPEN ? "worker" : "");
        expect_exact(reads_request);
        expect_refused_with(reads_request, 3, 0x80);              /* patience of 24 days */
        expect_refused_with(reads_request, named - 1, ' ');       /* no client id has spaces */
        if (types[_i] == WIRE_OPEN) {
                expect_refused_with(reads_request, named + 1, 3); /* 816 ms */
                expect_refused_with(reads_request, named + 3, 6); /* 28 hours */
                expect_refused_with(reads_request, named + 7, 1); /* a delay of hours */
                expect_refused_with(reads_request, named + 8, 0); /* who holds it is longer than it says */
        } else {
                expect_refused_with(reads_request, named, 0);     /* session 0 */
        }
        if (types[_i] == WIRE_RENEW)
                expect_refused_with(reads_request, named + 11, 6);        /* 28 hours */
}
END_TEST

START_TEST(check_is_read_as_written)
{
        struct wire_request request = { .type = _i == 0 ? WIRE_CHECK : _i == 1 ? WIRE_SHOW : WIRE_QUEUE, .tag = 1, .min_index = UINT64_MAX, .consistent = true, .name = name_of("ä") };
        struct wire_request seen;

        wire_write_request(&out, &request);
        seen = read_back();
        ck_assert_int_eq(seen.type, request.type);
        ck_assert_uint_eq(seen.min_index, UINT64_MAX);
        ck_assert(seen.consistent);
        ck_assert_str_eq(seen.name.text, "ä");
        expect_exact(reads_request);
        expect_types(reads_request, (const uint8_t[]){ WIRE_CHECK, WIRE_SHOW, WIRE_QUEUE }, 3);
        expect_refused_with(reads_request, 12, 2);                /* neither consistent nor not */
}
END_TEST

START_TEST(list_is_read_as_written)
{
        struct wire_request request = { .type = WIRE_LIST, .min_index = 9, .after = name_of("db/a"), .after_token = 77, .limit = LIMIT_PAGE_ROWS }, seen;

        wire_write_request(&out, &request);
        seen = read_back();
        ck_assert_uint_eq(seen.name.size, 0);
        ck_assert_str_eq(seen.after.text, "db/a");
        ck_assert_uint_eq(seen.limit, LIMIT_PAGE_ROWS);
        ck_assert_uint_eq(seen.min_index, 9);
        expect_exact(reads_request);
        ck_assert_uint_eq(seen.after_token, 77);
        expect_refused_with(reads_request, 26, 0xe9);             /* 1001 rows */
        bytes_clear(&out);
        request.limit = 0;
        wire_write_request(&out, &request);
        ck_assert(!reads_request(&(struct wire_frame){ .type = WIRE_LIST, .body = out.data + 13, .body_size = out.size - 13 }));
}
END_TEST

START_TEST(history_is_read_as_written)
{
        struct wire_request request = { .type = WIRE_HISTORY, .name = name_of("x"), .after_index = 12, .limit = 1 }, seen;

        wire_write_request(&out, &request);
        seen = read_back();
        ck_assert_str_eq(seen.name.text, "x");
        ck_assert_uint_eq(seen.after_index, 12);
        ck_assert_uint_eq(seen.limit, 1);
        expect_exact(reads_request);
}
END_TEST

START_TEST(watch_is_read_as_written)
{
        struct wire_request request = { .type = WIRE_WATCH, .name = name_of("x"), .exact = true, .after_index = 12, .limit = 7 }, seen;

        wire_write_request(&out, &request);
        seen = read_back();
        ck_assert_str_eq(seen.name.text, "x");
        ck_assert(seen.exact);
        ck_assert_uint_eq(seen.after_index, 12);
        ck_assert_uint_eq(seen.limit, 7);
        expect_exact(reads_request);
        expect_refused_with(reads_request, 6, 2);
        expect_refused_with(reads_request, 15, 0);
        /* No name is a prefix of all, and exactly none. */
        bytes_clear(&out);
        request.name = (struct lock_name){ 0 };
        request.exact = false;
        wire_write_request(&out, &request);
        expect_refused_with(reads_request, 5, 1);
}
END_TEST

START_TEST(wishes_of_an_operator_are_read_as_written)
{
        struct wire_request request = { .type = _i ? WIRE_TRANSFER : WIRE_REMOVE, .tag = 1, .node = "follower-2" }, seen;

        wire_write_request(&out, &request);
        seen = read_back();
        ck_assert_str_eq(seen.node, "follower-2");
        expect_exact(reads_request);
        expect_types(reads_request, (const uint8_t[]){ WIRE_TRANSFER, WIRE_REMOVE }, 2);
        expect_refused_with(reads_request, 6, '\n');
}
END_TEST

START_TEST(status_has_nothing_but_a_deadline)
{
        wire_write_request(&out, &(struct wire_request){ .type = _i ? WIRE_STATUS : WIRE_MEMBERS, .deadline_ms = LIMIT_DEADLINE_MS });
        ck_assert_uint_eq(read_back().deadline_ms, LIMIT_DEADLINE_MS);
        expect_exact(reads_request);
        expect_types(reads_request, (const uint8_t[]){ WIRE_STATUS, WIRE_MEMBERS }, 2);
}
END_TEST

START_TEST(backup_is_read_as_written)
{
        struct wire_request request = { .type = WIRE_BACKUP, .tag = 1, .min_index = 7, .backup = UINT64_MAX, .offset = 1 }, seen;

        wire_write_request(&out, &request);
        seen = read_back();
        ck_assert_uint_eq(seen.min_index, 7);
        ck_assert_uint_eq(seen.backup, UINT64_MAX);
        ck_assert_uint_eq(seen.offset, 1);
        expect_exact(reads_request);
        bytes_clear(&out);
        request.backup = 0;                                       /* from the middle of what is still to be made */
        wire_write_request(&out, &request);
        ck_assert(!reads_request(&(struct wire_frame){ .type = WIRE_BACKUP, .body = out.data + 13, .body_size = out.size - 13 }));
        bytes_clear(&out);
        request.offset = 0;
        wire_write_request(&out, &request);
        expect_exact(reads_request);
        expect_types(reads_request, (const uint8_t[]){ WIRE_BACKUP }, 1);
}
END_TEST

START_TEST(longest_request_fits_its_limit)
{
        struct wire_request request = { .type = WIRE_LIST, .limit = 1 };
        char text[LIMIT_LOCK_NAME_BYTES];

        memset(text, 'n', sizeof(text));
        ck_assert(lock_name_set(&request.name, text, sizeof(text)));
        ck_assert(lock_name_set(&request.after, text, sizeof(text)));
        wire_write_request(&out, &request);
        ck_assert_uint_le(out.size, LIMIT_CLIENT_REQUEST_BYTES);
        ck_assert_uint_eq(read_back().after.size, LIMIT_LOCK_NAME_BYTES);
}
END_TEST

/* --- node to client --- */

START_TEST(welcome_is_read_as_written)
{
        struct wire_welcome welcome = { .version = 1, .cluster = id128_random(), .client = client_of("me"), .node = "follower-1" }, seen;
        struct wire_frame frame;

        wire_write_welcome(&out, &welcome);
        frame = only_frame();
        ck_assert(wire_read_welcome(&frame, &seen));
        ck_assert_uint_eq(seen.version, 1);
        ck_assert(id128_equal(seen.cluster, welcome.cluster));
        ck_assert_str_eq(seen.client.text, "me");
        ck_assert_str_eq(seen.node, "follower-1");
        expect_exact(reads_welcome);
        expect_types(reads_welcome, (const uint8_t[]){ WIRE_WELCOME }, 1);
        expect_refused_with(reads_welcome, 0, 0);
        expect_refused_with(reads_welcome, 0, WIRE_VERSION_MAX + 1);
        expect_refused_with(reads_welcome, 22, 0x1b);             /* an escape in the node's name */
        expect_refused_with(reads_welcome, 22, ' ');
}
END_TEST

START_TEST(refusal_is_read_as_written)
{
        struct wire_refusal refusal = { .code = WIRE_REFUSAL_STOPPING, .cluster = id128_random(), .reason = "this node is stopping" }, seen;
        struct wire_frame frame;

        wire_write_refusal(&out, &refusal);
        frame = only_frame();
        ck_assert(wire_read_refusal(&frame, &seen));
        ck_assert_int_eq(seen.code, WIRE_REFUSAL_STOPPING);
        ck_assert(id128_equal(seen.cluster, refusal.cluster));
        ck_assert_str_eq(seen.reason, refusal.reason);
        expect_exact(reads_refusal);
        expect_types(reads_refusal, (const uint8_t[]){ WIRE_REFUSAL }, 1);
        expect_refused_with(reads_refusal, 0, 0);
        expect_refused_with(reads_refusal, 0, 6);
        expect_refused_with(reads_refusal, 18, 0x9b);
        expect_refused_with(reads_refusal, 18, '\n');
}
END_TEST

START_TEST(result_is_read_as_written)
{
        struct wire_result result = { .tag = 77, .outcome = WIRE_NO, .token = LIMIT_TOKEN, .index = 12, .leader_age_ms = -1,
                                      .owner = client_of("other"), .reason = "held" }, seen;
        struct wire_frame frame;

        wire_write_result(&out, &result);
        frame = only_frame();
        ck_assert(wire_read_result(&frame, &seen));
        ck_assert_uint_eq(seen.tag, 77);
        ck_assert_int_eq(seen.outcome, WIRE_NO);
        ck_assert_uint_eq(seen.token, LIMIT_TOKEN);
        ck_assert_uint_eq(seen.index, 12);
        ck_assert_int_eq(seen.leader_age_ms, -1);
        ck_assert_str_eq(seen.owner.text, "other");
        ck_assert_str_eq(seen.reason, "held");
        expect_exact(reads_result);
        expect_types(reads_result, (const uint8_t[]){ WIRE_RESULT }, 1);
        expect_refused_with(reads_result, 0, 0);
        expect_refused_with(reads_result, 0, 7);
        expect_refused_with(reads_result, 8, 0xff);               /* a token that JSON could not hold */
        expect_refused_with(reads_result, 17, 0xfe);              /* -2 ms ago */
        expect_refused_with(reads_result, 30, 0x1b);
}
END_TEST

START_TEST(reason_that_is_not_clean_is_written_clean)
{
        struct wire_result result = { .outcome = WIRE_REJECTED, .reason = "a\033[2J\xff" "b" }, seen;
        struct wire_frame frame;

        wire_write_result(&out, &result);
        frame = only_frame();
        ck_assert(wire_read_result(&frame, &seen));
        ck_assert_str_eq(seen.reason, "a?[2J?b");
}
END_TEST

START_TEST(reason_cut_in_the_middle_of_a_letter_is_written_clean)
{
        struct wire_result result = { .outcome = WIRE_REJECTED }, seen;
        struct wire_frame frame;

        memset(result.reason, 'x', LIMIT_REASON_BYTES - 1);
        result.reason[LIMIT_REASON_BYTES - 1] = (char)0xc3;
        wire_write_result(&out, &result);
        frame = only_frame();
        ck_assert(wire_read_result(&frame, &seen));
        ck_assert_uint_eq(strlen(seen.reason), LIMIT_REASON_BYTES);
        ck_assert_int_eq(seen.reason[LIMIT_REASON_BYTES - 1], '?');
}
END_TEST

static void write_rows(unsigned count)
{
        struct wire_page page = { .tag = 5, .outcome = WIRE_YES, .index = 40, .leader_age_ms = 3, .more = true, .count = (uint16_t)count };
        struct wire_row row = { .holders = 1, .owner = client_of("owner"), .held_ms = 6, .since_wall_ms = 1700000000000, .holder = holder_of("why") };
        size_t frame = wire_write_page_begin(&out, WIRE_ROWS, &page);

        ck_assert(principal_set(&row.principal, "uid:7", 5));
        for (unsigned i = 0; i < count; i++) {
                char text[32];

                (void)snprintf(text, sizeof(text), "lock-%u", i);
                row.lock = name_of(text);
                row.token = i + 1;
                row.session = i % 2 ? LIMIT_TOKEN : 0;
                row.ttl_ms = i % 2 ? 30000 : 0;
                row.delay_ms = i % 2 ? 1300 : 0;
                row.expires_ms = i % 2 ? 20000 : -1;
                row.lease = i % 2;
                row.waiting = i;
                wire_write_row(&out, &row);
        }
        wire_write_page_end(&out, frame);
}

START_TEST(rows_are_read_as_written)
{
        struct wire_frame frame;
        struct wire_page page;
        struct bytes_reader rows;
        struct wire_row row;

        write_rows(3);
        frame = only_frame();
        ck_assert(wire_read_page(&frame, &page, &rows));
        ck_assert_uint_eq(page.tag, 5);
        ck_assert_uint_eq(page.index, 40);
        ck_assert_int_eq(page.leader_age_ms, 3);
        ck_assert(page.more);
        ck_assert_uint_eq(page.count, 3);
        for (unsigned i = 0; i < 3; i++) {
                ck_assert(wire_read_row(&rows, &row));
                ck_assert_uint_eq(row.lock.size, 6);
                ck_assert_uint_eq(row.token, i + 1);
                ck_assert_uint_eq(row.held_ms, 6);
                ck_assert_uint_eq(row.since_wall_ms, 1700000000000);
                ck_assert_uint_eq(row.session, i % 2 ? LIMIT_TOKEN : 0);
                ck_assert_uint_eq(row.ttl_ms, i % 2 ? 30000 : 0);
                ck_assert_uint_eq(row.delay_ms, i % 2 ? 1300 : 0);
                ck_assert_int_eq(row.expires_ms, i % 2 ? 20000 : -1);
                ck_assert(row.lease == (i % 2 == 1));
                ck_assert_uint_eq(row.waiting, i);
                ck_assert_str_eq(row.owner.text, "owner");
                ck_assert_str_eq(row.principal.text, "uid:7");
                expect_note(row.holder, "why");
        }
        ck_assert(bytes_reader_finished(&rows));
        ck_assert(!wire_read_row(&rows, &row));
        expect_exact(reads_page);
        expect_types(reads_page, (const uint8_t[]){ WIRE_ROWS }, 1);
        expect_refused_with(reads_page, 0, WIRE_UNKNOWN);         /* rows that rest on nothing */
        expect_refused_with(reads_page, 17, 1);                   /* free in a while, and held */
        expect_refused_with(reads_page, 21, 2);
        expect_refused_with(reads_page, 22, 2);                   /* fewer, or more rows than there are */
        expect_refused_with(reads_page, 22, 4);
        expect_refused_with(reads_page, 23, 0xff);
        expect_refused_with(reads_page, 25, 0);                   /* a row without a name */
        expect_refused_with(reads_page, 62, 1);                   /* a session without a time to live, */
        expect_refused_with(reads_page, 70, 1);                   /* or the other way round */
        expect_refused_with(reads_page, 74, 1);                   /* a delay without either */
        expect_refused_with(reads_page, 78, 0xfe);                /* less than never */
}
END_TEST

START_TEST(row_of_a_session_that_cannot_be_is_refused)
{
        size_t row;

        write_rows(2);
        row = 25 + (only_frame().body_size - 25) / 2;             /* the second, which is in one */
        expect_refused_with(reads_page, row + 44, 0x20);          /* higher than every token */
        expect_refused_with(reads_page, row + 60, 0x80);          /* it was over long ago */
}
END_TEST

START_TEST(empty_page_is_read_as_written)
{
        write_rows(0);
        expect_exact(reads_page);
}
END_TEST

/* A lock that nobody owns, and nobody gets yet. */
START_TEST(lock_that_is_free_in_a_while_is_read_as_written)
{
        const struct wire_page head = { .tag = 5, .outcome = WIRE_YES, .index = 40, .free_in_ms = LIMIT_DELAY_MS };
        const struct wire_result result = { .tag = 5, .outcome = WIRE_NO, .token = 3, .index = 40, .free_in_ms = 4200 };
        struct wire_result told;
        struct wire_page page;
        struct wire_frame frame;
        struct bytes_reader rows;

        wire_write_page_end(&out, wire_write_page_begin(&out, WIRE_ROWS, &head));
        frame = only_frame();
        ck_assert(wire_read_page(&frame, &page, &rows));
        ck_assert_uint_eq(page.free_in_ms, LIMIT_DELAY_MS);
        expect_exact(reads_page);
        expect_refused_with(reads_page, 0, WIRE_UNKNOWN);
        expect_refused_with(reads_page, 20, 1);                   /* hours */
        bytes_clear(&out);
        wire_write_result(&out, &result);
        frame = only_frame();
        ck_assert(wire_read_result(&frame, &told));
        ck_assert_uint_eq(told.free_in_ms, 4200);
        expect_exact(reads_result);
        expect_refused_with(reads_result, 0, WIRE_YES);
        expect_refused_with(reads_result, 28, 1);
}
END_TEST

static void write_events(unsigned count)
{
        struct wire_page page = { .tag = 6, .outcome = WIRE_YES, .index = 40, .leader_age_ms = -1, .next_after = 12, .log_first = 3, .count = (uint16_t)count };
        struct wire_event event = { .term = 2, .cluster_ms = 9, .wall_ms = 10, .kind = "preempt", .lock = name_of("db"), .client = client_of("me"), .token = 10,
                                    .detail = "as it was" };
        size_t frame = wire_write_page_begin(&out, WIRE_EVENTS, &page);

        for (unsigned i = 0; i < count; i++) {
                event.index = 10 + i;
                wire_write_event(&out, &event);
        }
        wire_write_page_end(&out, frame);
}

START_TEST(members_are_read_as_written)
{
        const struct wire_member member = { .id = 7, .name = "follower-1", .address = "10.0.0.2:7402", .voter = true, .preferred = true, .linked = true, .match = 9, .level = 1 };
        const struct wire_page head = { .tag = 6, .outcome = WIRE_YES, .index = 40, .leader_age_ms = 5, .count = 1 };
        struct wire_member seen;
        struct wire_frame frame;
        struct bytes_reader rows;
        struct wire_page page;
        size_t offset = wire_write_page_begin(&out, WIRE_ROSTER, &head);

        wire_write_member(&out, &member);
        wire_write_page_end(&out, offset);
        frame = only_frame();
        ck_assert(wire_read_page(&frame, &page, &rows));
        ck_assert_uint_eq(page.index, 40);
        ck_assert(wire_read_member(&rows, &seen));
        ck_assert_uint_eq(seen.id, 7);
        ck_assert_str_eq(seen.name, "follower-1");
        ck_assert_str_eq(seen.address, "10.0.0.2:7402");
        ck_assert(seen.voter && seen.preferred && seen.linked && !seen.witness && !seen.leader && !seen.away);
        ck_assert_uint_eq(seen.match, 9);
        ck_assert_uint_eq(seen.level, 1);
        expect_exact(reads_page);
        expect_types(reads_page, (const uint8_t[]){ WIRE_ROSTER }, 1);
}
END_TEST

START_TEST(events_are_read_as_written)
{
        struct wire_frame frame;
        struct wire_page page;
        struct bytes_reader rows;
        struct wire_event event;

        write_events(2);
        frame = only_frame();
        ck_assert(wire_read_page(&frame, &page, &rows));
        ck_assert_uint_eq(page.next_after, 12);
        ck_assert_uint_eq(page.log_first, 3);
        ck_assert(wire_read_event(&rows, &event));
        ck_assert(wire_read_event(&rows, &event));
        ck_assert_uint_eq(event.index, 11);
        ck_assert_uint_eq(event.term, 2);
        ck_assert_str_eq(event.kind, "preempt");
        ck_assert_str_eq(event.lock.text, "db");
        ck_assert_str_eq(event.client.text, "me");
        ck_assert_str_eq(event.detail, "as it was");
        ck_assert_uint_eq(event.token, 10);
        ck_assert_uint_eq(event.cluster_ms, 9);
        ck_assert_uint_eq(event.wall_ms, 10);
        expect_exact(reads_page);
        expect_types(reads_page, (const uint8_t[]){ WIRE_EVENTS }, 1);
        expect_refused_with(reads_page, 77, 0);                   /* a kind without a name: what follows is shifted */
        expect_refused_with(reads_page, 78, 0x1b);
}
END_TEST

static void write_changes(unsigned count)
{
        struct wire_page page = { .tag = 6, .outcome = WIRE_YES, .index = 40, .leader_age_ms = -1, .next_after = 12, .log_first = 3, .more = true, .count = (uint16_t)count };
        struct wire_change change = { .kind = WIRE_CHANGE_GRANTED, .index = 11, .wall_ms = 10, .lock = name_of("db"), .client = client_of("me"), .token = 11 };
        size_t frame = wire_write_page_begin(&out, WIRE_CHANGES, &page);

        change.holder = holder_of("why");
        for (unsigned i = 0; i < count; i++) {
                wire_write_change(&out, &change);
                /* A kind that only a later version knows. */
                change = (struct wire_change){ .kind = 200, .index = 12, .lock = change.lock, .client = change.client, .token = 11, .session = 5, .ttl_ms = 1000 };
        }
        wire_write_page_end(&out, frame);
}

START_TEST(what_became_of_locks_is_read_as_written)
{
        struct wire_frame frame;
        struct wire_page page;
        struct bytes_reader rows;
        struct wire_change change;

        write_changes(2);
        frame = only_frame();
        ck_assert(wire_read_page(&frame, &page, &rows));
        ck_assert_uint_eq(page.next_after, 12);
        ck_assert_uint_eq(page.log_first, 3);
        ck_assert(page.more);
        ck_assert(wire_read_change(&rows, &change));
        ck_assert_uint_eq(change.kind, WIRE_CHANGE_GRANTED);
        ck_assert_uint_eq(change.index, 11);
        ck_assert_uint_eq(change.wall_ms, 10);
        ck_assert_str_eq(change.lock.text, "db");
        ck_assert_str_eq(change.client.text, "me");
        ck_assert_uint_eq(change.token, 11);
        expect_note(change.holder, "why");
        ck_assert(wire_read_change(&rows, &change));
        ck_assert_uint_eq(change.kind, 200);
        ck_assert_uint_eq(change.session, 5);
        ck_assert_uint_eq(change.ttl_ms, 1000);
        expect_exact(reads_page);
        expect_types(reads_page, (const uint8_t[]){ WIRE_CHANGES }, 1);
        expect_refused_with(reads_page, 37, 0);                   /* nothing became of it */
        expect_refused_with(reads_page, 37, 2);                   /* it is free, and somebody holds it */
        expect_refused_with(reads_page, 0, WIRE_NO);
}
END_TEST

START_TEST(history_that_is_gone_is_read_as_written)
{
        struct wire_page page = { .tag = 6, .outcome = WIRE_NO, .index = 40, .log_first = 30, .reason = "gone" }, seen;
        struct wire_frame frame;
        struct bytes_reader rows;

        wire_write_page_end(&out, wire_write_page_begin(&out, WIRE_CHANGES, &page));
        frame = only_frame();
        ck_assert(wire_read_page(&frame, &seen, &rows));
        ck_assert_int_eq(seen.outcome, WIRE_NO);
        ck_assert_uint_eq(seen.log_first, 30);
        ck_assert_str_eq(seen.reason, "gone");
        expect_exact(reads_page);
}
END_TEST

START_TEST(largest_pages_fit_their_limit)
{
        struct wire_page page = { .outcome = WIRE_YES, .count = LIMIT_PAGE_ROWS };
        struct wire_event event = { .kind = "configuration12" };
        struct wire_row row = { .holders = 1 };
        struct holder holder = { .pid = 1 };
        struct bytes bytes = { 0 };
        char text[LIMIT_LOCK_NAME_BYTES];
        size_t frame;

        memset(text, 'n', sizeof(text));
        ck_assert(lock_name_set(&row.lock, text, LIMIT_LOCK_NAME_BYTES));
        ck_assert(client_id_set(&row.owner, text, LIMIT_CLIENT_ID_BYTES));
        ck_assert(principal_set(&row.principal, text, LIMIT_PRINCIPAL_BYTES));
        memset(holder.note, 'n', LIMIT_NOTE_BYTES);
        memset(holder.host, 'h', LIMIT_HOST_BYTES);
        memset(holder.unit, 'u', LIMIT_UNIT_BYTES);
        holder_put(&bytes, &holder);
        row.holder = (struct holder_view){ .data = bytes.data, .size = (uint16_t)bytes.size };
        row.session = LIMIT_TOKEN;
        row.ttl_ms = LIMIT_TTL_MS;
        row.expires_ms = INT64_MAX;
        event.lock = row.lock;
        event.client = row.owner;
        memset(event.detail, 'd', LIMIT_REASON_BYTES);
        frame = wire_write_page_begin(&out, WIRE_ROWS, &page);
        for (unsigned i = 0; i < LIMIT_PAGE_ROWS; i++)
                wire_write_row(&out, &row);
        wire_write_page_end(&out, frame);
        ck_assert(reads_page(&(struct wire_frame){ .type = WIRE_ROWS, .body = out.data + 13, .body_size = out.size - 13 }));
        bytes_clear(&out);
        frame = wire_write_page_begin(&out, WIRE_EVENTS, &page);
        for (unsigned i = 0; i < LIMIT_PAGE_ROWS; i++)
                wire_write_event(&out, &event);
        wire_write_page_end(&out, frame);
        ck_assert(reads_page(&(struct wire_frame){ .type = WIRE_EVENTS, .body = out.data + 13, .body_size = out.size - 13 }));
        bytes_done(&bytes);
}
END_TEST

START_TEST(state_is_read_as_written)
{
        struct wire_state state = { .tag = 9, .node = "leader", .role = "leader", .leader = "leader", .version = "1.0.0", .cluster = id128_random(),
                                    .term = 1, .commit = 2, .applied = 3, .log_first = 4, .log_last = 5, .locks = 6, .voters = 7, .members = 8 }, seen;
        struct wire_frame frame;

        wire_write_state(&out, &state);
        frame = only_frame();
        ck_assert(wire_read_state(&frame, &seen));
        ck_assert_uint_eq(seen.tag, 9);
        ck_assert_str_eq(seen.node, "leader");
        ck_assert_str_eq(seen.role, "leader");
        ck_assert_str_eq(seen.leader, "leader");
        ck_assert_str_eq(seen.version, "1.0.0");
        ck_assert(id128_equal(seen.cluster, state.cluster));
        ck_assert_uint_eq(seen.term, 1);
        ck_assert_uint_eq(seen.commit, 2);
        ck_assert_uint_eq(seen.applied, 3);
        ck_assert_uint_eq(seen.log_first, 4);
        ck_assert_uint_eq(seen.log_last, 5);
        ck_assert_uint_eq(seen.locks, 6);
        ck_assert_uint_eq(seen.voters, 7);
        ck_assert_uint_eq(seen.members, 8);
        ck_assert_int_eq(seen.leader_age_ms, 0);
        expect_exact(reads_state);
        expect_types(reads_state, (const uint8_t[]){ WIRE_STATE }, 1);
        expect_refused_with(reads_state, 1, 0x1b);
        expect_refused_with(reads_state, 8, 0x1b);
        expect_refused_with(reads_state, 15, 0x1b);
        expect_refused_with(reads_state, 0, 255);
}
END_TEST

START_TEST(state_without_a_leader_is_read_as_written)
{
        struct wire_state state = { .node = "n", .role = "joining", .version = "1", .leader_age_ms = -1 };

        wire_write_state(&out, &state);
        expect_exact(reads_state);
}
END_TEST

START_TEST(piece_is_read_as_written)
{
        struct wire_piece piece = { .tag = 4, .outcome = WIRE_YES, .index = 11, .leader_age_ms = 12, .backup = 13, .offset = 14, .total = 18,
                                    .data = (const uint8_t *)"data", .size = 4 }, seen;
        struct wire_frame frame;

        wire_write_piece(&out, &piece);
        frame = only_frame();
        ck_assert(wire_read_piece(&frame, &seen));
        ck_assert_uint_eq(seen.tag, 4);
        ck_assert_int_eq(seen.outcome, WIRE_YES);
        ck_assert_uint_eq(seen.index, 11);
        ck_assert_int_eq(seen.leader_age_ms, 12);
        ck_assert_uint_eq(seen.backup, 13);
        ck_assert_uint_eq(seen.offset, 14);
        ck_assert_uint_eq(seen.total, 18);
        ck_assert_uint_eq(seen.size, 4);
        ck_assert_mem_eq(seen.data, "data", 4);
        expect_exact(reads_piece);
        expect_types(reads_piece, (const uint8_t[]){ WIRE_PIECE }, 1);
        expect_refused_with(reads_piece, 0, 0);
        expect_refused_with(reads_piece, 0, WIRE_REJECTED);       /* a no that has data */
        expect_refused_with(reads_piece, 17, 0);                  /* of no backup */
        expect_refused_with(reads_piece, 25, 15);                 /* one byte beyond the end */
        expect_refused_with(reads_piece, 32, 255);
        expect_refused_with(reads_piece, 33, 17);
        expect_refused_with(reads_piece, 44, 255);
}
END_TEST

START_TEST(piece_without_data_is_read_as_written)
{
        wire_write_piece(&out, &(struct wire_piece){ .outcome = WIRE_YES, .backup = 1, .total = 4096, .leader_age_ms = -1 });
        expect_exact(reads_piece);
        bytes_clear(&out);
        wire_write_piece(&out, &(struct wire_piece){ .outcome = WIRE_REJECTED, .leader_age_ms = -1, .reason = "only root" });
        expect_exact(reads_piece);
        expect_refused_with(reads_piece, 33, 1);
}
END_TEST

START_TEST(largest_piece_fits_its_limit)
{
        _cleanup_free_ uint8_t *data = calloc(1, LIMIT_BACKUP_PIECE_BYTES);
        struct wire_piece seen;
        struct wire_frame frame;

        wire_write_piece(&out, &(struct wire_piece){ .outcome = WIRE_YES, .backup = 1, .total = UINT64_MAX, .leader_age_ms = -1, .data = data,
                                                     .size = LIMIT_BACKUP_PIECE_BYTES });
        frame = only_frame();
        ck_assert(wire_read_piece(&frame, &seen));
        ck_assert_uint_eq(seen.size, LIMIT_BACKUP_PIECE_BYTES);
}
END_TEST

START_TEST(any_flipped_bit_is_refused_or_read_within_bounds)
{
        static const frame_reader readers[] = { reads_hello, reads_welcome, reads_refusal, reads_request, reads_result, reads_page, reads_state, reads_piece };
        struct wire_frame frame;

        write_events(2);
        write_rows(2);
        write_changes(2);
        wire_write_request(&out, &(struct wire_request){ .type = WIRE_WATCH, .name = name_of("x"), .exact = true, .limit = 1 });
        wire_write_request(&out, &(struct wire_request){ .type = WIRE_HISTORY, .name = name_of("x"), .limit = 1 });
        for (enum wire_type type = WIRE_OPEN; type <= WIRE_RENEW; type++) {
                struct wire_request request = about_session(type);

                wire_write_request(&out, &request);
        }
        wire_write_piece(&out, &(struct wire_piece){ .outcome = WIRE_YES, .backup = 1, .total = 5, .leader_age_ms = 1, .data = (const uint8_t *)"piece", .size = 5 });
        for (size_t offset = 0; offset < out.size; offset += frame.total) {
                ck_assert_int_eq(wire_frame_parse(out.data + offset, out.size - offset, LIMIT_CLIENT_REPLY_BYTES, &frame), WIRE_FRAME_READY);
                for (size_t bit = 0; bit < frame.body_size * 8; bit++) {
                        _cleanup_free_ uint8_t *body = malloc(frame.body_size);
                        struct wire_frame flipped = frame;

                        memcpy(body, frame.body, frame.body_size);
                        body[bit / 8] ^= (uint8_t)(1 << (bit % 8));
                        flipped.body = body;
                        for (size_t i = 0; i < ARRAY_SIZE(readers); i++)
                                (void)readers[i](&flipped);
                }
        }
}
END_TEST

static TCase *add_case(Suite *s, const char *name)
{
        TCase *c = tcase_create(name);

        tcase_add_checked_fixture(c, NULL, clear_out);
        suite_add_tcase(s, c);
        return c;
}

static Suite *suite(void)
{
        Suite *s = suite_create("wire");
        TCase *c;

        c = add_case(s, "frames");
        tcase_add_test(c, frame_is_taken_only_when_it_is_whole);
        tcase_add_test(c, frame_layout_is_little_endian_and_fixed);
        tcase_add_test(c, frame_that_is_too_long_is_known_by_its_length_alone);
        tcase_add_test(c, frame_shorter_than_type_and_tag_is_malformed);
        c = add_case(s, "client to node");
        tcase_add_test(c, hello_is_read_as_written);
        tcase_add_test(c, hello_may_ask_for_an_id);
        tcase_add_test(c, hello_of_a_newer_client_may_be_longer);
        tcase_add_loop_test(c, changes_are_read_as_written, 0, 5);
        tcase_add_loop_test(c, wait_is_asked_for_in_a_session_only, 0, 2);
        tcase_add_test(c, several_locks_are_asked_for_in_order);
        tcase_add_test(c, question_about_a_wait_names_it);
        tcase_add_test(c, question_about_a_session_names_no_lock);
        tcase_add_loop_test(c, preempt_says_how_long_it_lives, 0, 4);
        tcase_add_loop_test(c, requests_about_sessions_are_read_as_written, 0, 3);
        tcase_add_loop_test(c, check_is_read_as_written, 0, 3);
        tcase_add_test(c, list_is_read_as_written);
        tcase_add_test(c, history_is_read_as_written);
        tcase_add_test(c, watch_is_read_as_written);
        tcase_add_loop_test(c, wishes_of_an_operator_are_read_as_written, 0, 2);
        tcase_add_loop_test(c, status_has_nothing_but_a_deadline, 0, 2);
        tcase_add_test(c, backup_is_read_as_written);
        tcase_add_test(c, longest_request_fits_its_limit);
        c = add_case(s, "node to client");
        tcase_add_test(c, welcome_is_read_as_written);
        tcase_add_test(c, refusal_is_read_as_written);
        tcase_add_test(c, result_is_read_as_written);
        tcase_add_test(c, reason_that_is_not_clean_is_written_clean);
        tcase_add_test(c, reason_cut_in_the_middle_of_a_letter_is_written_clean);
        tcase_add_test(c, rows_are_read_as_written);
        tcase_add_test(c, row_of_a_session_that_cannot_be_is_refused);
        tcase_add_test(c, empty_page_is_read_as_written);
        tcase_add_test(c, lock_that_is_free_in_a_while_is_read_as_written);
        tcase_add_test(c, events_are_read_as_written);
        tcase_add_test(c, what_became_of_locks_is_read_as_written);
        tcase_add_test(c, history_that_is_gone_is_read_as_written);
        tcase_add_test(c, members_are_read_as_written);
        tcase_add_test(c, largest_pages_fit_their_limit);
        tcase_add_test(c, state_is_read_as_written);
        tcase_add_test(c, state_without_a_leader_is_read_as_written);
        tcase_add_test(c, piece_is_read_as_written);
        tcase_add_test(c, piece_without_data_is_read_as_written);
        tcase_add_test(c, largest_piece_fits_its_limit);
        tcase_add_test(c, any_flipped_bit_is_refused_or_read_within_bounds);
        return s;
}

int main(void)
{
        return run_suite(suite());
}
