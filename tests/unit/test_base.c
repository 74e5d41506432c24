/* The small things that everything stands on: bytes, names, numbers, addresses, ids. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/holder.h"
#include "base/id128.h"
#include "base/name.h"
#include "base/parse.h"
#include "unit/suite.h"

START_TEST(what_is_written_is_read_in_order)
{
        struct bytes bytes = { 0 };
        struct bytes_reader reader;
        char text[8];
        size_t size;

        bytes_put_u8(&bytes, 1);
        bytes_put_u16(&bytes, 0x0203);
        bytes_put_u32(&bytes, 0x04050607);
        bytes_put_u64(&bytes, UINT64_C(0x08090a0b0c0d0e0f));
        bytes_put_text8(&bytes, "abc", 3);
        bytes_put_text16(&bytes, "", 0);
        bytes_put_blob(&bytes, "blob", 4);
        ck_assert_mem_eq(bytes.data, "\x01\x03\x02\x07\x06\x05\x04", 7);         /* little-endian */
        reader = bytes_reader_of(bytes.data, bytes.size);
        ck_assert_uint_eq(bytes_get_u8(&reader), 1);
        ck_assert_uint_eq(bytes_get_u16(&reader), 0x0203);
        ck_assert_uint_eq(bytes_get_u32(&reader), 0x04050607);
        ck_assert_uint_eq(bytes_get_u64(&reader), UINT64_C(0x08090a0b0c0d0e0f));
        ck_assert_uint_eq(bytes_get_text8(&reader, text, sizeof(text)), 3);
        ck_assert_str_eq(text, "abc");
        ck_assert_uint_eq(bytes_get_text16(&reader, text, sizeof(text)), 0);
        ck_assert_mem_eq(bytes_get_blob(&reader, 4, &size), "blob", 4);
        ck_assert_uint_eq(size, 4);
        ck_assert(bytes_reader_finished(&reader));
        bytes_done(&bytes);
}
END_TEST

START_TEST(reader_is_bad_for_good_once_it_ran_out)
{
        struct bytes_reader reader = bytes_reader_of("\x01\x02\x03", 3);

        ck_assert_uint_eq(bytes_get_u32(&reader), 0);
        ck_assert(reader.bad);
        ck_assert_uint_eq(bytes_get_u8(&reader), 0);
        ck_assert_ptr_null(bytes_get(&reader, 1));
        ck_assert(!bytes_reader_finished(&reader));
}
END_TEST

START_TEST(texts_and_blobs_longer_than_there_is_room_make_the_reader_bad)
{
        struct bytes_reader reader = bytes_reader_of("\x04four", 5);
        char text[4];
        size_t size;

        (void)bytes_get_text8(&reader, text, sizeof(text));
        ck_assert(reader.bad);
        reader = bytes_reader_of("\x05\x00\x00\x00" "abcde", 9);
        (void)bytes_get_blob(&reader, 4, &size);
        ck_assert(reader.bad);
        reader = bytes_reader_of("\xff\xff\xff\xff", 4);
        (void)bytes_get_blob(&reader, SIZE_MAX, &size);
        ck_assert(reader.bad);
        reader = bytes_reader_of("\x01", 1);
        (void)bytes_get_u8(&reader);
        ck_assert(bytes_reader_finished(&reader));
}
END_TEST

START_TEST(bytes_grow_and_drop_from_the_front)
{
        struct bytes bytes = { 0 };

        for (unsigned i = 0; i < 10000; i++)
                bytes_put_u8(&bytes, (uint8_t)i);
        bytes_drop(&bytes, 9999);
        ck_assert_uint_eq(bytes.size, 1);
        ck_assert_uint_eq(bytes.data[0], (uint8_t)9999);
        bytes_done(&bytes);
        ck_assert_uint_eq(bytes.size, 0);
}
END_TEST

/* --- who holds a lock --- */

static struct holder_view put_holder(struct bytes *bytes, const struct holder *holder)
{
        bytes_clear(bytes);
        holder_put(bytes, holder);
        return (struct holder_view){ .data = bytes->data, .size = (uint16_t)bytes->size };
}

START_TEST(holder_is_read_as_written_and_not_in_part)
{
        struct holder holder = { .note = "nightly, J\xc3\xb6rg", .host = "web1", .unit = "backup.service", .pid = 4711 }, seen;
        struct bytes bytes = { 0 }, whole = { 0 };
        struct holder_view view = put_holder(&bytes, &holder), read;
        struct bytes_reader reader;

        ck_assert(holder_get(view, &seen));
        ck_assert_mem_eq(&seen, &holder, sizeof(seen));
        for (uint16_t size = 1; size < view.size; size++)
                ck_assert(!holder_get((struct holder_view){ .data = view.data, .size = size }, &seen));
        ck_assert(holder_get((struct holder_view){ .size = 0 }, &seen));
        ck_assert_str_eq(seen.host, "");

        holder_view_put(&whole, view);
        reader = bytes_reader_of(whole.data, whole.size);
        holder_view_get(&reader, &read);
        ck_assert(bytes_reader_finished(&reader));
        ck_assert_uint_eq(read.size, view.size);
        ck_assert(read.data == whole.data + 2);
        whole.data[2] = 2;                   /* a format that is not known */
        reader = bytes_reader_of(whole.data, whole.size);
        holder_view_get(&reader, &read);
        ck_assert(reader.bad);
        bytes_done(&bytes);
        bytes_done(&whole);
}
END_TEST

