/* ask.c - what clients ask of this node, and what they are told: a request waits here for its answer, whoever gives that. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "dlockd/backup.h"
#include "dlockd/outcome.h"
#include "dlockd/page.h"
#include "dlockd/session_internal.h"
#include "replica/entry.h"

#define DEADLINE_DEFAULT_MS 10000
/* How long who watches waits for this node to reach what the client has seen. */
#define BEHIND_MS 3000

/* The rows of the page that is asked for; 0: not a page. */
static size_t rows_of(const struct wire_request *request)
{
        return request && (request->type == WIRE_LIST || request->type == WIRE_HISTORY) ? request->limit : 0;
}

/* --- what a process leaves when it ends --- */

static bool binds(const struct waiting *waiting)
{
        return waiting->bound != 0 || waiting->wants;
}

void ask_gone(const struct session *session)
{
        const struct waiting *waiting;
        struct lock_request *pending;
        struct departed_id *ids;
        size_t count = session->waiter_count, asked = 0, known = 0;

        if (session->pid == 0)
                return;
        TAILQ_FOREACH(waiting, &session->waiting, link)
                count += binds(waiting);
        if (count == 0)
                return;
        ids = alloc_zeroed(count, sizeof(ids[0]));
        pending = alloc_zeroed(count, sizeof(pending[0]));
        for (; known < session->waiter_count; known++)
                ids[known] = (struct departed_id){ .id = session->waiters[known], .waits = true };
        TAILQ_FOREACH(waiting, &session->waiting, link) {
                if (waiting->wants)
                        pending[asked++] = *waiting->wants;
                else if (waiting->bound != 0)
                        ids[known++] = (struct departed_id){ .id = waiting->bound, .waits = !waiting->of_session };
        }
        departed_look(session->table->departed, &(struct departed_left){
                .pid = session->pid,
                .principal = &session->principal,
                .ids = ids,
                .id_count = known,
                .pending = pending,
                .pending_count = asked,
        });
        free(ids);
        free(pending);
}

/* Between the word that it waits and its first question how it stands nothing of it is under way. */
static void remember_waiter(struct session *session, uint64_t id)
{
        if (session->waiter_count == session->waiter_capacity) {
                session->waiter_capacity = session->waiter_capacity ? 2 * session->waiter_capacity : 1;
                session->waiters = alloc_resized(session->waiters, session->waiter_capacity, sizeof(session->waiters[0]));
        }
        session->waiters[session->waiter_count++] = id;
}

static void forget_waiter(struct session *session, uint64_t id)
{
        for (size_t i = 0; i < session->waiter_count; i++)
                if (session->waiters[i] == id) {
                        session->waiters[i] = session->waiters[--session->waiter_count];
                        return;
                }
}

void ask_forget(struct session *session, struct waiting *waiting)
{
        if (waiting->due)
                TAILQ_REMOVE(&session->table->pages, waiting, page_link);
        if (waiting->parked)
                watch_remove(session->table->watch, &waiting->watcher);
        TAILQ_REMOVE(&session->waiting, waiting, link);
        if (!waiting->counted_out) {
                session->table->waiting_count--;
                session->waiting_count--;
        }
        if (waiting->type == WIRE_WATCH) {
                session->table->watches--;
                session->watches--;
        }
        if (waiting->type == WIRE_AWAIT && waiting->counted_out) {
                session->table->awaits--;
                session->awaits--;
        }
        session->waiting_rows -= rows_of(waiting->request);
        free(waiting->request);
        free(waiting->wants);
        free(waiting);
}

static void reply_outcome(struct session *session, uint64_t tag, enum wire_outcome outcome, const char *reason)
{
        struct wire_result result = { .tag = tag, .outcome = outcome, .leader_age_ms = -1 };

        (void)snprintf(result.reason, sizeof(result.reason), "%s", reason);
        wire_write_result(session_out(session), &result);
}

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
        case WIRE_KEEP:
                return LOCK_CHANGE_KEEP;
        case WIRE_BREAK:
                return LOCK_CHANGE_BREAK;
        case WIRE_RENEW:
                return LOCK_RENEW;
        }
        abort();
}

static const char not_an_operator[] = "only root, or the user who runs the node, may do this, and on a node's own host";

