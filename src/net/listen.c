#include "net/listen.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "base/cleanup.h"

#define BACKLOG 4096

int listen_adopt(const char *name, struct listen_sockets *sockets)
{
        char **names = NULL;
        int count = sd_listen_fds_with_names(0, &names), r = 0;

        for (int i = 0; i < count; i++) {
                int fd = SD_LISTEN_FDS_START + i;

                if (strcmp(names[i], name) == 0) {
                        if (sockets->count == LISTEN_FDS_MAX)
                                r = -E2BIG;
                        else if (sd_is_socket(fd, AF_UNSPEC, SOCK_STREAM, 1) <= 0)
                                r = -ENOTSOCK;
                        else if (fcntl(fd, F_SETFL, O_NONBLOCK) < 0)
                                r = -errno;
                        else
                                sockets->fds[sockets->count++] = fd;
                }
                free(names[i]);
        }
        free(names);
        return count < 0 ? count : r;
}

/* A path whose socket nobody answers belongs to a process that is gone. */
static bool is_stale(const struct sockaddr_un *path)
{
        _cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

        return fd >= 0 && connect(fd, (const struct sockaddr *)path, sizeof(*path)) < 0 && errno == ECONNREFUSED;
}

static int bind_unix(const struct address *address, int *ret_fd)
{
        struct sockaddr_un path = { .sun_family = AF_UNIX };
        _cleanup_close_ int fd = -1;

        (void)snprintf(path.sun_path, sizeof(path.sun_path), "%.*s", (int)sizeof(path.sun_path) - 1, address->host);
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (fd < 0)
                return -errno;
        if (bind(fd, (const struct sockaddr *)&path, sizeof(path)) < 0) {
                if (errno != EADDRINUSE || !is_stale(&path))
                        return -errno;
                if (unlink(path.sun_path) < 0 || bind(fd, (const struct sockaddr *)&path, sizeof(path)) < 0)
                        return -errno;
        }
        /* Everybody on the host may ask; who they are is known by SO_PEERCRED. */
        if (chmod(path.sun_path, 0666) < 0 || listen(fd, BACKLOG) < 0)
                return -errno;
        *ret_fd = TAKE_FD(fd);
        return 0;
}

static int resolve_numeric(const struct address *address, struct sockaddr_storage *ret_storage, socklen_t *ret_size)
{
        struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE }, *list;
        char port[8];

        (void)snprintf(port, sizeof(port), "%u", (unsigned)address->port);
        if (getaddrinfo(address->host, port, &hints, &list) != 0)
                return -EINVAL;
        *ret_storage = (struct sockaddr_storage){ 0 };
        memcpy(ret_storage, list->ai_addr, list->ai_addrlen);
        *ret_size = list->ai_addrlen;
        freeaddrinfo(list);
        return 0;
}

static int bind_tcp(const struct address *address, int *ret_fd)
{
        struct sockaddr_storage storage;
        socklen_t size;
        _cleanup_close_ int fd = -1;
        int on = 1, r = resolve_numeric(address, &storage, &size);

        if (r < 0)
                return r;
        fd = socket(storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (fd < 0)
                return -errno;
        if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0)
                return -errno;
        if (storage.ss_family == AF_INET6 && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)) < 0)
                return -errno;
        if (bind(fd, (const struct sockaddr *)&storage, size) < 0 || listen(fd, BACKLOG) < 0)
                return -errno;
        *ret_fd = TAKE_FD(fd);
        return 0;
}

int listen_bind(const struct address *address, struct listen_sockets *sockets)
{
        int fd = -1, r;

        if (sockets->count == LISTEN_FDS_MAX)
                return -E2BIG;
        r = address->kind == ADDRESS_UNIX ? bind_unix(address, &fd) : bind_tcp(address, &fd);
        if (r < 0)
                return r;
        sockets->own[sockets->count] = true;
        sockets->fds[sockets->count++] = fd;
        return 0;
}

static bool is_bound_to(int fd, const struct address *address)
{
        struct sockaddr_storage bound = { 0 }, wanted = { 0 };
        socklen_t size = sizeof(bound), wanted_size;

        if (getsockname(fd, (struct sockaddr *)&bound, &size) < 0)
                return false;
        if (address->kind == ADDRESS_UNIX)
                return bound.ss_family == AF_UNIX && strcmp(((const struct sockaddr_un *)&bound)->sun_path, address->host) == 0;
        if (resolve_numeric(address, &wanted, &wanted_size) < 0 || bound.ss_family != wanted.ss_family)
                return false;
        if (bound.ss_family == AF_INET) {
                const struct sockaddr_in *a = (const struct sockaddr_in *)&bound, *b = (const struct sockaddr_in *)&wanted;

                return a->sin_port == b->sin_port && a->sin_addr.s_addr == b->sin_addr.s_addr;
        }
        return ((const struct sockaddr_in6 *)&bound)->sin6_port == ((const struct sockaddr_in6 *)&wanted)->sin6_port &&
               IN6_ARE_ADDR_EQUAL(&((const struct sockaddr_in6 *)&bound)->sin6_addr, &((const struct sockaddr_in6 *)&wanted)->sin6_addr);
}

bool listen_has(const struct listen_sockets *sockets, const struct address *address)
{
        for (size_t i = 0; i < sockets->count; i++)
                if (is_bound_to(sockets->fds[i], address))
                        return true;
        return false;
}

int listen_accept(int fd)
{
        int client = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

        return client < 0 ? -errno : client;
}

static void remove_path(int fd)
{
        struct sockaddr_un bound = { 0 };
        socklen_t size = sizeof(bound);

        if (getsockname(fd, (struct sockaddr *)&bound, &size) == 0 && bound.sun_family == AF_UNIX && bound.sun_path[0])
                (void)unlink(bound.sun_path);
}

void listen_close(struct listen_sockets *sockets)
{
        for (size_t i = 0; i < sockets->count; i++) {
                if (sockets->own[i])
                        remove_path(sockets->fds[i]);
                (void)close(sockets->fds[i]);
        }
        sockets->count = 0;
}