START_TEST(holder_has_limits_and_clean_texts)
{
        struct holder holder = { .pid = UINT32_MAX }, seen;
        struct bytes bytes = { 0 };
        struct holder_view view;

        ck_assert_uint_eq(put_holder(&bytes, &(struct holder){ .pid = 0 }).size, 0);     /* nothing is known */
        memset(holder.note, 'n', LIMIT_NOTE_BYTES);
        memset(holder.host, 'h', LIMIT_HOST_BYTES);
        memset(holder.unit, 'u', LIMIT_UNIT_BYTES);
        view = put_holder(&bytes, &holder);
        ck_assert_uint_eq(view.size, LIMIT_HOLDER_BYTES);
        ck_assert(holder_get(view, &seen));
        ck_assert_mem_eq(&seen, &holder, sizeof(seen));
        bytes.data[5] = 27;                  /* within the note: what a terminal obeys */
        ck_assert(!holder_get(view, &seen));
        bytes.data[5] = 0;
        ck_assert(!holder_get(view, &seen));
        bytes.data[5] = 'n';
        bytes.data[257] = LIMIT_HOST_BYTES + 1;
        ck_assert(!holder_get(view, &seen));
        bytes_done(&bytes);
}
END_TEST

/* Long ones are looked at eight bytes at a time. */
START_TEST(every_byte_is_judged_wherever_it_stands)
{
        for (unsigned value = 0; value <= UINT8_MAX; value++)
                for (size_t at = 0; at < 19; at++) {
                        char text[] = "abcdefgh ABCDEFGH ~";
                        char id[] = "abcdefgh!ABCDEFGH!~";
                        struct client_id client;

                        text[at] = id[at] = (char)value;
                        ck_assert_int_eq(name_is_clean_utf8(text, 19), value >= ' ' && value <= '~');
                        ck_assert_int_eq(client_id_set(&client, id, 19), value > ' ' && value <= '~');
                }
}
END_TEST

START_TEST(names_are_clean_utf8_in_its_shortest_form)
{
        static const char *const good[] = { "a", "\xc3\xa4", "\xe2\x82\xac", "\xf0\x9f\x94\x92", "\xf4\x8f\xbf\xbf", "a b/c" };
        static const char *const bad[] = { "\x1f", "\x7f", "a\nb", "\xc2\x80", "\xc2\x9f", "\xc0\x80", "\xc1\xbf", "\xe0\x80\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80",
                                           "\xf5\x80\x80\x80", "\x80", "\xc3", "\xe2\x82", "\xff" };
        struct lock_name name = { .size = 1, .text = "x" };
        char longest[300];

        for (size_t i = 0; i < ARRAY_SIZE(good); i++)
                ck_assert_msg(name_is_clean_utf8(good[i], strlen(good[i])), "good %zu", i);
        for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
                ck_assert_msg(!name_is_clean_utf8(bad[i], strlen(bad[i])), "bad %zu", i);
        ck_assert(!name_is_clean_utf8("a\0b", 3));
        memset(longest, 'x', sizeof(longest));
        ck_assert(!lock_name_set(&name, longest, 256));
        ck_assert(!lock_name_set(&name, "", 0));
        ck_assert_str_eq(name.text, "x");    /* untouched */
        ck_assert(lock_name_set(&name, longest, 255));
        ck_assert_uint_eq(name.size, 255);
}
END_TEST

START_TEST(client_ids_are_printable_ascii_without_spaces)
{
        struct client_id id = { 0 };

        ck_assert(client_id_set(&id, "a-b_c:1/!~", 10));
        ck_assert(!client_id_set(&id, "a b", 3));
        ck_assert(!client_id_set(&id, "\xc3\xa4", 2));
        ck_assert(!client_id_set(&id, "", 0));
        ck_assert(!client_id_set(&id, "12345678901234567890123456789012345678901234567890123456789012345", 65));
        ck_assert(node_name_is_valid("follower-1.x_y", 14));
        ck_assert(!node_name_is_valid("a/b", 3) && !node_name_is_valid("", 0));
}
END_TEST