/* Root, and who runs the node: until TLS names them, nobody from elsewhere. */
static bool may_administer(const struct session *session)
{
        char own[32];

        (void)snprintf(own, sizeof(own), "uid:%u", (unsigned)geteuid());
        return strcmp(session->principal.text, "uid:0") == 0 || strcmp(session->principal.text, own) == 0;
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
                .delay_ms = request->delay_ms,
                .period_ms = request->period_ms,
                .slots = request->slots,
                .further = request->further,
                .now = request->now,
                .wait = request->wait,
                .holder = request->holder,
        };
        struct replica_origin origin;
        struct waiting *waiting;

        if (change.client.size == 0) {
                reply_outcome(session, request->tag, WIRE_REJECTED, "no client id: send one in the hello, or ask for one there");
                return;
        }
        if (request->type != WIRE_RENEW && (change.seq == 0 || id128_is_null(change.handle))) {
                reply_outcome(session, request->tag, WIRE_REJECTED, "no request id: a handle and a sequence number from 1 on are needed");
                return;
        }
        if ((request->type == WIRE_RELEASE || request->type == WIRE_KEEP || request->type == WIRE_BREAK) && change.token == 0) {
                reply_outcome(session, request->tag, WIRE_REJECTED, "no token: that of the hold is needed, as its grant or a check told it");
                return;
        }
        if (request->type == WIRE_BREAK && !may_administer(session)) {
                reply_outcome(session, request->tag, WIRE_REJECTED, not_an_operator);
                return;
        }
        waiting = add_waiting(session, request, false);
        if (session->pid != 0 && request->type == WIRE_PREEMPT && request->wait) {
                waiting->wants = alloc_zeroed(1, sizeof(*waiting->wants));
                *waiting->wants = change;
        }
        if (request->type == WIRE_RELEASE)
                forget_waiter(session, request->token);
        origin = origin_of(session, waiting);
        replica_request(session->table->daemon->replica, &origin, &change, deadline_of(session, request->deadline_ms));
}

static void count_await(struct session *session, struct waiting *waiting)
{
        waiting->counted_out = true;
        session->table->waiting_count--;
        session->waiting_count--;
        session->table->awaits++;
        session->awaits++;
}

static void ask_await(struct session *session, const struct wire_request *request)
{
        struct waiting *waiting = add_waiting(session, request, false);
        struct replica_origin origin = origin_of(session, waiting);
        bool too_many = session->awaits == LIMIT_SESSION_AWAITS || session->table->awaits == LIMIT_AWAITS;

        /* It is long in coming, and what keeps the wait alive must not stand behind it. One more than may be told soon how it stands. */
        if (!too_many)
                count_await(session, waiting);
        forget_waiter(session, request->token);
        if (session->pid != 0 && (request->name.size > 0 || request->bound))
                waiting->bound = request->token;
        waiting->of_session = request->name.size == 0;
        replica_await(session->table->daemon->replica, &origin, &request->name, request->token, too_many ? session->table->now : deadline_of(session, request->deadline_ms));
}

static void ask_read(struct session *session, const struct wire_request *request)
{
        struct replica_origin origin = origin_of(session, add_waiting(session, request, true));

        replica_read(session->table->daemon->replica, &origin, request->min_index, request->consistent, deadline_of(session, request->deadline_ms));
}

static void refuse_watch(struct session *session, uint64_t tag, enum wire_outcome outcome, const char *reason)
{
        watch_refuse(session->table->daemon, session_out(session), tag, outcome, reason);
}

/* W3: nobody is told what this node has not reached yet. One that does not catch up soon says so, and another can be asked. */
static void ask_watch(struct session *session, const struct wire_request *request)
{
        struct session_table *table = session->table;
        struct replica_origin origin;
        struct waiting *waiting;

        if (session->watches == LIMIT_SESSION_WATCHES) {
                refuse_watch(session, request->tag, WIRE_REJECTED, "this connection watches as much as one may; a longer prefix, or another connection, would be right");
                return;
        }
        if (table->watches == LIMIT_WATCHES) {
                refuse_watch(session, request->tag, WIRE_UNKNOWN, "as many clients watch this node as may; try another");
                return;
        }
        waiting = add_waiting(session, request, true);
        waiting->deadline = deadline_of(session, request->deadline_ms);
        session->watches++;
        table->watches++;
        origin = origin_of(session, waiting);
        replica_read(table->daemon->replica, &origin, request->after_index, false, MIN(waiting->deadline, table->now + BEHIND_MS));
}

/* From here on it costs the node nothing, and counts for nothing else that the connection asks. */
static void park_watch(struct session *session, struct waiting *waiting)
{
        waiting->parked = waiting->counted_out = true;
        session->table->waiting_count--;
        session->waiting_count--;
        watch_add(session->table->watch, &waiting->watcher, waiting->request, waiting->deadline);
}

static struct waiting *waiting_of(struct watcher *watcher)
{
        return (struct waiting *)(void *)((char *)watcher - offsetof(struct waiting, watcher));
}

static struct bytes *out_of_watch(struct watcher *watcher)
{
        return session_out(waiting_of(watcher)->session);
}

static void watch_answered(struct watcher *watcher)
{
        struct waiting *waiting = waiting_of(watcher);

        waiting->parked = false;
        ask_forget(waiting->session, waiting);
}

const struct watch_owner ask_watch_owner = { .out = out_of_watch, .answered = watch_answered };

