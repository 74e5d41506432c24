#include "dlockd/session.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/queue.h>
#include <sys/resource.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/diag.h"
#include "base/random.h"
#include "dlockd/backup.h"
#include "dlockd/page.h"
#include "net/owner.h"
#include "net/stream.h"
#include "replica/entry.h"
#include "wire/wire.h"

/* Sockets drained per wakeup, and connections accepted. */
#define DRAIN_EVENTS 256
#define ACCEPT_BATCH 64
/* Bytes read ahead of the requests in them. */
#define UNREAD_MAX 65536
#define DEADLINE_DEFAULT_MS 10000
/* No descriptor for another client: until the next attempt, and between two lines about it. */
#define STARVED_MS 1000
#define STARVED_SAY_MS 60000
/* Descriptors that clients never get: links and guests, the database, snapshots on their way. */
#define DESCRIPTORS_KEPT 512
/* Between two looks for readers that stand still. */
#define STALL_LOOK_MS 1000

/* A request that waits for its answer. Its address is the tag the replica gives back. */
struct waiting {
        TAILQ_ENTRY(waiting) link, page_link;
        struct session *session;
        uint64_t tag;                        /* the client's */
        enum wire_type type;
        struct wire_request *request;        /* reads: what was asked; NULL for changes */
        bool due, fresh;                     /* a list in table->pages */
};

struct session {
        struct session_table *table;
        struct stream stream;
        uint64_t id;
        uint32_t events;                     /* as epoll knows them */
        bool greeted, assigning, dirty, closing;
        bool backup;                         /* it has asked for one */
        uint64_t hello_by;
        struct client_id client;
        struct principal principal;
        TAILQ_HEAD(, waiting) waiting;
        size_t waiting_count;
        size_t waiting_rows;                 /* the most that the pages asked for may have */
        uint64_t sent_ms;                    /* when something was sent last, or all was */
        TAILQ_ENTRY(session) dirty_link, strange_link;
};

struct slot {
        struct session *session;
        uint32_t generation;
        uint32_t next_free;
};

struct session_table {
        struct daemon *daemon;
        int epoll;
        struct loop_source *source;
        struct listen_sockets sockets;
        struct slot *slots;
        uint32_t slot_count, first_free;
        size_t count, count_max;
        size_t waiting_count;                /* of all sessions */
        TAILQ_HEAD(, waiting) pages;         /* due, in the order of their turn */
        TAILQ_HEAD(, session) dirty, strange;
        uint64_t now, stall_look;
        uint64_t accept_again, starved_say;  /* 0: listening */
        bool held;                           /* no request is taken now */
        bool stopped;
};

#define NO_SLOT UINT32_MAX
/* epoll data below this are listening sockets; ids carry a generation from 1 on in the upper half. */
#define FIRST_ID (UINT64_C(1) << 32)

/* --- sessions by id: a slot and a generation, so that a late answer never meets a newcomer --- */

static struct session *find_session(const struct session_table *table, uint64_t id)
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

static struct bytes *out_of(struct session *session)
{
        if (!session->dirty) {
                session->dirty = true;
                TAILQ_INSERT_TAIL(&session->table->dirty, session, dirty_link);
        }
        return &session->stream.out;
}

static void refuse(struct session *session, enum wire_refusal_code code, const char *reason)
{
        struct wire_refusal refusal = { .code = code, .cluster = replica_cluster(session->table->daemon->replica) };

        (void)snprintf(refusal.reason, sizeof(refusal.reason), "%s", reason);
        wire_write_refusal(out_of(session), &refusal);
        session->closing = true;
}

static void reply_outcome(struct session *session, uint64_t tag, enum wire_outcome outcome, const char *reason)
{
        struct wire_result result = { .tag = tag, .outcome = outcome, .leader_age_ms = -1 };

        (void)snprintf(result.reason, sizeof(result.reason), "%s", reason);
        wire_write_result(out_of(session), &result);
}

/* --- life of a session --- */

/* The rows of the page that is asked for; 0: not a page. */
static size_t rows_of(const struct wire_request *request)
{
        return request && (request->type == WIRE_LIST || request->type == WIRE_HISTORY) ? request->limit : 0;
}

