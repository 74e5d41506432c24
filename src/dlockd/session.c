#include "dlockd/session_internal.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/queue.h>
#include <sys/resource.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/diag.h"
#include "base/random.h"
#include "dlockd/backup.h"
#include "net/owner.h"

/* Sockets drained per wakeup, and connections accepted. */
#define DRAIN_EVENTS 256
#define ACCEPT_BATCH 64
/* Looks for more per wakeup: the loop's own way back here takes three calls of epoll_wait(2). */
#define DRAIN_ROUNDS 16
/* Bytes read ahead of the requests in them. */
#define UNREAD_MAX 65536
/* No descriptor for another client: until the next attempt, and between two lines about it. */
#define STARVED_MS 1000
#define STARVED_SAY_MS 60000
/* Descriptors that clients never get: links and guests, the database, snapshots on their way. */
#define DESCRIPTORS_KEPT 512
/* Between two looks for readers that stand still. */
#define STALL_LOOK_MS 1000

#define NO_SLOT UINT32_MAX
/* epoll data below this are listening sockets; ids carry a generation from 1 on in the upper half. */
#define FIRST_ID (UINT64_C(1) << 32)

/* --- sessions by id: a slot and a generation, so that a late answer never meets a newcomer --- */

struct session *session_find(const struct session_table *table, uint64_t id)
{
        uint32_t at = (uint32_t)id, generation = (uint32_t)(id >> 32);

        if (at >= table->slot_count || table->slots[at].generation != generation)
                return NULL;
        return table->slots[at].session;
}

static uint64_t take_slot(struct session_table *table, struct session *session)
{
        uint32_t at = table->first_free;

        if (at == NO_SLOT) {
                uint32_t count = table->slot_count ? table->slot_count * 2 : 64;

                table->slots = alloc_resized(table->slots, count, sizeof(table->slots[0]));
                for (uint32_t i = table->slot_count; i < count; i++)
                        table->slots[i] = (struct slot){ .next_free = i + 1 < count ? i + 1 : NO_SLOT };
                at = table->slot_count;
                table->slot_count = count;
        }
        table->first_free = table->slots[at].next_free;
        table->slots[at].session = session;
        table->slots[at].generation++;
        return (uint64_t)table->slots[at].generation << 32 | at;
}

static void free_slot(struct session_table *table, uint64_t id)
{
        uint32_t at = (uint32_t)id;

        table->slots[at].session = NULL;
        table->slots[at].next_free = table->first_free;
        table->first_free = at;
}

/* --- sending --- */

struct bytes *session_out(struct session *session)
{
        if (!session->dirty) {
                session->dirty = true;
                TAILQ_INSERT_TAIL(&session->table->dirty, session, dirty_link);
        }
        return &session->stream.out;
}

void session_refuse(struct session *session, enum wire_refusal_code code, const char *reason)
{
        struct wire_refusal refusal = { .code = code, .cluster = replica_cluster(session->table->daemon->replica) };

        (void)snprintf(refusal.reason, sizeof(refusal.reason), "%s", reason);
        wire_write_refusal(session_out(session), &refusal);
        session->closing = true;
}

/* --- life of a session --- */

static void close_session(struct session *session)
{
        struct session_table *table = session->table;
        struct waiting *waiting;

        ask_gone(session);
        if (session->backup)
                backup_forget(table->daemon, session->id);
        if (session->waiting_count > 0 || session->awaits > 0 || session->assigning)
                replica_forget(table->daemon->replica, session->id);
        while ((waiting = TAILQ_FIRST(&session->waiting)))
                ask_forget(session, waiting);
        if (session->dirty)
                TAILQ_REMOVE(&table->dirty, session, dirty_link);
        if (!session->greeted)
                TAILQ_REMOVE(&table->strange, session, strange_link);
        free_slot(table, session->id);
        stream_done(&session->stream);       /* closing takes it out of the epoll set */
        table->count--;
        free(session->waiters);
        free(session);
}

/* One connection has one page of rows on its way, and little that it does not read; when many wait, each has one request. */
static bool may_take(const struct session *session)
{
        const struct session_table *table = session->table;
        size_t most = table->waiting_count < LIMIT_REQUESTS_WAITING ? LIMIT_SESSION_REQUESTS : 1;

        return !session->closing && !session->assigning && !table->held && session->waiting_count < most &&
               session->waiting_rows < LIMIT_PAGE_ROWS && stream_unsent(&session->stream) <= LIMIT_SESSION_UNSENT_BYTES / 4;
}

