/* link.c - the connection to whichever server answers. */
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/random.h"
#include "libdlock/internal.h"

#define RECEIVE_BYTES 16384
/* Reads of one turn: a server that talks without end does not keep the caller. */
#define RECEIVE_ROUNDS 256
/* A buffer that grew beyond this is given back when it is empty. */
#define KEEP_BYTES 262144
/* A connection on which something came so lately is taken for alive. */
#define FRESH_MS 100
/* How long one of several servers may take to connect and say hello in the first round; it doubles from round to round. */
#define ATTEMPT_MS 1000
#define ATTEMPT_DOUBLINGS 3
/* The pause after a round of all servers; it doubles up to a second. */
#define PAUSE_MS 25
#define PAUSE_DOUBLINGS 6
#define PAUSE_MS_MAX 1000

/* --- failing --- */

void link_close(struct dlock *dlock)
{
        struct link *link = &dlock->link;

        if (link->fd >= 0) {
                /* A child of fork(2) shares the descriptors, not the conversation: its parent goes on listening. */
                if (!is_forked(dlock))
                        (void)epoll_ctl(dlock->epoll, EPOLL_CTL_DEL, link->fd, NULL);
                (void)close(link->fd);
        }
        if (link->found)
                freeaddrinfo(link->found);
        bytes_done(&link->in);
        bytes_done(&link->out);
        *link = (struct link){ .fd = -1 };
}

static void note_failure(struct dlock *dlock, const char *text)
{
        size_t used;

        if (dlock->round_over)
                dlock->why[0] = 0;
        dlock->round_over = false;
        used = strlen(dlock->why);
        (void)snprintf(dlock->why + used, sizeof(dlock->why) - used, "%s%s%s%s", used ? "; " : "", dlock->link.server, *dlock->link.server ? ": " : "", text);
}

static void end_round(struct dlock *dlock, uint64_t now)
{
        unsigned rounds = dlock->failures / (unsigned)MAX(dlock->servers.found_count, (size_t)1);
        uint64_t pause = rounds < PAUSE_DOUBLINGS ? (uint64_t)PAUSE_MS << rounds : PAUSE_MS_MAX;

        pause = MIN(pause, (uint64_t)dlock->hold_tenth);
        if (!dlock->alive && now - dlock->down_since >= DOWN_MS)
                request_give_up(dlock);
        dlock->retry_at = now + pause + random_u64() % (pause / 4);
        dlock->alive = false;
        dlock->round_over = true;
}

void link_fail(struct dlock *dlock, bool hard, const char *format, ...)
{
        uint64_t now = clock_boottime_ms();
        char text[ERROR_BYTES];
        va_list values;

        va_start(values, format);
        (void)vsnprintf(text, sizeof(text), format, values);
        va_end(values);
        note_failure(dlock, text);
        request_requeue_sent(dlock);
        link_close(dlock);
        if (dlock->down_since == 0)
                dlock->down_since = now;
        if (!hard)
                dlock->alive = true;
        dlock->next_server++;
        dlock->failures++;
        if (dlock->failures % MAX(dlock->servers.found_count, (size_t)1) == 0)
                end_round(dlock, now);
}

void link_fail_silent(struct dlock *dlock, const char *text)
{
        if (dlock->renewing > 0)
                dlock->shunned = dlock->link.address;
        link_fail(dlock, false, "%s", text);
}

/* The conversation is over. While nobody waits for anything that is no failure. */
static void lose(struct dlock *dlock, const char *text)
{
        if (dlock->pending > 0)
                link_fail(dlock, false, "%s", text);
        else
                link_close(dlock);
}

/* --- connecting --- */

static void set_events(struct dlock *dlock)
{
        struct link *link = &dlock->link;
        uint32_t events = link->state == LINK_CONNECTING ? (uint32_t)EPOLLOUT
                                                         : (uint32_t)EPOLLIN | (link->out.size > link->out_sent ? (uint32_t)EPOLLOUT : 0);
        struct epoll_event event = { .events = events };

        if (events == link->events)
                return;
        if (epoll_ctl(dlock->epoll, link->events ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, link->fd, &event) < 0)
                link_fail(dlock, true, "%s", strerror(errno));
        else
                link->events = events;
}