static void ask_admin(struct session *session, const struct wire_request *request)
{
        struct admin_request admin = { .kind = request->type == WIRE_TRANSFER ? ADMIN_TRANSFER : ADMIN_REMOVE };
        struct replica_origin origin;

        if (!may_administer(session)) {
                reply_outcome(session, request->tag, WIRE_REJECTED, not_an_operator);
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
        wire_write_piece(session_out(session), &piece);
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
                ask_forget(session, waiting);
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
bool ask_request(struct session *session, const struct wire_frame *frame)
{
        struct wire_request request;

        if (!wire_read_request(frame, &request))
                return false;
        switch (request.type) {
        case WIRE_PREEMPT:
        case WIRE_RELEASE:
        case WIRE_CANCEL:
        case WIRE_KEEP:
        case WIRE_BREAK:
        case WIRE_OPEN:
        case WIRE_CLOSE:
        case WIRE_RENEW:
                ask_change(session, &request);
                return true;
        case WIRE_AWAIT:
                ask_await(session, &request);
                return true;
        case WIRE_TRANSFER:
        case WIRE_REMOVE:
                ask_admin(session, &request);
                return true;
        case WIRE_MEMBERS:
                page_write_members(session->table->daemon, session_out(session), request.tag);
                return true;
        case WIRE_CHECK:
        case WIRE_SHOW:
        case WIRE_QUEUE:
        case WIRE_LIST:
                ask_read(session, &request);
                return true;
        case WIRE_HISTORY:
                ask_history(session, &request);
                return true;
        case WIRE_WATCH:
                ask_watch(session, &request);
                return true;
        case WIRE_BACKUP:
                ask_backup(session, &request);
                return true;
        case WIRE_STATUS:
                page_write_status(session->table->daemon, session_out(session), request.tag);
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
        case WIRE_CHANGES:
                return false;
        }
        return false;
}

/* --- answers --- */

static void answer_assigned(struct session *session, const struct replica_answer *answer)
{
        session->assigning = false;
        if (answer->outcome != REPLICA_YES) {
                session_refuse(session, WIRE_REFUSAL_BUSY, "there is no leader now to assign a client id");
                return;
        }
        session->client = answer->client;
        session_welcome(session);
}

static void send_result(struct session *session, const struct waiting *waiting, struct wire_result *result)
{
        result->tag = waiting->tag;
        wire_write_result(session_out(session), result);
}

static void answer_change(struct session *session, const struct waiting *waiting, const struct replica_answer *answer)
{
        struct wire_result result;

        outcome_of_change(session->table->daemon, waiting->type, answer, &result);
        if (waiting->wants && answer->outcome == REPLICA_WAITING && session->waiter_count < LIMIT_SESSION_AWAITS)
                remember_waiter(session, answer->token);
        send_result(session, waiting, &result);
}

static void answer_admin(struct session *session, const struct waiting *waiting, const struct replica_answer *answer)
{
        struct wire_result result;

        outcome_of_admin(answer->admin, &result);
        send_result(session, waiting, &result);
}

void session_answer(struct session_table *table, const struct replica_answer *answer)
{
        struct session *session = session_find(table, answer->origin.session);
        struct waiting *waiting = (struct waiting *)(uintptr_t)answer->origin.tag;

        if (answer->origin.session == DEPARTED_ORIGIN)
                departed_answer(table->departed, answer);
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
        if (answer->kind == REPLICA_ANSWER_READ && waiting->type == WIRE_WATCH && answer->outcome == REPLICA_YES) {
                park_watch(session, waiting);
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
        else if (waiting->type == WIRE_WATCH)
                refuse_watch(session, waiting->tag, WIRE_UNKNOWN, page_why_not(table->daemon, false));
        else if (answer->kind == REPLICA_ANSWER_ADMIN)
                answer_admin(session, waiting, answer);
        else
                page_write_read(table->daemon, session_out(session), waiting->request, answer->outcome == REPLICA_YES);
        ask_forget(session, waiting);
}

/* A page may have a thousand rows and everybody may ask for one: a turn writes a few, so that no turn is long. */
void ask_write_pages(struct session_table *table)
{
        struct waiting *waiting;
        size_t written = 0;

        while ((waiting = TAILQ_FIRST(&table->pages)) && written < LIMIT_PAGES_PER_TURN_BYTES) {
                struct session *session = waiting->session;
                struct bytes *out = session_out(session);
                size_t before = out->size;

                page_write_read(table->daemon, out, waiting->request, waiting->fresh);
                written += out->size - before;
                ask_forget(session, waiting);
        }
        if (waiting)
                daemon_want_turn(table->daemon);
}

void session_history(struct session_table *table, const struct read_request *request, const struct store_event *event)
{
        struct session *session = session_find(table, request->session);
        struct waiting *waiting = (struct waiting *)(uintptr_t)request->tag;

        if (!session)
                return;
        page_write_history(table->daemon, session_out(session), waiting->request, event);
        ask_forget(session, waiting);
        daemon_want_turn(table->daemon);
}

void session_backup(struct session_table *table, const struct read_request *request, const struct store_event *event, const char *why)
{
        struct waiting *waiting = (struct waiting *)(uintptr_t)request->tag;
        struct session *session;
        struct wire_piece piece;

        if (!backup_piece(table->daemon, request, event, why, &piece))
                return;                      /* the backup ended with its session */
        session = session_find(table, request->session);
        assert(session);
        piece.tag = waiting->tag;
        wire_write_piece(session_out(session), &piece);
        ask_forget(session, waiting);
        daemon_want_turn(table->daemon);
}