static void forget_waiting(struct session *session, struct waiting *waiting)
{
        if (waiting->due)
                TAILQ_REMOVE(&session->table->pages, waiting, page_link);
        TAILQ_REMOVE(&session->waiting, waiting, link);
        session->table->waiting_count--;
        session->waiting_count--;
        session->waiting_rows -= rows_of(waiting->request);
        free(waiting->request);
        free(waiting);
}

static void close_session(struct session *session)
{
        struct session_table *table = session->table;
        struct waiting *waiting;

        if (session->backup)
                backup_forget(table->daemon, session->id);
        if (session->waiting_count > 0 || session->assigning)
                replica_forget(table->daemon->replica, session->id);
        while ((waiting = TAILQ_FIRST(&session->waiting)))
                forget_waiting(session, waiting);
        if (session->dirty)
                TAILQ_REMOVE(&table->dirty, session, dirty_link);
        if (!session->greeted)
                TAILQ_REMOVE(&table->strange, session, strange_link);
        free_slot(table, session->id);
        stream_done(&session->stream);       /* closing takes it out of the epoll set */
        table->count--;
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

static void set_events(struct session *session)
{
        size_t unread;
        bool full = (stream_unread(&session->stream, &unread), unread >= UNREAD_MAX) || session->closing ||
                    session->waiting_count >= LIMIT_SESSION_REQUESTS || stream_unsent(&session->stream) > LIMIT_SESSION_UNSENT_BYTES / 4;
        uint32_t events = (full ? 0 : (uint32_t)EPOLLIN) | (stream_unsent(&session->stream) > 0 ? (uint32_t)EPOLLOUT : 0);
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
                refuse(session, WIRE_REFUSAL_BUSY, "too many connections to this node; try another");
        else if (table->stopped)
                refuse(session, WIRE_REFUSAL_STOPPING, "this node is stopping; try another");
}

/* --- requests --- */

static struct waiting *add_waiting(struct session *session, const struct wire_request *request, bool keep)
{
        struct waiting *waiting = alloc_zeroed(1, sizeof(*waiting));

        waiting->session = session;
        waiting->tag = request->tag;
        waiting->type = request->type;
        if (keep) {
                waiting->request = alloc_zeroed(1, sizeof(*request));
                *waiting->request = *request;
        }
        TAILQ_INSERT_TAIL(&session->waiting, waiting, link);
        session->table->waiting_count++;
        session->waiting_count++;
        session->waiting_rows += rows_of(waiting->request);
        return waiting;
}

static struct replica_origin origin_of(const struct session *session, const struct waiting *waiting)
{
        return (struct replica_origin){ .session = session->id, .tag = (uint64_t)(uintptr_t)waiting };
}

static uint64_t deadline_of(const struct session *session, uint32_t deadline_ms)
{
        return session->table->now + MIN(deadline_ms ? deadline_ms : (uint32_t)DEADLINE_DEFAULT_MS, (uint32_t)LIMIT_DEADLINE_MS);
}

static enum lock_change_kind kind_of(enum wire_type type)
{
        switch ((int)type) {
        case WIRE_PREEMPT:
                return LOCK_CHANGE_PREEMPT;
        case WIRE_RELEASE:
                return LOCK_CHANGE_RELEASE;
        case WIRE_CANCEL:
                return LOCK_CHANGE_CANCEL;
        case WIRE_OPEN:
                return LOCK_CHANGE_OPEN;
        case WIRE_CLOSE:
                return LOCK_CHANGE_CLOSE;
        case WIRE_RENEW:
                return LOCK_RENEW;
        }
        abort();
}

static void ask_change(struct session *session, const struct wire_request *request)
{
        struct lock_request change = {
                .kind = kind_of(request->type),
                .handle = request->handle,
                .seq = request->seq,
                .client = request->client.size ? request->client : session->client,
                .principal = session->principal,
                .name = request->name,
                .token = request->token,
                .session = request->session,
                .ttl_ms = request->ttl_ms,
                .period_ms = request->period_ms,
                .holder = request->holder,
        };
        struct replica_origin origin;

        if (change.client.size == 0) {
                reply_outcome(session, request->tag, WIRE_REJECTED, "no client id: send one in the hello, or ask for one there");
                return;
        }
        if (request->type != WIRE_RENEW && (change.seq == 0 || id128_is_null(change.handle))) {
                reply_outcome(session, request->tag, WIRE_REJECTED, "no request id: a handle and a sequence number from 1 on are needed");
                return;
        }
        if (request->type == WIRE_RELEASE && change.token == 0) {
                reply_outcome(session, request->tag, WIRE_REJECTED, "no token: that of the hold to give up is needed, as its grant or a check told it");
                return;
        }
        origin = origin_of(session, add_waiting(session, request, false));
        replica_request(session->table->daemon->replica, &origin, &change, deadline_of(session, request->deadline_ms));
}

static void ask_read(struct session *session, const struct wire_request *request)
{
        struct replica_origin origin = origin_of(session, add_waiting(session, request, true));

        replica_read(session->table->daemon->replica, &origin, request->min_index, request->consistent, deadline_of(session, request->deadline_ms));
}

/* Root, and who runs the node: until TLS names them, nobody from elsewhere. */
static bool may_administer(const struct session *session)
{
        char own[32];

        (void)snprintf(own, sizeof(own), "uid:%u", (unsigned)geteuid());
        return strcmp(session->principal.text, "uid:0") == 0 || strcmp(session->principal.text, own) == 0;
}

static void ask_admin(struct session *session, const struct wire_request *request)
{
        struct admin_request admin = { .kind = request->type == WIRE_TRANSFER ? ADMIN_TRANSFER : ADMIN_REMOVE };
        struct replica_origin origin;

        if (!may_administer(session)) {
                reply_outcome(session, request->tag, WIRE_REJECTED, "only root, or the user who runs the node, may do this, and on a node's own host");
                return;
        }
        memcpy(admin.name, request->node, sizeof(admin.name));
        origin = origin_of(session, add_waiting(session, request, true));
        replica_admin(session->table->daemon->replica, &origin, &admin, deadline_of(session, request->deadline_ms));
}

static void ask_history(struct session *session, const struct wire_request *request)
{
        const struct waiting *waiting = add_waiting(session, request, true);
        const struct read_request read = { .kind = READ_HISTORY, .session = session->id, .tag = (uint64_t)(uintptr_t)waiting };

        store_read_history(session->table->daemon->store, daemon_read_cookie(session->table->daemon, &read), request->name.size ? request->name.text : NULL,
                           request->after_index, request->limit);
}

static void reject_backup(struct session *session, uint64_t tag, enum wire_outcome outcome, const char *reason)
{
        struct wire_piece piece = { .tag = tag, .outcome = outcome, .leader_age_ms = -1 };

        (void)snprintf(piece.reason, sizeof(piece.reason), "%s", reason);
        wire_write_piece(out_of(session), &piece);
}

/* First the state is to be as new as what the client has seen. */
static void ask_backup(struct session *session, const struct wire_request *request)
{
        struct daemon *daemon = session->table->daemon;
        struct waiting *waiting;

        if (!backup_is_allowed(session->stream.fd)) {
                reject_backup(session, request->tag, WIRE_REJECTED, "only root, or the user this node runs as, may take a backup, and through a socket in /run/dlock");
        } else if (request->backup == 0 && !backup_begin(daemon, session->id)) {
                reject_backup(session, request->tag, WIRE_UNKNOWN, "other backups of this node are under way: try again later, or another node");
        } else if (request->backup == 0) {
                session->backup = true;
                ask_read(session, request);
        } else {
                waiting = add_waiting(session, request, false);
                if (backup_read(daemon, session->id, request, (uint64_t)(uintptr_t)waiting))
                        return;
                forget_waiting(session, waiting);
                reject_backup(session, request->tag, WIRE_REJECTED, "this backup is not here any more: begin another one");
        }
}

static void no_backup(struct session *session, const struct waiting *waiting)
{
        struct daemon *daemon = session->table->daemon;

        backup_forget(daemon, session->id);
        reject_backup(session, waiting->tag, WIRE_UNKNOWN, page_why_not(daemon, false));
}

/* False: the session is to be closed. */
static bool on_request(struct session *session, const struct wire_frame *frame)
{
        struct wire_request request;

        if (!wire_read_request(frame, &request))
                return false;
        switch (request.type) {
        case WIRE_PREEMPT:
        case WIRE_RELEASE:
        case WIRE_CANCEL:
                ask_change(session, &request);
                return true;
        case WIRE_OPEN:
        case WIRE_CLOSE:
        case WIRE_RENEW:
                ask_change(session, &request);
                return true;
        case WIRE_TRANSFER:
        case WIRE_REMOVE:
                ask_admin(session, &request);
                return true;
        case WIRE_MEMBERS:
                page_write_members(session->table->daemon, out_of(session), request.tag);
                return true;
        case WIRE_CHECK:
        case WIRE_SHOW:
        case WIRE_LIST:
                ask_read(session, &request);
                return true;
        case WIRE_HISTORY:
                ask_history(session, &request);
                return true;
        case WIRE_BACKUP:
                ask_backup(session, &request);
                return true;
        case WIRE_STATUS:
                page_write_status(session->table->daemon, out_of(session), request.tag);
                return true;
        case WIRE_HELLO:
        case WIRE_WELCOME:
        case WIRE_REFUSAL:
        case WIRE_RESULT:
        case WIRE_ROWS:
        case WIRE_EVENTS:
        case WIRE_STATE:
        case WIRE_PIECE:
        case WIRE_ROSTER:
                return false;
        }
        return false;
}

/* --- the hello --- */

static void welcome(struct session *session)
{
        struct daemon *daemon = session->table->daemon;
        struct wire_welcome welcome_frame = { .version = WIRE_VERSION_MAX, .cluster = replica_cluster(daemon->replica), .client = session->client };

        (void)snprintf(welcome_frame.node, sizeof(welcome_frame.node), "%s", daemon->config.name);
        wire_write_welcome(out_of(session), &welcome_frame);
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
                refuse(session, WIRE_REFUSAL_PROTOCOL, "this is not a hello of the dlock client protocol");
                return;
        }
        if (hello.version_min > WIRE_VERSION_MAX || hello.version_max < WIRE_VERSION_MIN) {
                refuse(session, WIRE_REFUSAL_VERSION, "no common version of the client protocol: upgrade the older of the two");
                return;
        }
        if (!id128_is_null(hello.cluster) && !id128_is_null(cluster) && !id128_equal(hello.cluster, cluster)) {
                refuse(session, WIRE_REFUSAL_CLUSTER, "this node belongs to another cluster than the one this client knows");
                return;
        }
        session->client = hello.client;
        if (hello.client.size == 0 && hello.assign)
                assign_client(session);
        else
                welcome(session);
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
                        refuse(session, WIRE_REFUSAL_PROTOCOL, "a frame is malformed, or longer than a request may be");
                        return;
                case WIRE_FRAME_READY:
                        break;
                }
                stream_take(&session->stream, frame.total);
                if (!session->greeted)
                        on_hello(session, &frame);
                else if (!on_request(session, &frame))
                        refuse(session, WIRE_REFUSAL_PROTOCOL, "a request is malformed");
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
                (void)out_of(session);
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

