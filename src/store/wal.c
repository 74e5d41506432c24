/* The format is that of https://www.sqlite.org/fileformat2.html, section 4: a header
 * and frames, each with the salts of the header and a checksum that goes on from the
 * one before. Behind a damaged frame the checksums are taken up again: from what is
 * written in the damaged frame, or from what ought to be. */
#include "store/wal.h"

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/bytes.h"
#include "base/cleanup.h"
#include "store/database.h"

#define HEADER_BYTES 32
#define FRAME_HEADER_BYTES 24
#define MAGIC 0x377f0682u                    /* the lowest bit says that checksums are of big-endian words */

struct sum {
        uint32_t a, b;
};

struct wal {
        int fd;
        bool header_is_whole, big_endian;
        size_t page_bytes;
        uint8_t salts[8];
        uint8_t *frame;                      /* the last one that was read */
        struct sum written, computed;        /* of it */
        bool follows;                        /* it is whole and comes after the one before it */
};

static uint32_t load_big(const uint8_t *data)
{
        return (uint32_t)data[0] << 24 | (uint32_t)data[1] << 16 | (uint32_t)data[2] << 8 | data[3];
}

static void add_to_sum(const struct wal *wal, struct sum *sum, const uint8_t *data, size_t size)
{
        for (size_t i = 0; i + 8 <= size; i += 8) {
                sum->a += (wal->big_endian ? load_big(data + i) : bytes_load_u32(data + i)) + sum->b;
                sum->b += (wal->big_endian ? load_big(data + i + 4) : bytes_load_u32(data + i + 4)) + sum->a;
        }
}

static struct sum sum_at(const uint8_t *data)
{
        return (struct sum){ load_big(data), load_big(data + 4) };
}

static bool sums_are_equal(struct sum one, struct sum other)
{
        return one.a == other.a && one.b == other.b;
}

/* 1: all of it; 0: the file ends before; -errno. */
static int read_at(int fd, void *data, size_t size, uint64_t offset)
{
        for (size_t done = 0; done < size;) {
                ssize_t n = pread(fd, (uint8_t *)data + done, size - done, (off_t)(offset + done));

                if (n < 0 && errno == EINTR)
                        continue;
                if (n <= 0)
                        return n < 0 ? -errno : 0;
                done += (size_t)n;
        }
        return 1;
}

/* What cannot be believed of the header is as dlock writes it. */
static void take_header(struct wal *wal, const uint8_t header[HEADER_BYTES])
{
        uint32_t magic = load_big(header);
        size_t page_bytes = load_big(header + 8);
        bool sound = (magic & ~1u) == MAGIC && page_bytes >= 512 && page_bytes <= 65536 && (page_bytes & (page_bytes - 1)) == 0;
        struct sum sum = { 0 };

        wal->big_endian = sound ? magic & 1 : __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__;
        wal->page_bytes = sound ? page_bytes : DATABASE_PAGE_BYTES;
        memcpy(wal->salts, header + 16, sizeof(wal->salts));
        add_to_sum(wal, &sum, header, 24);
        wal->computed = sum;
        wal->written = sum_at(header + 24);
        wal->header_is_whole = sound && sums_are_equal(sum, wal->written);
}

/* 1: there is one; 0: the file ends before; -errno. */
static int read_frame(struct wal *wal, uint64_t number)
{
        size_t size = FRAME_HEADER_BYTES + wal->page_bytes;
        struct sum from_written = wal->written, from_computed = wal->computed;
        int r = read_at(wal->fd, wal->frame, size, HEADER_BYTES + (number - 1) * size);

        if (r <= 0)
                return r;
        wal->written = sum_at(wal->frame + 16);
        add_to_sum(wal, &from_written, wal->frame, 8);
        add_to_sum(wal, &from_written, wal->frame + FRAME_HEADER_BYTES, wal->page_bytes);
        add_to_sum(wal, &from_computed, wal->frame, 8);
        add_to_sum(wal, &from_computed, wal->frame + FRAME_HEADER_BYTES, wal->page_bytes);
        wal->follows = load_big(wal->frame) != 0 &&
                       (sums_are_equal(wal->written, from_written) || sums_are_equal(wal->written, from_computed));
        wal->computed = wal->follows ? wal->written : from_written;
        return 1;
}

static bool has_salts(const struct wal *wal)
{
        return memcmp(wal->frame + 8, wal->salts, sizeof(wal->salts)) == 0;
}

/* The last frame of a transaction carries the size of the database. */
static bool ends_transaction(const struct wal *wal)
{
        return (wal->follows || has_salts(wal)) && load_big(wal->frame + 4) != 0;
}

/* A transaction begins only after the one before was synced, and the first after the header was. So a whole frame
 * behind the end of a transaction proves that what was before it had been on disk. */
static int look_for_damage(struct wal *wal, uint64_t *ret_frame)
{
        bool damaged = !wal->header_is_whole, synced = !wal->header_is_whole;
        uint64_t at = 0;
        int r;

        for (uint64_t number = 1; (r = read_frame(wal, number)) > 0; number++) {
                bool whole = wal->follows && (has_salts(wal) || !wal->header_is_whole);

                if (whole && damaged && synced) {
                        *ret_frame = at;
                        return -EBADMSG;
                }
                if (!whole && !damaged) {
                        damaged = true;
                        at = number;
                }
                synced = synced || (damaged && ends_transaction(wal));
        }
        return r;
}

int wal_check(int fd, uint64_t *ret_frame)
{
        struct wal wal = { .fd = fd };
        _cleanup_free_ uint8_t *frame = NULL;
        uint8_t header[HEADER_BYTES];
        int r = read_at(fd, header, sizeof(header), 0);

        if (r <= 0)
                return r;
        take_header(&wal, header);
        wal.frame = frame = alloc_zeroed(1, FRAME_HEADER_BYTES + wal.page_bytes);
        return look_for_damage(&wal, ret_frame);
}
