#include "config/reader.h"

#include <errno.h>
#include <fcntl.h>
#include <ini.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/name.h"

struct reader {
        FILE *file;
        const char *path;
        const struct reader_target *target;
        char *error;
        unsigned line;
        bool in_section;
        int result;                          /* 0, or why reading ended early */
};

static bool _printf_(2, 3) reader_refuse(struct reader *reader, const char *format, ...)
{
        int prefix;
        va_list values;

        reader->result = -EINVAL;
        prefix = snprintf(reader->error, READER_ERROR_BYTES, "%s:%u: ", reader->path, reader->line);
        if (prefix < 0 || prefix >= READER_ERROR_BYTES)
                return false;
        va_start(values, format);
        (void)vsnprintf(reader->error + prefix, (size_t)(READER_ERROR_BYTES - prefix), format, values);
        va_end(values);
        return false;
}

static bool reader_fail(struct reader *reader)
{
        int error = errno ? errno : EIO;

        (void)snprintf(reader->error, READER_ERROR_BYTES, "%s: %s; a readable file would be accepted", reader->path, strerror(error));
        reader->result = -error;
        return false;
}

/* Takes the next line without its end. False: there is none, or it was refused. */
static bool reader_take_line(struct reader *reader, char line[READER_LINE_BYTES_MAX + 2])
{
        size_t size = 0;
        int c;

        errno = 0;
        reader->line++;
        while ((c = getc_unlocked(reader->file)) != EOF && c != '\n') {
                if (c == '\0')
                        return reader_refuse(reader, "a zero byte; plain text would be accepted");
                if (size > READER_LINE_BYTES_MAX)
                        return reader_refuse(reader, "a line longer than %d bytes; a shorter one would be accepted", READER_LINE_BYTES_MAX);
                line[size++] = (char)c;
        }
        if (ferror(reader->file))
                return reader_fail(reader);
        if (c == EOF && size == 0)
                return false;
        if (size > 0 && line[size - 1] == '\r')
                size--;
        if (size > READER_LINE_BYTES_MAX)
                return reader_refuse(reader, "a line longer than %d bytes; a shorter one would be accepted", READER_LINE_BYTES_MAX);
        line[size] = '\0';
        return true;
}

/* Makes tabs spaces and drops a byte order mark; false for what is not clean text. */
static bool reader_clean_line(struct reader *reader, char *line)
{
        if (reader->line == 1 && strncmp(line, "\xef\xbb\xbf", 3) == 0)
                memmove(line, line + 3, strlen(line + 3) + 1);
        for (char *s = line; (s = strchr(s, '\t'));)
                *s = ' ';
        if (!name_is_clean_utf8(line, strlen(line)))
                return reader_refuse(reader, "a control character, or not UTF-8; plain UTF-8 text would be accepted");
        return true;
}

static bool reader_check_name(struct reader *reader, const char *what, const char *name)
{
        if (!*name)
                return reader_refuse(reader, "a %s without a name; [section] and key = value would be accepted", what);
        if (strlen(name) > READER_NAME_BYTES_MAX)
                return reader_refuse(reader, "the name of a %s longer than %d bytes; a shorter one would be accepted", what, READER_NAME_BYTES_MAX);
        return true;
}

static bool reader_check_section(struct reader *reader, const char *line)
{
        char section[READER_LINE_BYTES_MAX + 1], problem[READER_ERROR_BYTES];
        const char *end = strchr(line, ']');

        if (!end)
                return reader_refuse(reader, "'[' without ']'; [section] would be accepted");
        if (end[1 + strspn(end + 1, " ")])
                return reader_refuse(reader, "text after ']'; [section] alone on its line would be accepted");
        (void)snprintf(section, sizeof(section), "%.*s", (int)(end - line - 1), line + 1);
        if (!reader_check_name(reader, "section", section))
                return false;
        if (!reader->target->section(reader->target->user, section, problem))
                return reader_refuse(reader, "%s", problem);
        reader->in_section = true;
        return true;
}