static void on_clients(void *context, uint32_t events)
{
        struct session_table *table = context;
        struct epoll_event ready[DRAIN_EVENTS];
        int count = epoll_wait(table->epoll, ready, DRAIN_EVENTS, 0);

        (void)events;
        for (int i = 0; i < count; i++) {
                struct session *session;

                if (ready[i].data.u64 < FIRST_ID) {
                        on_accept(table, (size_t)ready[i].data.u64);
                        continue;
                }
                session = find_session(table, ready[i].data.u64);
                if (session)
                        on_session(session, ready[i].events);
        }
        daemon_want_turn(table->daemon);
}

/* --- answers --- */

static void answer_assigned(struct session *session, const struct replica_answer *answer)
{
        session->assigning = false;
        if (answer->outcome != REPLICA_YES) {
                refuse(session, WIRE_REFUSAL_BUSY, "there is no leader now to assign a client id");
                return;
        }
        session->client = answer->client;
        welcome(session);
}

static void answer_change(struct session *session, const struct waiting *waiting, const struct replica_answer *answer)
{
        struct wire_result result = {
                .tag = waiting->tag, .token = answer->token, .index = answer->index, .owner = answer->client, .leader_age_ms = -1 };
        char words[LIMIT_REASON_BYTES + 1];
        const char *reason = "";

        switch (answer->outcome) {
        case REPLICA_YES:
                result.outcome = WIRE_YES;
                break;
        case REPLICA_HELD:
        case REPLICA_NOT_OWNER:
                result.outcome = WIRE_NO;
                break;
        case REPLICA_TOO_SOON:
                result.outcome = WIRE_NO;
                result.owner.size = 0;       /* it had the lock, and has it no more */
                (void)snprintf(words, sizeof(words), "it was granted within the period already, to %s", answer->client.text);
                reason = words;
                break;
        case REPLICA_QUIET:
                result.outcome = WIRE_REJECTED;
                (void)snprintf(words, sizeof(words), "the cluster began anew, and grants nothing for %" PRIu64 " s more: leases of before may still be counted on",
                               page_quiet_s(session->table->daemon));
                reason = words;
                break;
        case REPLICA_NO_SESSION:
                result.outcome = waiting->type == WIRE_PREEMPT ? WIRE_REJECTED : WIRE_NO;
                reason = "this client has no such session, or it has ended, or it is that of a lease";
                break;
        case REPLICA_FOREIGN_CLIENT:
                result.outcome = WIRE_REJECTED;
                reason = "this client id belongs to another user of its host; an id of one's own would be right";
                break;
        case REPLICA_FULL:
                result.outcome = WIRE_REJECTED;
                reason = "the cluster holds as many locks, sessions or recent requests as it may";
                break;
        case REPLICA_UNKNOWN:
                result.outcome = WIRE_UNKNOWN;
                reason = raft_has_quorum(replica_raft(session->table->daemon->replica)) ? "no answer in time: it may have happened or not"
                                : "there was no leader with a majority any more: it may have happened or not";
                break;
        case REPLICA_NO_LEADER:
        case REPLICA_NOT_LEADER:
                result.outcome = WIRE_UNKNOWN;
                reason = "there was no leader with a majority in time";
                break;
        }
        (void)snprintf(result.reason, sizeof(result.reason), "%s", reason);
        wire_write_result(out_of(session), &result);
}

