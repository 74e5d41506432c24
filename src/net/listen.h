/* listen.h - listening sockets: from systemd by name, or bound here (DESIGN D12). */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/parse.h"

#define LISTEN_FDS_MAX 32

struct listen_sockets {
        size_t count;
        int fds[LISTEN_FDS_MAX];
        bool own[LISTEN_FDS_MAX];            /* bound here: a socket path is removed with it */
};

/* The descriptors that systemd passed under this FileDescriptorName=, made non-blocking. Ownership goes to
 * the caller. Leaves the environment as it is, so it may be called for several names. 0 or -errno. */
int listen_adopt(const char *name, struct listen_sockets *sockets);

/* Binds and listens. A socket path left behind by a dead process is taken over; a live one is -EADDRINUSE. 0 or -errno. */
int listen_bind(const struct address *address, struct listen_sockets *sockets);

/* True when one of the sockets is bound to address. */
bool listen_has(const struct listen_sockets *sockets, const struct address *address);

/* The next connection, non-blocking and close-on-exec, or -errno (-EAGAIN: none now). */
int listen_accept(int fd);

/* Closes, and removes the socket paths that were bound here. */
void listen_close(struct listen_sockets *sockets);
