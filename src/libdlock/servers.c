#include "libdlock/servers.h"

#include <dirent.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/name.h"

#define SERVERS_DIRECTORY "/run/dlock"
/* A list of addresses in one line of the ini file. */
#define LINE_BYTES 4096

static int _printf_(2, 3) refuse(char error[SERVERS_ERROR_BYTES], const char *format, ...)
{
        va_list values;

        va_start(values, format);
        (void)vsnprintf(error, SERVERS_ERROR_BYTES, format, values);
        va_end(values);
        return -EINVAL;
}

/* --- from text --- */

/* Copies the next item without the spaces around it; false at the end. */
static bool next_item(const char **cursor, char item[LIMIT_ADDRESS_BYTES + 1], bool *ret_too_long)
{
        const char *start = *cursor, *end;

        *ret_too_long = false;
        if (!start)
                return false;
        end = strchrnul(start, ',');
        *cursor = *end ? end + 1 : NULL;
        while (*start == ' ')
                start++;
        while (end > start && end[-1] == ' ')
                end--;
        *ret_too_long = end - start > LIMIT_ADDRESS_BYTES;
        (void)snprintf(item, LIMIT_ADDRESS_BYTES + 1, "%.*s", *ret_too_long ? 0 : (int)(end - start), start);
        return true;
}

static bool parse_server(const char *item, struct address *ret_address)
{
        if (strcmp(item, "local") == 0) {
                *ret_address = (struct address){ .kind = ADDRESS_UNIX };
                return true;
        }
        return address_parse(item, 0, ret_address);
}

int servers_set(struct servers *servers, const char *text, char error[SERVERS_ERROR_BYTES])
{
        _cleanup_free_ struct address *wanted = NULL;
        char item[LIMIT_ADDRESS_BYTES + 1];
        size_t count = 0, commas = 0;
        bool too_long;

        for (const char *s = text; *s; s++)
                commas += *s == ',';
        if (commas >= SERVERS_MAX)
                return refuse(error, "too many servers: at most %d would be accepted", SERVERS_MAX);
        wanted = calloc(commas + 1, sizeof(wanted[0]));
        if (!wanted)
                return -ENOMEM;
        for (const char *cursor = text; next_item(&cursor, item, &too_long); count++)
                if (too_long || !parse_server(item, &wanted[count]))
                        return refuse(error, "\"%s\" is no server: /path/of/a/socket, host:port, [ipv6]:port or local would be right", item);
        free(servers->wanted);
        servers->wanted = TAKE_POINTER(wanted);
        servers->wanted_count = count;
        return 0;
}

/* --- from the ini file. One section, one key: no reason for everybody who links this library to bring an ini library along. --- */

/* The rest of a line that is "NAME = rest"; NULL: it is not. */
static char *value_of(char *line, const char *name)
{
        size_t size = strlen(name);
        char *value = line + size;

        if (strncmp(line, name, size) != 0)
                return NULL;
        value += strspn(value, " \t");
        if (*value != '=')
                return NULL;
        value++;
        return value + strspn(value, " \t");
}

static void cut_end(char *line)
{
        size_t size = strcspn(line, "\r\n");

        while (size > 0 && strchr(" \t", line[size - 1]))
                size--;
        line[size] = 0;
}

struct ini {
        const char *path;
        unsigned line;
        bool in_client, seen;
};

static int take_line(struct servers *servers, struct ini *ini, char *line, char error[SERVERS_ERROR_BYTES])
{
        char problem[SERVERS_ERROR_BYTES];
        const char *value;

        cut_end(line);
        if (!*line || *line == ';' || *line == '#')
                return 0;
        if (strcmp(line, "[client]") == 0) {
                ini->in_client = true;
                return 0;
        }
        value = ini->in_client ? value_of(line, "servers") : NULL;
        if (!value)
                return refuse(error, "%s:%u: not understood; [client] and in it servers = ADDRESS, ADDRESS... would be accepted", ini->path, ini->line);
        if (ini->seen)
                return refuse(error, "%s:%u: servers for the second time; one line of them would be accepted", ini->path, ini->line);
        ini->seen = true;
        if (servers_set(servers, value, problem) < 0)
                return refuse(error, "%s:%u: %s", ini->path, ini->line, problem);
        return 0;
}