/* By kind of outcome: yes, not possible, and not yet. */
static void answer_admin(struct session *session, const struct waiting *waiting, const struct replica_answer *answer)
{
        static const struct {
                enum wire_outcome outcome;
                const char *reason;
        } words[] = {
                [ADMIN_DONE] = { WIRE_YES, "" },
                [ADMIN_NO_SUCH_NODE] = { WIRE_REJECTED, "no member has this name; \"dlockctl members\" shows who there is" },
                [ADMIN_NOT_A_VOTER] = { WIRE_REJECTED, "this node does not vote, so it cannot lead" },
                [ADMIN_NOT_CAUGHT_UP] = { WIRE_UNKNOWN, "this node was not connected to the leader, or not caught up, in time; it may still happen" },
                [ADMIN_LAST_VOTER] = { WIRE_REJECTED, "this is the only voter: without it there would be no cluster" },
                [ADMIN_NO_MAJORITY_LEFT] = { WIRE_REJECTED, "too few of the other voters are connected to go on without this one" },
                [ADMIN_LATER] = { WIRE_UNKNOWN, "no leader with a majority, or another change under way, in time; it may still happen" },
                [ADMIN_WITNESS] = { WIRE_REJECTED, "this node is a witness, which leads only while no other can; a node that serves clients would be right" },
                [ADMIN_NOT_LEADER] = { WIRE_UNKNOWN, "no leader in time" },
        };

        reply_outcome(session, waiting->tag, words[answer->admin].outcome, words[answer->admin].reason);
}

