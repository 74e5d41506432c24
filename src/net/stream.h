/* stream.h - a connection with its unread and unsent bytes. Never blocks. */
#pragma once

#include <stdbool.h>

#include "base/bytes.h"
#include "base/parse.h"

struct stream {
        int fd;                              /* -1: closed */
        struct bytes in;
        size_t in_offset;                    /* bytes of in already taken */
        struct bytes out;
        size_t out_offset;                   /* bytes of out already sent */
};

/* Takes ownership of a non-blocking descriptor. */
void stream_init(struct stream *stream, int fd);
/* Closes; the struct may be initialized again. */
void stream_done(struct stream *stream);

/* Reads what is there, until unread bytes reach limit. 1: something came; 0: end of stream; -EAGAIN: nothing now; -errno. */
int stream_receive(struct stream *stream, size_t limit);
const uint8_t *stream_unread(const struct stream *stream, size_t *ret_size);
/* Takes count unread bytes away; pointers from stream_unread stay valid until stream_receive. */
void stream_take(struct stream *stream, size_t count);

/* Sends what the kernel takes. 0: all or as much as it took (ask stream_unsent); -errno: the connection is dead. */
int stream_send(struct stream *stream);
size_t stream_unsent(const struct stream *stream);

/* Starts to connect; 0 with a descriptor that becomes writable when it is done (ask stream_connect_result), or -errno.
 * Numeric addresses only; a host name blocks in getaddrinfo(3). */
int stream_connect(const struct address *address, int *ret_fd);
int stream_connect_result(int fd);
/* A peer's address as "host:port", numeric; "" when there is none. */
void stream_peer_host(int fd, char *buffer, size_t size);
void stream_local_host(int fd, char *buffer, size_t size);
/* No delay for small frames, and a dead host is noticed within seconds. Harmless on Unix sockets. */
void stream_tune(int fd, bool detect_dead_host);
