#include "base/parse.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/un.h>

#include "base/cleanup.h"

/* Reads the leading digits; false when there is none or the value does not fit. */
static bool take_digits(const char **text, uint64_t *ret_value)
{
        const char *s = *text;
        uint64_t value = 0;

        if (*s < '0' || *s > '9')
                return false;
        for (; *s >= '0' && *s <= '9'; s++)
                if (__builtin_mul_overflow(value, UINT64_C(10), &value) || __builtin_add_overflow(value, (uint64_t)(*s - '0'), &value))
                        return false;
        *text = s;
        *ret_value = value;
        return true;
}

bool parse_u64(const char *text, uint64_t *ret_value)
{
        uint64_t value;

        if (!take_digits(&text, &value) || *text)
                return false;
        *ret_value = value;
        return true;
}

bool parse_bool(const char *text, bool *ret_value)
{
        static const char *const yes[] = { "yes", "true", "on", "1" };
        static const char *const no[] = { "no", "false", "off", "0" };

        for (size_t i = 0; i < ARRAY_SIZE(yes); i++) {
                if (strcasecmp(text, yes[i]) == 0) {
                        *ret_value = true;
                        return true;
                }
                if (strcasecmp(text, no[i]) == 0) {
                        *ret_value = false;
                        return true;
                }
        }
        return false;
}

bool parse_duration_ms(const char *text, uint64_t *ret_ms)
{
        static const struct {
                const char *name;
                uint64_t ms;
        } units[] = { { "ms", 1 }, { "s", 1000 }, { "", 1000 }, { "min", 60000 }, { "m", 60000 }, { "h", 3600000 }, { "d", 86400000 } };
        uint64_t number;

        if (!take_digits(&text, &number))
                return false;
        for (size_t i = 0; i < ARRAY_SIZE(units); i++)
                if (strcmp(text, units[i].name) == 0)
                        return !__builtin_mul_overflow(number, units[i].ms, ret_ms);
        return false;
}

static bool parse_port(const char *text, uint16_t *ret_port)
{
        uint64_t port;

        if (!parse_u64(text, &port) || port == 0 || port > UINT16_MAX)
                return false;
        *ret_port = (uint16_t)port;
        return true;
}

static bool host_is_valid(const char *host, size_t size)
{
        if (size == 0 || size > 253)
                return false;
        for (size_t i = 0; i < size; i++)
                if (host[i] <= ' ' || host[i] > '~' || strchr("/[]@,", host[i]))
                        return false;
        return true;
}

bool address_parse(const char *text, uint16_t default_port, struct address *ret_address)
{
        struct address address = { .kind = ADDRESS_TCP, .port = default_port };
        const char *host = text, *end, *port = NULL;

        if (text[0] == '/') {
                if (strlen(text) >= sizeof(((struct sockaddr_un *)NULL)->sun_path))
                        return false;
                address = (struct address){ .kind = ADDRESS_UNIX };
                (void)snprintf(address.host, sizeof(address.host), "%s", text);
                *ret_address = address;
                return true;
        }
        if (text[0] == '[') {
                host = text + 1;
                end = strchr(host, ']');
                if (!end || (end[1] && end[1] != ':'))
                        return false;
                port = end[1] ? end + 2 : NULL;
        } else {
                end = strrchr(text, ':');
                if (end && memchr(text, ':', (size_t)(end - text)))
                        return false;        /* an IPv6 address wants brackets */
                port = end ? end + 1 : NULL;
                end = end ? end : text + strlen(text);
        }
        if (!host_is_valid(host, (size_t)(end - host)))
                return false;
        if (port ? !parse_port(port, &address.port) : default_port == 0)
                return false;
        memcpy(address.host, host, (size_t)(end - host));
        *ret_address = address;
        return true;
}

char *address_format(const struct address *address, char buffer[LIMIT_ADDRESS_BYTES + 16])
{
        bool ipv6 = address->kind == ADDRESS_TCP && strchr(address->host, ':');

        if (address->kind == ADDRESS_UNIX)
                (void)snprintf(buffer, LIMIT_ADDRESS_BYTES + 16, "%s", address->host);
        else
                (void)snprintf(buffer, LIMIT_ADDRESS_BYTES + 16, "%s%s%s:%u", ipv6 ? "[" : "", address->host, ipv6 ? "]" : "", (unsigned)address->port);
        return buffer;
}

bool address_is_local(const struct address *address)
{
        struct in_addr v4;
        struct in6_addr v6;

        if (address->kind == ADDRESS_UNIX || strcasecmp(address->host, "localhost") == 0)
                return true;
        if (inet_pton(AF_INET, address->host, &v4) == 1)
                return ntohl(v4.s_addr) >> 24 == 127;
        return inet_pton(AF_INET6, address->host, &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6);
}

bool address_is_any(const struct address *address)
{
        struct in_addr v4;
        struct in6_addr v6;

        if (address->kind == ADDRESS_UNIX)
                return false;
        if (inet_pton(AF_INET, address->host, &v4) == 1)
                return v4.s_addr == INADDR_ANY;
        return inet_pton(AF_INET6, address->host, &v6) == 1 && IN6_IS_ADDR_UNSPECIFIED(&v6);
}

bool address_is_numeric(const struct address *address)
{
        struct in_addr v4;
        struct in6_addr v6;

        return address->kind == ADDRESS_UNIX || inet_pton(AF_INET, address->host, &v4) == 1 || inet_pton(AF_INET6, address->host, &v6) == 1;
}
