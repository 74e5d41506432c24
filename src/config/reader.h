/* reader.h - one ini file, line by line, into inih; the only place that names inih.
 *
 * Debian's build of inih cuts lines at 200 bytes and names at 50, takes an
 * indented line for one more value of the key above, cuts values at " ;", says
 * nothing of an empty section and gives no line numbers. So the reader looks at
 * each line before inih does, refuses what inih would misread, and counts.
 *
 * What is accepted: blank lines, comments (';' or '#' at the start, on lines of
 * their own), "[section]" and "key = value", in UTF-8 without control
 * characters but the tab; LF or CRLF; a byte order mark at the very start. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#define READER_ERROR_BYTES 512
/* inih gets buffers of 200 bytes and needs one for the zero; the one of Debian 13 takes a full buffer for a line that goes on. */
#define READER_LINE_BYTES_MAX 198
/* inih keeps 50 bytes of a section's or key's name, one of them the zero. */
#define READER_NAME_BYTES_MAX 49

/* What the reader asks of its user. Each writes "what is wrong; what would be accepted" and returns false to refuse. */
struct reader_target {
        bool (*section)(void *user, const char *section, char problem[READER_ERROR_BYTES]);
        bool (*value)(void *user, unsigned line, const char *section, const char *key, const char *value, char problem[READER_ERROR_BYTES]);
        void *user;
};

/* Opens what ini_read takes. NULL with *ret_error negative errno, and, but for a file that is not there (-ENOENT), with
 * "PATH: what is wrong; what would be accepted" in error. A pipe is refused: nobody may ever write into it. Never blocks. */
FILE *ini_open(const char *path, int *ret_error, char error[READER_ERROR_BYTES]);
/* Reads to the end or to the first refusal. path is for the messages only. 0, or -errno (-EINVAL for what the file says)
 * with "PATH:LINE: what is wrong; what would be accepted" in error. */
int ini_read(FILE *file, const char *path, const struct reader_target *target, char error[READER_ERROR_BYTES]);