static bool reader_check_key(struct reader *reader, const char *line)
{
        char name[READER_LINE_BYTES_MAX + 1];
        const char *separator = strpbrk(line, "=:"), *value;
        size_t size;

        if (!separator || *separator != '=')
                return reader_refuse(reader, "neither key nor section nor comment; key = value, [section], or a line starting with ';' or '#' would be accepted");
        for (size = (size_t)(separator - line); size > 0 && line[size - 1] == ' ';)
                size--;
        (void)snprintf(name, sizeof(name), "%.*s", (int)size, line);
        if (!reader_check_name(reader, "key", name))
                return false;
        if (!reader->in_section)
                return reader_refuse(reader, "%s before any section; a [section] line above it would be accepted", name);

        value = separator + 1 + strspn(separator + 1, " ");
        if (!*value)
                return reader_refuse(reader, "%s without a value; %s = value would be accepted", name, name);
        if (strchr(";#", *value) || strstr(value, " ;") || strstr(value, " #"))
                return reader_refuse(reader, "a comment after %s; a comment on a line of its own would be accepted", name);
        return true;
}

static bool reader_check_line(struct reader *reader, const char *line)
{
        const char *text = line + strspn(line, " ");

        if (!*text || strchr(";#", *text))
                return true;
        if (text > line)
                return reader_refuse(reader, "an indented line; the same at the start of the line would be accepted");
        return *line == '[' ? reader_check_section(reader, line) : reader_check_key(reader, line);
}

/* inih's fgets: the next line that it will not misread, NULL at the end and after a refusal. */
static char *reader_next(char *buffer, int size, void *stream)
{
        struct reader *reader = stream;
        char line[READER_LINE_BYTES_MAX + 2];

        if (reader->result < 0 || !reader_take_line(reader, line) || !reader_clean_line(reader, line) || !reader_check_line(reader, line))
                return NULL;
        if (strlen(line) >= (size_t)size) {
                (void)reader_refuse(reader, "a line longer than %d bytes; a shorter one would be accepted", size - 1);
                return NULL;
        }
        return strcpy(buffer, line);
}

/* inih's handler; one call for the line the reader gave last. */
static int reader_value(void *user, const char *section, const char *key, const char *value)
{
        struct reader *reader = user;
        char problem[READER_ERROR_BYTES];

        if (reader->result == 0 && !reader->target->value(reader->target->user, reader->line, section, key, value, problem))
                (void)reader_refuse(reader, "%s", problem);
        return 1;
}

int ini_read(FILE *file, const char *path, const struct reader_target *target, char error[READER_ERROR_BYTES])
{
        struct reader reader = { .file = file, .path = path, .target = target, .error = error };
        int r;

        r = ini_parse_stream(reader_next, &reader, reader_value, &reader);
        if (reader.result == 0 && r != 0) {
                reader.line = r > 0 ? (unsigned)r : reader.line;
                (void)reader_refuse(&reader, "not readable as an ini line; key = value would be accepted");
        }
        return reader.result;
}

FILE *ini_open(const char *path, int *ret_error, char error[READER_ERROR_BYTES])
{
        /* A pipe opens at once so, and is seen for what it is. */
        _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
        struct stat status = { 0 };
        FILE *file = NULL;

        if (fd >= 0 && fstat(fd, &status) == 0) {
                if (S_ISFIFO(status.st_mode)) {
                        (void)snprintf(error, READER_ERROR_BYTES, "%s: a pipe; a file would be accepted", path);
                        *ret_error = -EINVAL;
                        return NULL;
                }
                file = fdopen(fd, "r");
        }
        *ret_error = file ? 0 : -errno;
        if (file)
                (void)TAKE_FD(fd);
        else
                (void)snprintf(error, READER_ERROR_BYTES, "%s: %s; a readable file would be accepted", path, strerror(-*ret_error));
        return file;
}
