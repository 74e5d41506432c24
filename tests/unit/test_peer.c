/* What nodes say to each other, as bytes: whole, bounded, and nothing else. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "peer/codec.h"
#include "raft/log.h"
#include "unit/suite.h"

static struct bytes out;
static struct peer_frame frame;

static void setup(void)
{
        out = (struct bytes){ 0 };
}

static void teardown(void)
{
        bytes_done(&out);
}

static void parse(void)
{
        ck_assert_int_eq(peer_frame_parse(out.data, out.size, LIMIT_PEER_FRAME_BYTES, &frame), PEER_FRAME_READY);
        ck_assert_uint_eq(frame.total, out.size);
}

static struct peer_hello hello_of(void)
{
        return (struct peer_hello){ .version_min = 1, .version_max = 1, .cluster = { { 1 } }, .node = 2, .incarnation = { { 3 } }, .expects = 4, .level = 5,
                                    .name = "leader", .address = "127.0.0.1:7402" };
}

START_TEST(hello_reads_back)
{
        const struct peer_hello hello = hello_of();
        struct peer_hello again;

        peer_write_hello(&out, PEER_HELLO, &hello);
        parse();
        ck_assert(peer_read_hello(&frame, &again));
        ck_assert(id128_equal(again.cluster, hello.cluster) && id128_equal(again.incarnation, hello.incarnation));
        ck_assert_uint_eq(again.node, 2);
        ck_assert_uint_eq(again.expects, 4);
        ck_assert_str_eq(again.name, "leader");
        ck_assert_str_eq(again.address, "127.0.0.1:7402");
}
END_TEST

START_TEST(hello_cut_anywhere_is_malformed)
{
        const struct peer_hello hello = hello_of();
        struct peer_hello again;

        peer_write_hello(&out, PEER_HELLO, &hello);
        parse();
        for (size_t size = 0; size < frame.body_size; size++) {
                struct peer_frame part = frame;

                part.body_size = size;
                ck_assert(!peer_read_hello(&part, &again));
        }
}
END_TEST

START_TEST(frames_come_whole_or_not_at_all)
{
        struct peer_frame part;

        peer_write_refusal(&out, "no");
        for (size_t size = 0; size < out.size; size++)
                ck_assert_int_eq(peer_frame_parse(out.data, size, LIMIT_PEER_FRAME_BYTES, &part), PEER_FRAME_INCOMPLETE);
        peer_write_bye(&out);
        ck_assert_int_eq(peer_frame_parse(out.data, out.size, LIMIT_PEER_FRAME_BYTES, &part), PEER_FRAME_READY);
        ck_assert_int_eq(part.type, PEER_REFUSAL);
        ck_assert_int_eq(peer_frame_parse(out.data + part.total, out.size - part.total, LIMIT_PEER_FRAME_BYTES, &part), PEER_FRAME_READY);
        ck_assert_int_eq(part.type, PEER_BYE);
}
END_TEST

START_TEST(frame_longer_than_allowed_is_refused_by_its_length)
{
        static const uint8_t none[16] = { 0 };
        uint8_t huge[5] = { 0xff, 0xff, 0xff, 0xff, PEER_NODE };

        ck_assert_int_eq(peer_frame_parse(huge, sizeof(huge), LIMIT_PEER_FRAME_BYTES, &frame), PEER_FRAME_MALFORMED);
        ck_assert_int_eq(peer_frame_parse(none, sizeof(none), LIMIT_PEER_FRAME_BYTES, &frame), PEER_FRAME_MALFORMED);
        peer_write_node(&out, none, sizeof(none));
        ck_assert_int_eq(peer_frame_parse(out.data, out.size, out.size - 1, &frame), PEER_FRAME_MALFORMED);
}
END_TEST

START_TEST(every_raft_message_reads_back_to_the_same_bytes)
{
        struct raft_entry *entries[2] = { raft_entry_new(8, 3, RAFT_ENTRY_NOOP, 10, 11, NULL, 0), raft_entry_new(9, 3, RAFT_ENTRY_PREEMPT, 12, 13, "body", 4) };
        const struct raft_message messages[] = {
                { .kind = RAFT_VOTE, .term = 3, .index = 7, .log_term = 2, .pre = true },
                { .kind = RAFT_VOTE_REPLY, .term = 3, .granted = true },
                { .kind = RAFT_APPEND, .term = 3, .index = 7, .log_term = 2, .commit = 6, .round = 5, .cluster_ms = 12, .entries = (const struct raft_entry *const *)entries, .entry_count = 2 },
                { .kind = RAFT_APPEND_REPLY, .term = 3, .index = 9, .match = 9, .hint = 0, .round = 5, .granted = true },
                { .kind = RAFT_SNAPSHOT, .term = 3, .index = 7, .log_term = 2, .offset = 0, .last = true, .cluster_ms = 9, .configuration_index = 1,
                  .configuration = (const uint8_t *)"conf", .configuration_size = 4, .data = (const uint8_t *)"data", .data_size = 4 },
                { .kind = RAFT_SNAPSHOT_REPLY, .term = 3, .index = 7, .offset = 4, .granted = true },
                { .kind = RAFT_VOTE, .term = 4, .index = 7, .log_term = 3, .transfer = true },
                { .kind = RAFT_TIMEOUT_NOW, .term = 3, .index = 7, .transfer = true },
        };
        struct peer_raft raft = { 0 };

        for (size_t i = 0; i < ARRAY_SIZE(messages); i++) {
                struct bytes again = { 0 };

                bytes_clear(&out);
                peer_write_raft(&out, &messages[i]);
                parse();
                ck_assert_msg(peer_read_raft(&frame, &raft), "message %zu", i);
                ck_assert_int_eq(raft.message.kind, messages[i].kind);
                ck_assert_uint_eq(raft.message.entry_count, messages[i].entry_count);
                peer_write_raft(&again, &raft.message);
                ck_assert_uint_eq(again.size, out.size);
                ck_assert_mem_eq(again.data, out.data, out.size);
                peer_raft_clear(&raft);
                for (size_t size = 0; size < frame.body_size; size++) {
                        struct peer_frame part = frame;

                        part.body_size = size;
                        ck_assert_msg(!peer_read_raft(&part, &raft), "message %zu cut at %zu", i, size);
                        peer_raft_clear(&raft);
                }
                bytes_done(&again);
        }
        peer_raft_done(&raft);
        free(entries[0]);
        free(entries[1]);
}
END_TEST

static Suite *suite(void)
{
        Suite *s = suite_create("peer");
        TCase *c = tcase_create("peer");

        tcase_add_checked_fixture(c, setup, teardown);
        tcase_add_test(c, hello_reads_back);
        tcase_add_test(c, hello_cut_anywhere_is_malformed);
        tcase_add_test(c, frames_come_whole_or_not_at_all);
        tcase_add_test(c, frame_longer_than_allowed_is_refused_by_its_length);
        tcase_add_test(c, every_raft_message_reads_back_to_the_same_bytes);
        suite_add_tcase(s, c);
        return s;
}

int main(void)
{
        return run_suite(suite());
}