void session_answer(struct session_table *table, const struct replica_answer *answer)
{
        struct session *session = find_session(table, answer->origin.session);
        struct waiting *waiting = (struct waiting *)(uintptr_t)answer->origin.tag;

        if (!session)
                return;
        if (!waiting) {
                answer_assigned(session, answer);
                return;
        }
        if (answer->kind == REPLICA_ANSWER_READ && waiting->type == WIRE_LIST) {
                waiting->due = true;
                waiting->fresh = answer->outcome == REPLICA_YES;
                TAILQ_INSERT_TAIL(&table->pages, waiting, page_link);
                return;
        }
        if (answer->kind == REPLICA_ANSWER_READ && waiting->type == WIRE_BACKUP && answer->outcome == REPLICA_YES) {
                backup_make(table->daemon, session->id, (uint64_t)(uintptr_t)waiting);
                return;                      /* it waits for the store now */
        }
        if (answer->kind == REPLICA_ANSWER_CHANGE)
                answer_change(session, waiting, answer);
        else if (waiting->type == WIRE_BACKUP)
                no_backup(session, waiting);
        else if (answer->kind == REPLICA_ANSWER_ADMIN)
                answer_admin(session, waiting, answer);
        else
                page_write_read(table->daemon, out_of(session), waiting->request, answer->outcome == REPLICA_YES);
        forget_waiting(session, waiting);
}

