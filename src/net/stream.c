#include "net/stream.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cleanup.h"

/* One read(2): a batch of client requests, a piece of an append. */
#define RECEIVE_BYTES 65536
/* Buffers that grew beyond this are given back when they are empty: idle connections cost little. */
#define KEEP_BYTES 16384

void stream_init(struct stream *stream, int fd)
{
        *stream = (struct stream){ .fd = fd };
}

void stream_done(struct stream *stream)
{
        if (stream->fd >= 0)
                (void)close(stream->fd);
        bytes_done(&stream->in);
        bytes_done(&stream->out);
        *stream = (struct stream){ .fd = -1 };
}

static void compact(struct bytes *bytes, size_t *offset)
{
        if (*offset == bytes->size) {
                if (bytes->capacity > KEEP_BYTES)
                        bytes_done(bytes);
                bytes_clear(bytes);
                *offset = 0;
        } else if (*offset > RECEIVE_BYTES && *offset > bytes->size / 2) {
                bytes_drop(bytes, *offset);
                *offset = 0;
        }
}

int stream_receive(struct stream *stream, size_t limit)
{
        /* Of the loop's one thread. On the stack every page of it would be touched at every call, as a protection of that. */
        static uint8_t buffer[RECEIVE_BYTES];
        bool some = false;

        compact(&stream->in, &stream->in_offset);
        while (stream->in.size - stream->in_offset < limit) {
                size_t room = MIN(sizeof(buffer), limit - (stream->in.size - stream->in_offset));
                ssize_t n = recv(stream->fd, buffer, room, MSG_DONTWAIT);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0 && errno == EAGAIN)
                        return some ? 1 : -EAGAIN;
                if (n < 0)
                        return -errno;
                if (n == 0)
                        return some ? 1 : 0;         /* the end is seen again by the next call */
                bytes_put(&stream->in, buffer, (size_t)n);
                some = true;
                if ((size_t)n < room)
                        return 1;
        }
        return some ? 1 : -EAGAIN;
}

const uint8_t *stream_unread(const struct stream *stream, size_t *ret_size)
{
        *ret_size = stream->in.size - stream->in_offset;
        return stream->in.data ? stream->in.data + stream->in_offset : (const uint8_t *)"";
}

void stream_take(struct stream *stream, size_t count)
{
        stream->in_offset += count;
}

int stream_send(struct stream *stream)
{
        while (stream->out_offset < stream->out.size) {
                ssize_t n = send(stream->fd, stream->out.data + stream->out_offset, stream->out.size - stream->out_offset,
                                 MSG_DONTWAIT | MSG_NOSIGNAL);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0 && errno == EAGAIN)
                        break;
                if (n < 0)
                        return -errno;
                stream->out_offset += (size_t)n;
        }
        compact(&stream->out, &stream->out_offset);
        return 0;
}

size_t stream_unsent(const struct stream *stream)
{
        return stream->out.size - stream->out_offset;
}

static int connect_to(int family, const struct sockaddr *socket_address, socklen_t size, int *ret_fd)
{
        _cleanup_close_ int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

        if (fd < 0)
                return -errno;
        if (connect(fd, socket_address, size) < 0 && errno != EINPROGRESS)
                return -errno;
        *ret_fd = TAKE_FD(fd);
        return 0;
}

int stream_connect(const struct address *address, int *ret_fd)
{
        struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV }, *list;
        struct sockaddr_un local = { .sun_family = AF_UNIX };
        char port[8];
        int r;

        if (address->kind == ADDRESS_UNIX) {
                (void)snprintf(local.sun_path, sizeof(local.sun_path), "%.*s", (int)sizeof(local.sun_path) - 1, address->host);
                return connect_to(AF_UNIX, (const struct sockaddr *)&local, sizeof(local), ret_fd);
        }
        (void)snprintf(port, sizeof(port), "%u", (unsigned)address->port);
        r = getaddrinfo(address->host, port, &hints, &list);
        if (r != 0)
                return r == EAI_SYSTEM ? -errno : -EHOSTUNREACH;
        r = connect_to(list->ai_family, list->ai_addr, list->ai_addrlen, ret_fd);
        freeaddrinfo(list);
        return r;
}

int stream_connect_result(int fd)
{
        int error = 0;
        socklen_t size = sizeof(error);

        if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0)
                return -errno;
        return -error;
}

static void name_host(const struct sockaddr_storage *storage, char *buffer, size_t size)
{
        buffer[0] = 0;
        if (storage->ss_family == AF_INET)
                (void)inet_ntop(AF_INET, &((const struct sockaddr_in *)storage)->sin_addr, buffer, (socklen_t)size);
        else if (storage->ss_family == AF_INET6)
                (void)inet_ntop(AF_INET6, &((const struct sockaddr_in6 *)storage)->sin6_addr, buffer, (socklen_t)size);
}

void stream_peer_host(int fd, char *buffer, size_t size)
{
        struct sockaddr_storage storage = { 0 };
        socklen_t length = sizeof(storage);

        (void)getpeername(fd, (struct sockaddr *)&storage, &length);
        name_host(&storage, buffer, size);
}

void stream_local_host(int fd, char *buffer, size_t size)
{
        struct sockaddr_storage storage = { 0 };
        socklen_t length = sizeof(storage);

        (void)getsockname(fd, (struct sockaddr *)&storage, &length);
        name_host(&storage, buffer, size);
}

void stream_tune(int fd, bool detect_dead_host)
{
        static const struct {
                int level, name, value;
        } alive[] = {
                { SOL_SOCKET, SO_KEEPALIVE, 1 },
                { IPPROTO_TCP, TCP_KEEPIDLE, 2 },
                { IPPROTO_TCP, TCP_KEEPINTVL, 1 },
                { IPPROTO_TCP, TCP_KEEPCNT, 3 },
                { IPPROTO_TCP, TCP_USER_TIMEOUT, 5000 },
        };
        int on = 1;

        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
        for (size_t i = 0; detect_dead_host && i < ARRAY_SIZE(alive); i++)
                (void)setsockopt(fd, alive[i].level, alive[i].name, &alive[i].value, sizeof(alive[i].value));
}
