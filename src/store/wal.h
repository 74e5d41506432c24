/* wal.h - is a WAL whole as far as it was synced? Internal to store/.
 *
 * SQLite takes the first frame that does not check for the end of the WAL: after a
 * power cut that is right, because only the last transaction can be torn. But when a
 * byte in the middle was damaged, everything behind it would be gone without a word,
 * votes and acknowledged changes with it. */
#pragma once

#include <stdint.h>

/* Reads the file and changes nothing. 0: whole, or torn at its end. -EBADMSG: damaged before
 * transactions that were synced, at frame *ret_frame (0: the header). Else -errno. */
int wal_check(int fd, uint64_t *ret_frame);