START_TEST(numbers_are_decimal_and_whole)
{
        static const char *const bad[] = { "", "-1", "+1", " 1", "1 ", "1x", "0x1", "18446744073709551616", "99999999999999999999" };
        uint64_t value = 7;

        for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
                ck_assert_msg(!parse_u64(bad[i], &value), "%s", bad[i]);
        ck_assert_uint_eq(value, 7);
        ck_assert(parse_u64("18446744073709551615", &value) && value == UINT64_MAX);
        ck_assert(parse_u64("0", &value) && value == 0);
}
END_TEST

START_TEST(durations_have_units_and_do_not_overflow)
{
        static const struct {
                const char *text;
                uint64_t ms;
        } good[] = { { "250ms", 250 }, { "3s", 3000 }, { "10min", 600000 }, { "2h", 7200000 }, { "1d", 86400000 }, { "5", 5000 } };
        static const char *const bad[] = { "", "ms", "-1s", "1.5s", "1x", "1 s x", "99999999999999999999s", "18446744073709551615h" };
        uint64_t ms;

        for (size_t i = 0; i < ARRAY_SIZE(good); i++)
                ck_assert_msg(parse_duration_ms(good[i].text, &ms) && ms == good[i].ms, "%s", good[i].text);
        for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
                ck_assert_msg(!parse_duration_ms(bad[i], &ms), "%s", bad[i]);
}
END_TEST

START_TEST(addresses_are_paths_or_hosts_with_ports)
{
        static const char *const bad[] = { "", "host", "host:", ":1", "host:0", "host:65536", "host:1x", "[::1", "[::1]", "[::1]:", "::1:1", "relative/path" };
        struct address address, again;
        char text[LIMIT_ADDRESS_BYTES + 16];

        for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
                ck_assert_msg(!address_parse(bad[i], 0, &address), "%s", bad[i]);
        ck_assert(address_parse("/run/x.sock", 0, &address) && address.kind == ADDRESS_UNIX && address_is_local(&address));
        ck_assert(address_parse("[::1]:7401", 0, &address) && address.port == 7401 && address_is_local(&address) && address_is_numeric(&address));
        ck_assert_str_eq(address_format(&address, text), "[::1]:7401");
        ck_assert(address_parse(text, 0, &again) && strcmp(again.host, address.host) == 0);
        ck_assert(address_parse("10.0.0.1", 7401, &address) && address.port == 7401 && !address_is_local(&address));
        ck_assert(address_parse("db.example:1", 0, &address) && !address_is_numeric(&address) && !address_is_local(&address));
        ck_assert(address_parse("127.77.0.3:1", 0, &address) && address_is_local(&address));
}
END_TEST

START_TEST(ids_have_one_canonical_form)
{
        char text[ID128_TEXT_BYTES];
        struct id128 id = id128_parse("01234567-89AB-cdef-0123-456789abcdef", &id) ? id : (struct id128){ { 0 } };
        struct id128 other = { { 1 } };

        ck_assert_str_eq(id128_format(id, text), "01234567-89ab-cdef-0123-456789abcdef");
        ck_assert(!id128_parse("01234567-89ab-cdef-0123-456789abcde", &id));
        ck_assert(!id128_parse("01234567-89ab-cdef-0123-456789abcdefg", &id));
        ck_assert(!id128_parse("0123456789abcdef0123456789abcdef", &id));
        ck_assert(!id128_parse("g1234567-89ab-cdef-0123-456789abcdef", &id));
        ck_assert(id128_is_null((struct id128){ { 0 } }) && !id128_is_null(id));
        ck_assert(id128_equal(id, id) && !id128_equal(id, other) && id128_compare(other, (struct id128){ { 2 } }) < 0);
}
END_TEST

static Suite *suite(void)
{
        Suite *s = suite_create("base");
        TCase *c = tcase_create("base");

        tcase_add_test(c, what_is_written_is_read_in_order);
        tcase_add_test(c, reader_is_bad_for_good_once_it_ran_out);
        tcase_add_test(c, texts_and_blobs_longer_than_there_is_room_make_the_reader_bad);
        tcase_add_test(c, bytes_grow_and_drop_from_the_front);
        tcase_add_test(c, holder_is_read_as_written_and_not_in_part);
        tcase_add_test(c, holder_has_limits_and_clean_texts);
        tcase_add_test(c, every_byte_is_judged_wherever_it_stands);
        tcase_add_test(c, names_are_clean_utf8_in_its_shortest_form);
        tcase_add_test(c, client_ids_are_printable_ascii_without_spaces);
        tcase_add_test(c, numbers_are_decimal_and_whole);
        tcase_add_test(c, durations_have_units_and_do_not_overflow);
        tcase_add_test(c, addresses_are_paths_or_hosts_with_ports);
        tcase_add_test(c, ids_have_one_canonical_form);
        suite_add_tcase(s, c);
        return s;
}

int main(void)
{
        return run_suite(suite());
}
