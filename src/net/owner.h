/* owner.h - which user of this host is at the other end of a connection. */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

enum owner_kind {
        OWNER_LOCAL,                         /* a user of this host: *ret_uid */
        OWNER_GONE,                          /* of this host, but not to be found any more */
        OWNER_REMOTE,                        /* over the network: nobody knows */
};

/* By SO_PEERCRED on a Unix socket; on a TCP connection within this host the kernel is asked whose the other
 * socket is (sock_diag(7)). Blocks for a system call or two. */
enum owner_kind owner_of_peer(int fd, uid_t *ret_uid);