/* What the turn will send is not waited for: the socket would be ready all the time. */
static void set_events(struct session *session)
{
        size_t unread;
        bool full = (stream_unread(&session->stream, &unread), unread >= UNREAD_MAX) || session->closing ||
                    session->waiting_count >= LIMIT_SESSION_REQUESTS || stream_unsent(&session->stream) > LIMIT_SESSION_UNSENT_BYTES / 4;
        uint32_t events = (full ? 0 : (uint32_t)EPOLLIN) | (stream_unsent(&session->stream) > 0 && !session->dirty ? (uint32_t)EPOLLOUT : 0);
        struct epoll_event event = { .events = events, .data.u64 = session->id };

        if (events == session->events)
                return;
        session->events = events;
        (void)epoll_ctl(session->table->epoll, EPOLL_CTL_MOD, session->stream.fd, &event);
}

/* On this host the kernel says who is there; over the network nobody can be told apart until TLS names them. */
static void set_principal(struct session *session)
{
        uid_t uid = 65534;                   /* nobody: for one who is gone already */
        char text[32] = "tcp";
        bool valid;

        if (owner_of_peer(session->stream.fd, &uid) != OWNER_REMOTE)
                (void)snprintf(text, sizeof(text), "uid:%u", (unsigned)uid);
        valid = principal_set(&session->principal, text, strlen(text));
        assert(valid);
}

static void add_session(struct session_table *table, int fd)
{
        struct session *session = alloc_zeroed(1, sizeof(*session));
        struct epoll_event event = { .events = EPOLLIN };

        session->table = table;
        stream_init(&session->stream, fd);
        stream_tune(fd, true);
        TAILQ_INIT(&session->waiting);
        session->events = EPOLLIN;
        session->hello_by = table->now + LIMIT_HELLO_MS;
        session->sent_ms = table->now;
        set_principal(session);
        session->id = take_slot(table, session);
        TAILQ_INSERT_TAIL(&table->strange, session, strange_link);
        table->count++;
        event.data.u64 = session->id;
        if (epoll_ctl(table->epoll, EPOLL_CTL_ADD, fd, &event) < 0) {
                close_session(session);
                return;
        }
        if (table->count > table->count_max)
                session_refuse(session, WIRE_REFUSAL_BUSY, "too many connections to this node; try another");
        else if (table->stopped)
                session_refuse(session, WIRE_REFUSAL_STOPPING, "this node is stopping; try another");
}

/* --- the hello --- */

void session_welcome(struct session *session)
{
        struct daemon *daemon = session->table->daemon;
        struct wire_welcome welcome_frame = { .version = WIRE_VERSION_MAX, .cluster = replica_cluster(daemon->replica), .client = session->client };

        (void)snprintf(welcome_frame.node, sizeof(welcome_frame.node), "%s", daemon->config.name);
        wire_write_welcome(session_out(session), &welcome_frame);
        TAILQ_REMOVE(&session->table->strange, session, strange_link);
        session->greeted = true;
}

/* An id nobody has: random, and made known to every node by an entry of its own. */
static void assign_client(struct session *session)
{
        struct lock_request request = { .kind = LOCK_CHANGE_CLIENT, .handle = id128_random(), .seq = 1, .principal = session->principal };
        struct replica_origin origin = { .session = session->id };
        char text[ID128_TEXT_BYTES];
        bool valid;

        valid = client_id_set(&request.client, id128_format(id128_random(), text), ID128_TEXT_BYTES - 1);
        assert(valid);
        session->assigning = true;
        session->hello_by = session->table->now + LIMIT_RESEND_MS;
        replica_request(session->table->daemon->replica, &origin, &request, session->table->now + LIMIT_HELLO_MS);
}

static void on_hello(struct session *session, const struct wire_frame *frame)
{
        struct id128 cluster = replica_cluster(session->table->daemon->replica);
        struct wire_hello hello;

        if (frame->type != WIRE_HELLO || session->assigning || !wire_read_hello(frame, &hello)) {
                session_refuse(session, WIRE_REFUSAL_PROTOCOL, "this is not a hello of the dlock client protocol");
                return;
        }
        if (hello.version_min > WIRE_VERSION_MAX || hello.version_max < WIRE_VERSION_MIN) {
                session_refuse(session, WIRE_REFUSAL_VERSION, "no common version of the client protocol: upgrade the older of the two");
                return;
        }
        if (!id128_is_null(hello.cluster) && !id128_is_null(cluster) && !id128_equal(hello.cluster, cluster)) {
                session_refuse(session, WIRE_REFUSAL_CLUSTER, "this node belongs to another cluster than the one this client knows");
                return;
        }
        session->client = hello.client;
        if (hello.pid != 0 && departed_process_of(session->stream.fd) == (pid_t)hello.pid)
                session->pid = (pid_t)hello.pid;
        if (hello.client.size == 0 && hello.assign)
                assign_client(session);
        else
                session_welcome(session);
}

