/* parse.h - text to numbers and addresses, strictly: the whole text or nothing. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/limits.h"

/* Decimal digits only, no sign, no spaces, no overflow. False: *ret_value is untouched. */
bool parse_u64(const char *text, uint64_t *ret_value);
/* yes/no, true/false, on/off, 1/0, in any case. */
bool parse_bool(const char *text, bool *ret_value);
/* A number with a unit: "250ms", "3s", "10min", "2h", "1d"; a bare number is seconds. */
bool parse_duration_ms(const char *text, uint64_t *ret_ms);

enum address_kind { ADDRESS_UNIX, ADDRESS_TCP };

/* One place to listen or connect: an absolute socket path, or host and port. */
struct address {
        enum address_kind kind;
        uint16_t port;                       /* ADDRESS_TCP */
        char host[LIMIT_ADDRESS_BYTES];      /* ADDRESS_TCP: without brackets; ADDRESS_UNIX: the path */
};

/* "/path", "host:port", "[ipv6]:port"; a port from 1 to 65535, or default_port when
 * the text has none and default_port is not 0. False: *ret_address is untouched. */
bool address_parse(const char *text, uint16_t default_port, struct address *ret_address);
/* The inverse; returns buffer. */
char *address_format(const struct address *address, char buffer[LIMIT_ADDRESS_BYTES + 16]);
/* True for a socket path, 127.0.0.0/8, ::1 and "localhost". */
bool address_is_local(const struct address *address);
/* True for 0.0.0.0 and ::, which are every address of a host and nobody's in particular. */
bool address_is_any(const struct address *address);
/* True for a numeric IPv4 or IPv6 address, or a socket path. */
bool address_is_numeric(const struct address *address);
