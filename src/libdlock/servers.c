#include "libdlock/servers.h"

#include <dirent.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/name.h"
#include "config/reader.h"

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
        (void)snprintf(item, LIMIT_ADDRESS_BYTES + 1, "%.*s", (int)MIN(end - start, LIMIT_ADDRESS_BYTES), start);
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

static int refuse_server(char error[SERVERS_ERROR_BYTES], const char *item, bool too_long)
{
        if (item[0] == '/')
                return refuse(error, "\"%.120s%s\" is too long for a socket: a path of at most 107 bytes would be right", item, strlen(item) > 120 ? "..." : "");
        return refuse(error, "\"%.120s%s\" is no server: /path/of/a/socket, host:port, [ipv6]:port or local would be right", item,
                      too_long || strlen(item) > 120 ? "..." : "");
}

/* Adds what text names to the servers wanted already; -EINVAL, -ENOMEM: nothing is added. */
static int servers_add(struct servers *servers, const char *text, char error[SERVERS_ERROR_BYTES])
{
        char item[LIMIT_ADDRESS_BYTES + 1];
        size_t count = servers->wanted_count, commas = 0;
        struct address *wanted;
        bool too_long;

        for (const char *s = text; *s; s++)
                commas += *s == ',';
        if (count + commas >= SERVERS_MAX)
                return refuse(error, "too many servers: at most %d would be accepted", SERVERS_MAX);
        wanted = reallocarray(servers->wanted, count + commas + 1, sizeof(wanted[0]));
        if (!wanted)
                return refuse(error, "no memory left"), -ENOMEM;
        servers->wanted = wanted;
        for (const char *cursor = text; next_item(&cursor, item, &too_long); count++)
                if (too_long || !parse_server(item, &wanted[count]))
                        return refuse_server(error, item, too_long);
        servers->wanted_count = count;
        return 0;
}

int servers_set(struct servers *servers, const char *text, char error[SERVERS_ERROR_BYTES])
{
        struct servers wanted = { 0 };
        int r = servers_add(&wanted, text, error);

        if (r == 0) {
                free(servers->wanted);
                servers->wanted = TAKE_POINTER(wanted.wanted);
                servers->wanted_count = wanted.wanted_count;
        }
        free(wanted.wanted);
        return r;
}

/* --- from the ini file --- */

struct client_ini {
        struct servers *servers;
        bool given;
};

static bool take_section(void *user, const char *section, char problem[READER_ERROR_BYTES])
{
        (void)user;
        if (strcmp(section, "client") == 0)
                return true;
        (void)snprintf(problem, READER_ERROR_BYTES, "section \"%s\"; [client] would be accepted", section);
        return false;
}

static bool take_value(void *user, unsigned line, const char *section, const char *key, const char *value, char problem[READER_ERROR_BYTES])
{
        struct client_ini *ini = user;

        (void)line;
        (void)section;
        if (strcmp(key, "servers") != 0) {
                (void)snprintf(problem, READER_ERROR_BYTES, "key \"%s\"; servers = ADDRESS, ADDRESS... would be accepted", key);
                return false;
        }
        if (!ini->given)
                ini->servers->wanted_count = 0;      /* instead of the default */
        ini->given = true;
        return servers_add(ini->servers, value, problem) == 0;
}

int servers_load(struct servers *servers, const char *path, char error[SERVERS_ERROR_BYTES])
{
        struct client_ini ini = { .servers = servers };
        int r;
        _cleanup_fclose_ FILE *file = ini_open(path, &r, error);

        if (r < 0 && r != -ENOENT)
                return r;
        r = servers_set(servers, "local", error);
        if (r < 0 || !file)
                return r;
        return ini_read(file, path, &(struct reader_target){ .section = take_section, .value = take_value, .user = &ini }, error);
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