/* --- the sockets --- */

/* Takes the requests that are whole, as far as they may be. */
static void take_frames(struct session *session)
{
        while (may_take(session)) {
                size_t size;
                const uint8_t *data = stream_unread(&session->stream, &size);
                struct wire_frame frame;

                switch (wire_frame_parse(data, size, LIMIT_CLIENT_REQUEST_BYTES, &frame)) {
                case WIRE_FRAME_INCOMPLETE:
                        return;
                case WIRE_FRAME_TOO_LONG:
                case WIRE_FRAME_MALFORMED:
                        session_refuse(session, WIRE_REFUSAL_PROTOCOL, "a frame is malformed, or longer than a request may be");
                        return;
                case WIRE_FRAME_READY:
                        break;
                }
                stream_take(&session->stream, frame.total);
                if (!session->greeted)
                        on_hello(session, &frame);
                else if (!ask_request(session, &frame))
                        session_refuse(session, WIRE_REFUSAL_PROTOCOL, "a request is malformed");
        }
}

static void on_session(struct session *session, uint32_t events)
{
        int r = -EAGAIN;

        if (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
                r = stream_receive(&session->stream, UNREAD_MAX);
                /* A client that is gone wants nothing any more: what it had not yet been heard to ask is dropped. It is
                 * seen to be gone also when so much of it is unread that no more is read. */
                if (r == 0 || (r < 0 && r != -EAGAIN) || (r < 0 && events & (EPOLLHUP | EPOLLERR))) {
                        close_session(session);
                        return;
                }
        }
        if (r > 0)
                take_frames(session);
        if (events & EPOLLOUT)
                (void)session_out(session);
        set_events(session);
}

static void listen_for(struct session_table *table, uint32_t events)
{
        for (size_t i = 0; i < table->sockets.count; i++) {
                struct epoll_event event = { .events = events, .data.u64 = i };

                (void)epoll_ctl(table->epoll, EPOLL_CTL_MOD, table->sockets.fds[i], &event);
        }
}

/* The socket stays ready: without a pause the loop would ask for ever. */
static void pause_accepting(struct session_table *table, int reason)
{
        listen_for(table, 0);
        table->accept_again = table->now + STARVED_MS;
        if (table->now < table->starved_say)
                return;
        table->starved_say = table->now + STARVED_SAY_MS;
        diag_warning("another client cannot be accepted: %s: raise LimitNOFILE, or the system's limits", strerror(reason));
}

static void on_accept(struct session_table *table, size_t at)
{
        for (int i = 0; i < ACCEPT_BATCH; i++) {
                int fd = listen_accept(table->sockets.fds[at]);

                if (fd == -EMFILE || fd == -ENFILE || fd == -ENOBUFS || fd == -ENOMEM)
                        pause_accepting(table, -fd);
                if (fd < 0)
                        return;
                add_session(table, fd);
        }
}

/* False: nobody had said anything. */
static bool drain(struct session_table *table)
{
        struct epoll_event ready[DRAIN_EVENTS];
        int count = epoll_wait(table->epoll, ready, DRAIN_EVENTS, 0);

        for (int i = 0; i < count; i++) {
                struct session *session;

                if (ready[i].data.u64 < FIRST_ID) {
                        on_accept(table, (size_t)ready[i].data.u64);
                        continue;
                }
                session = session_find(table, ready[i].data.u64);
                if (session)
                        on_session(session, ready[i].events);
        }
        return count > 0;
}

static void on_clients(void *context, uint32_t events)
{
        struct session_table *table = context;

        (void)events;
        /* The last tick may be long ago, of a node that stood still: what it reads now is not asked then. */
        table->now = clock_monotonic_ms();
        for (unsigned i = 0; i < DRAIN_ROUNDS && drain(table); i++)
                daemon_want_turn(table->daemon);
}

/* --- once per turn, once per tick --- */

/* False: it is at its end. */
static bool send_some(struct session *session)
{
        size_t before = stream_unsent(&session->stream), after;

        if (stream_send(&session->stream) < 0)
                return false;
        after = stream_unsent(&session->stream);
        if (after == 0 || after < before)
                session->sent_ms = session->table->now;
        return after <= LIMIT_SESSION_UNSENT_BYTES && !(session->closing && after == 0);
}

void session_flush(struct session_table *table)
{
        struct session *session;

        ask_write_pages(table);
        if (watch_turn(table->watch))
                daemon_want_turn(table->daemon);
        while ((session = TAILQ_FIRST(&table->dirty))) {
                size_t waited = session->waiting_count + session->awaits;

                TAILQ_REMOVE(&table->dirty, session, dirty_link);
                session->dirty = false;
                if (!send_some(session)) {
                        close_session(session);
                        continue;
                }
                /* Requests that were read ahead, but not taken while too many waited. What is answered at once is sent in this round. */
                take_frames(session);
                if (session->waiting_count + session->awaits > waited || session->assigning)
                        daemon_want_turn(table->daemon);
                set_events(session);
        }
}