static void say_hello(struct dlock *dlock, uint64_t now)
{
        struct link *link = &dlock->link;
        struct wire_hello hello = { .version_min = WIRE_VERSION_MIN, .version_max = WIRE_VERSION_MAX, .cluster = dlock->cluster };
        const struct request *request;

        if (dlock->client_known)
                hello.client = dlock->client;
        TAILQ_FOREACH(request, &dlock->queued, link)
                link->assign = link->assign || (dlock->client_assign && request_names_client(request));
        link->assign = link->assign || (dlock->client_assign && dlock->renewing > 0);
        hello.assign = link->assign;
        hello.pid = (uint32_t)getpid();
        wire_write_hello(&link->out, &hello);
        link->state = LINK_GREETING;
        link->heard = now;
}

static void tune(int fd)
{
        static const int one = 1, idle_s = 15, interval_s = 5, count = 3;

        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
        (void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
        (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof(idle_s));
        (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval_s, sizeof(interval_s));
        (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof(count));
}

/* 0: connected; 1: it will be told; -errno. */
static int open_socket(struct link *link, const struct sockaddr *address, socklen_t size)
{
        _cleanup_close_ int fd = socket(address->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        int r;

        if (fd < 0)
                return -errno;
        if (address->sa_family != AF_UNIX)
                tune(fd);
        r = connect(fd, address, size) < 0 ? -errno : 0;
        if (r < 0 && r != -EINPROGRESS)
                return r;
        link->fd = TAKE_FD(fd);
        return r == 0 ? 0 : 1;
}

static int open_unix(struct link *link)
{
        struct sockaddr_un address = { .sun_family = AF_UNIX };

        /* That it fits was seen when it was parsed. */
        (void)memcpy(address.sun_path, link->address.host, sizeof(address.sun_path) - 1);
        return open_socket(link, (const struct sockaddr *)&address, sizeof(address));
}

/* From link->trying on, the first address that can be tried at all. */
static int open_tcp(struct link *link)
{
        int r = -EADDRNOTAVAIL;

        for (; link->trying; link->trying = link->trying->ai_next) {
                r = open_socket(link, link->trying->ai_addr, link->trying->ai_addrlen);
                if (r >= 0)
                        return r;
        }
        return r;
}

static void opened(struct dlock *dlock, int r, uint64_t now)
{
        struct link *link = &dlock->link;

        if (r == -EAGAIN) {
                link_fail(dlock, false, "too many connections wait there already");
        } else if (r < 0) {
                link_fail(dlock, true, "%s", strerror(-r));
        } else if (r > 0) {
                link->state = LINK_CONNECTING;
                link->events = 0;
        } else {
                say_hello(dlock, now);
        }
}

static int look_up(struct link *link, const char **ret_problem)
{
        const struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV };
        char port[8];
        int r;

        (void)snprintf(port, sizeof(port), "%u", (unsigned)link->address.port);
        r = getaddrinfo(link->address.host, port, &hints, &link->found);
        *ret_problem = r == EAI_SYSTEM ? strerror(errno) : r ? gai_strerror(r) : NULL;
        link->trying = link->found;
        return r ? -EHOSTUNREACH : 0;
}

/* Whoever holds something has less time than others. */
static uint64_t attempt_ms(const struct dlock *dlock, unsigned round)
{
        return MIN((uint64_t)ATTEMPT_MS, (uint64_t)dlock->hold_tenth) << MIN(round, (unsigned)ATTEMPT_DOUBLINGS);
}

/* Whose turn it is. One that let a renewal wait in vain is passed over once: the others may be there. */
static const struct address *choose(struct dlock *dlock)
{
        const struct servers *servers = &dlock->servers;
        const struct address *next = &servers->found[dlock->next_server % servers->found_count];

        if (*dlock->shunned.host && dlock->shunned.port == next->port && strcmp(dlock->shunned.host, next->host) == 0) {
                dlock->shunned.host[0] = 0;
                next = &servers->found[++dlock->next_server % servers->found_count];
        }
        return next;
}

static void begin(struct dlock *dlock, uint64_t now)
{
        struct link *link = &dlock->link;
        const char *problem = "out of memory";
        unsigned round;

        if (dlock->failures == 0 || dlock->round_over) {
                if (servers_find(&dlock->servers) < 0) {
                        link_fail(dlock, true, "%s", problem);
                        return;
                }
        }
        if (dlock->servers.found_count == 0) {
                link_fail(dlock, true, "none was named, and there is no socket in " SERVERS_DIRECTORY);
                return;
        }
        link->address = *choose(dlock);
        (void)address_format(&link->address, link->server);
        round = dlock->failures / (unsigned)dlock->servers.found_count;
        if (link->address.kind == ADDRESS_UNIX) {
                link->give_up = dlock->servers.found_count > 1 ? now + attempt_ms(dlock, round) : 0;
                opened(dlock, open_unix(link), now);
        } else if (look_up(link, &problem) < 0) {
                link_fail(dlock, true, "%s", problem);
        } else {
                if (dlock->servers.found_count > 1 || link->found->ai_next)
                        link->give_up = now + attempt_ms(dlock, round);
                opened(dlock, open_tcp(link), now);
        }
}

/* This address of the server does not work: the next one of its name, or the next server. */
static void try_next_address(struct dlock *dlock, int error, uint64_t now)
{
        struct link *link = &dlock->link;

        link->trying = link->trying ? link->trying->ai_next : NULL;
        if (!link->trying && error == -ETIMEDOUT) {
                link_fail_silent(dlock, strerror(-error));
                return;
        }
        if (!link->trying) {
                link_fail(dlock, true, "%s", strerror(-error));
                return;
        }
        (void)epoll_ctl(dlock->epoll, EPOLL_CTL_DEL, link->fd, NULL);
        (void)close(link->fd);
        link->fd = -1;
        link->events = 0;
        link->give_up = now + attempt_ms(dlock, 0);
        opened(dlock, open_tcp(link), now);
}

static void advance_connect(struct dlock *dlock, uint64_t now)
{
        struct pollfd ready = { .fd = dlock->link.fd, .events = POLLOUT };
        socklen_t size = sizeof(int);
        int error = 0;

        if (poll(&ready, 1, 0) == 1) {
                if (getsockopt(dlock->link.fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0)
                        error = errno;
                if (error)
                        try_next_address(dlock, -error, now);
                else
                        say_hello(dlock, now);
        } else if (dlock->link.give_up && now >= dlock->link.give_up) {
                try_next_address(dlock, -ETIMEDOUT, now);
        }
}

/* --- receiving --- */

static void on_welcome(struct dlock *dlock, const struct wire_welcome *welcome)
{
        struct link *link = &dlock->link;
        char theirs[ID128_TEXT_BYTES], ours[ID128_TEXT_BYTES];
        bool member = !id128_is_null(welcome->cluster);

        if (member && !identity_is_cluster(dlock, welcome->cluster)) {
                link_fail(dlock, true, "belongs to cluster %s, this client to cluster %s (dlockctl forget-cluster would make it forget that)",
                          id128_format(welcome->cluster, theirs), id128_format(dlock->cluster, ours));
                return;
        }
        if (link->assign && welcome->client.size == 0) {
                link_fail(dlock, true, "assigned no client id");
                return;
        }
        if (link->assign) {
                dlock->client = welcome->client;
                (void)strcpy(dlock->client_text, welcome->client.text);
                dlock->client_known = true;
                dlock->client_assign = false;
        }
        link->stranger = !member && !id128_is_null(dlock->cluster);
        link->state = LINK_READY;
        link->give_up = 0;
}

static void on_refusal(struct dlock *dlock, const struct wire_refusal *refusal)
{
        char theirs[ID128_TEXT_BYTES], ours[ID128_TEXT_BYTES];

        switch (refusal->code) {
        case WIRE_REFUSAL_CLUSTER:
                link_fail(dlock, true, "belongs to cluster %s, this client to cluster %s (dlockctl forget-cluster would make it forget that)",
                          id128_format(refusal->cluster, theirs), id128_format(dlock->cluster, ours));
                return;
        case WIRE_REFUSAL_VERSION:
        case WIRE_REFUSAL_PROTOCOL:
                link_fail(dlock, true, "%s", refusal->reason);
                return;
        case WIRE_REFUSAL_BUSY:
        case WIRE_REFUSAL_STOPPING:
                lose(dlock, refusal->reason);
                return;
        }
}

/* False: not what a node says at this point. */
static bool take_frame(struct dlock *dlock, const struct wire_frame *frame)
{
        struct wire_welcome welcome;
        struct wire_refusal refusal;

        if (frame->type == WIRE_REFUSAL) {
                if (!wire_read_refusal(frame, &refusal))
                        return false;
                on_refusal(dlock, &refusal);
                return true;
        }
        if (dlock->link.state == LINK_GREETING) {
                if (!wire_read_welcome(frame, &welcome))
                        return false;
                on_welcome(dlock, &welcome);
                return true;
        }
        dlock->failures = 0;
        dlock->down_since = dlock->retry_at = 0;
        dlock->round_over = true;
        return answer_take(dlock, frame);
}

static void take_frames(struct dlock *dlock)
{
        static const char strange[] = "says what is not the dlock protocol";
        struct link *link = &dlock->link;
        struct wire_frame frame;

        while (link->state != LINK_NONE) {
                switch (wire_frame_parse(link->in.data + link->in_taken, link->in.size - link->in_taken, LIMIT_CLIENT_REPLY_BYTES, &frame)) {
                case WIRE_FRAME_INCOMPLETE:
                        return;
                case WIRE_FRAME_TOO_LONG:
                case WIRE_FRAME_MALFORMED:
                        link_fail(dlock, true, "%s", strange);
                        return;
                case WIRE_FRAME_READY:
                        break;
                }
                link->in_taken += frame.total;
                if (!take_frame(dlock, &frame))
                        link_fail(dlock, true, "%s", strange);
        }
}

static void compact(struct bytes *bytes, size_t *taken)
{
        if (*taken == bytes->size) {
                if (bytes->capacity > KEEP_BYTES)
                        bytes_done(bytes);
                bytes_clear(bytes);
                *taken = 0;
        } else if (*taken >= RECEIVE_BYTES && *taken >= bytes->size / 2) {
                bytes_drop(bytes, *taken);
                *taken = 0;
        }
}

static void receive(struct dlock *dlock, uint64_t now)
{
        struct link *link = &dlock->link;

        for (int i = 0; i < RECEIVE_ROUNDS; i++) {
                size_t room;
                ssize_t n;

                (void)bytes_reserve(&link->in, RECEIVE_BYTES);
                room = link->in.capacity - link->in.size;
                n = recv(link->fd, link->in.data + link->in.size, room, MSG_DONTWAIT);
                if (n < 0 && (errno == EINTR || errno == EAGAIN))
                        return;
                if (n <= 0) {
                        lose(dlock, n < 0 ? strerror(errno) : "closed the connection");
                        return;
                }
                link->in.size += (size_t)n;
                link->heard = now;
                link->pinged = 0;
                take_frames(dlock);
                if (link->state == LINK_NONE)
                        return;
                compact(&link->in, &link->in_taken);
                if ((size_t)n < room)
                        return;
        }
}

/* --- time --- */

/* A node that has the connection and answers nothing, not even how it is, is left for another one. */
static uint64_t quiet_until(const struct dlock *dlock)
{
        const struct request *oldest = TAILQ_FIRST(&dlock->sent);

        if (!oldest)
                return UINT64_MAX;
        if (dlock->link.pinged)
                return dlock->link.pinged + QUIET_MS;
        return MAX(dlock->link.heard, oldest->last_sent) + (dlock->patient_sent == dlock->sent_count ? QUIET_WATCH_MS : QUIET_MS);
}

static void watch(struct dlock *dlock, uint64_t now)
{
        struct link *link = &dlock->link;

        if (link->state == LINK_GREETING && link->give_up && now >= link->give_up) {
                link_fail_silent(dlock, "takes connections, but does not answer");
                return;
        }
        if (link->state != LINK_READY || now < quiet_until(dlock))
                return;
        if (link->pinged) {
                link_fail_silent(dlock, "does not answer any more");
                return;
        }
        wire_write_request(&link->out, &(struct wire_request){ .type = WIRE_STATUS, .deadline_ms = QUIET_MS });
        link->pinged = now;
}

uint64_t link_wake(const struct dlock *dlock)
{
        if (dlock->fresh)
                return 0;
        switch (dlock->link.state) {
        case LINK_NONE:
                return dlock->retry_at;
        case LINK_CONNECTING:
        case LINK_GREETING:
                return dlock->link.give_up ? dlock->link.give_up : UINT64_MAX;
        case LINK_READY:
                return quiet_until(dlock);
        }
        return 0;
}

/* --- sending --- */

static void send_to_stranger(struct dlock *dlock, uint64_t now)
{
        struct request *request, *next;

        for (request = TAILQ_FIRST(&dlock->queued); request; request = next) {
                next = TAILQ_NEXT(request, link);
                if (request->operation == DLOCK_OP_STATUS && dlock->sent_count < SENT_MAX)
                        request_send(dlock, request, now);
        }
        /* It may be the old node on an emptied disk: what it would say of locks is not what this client's cluster says. */
        if (dlock->sent_count == 0 && dlock->pending > 0)
                link_fail(dlock, false, "is not a member of the cluster, or not yet");
}

static struct request *next_to_send(const struct dlock *dlock)
{
        struct request *renewal = TAILQ_FIRST(&dlock->renewals);

        if (renewal && dlock->sent_count < SENT_MAX + RENEWALS_MORE)
                return renewal;
        return dlock->sent_count < SENT_MAX ? TAILQ_FIRST(&dlock->queued) : NULL;
}

static void send_queued(struct dlock *dlock, uint64_t now)
{
        struct request *request;

        if (dlock->link.stranger) {
                send_to_stranger(dlock, now);
                return;
        }
        while ((request = next_to_send(dlock))) {
                if (request_names_client(request) && !dlock->client_known) {
                        /* This conversation began without a client id and without asking for one. */
                        request_requeue_sent(dlock);
                        link_close(dlock);
                        return;
                }
                request_send(dlock, request, now);
        }
}

static void flush(struct dlock *dlock)
{
        struct link *link = &dlock->link;

        while (link->out_sent < link->out.size) {
                ssize_t n = send(link->fd, link->out.data + link->out_sent, link->out.size - link->out_sent, MSG_DONTWAIT | MSG_NOSIGNAL);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0 && errno == EAGAIN)
                        break;
                if (n < 0) {
                        lose(dlock, strerror(errno));
                        return;
                }
                link->out_sent += (size_t)n;
        }
        compact(&link->out, &link->out_sent);
}

/* --- the turn --- */

/* Nothing is awaited, and a moment ago the node was there: a look at the socket would be for nothing. */
static bool just_heard(const struct dlock *dlock, uint64_t now)
{
        return dlock->fresh && dlock->link.state == LINK_READY && dlock->sent_count == 0 && now - dlock->link.heard < FRESH_MS;
}

void link_receive(struct dlock *dlock, uint64_t now)
{
        if (dlock->link.state == LINK_CONNECTING)
                advance_connect(dlock, now);
        else if (dlock->link.state != LINK_NONE && !just_heard(dlock, now))
                receive(dlock, now);
}

void link_send(struct dlock *dlock, uint64_t now)
{
        dlock->fresh = false;
        watch(dlock, now);
        /* Each lap loses a connection, and a round of lost ones ends with a pause. */
        for (;;) {
                while (dlock->link.state == LINK_NONE && dlock->pending > 0 && now >= dlock->retry_at)
                        begin(dlock, now);
                if (dlock->link.state == LINK_READY)
                        send_queued(dlock, now);
                if (dlock->link.state == LINK_GREETING || dlock->link.state == LINK_READY)
                        flush(dlock);
                if (dlock->link.state != LINK_NONE)
                        set_events(dlock);
                if (dlock->link.state != LINK_NONE || dlock->pending == 0 || now < dlock->retry_at)
                        return;
        }
}
