#include "net/owner.h"

#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"

/* One end of a TCP connection, whatever its family. IPv4 takes the first of the four words. */
struct end {
        __be16 port;
        __be32 address[4];
};

static bool end_of(const struct sockaddr_storage *storage, struct end *end)
{
        const struct sockaddr_in *four = (const struct sockaddr_in *)storage;
        const struct sockaddr_in6 *six = (const struct sockaddr_in6 *)storage;

        *end = (struct end){ 0 };
        if (storage->ss_family == AF_INET) {
                end->port = four->sin_port;
                end->address[0] = four->sin_addr.s_addr;
        } else if (storage->ss_family == AF_INET6) {
                end->port = six->sin6_port;
                memcpy(end->address, &six->sin6_addr, sizeof(end->address));
        }
        return storage->ss_family == AF_INET || storage->ss_family == AF_INET6;
}

static bool is_loopback(const struct sockaddr_storage *storage)
{
        if (storage->ss_family == AF_INET)
                return ntohl(((const struct sockaddr_in *)storage)->sin_addr.s_addr) >> 24 == 127;
        return IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)storage)->sin6_addr);
}

/* Asks for the one socket that is bound to peer and connected to local. */
static bool ask_kernel(int family, const struct end *peer, const struct end *local, uid_t *ret_uid)
{
        struct {
                struct nlmsghdr header;
                struct inet_diag_req_v2 request;
        } question = {
                .header = { .nlmsg_len = sizeof(question), .nlmsg_type = SOCK_DIAG_BY_FAMILY, .nlmsg_flags = NLM_F_REQUEST },
                .request = { .sdiag_family = (uint8_t)family, .sdiag_protocol = IPPROTO_TCP, .idiag_states = UINT32_MAX,
                             .id = { .idiag_sport = peer->port, .idiag_dport = local->port,
                                     .idiag_cookie = { INET_DIAG_NOCOOKIE, INET_DIAG_NOCOOKIE } } },
        };
        union {
                struct nlmsghdr header;
                char bytes[4096];
        } answer;
        const struct inet_diag_msg *found = NLMSG_DATA(&answer.header);
        _cleanup_close_ int fd = socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_SOCK_DIAG);
        ssize_t size;

        memcpy(question.request.id.idiag_src, peer->address, sizeof(peer->address));
        memcpy(question.request.id.idiag_dst, local->address, sizeof(local->address));
        if (fd < 0 || send(fd, &question, sizeof(question), 0) < 0)
                return false;
        size = recv(fd, &answer, sizeof(answer), 0);     /* answered within send */
        if (size < (ssize_t)NLMSG_LENGTH(sizeof(*found)) || answer.header.nlmsg_type != SOCK_DIAG_BY_FAMILY)
                return false;
        *ret_uid = found->idiag_uid;
        /* A connection that was closed has no owner any more, and the kernel says 0. */
        return found->idiag_inode != 0;
}

enum owner_kind owner_of_peer(int fd, uid_t *ret_uid)
{
        struct sockaddr_storage local = { 0 }, peer = { 0 };
        socklen_t local_size = sizeof(local), peer_size = sizeof(peer);
        struct ucred credentials;
        socklen_t credentials_size = sizeof(credentials);
        struct end local_end, peer_end;

        if (getsockname(fd, (struct sockaddr *)&local, &local_size) < 0)
                return OWNER_GONE;
        if (local.ss_family == AF_UNIX) {
                if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &credentials_size) < 0)
                        return OWNER_GONE;
                *ret_uid = credentials.uid;
                return OWNER_LOCAL;
        }
        if (getpeername(fd, (struct sockaddr *)&peer, &peer_size) < 0 || !end_of(&local, &local_end) || !end_of(&peer, &peer_end))
                return OWNER_GONE;
        if (!is_loopback(&peer) && memcmp(local_end.address, peer_end.address, sizeof(local_end.address)) != 0)
                return OWNER_REMOTE;
        return ask_kernel(local.ss_family, &peer_end, &local_end, ret_uid) ? OWNER_LOCAL : OWNER_GONE;
}