/* Who reads nothing of what waits for it holds memory and a descriptor. */
static void close_stalled(struct session_table *table)
{
        if (table->now < table->stall_look)
                return;
        table->stall_look = table->now + STALL_LOOK_MS;
        for (uint32_t i = 0; i < table->slot_count; i++) {
                struct session *session = table->slots[i].session;

                if (session && stream_unsent(&session->stream) > 0 && table->now - session->sent_ms >= LIMIT_STALL_MS)
                        close_session(session);
        }
}

void session_tick(struct session_table *table, uint64_t now)
{
        struct session *session, *next;

        table->now = now;
        close_stalled(table);
        departed_tick(table->departed);
        if (table->accept_again != 0 && now >= table->accept_again) {
                table->accept_again = 0;
                listen_for(table, EPOLLIN);
        }
        for (session = TAILQ_FIRST(&table->strange); session; session = next) {
                next = TAILQ_NEXT(session, strange_link);
                if (now >= session->hello_by)
                        close_session(session);
        }
}

/* Until then the kernel keeps who connects, for whoever listens next. */
static void accept_nobody(struct session_table *table)
{
        for (size_t i = 0; i < table->sockets.count; i++)
                (void)epoll_ctl(table->epoll, EPOLL_CTL_DEL, table->sockets.fds[i], NULL);
}

void session_stop(struct session_table *table)
{
        if (!table->stopped)
                accept_nobody(table);
        table->stopped = true;
        for (uint32_t i = 0; i < table->slot_count; i++)
                if (table->slots[i].session)
                        session_refuse(table->slots[i].session, WIRE_REFUSAL_STOPPING, "this node is stopping; try another");
        session_flush(table);
}

void session_hold(struct session_table *table, bool hold)
{
        table->held = hold;
        for (uint32_t i = 0; !hold && i < table->slot_count; i++)
                if (table->slots[i].session)
                        (void)session_out(table->slots[i].session);
}

size_t session_count(const struct session_table *table)
{
        return table->count;
}

/* --- life of the table --- */

/* As many as the limit, or as the descriptors allow: who comes then is told so. */
static size_t sessions_max(void)
{
        struct rlimit files = { .rlim_cur = 1024 };
        size_t count;

        (void)getrlimit(RLIMIT_NOFILE, &files);
        count = (size_t)MIN(files.rlim_cur, (rlim_t)LIMIT_SESSIONS + DESCRIPTORS_KEPT);
        return count > 2 * DESCRIPTORS_KEPT ? count - DESCRIPTORS_KEPT : count / 2;
}

int session_table_new(struct daemon *daemon, struct listen_sockets *sockets, struct session_table **ret_table)
{
        struct session_table *table = alloc_zeroed(1, sizeof(*table));
        int r = 0;

        TAILQ_INIT(&table->dirty);
        TAILQ_INIT(&table->strange);
        TAILQ_INIT(&table->pages);
        table->count_max = sessions_max();
        table->daemon = daemon;
        table->watch = watch_table_new(daemon, &ask_watch_owner);
        table->departed = departed_table_new(daemon);
        table->first_free = NO_SLOT;
        table->sockets = *sockets;
        *sockets = (struct listen_sockets){ 0 };
        table->now = daemon->now;
        table->epoll = epoll_create1(EPOLL_CLOEXEC);
        if (table->epoll < 0)
                r = -errno;
        for (size_t i = 0; r >= 0 && i < table->sockets.count; i++) {
                struct epoll_event event = { .events = EPOLLIN, .data.u64 = i };

                if (epoll_ctl(table->epoll, EPOLL_CTL_ADD, table->sockets.fds[i], &event) < 0)
                        r = -errno;
        }
        if (r >= 0)
                r = loop_add_io(daemon->loop, table->epoll, EPOLLIN, on_clients, table, &table->source);
        if (r < 0)
                table = session_table_free(table);
        *ret_table = table;
        return r;
}

struct session_table *session_table_free(struct session_table *table)
{
        if (!table)
                return NULL;
        for (uint32_t i = 0; i < table->slot_count; i++)
                if (table->slots[i].session)
                        close_session(table->slots[i].session);
        table->watch = watch_table_free(table->watch);
        table->departed = departed_table_free(table->departed);
        loop_source_free(table->source);
        listen_close(&table->sockets);
        if (table->epoll >= 0)
                (void)close(table->epoll);
        free(table->slots);
        free(table);
        return NULL;
}