/* A page may have a thousand rows and everybody may ask for one: a turn writes a few, so that no turn is long. */
static void write_pages(struct session_table *table)
{
        struct waiting *waiting;
        size_t written = 0;

        while ((waiting = TAILQ_FIRST(&table->pages)) && written < LIMIT_PAGES_PER_TURN_BYTES) {
                struct session *session = waiting->session;
                struct bytes *out = out_of(session);
                size_t before = out->size;

                page_write_read(table->daemon, out, waiting->request, waiting->fresh);
                written += out->size - before;
                forget_waiting(session, waiting);
        }
        if (waiting)
                daemon_want_turn(table->daemon);
}

void session_history(struct session_table *table, const struct read_request *request, const struct store_event *event)
{
        struct session *session = find_session(table, request->session);
        struct waiting *waiting = (struct waiting *)(uintptr_t)request->tag;

        if (!session)
                return;
        page_write_history(table->daemon, out_of(session), waiting->request, event);
        forget_waiting(session, waiting);
        daemon_want_turn(table->daemon);
}

void session_backup(struct session_table *table, const struct read_request *request, const struct store_event *event, const char *why)
{
        struct waiting *waiting = (struct waiting *)(uintptr_t)request->tag;
        struct session *session;
        struct wire_piece piece;

        if (!backup_piece(table->daemon, request, event, why, &piece))
                return;                      /* the backup ended with its session */
        session = find_session(table, request->session);
        assert(session);
        piece.tag = waiting->tag;
        wire_write_piece(out_of(session), &piece);
        forget_waiting(session, waiting);
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

        write_pages(table);
        while ((session = TAILQ_FIRST(&table->dirty))) {
                size_t waited = session->waiting_count;

                TAILQ_REMOVE(&table->dirty, session, dirty_link);
                session->dirty = false;
                if (!send_some(session)) {
                        close_session(session);
                        continue;
                }
                /* Requests that were read ahead, but not taken while too many waited. What is answered at once is sent in this round. */
                take_frames(session);
                if (session->waiting_count > waited || session->assigning)
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
                        refuse(table->slots[i].session, WIRE_REFUSAL_STOPPING, "this node is stopping; try another");
        session_flush(table);
}

void session_hold(struct session_table *table, bool hold)
{
        table->held = hold;
        for (uint32_t i = 0; !hold && i < table->slot_count; i++)
                if (table->slots[i].session)
                        (void)out_of(table->slots[i].session);
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
        loop_source_free(table->source);
        listen_close(&table->sockets);
        if (table->epoll >= 0)
                (void)close(table->epoll);
        free(table->slots);
        free(table);
        return NULL;
}