int servers_load(struct servers *servers, const char *path, char error[SERVERS_ERROR_BYTES])
{
        _cleanup_fclose_ FILE *file = fopen(path, "re");
        struct ini ini = { .path = path };
        char line[LINE_BYTES];
        int r;

        r = servers_set(servers, "local", error);
        if (r < 0 || (!file && errno == ENOENT))
                return r;
        errno = file ? 0 : errno;
        while (file && fgets(line, sizeof(line), file)) {
                char *text = line;

                ini.line++;
                if (ini.line == 1 && strncmp(text, "\xef\xbb\xbf", 3) == 0)
                        text += 3;
                if (!strchr(text, '\n') && !feof(file))
                        return refuse(error, "%s:%u: a line too long, or with a zero byte; up to %d bytes of text would be accepted", path, ini.line, LINE_BYTES - 2);
                r = take_line(servers, &ini, text, error);
                if (r < 0)
                        return r;
        }
        if (file && !ferror(file))
                return 0;
        r = errno ? -errno : -EIO;
        (void)refuse(error, "%s: %s; a readable file, or none, would be accepted", path, strerror(-r));
        return r;
}

/* --- the sockets that are there --- */

static int is_socket_name(const struct dirent *item)
{
        size_t size = strlen(item->d_name);

        if (strcmp(item->d_name, "leader.sock") == 0)
                return 1;
        return strncmp(item->d_name, "follower-", 9) == 0 && size > 14 && strcmp(item->d_name + size - 5, ".sock") == 0;
}

/* leader.sock, then follower-2.sock before follower-10.sock. */
static int compare_names(const struct dirent **a, const struct dirent **b)
{
        bool a_leads = strcmp((*a)->d_name, "leader.sock") == 0, b_leads = strcmp((*b)->d_name, "leader.sock") == 0;

        if (a_leads != b_leads)
                return a_leads ? -1 : 1;
        return strverscmp((*a)->d_name, (*b)->d_name);
}

static int add_found(struct servers *servers, const struct address *address)
{
        struct address *found;

        if (servers->found_count == SERVERS_MAX)
                return 0;
        if (servers->found_count == servers->found_capacity) {
                found = reallocarray(servers->found, servers->found_capacity + 4, sizeof(found[0]));
                if (!found)
                        return -ENOMEM;
                servers->found = found;
                servers->found_capacity += 4;
        }
        servers->found[servers->found_count++] = *address;
        return 0;
}

static int add_local(struct servers *servers)
{
        const char *directory = servers->directory ? servers->directory : SERVERS_DIRECTORY;
        struct dirent **items = NULL;
        int count = scandir(directory, &items, is_socket_name, compare_names), r = 0;

        for (int i = 0; i < count; i++) {
                char path[LIMIT_ADDRESS_BYTES];
                int size = snprintf(path, sizeof(path), "%s/%s", directory, items[i]->d_name);
                struct address address;

                if (r == 0 && size < (int)sizeof(path) && address_parse(path, 0, &address))
                        r = add_found(servers, &address);
                free(items[i]);
        }
        free(items);
        return r;
}

int servers_find(struct servers *servers)
{
        int r = 0;

        servers->found_count = 0;
        for (size_t i = 0; r == 0 && i < servers->wanted_count; i++)
                r = *servers->wanted[i].host ? add_found(servers, &servers->wanted[i]) : add_local(servers);
        return r;
}

void servers_done(struct servers *servers)
{
        free(servers->wanted);
        free(servers->found);
        *servers = (struct servers){ 0 };
}
