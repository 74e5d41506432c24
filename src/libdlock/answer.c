/* answer.c - from frames to answers. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "libdlock/internal.h"

static enum dlock_outcome outcome_of(enum wire_outcome outcome)
{
        switch (outcome) {
        case WIRE_YES:
                return DLOCK_YES;
        case WIRE_NO:
                return DLOCK_NO;
        case WIRE_UNKNOWN:
                return DLOCK_UNKNOWN;
        case WIRE_REJECTED:
                return DLOCK_REJECTED;
        case WIRE_REENTERED:
                return DLOCK_REENTERED;
        case WIRE_WAITING:
                break;                       /* never what comes of it */
        }
        abort();
}

/* A node that cannot tell, while there are others that were not asked: true, the request goes to the next one. */
static bool ask_another(struct dlock *dlock, struct request *request, enum wire_outcome outcome, const char *reason)
{
        if (outcome != WIRE_UNKNOWN || request->moves + 1 >= dlock->servers.found_count)
                return false;
        request->moves++;
        (void)snprintf(request->told, sizeof(request->told), "; %s: %s", dlock->link.server, reason);
        link_fail(dlock, false, "%s", reason);
        return true;
}

static void saw_index(struct dlock *dlock, enum wire_outcome outcome, uint64_t index)
{
        if (outcome == WIRE_YES || outcome == WIRE_NO)
                dlock->min_index = MAX(dlock->min_index, index);
}

static void finish(struct dlock *dlock, struct request *request, enum wire_outcome outcome, const char *reason)
{
        bool is_plain = outcome == WIRE_YES || (outcome == WIRE_NO && (request->operation != DLOCK_OP_PREEMPT || request->answer.owner) && request->answer.free_in_ms == 0 && !request->awaits);

        (void)strcpy(request->server, dlock->link.server);
        if (is_plain)
                request_finish_plainly(dlock, request, outcome_of(outcome));
        else
                request_finish(dlock, request, outcome_of(outcome), "%s", reason);
}

/* Then what a result calls a token is the session's id, which is no fencing token. */
static bool is_of_session(const struct request *request)
{
        return request->operation == DLOCK_OP_OPEN || request->operation == DLOCK_OP_CLOSE || request->operation == DLOCK_OP_RENEW;
}

static void keep_result(struct request *request, const struct wire_result *result)
{
        request->owner = result->owner;
        request->answer.owner = request->owner.size ? request->owner.text : NULL;
        request->answer.token = is_of_session(request) ? 0 : result->token;
        request->answer.free_in_ms = request->operation == DLOCK_OP_RELEASE ? 0 : result->free_in_ms;
        request->answer.slots = result->slots;
        request->answer.holders = result->holders;
        request->answer.index = result->index;
        request->answer.leader_age_ms = request->operation == DLOCK_OP_CHECK ? result->leader_age_ms : -1;
}

/* --- what lives for a while --- */

/* A yes to it begins a time to live. */
static bool begins_life(const struct request *request)
{
        return request->operation == DLOCK_OP_OPEN || request->operation == DLOCK_OP_RENEW ||
               (request->operation == DLOCK_OP_PREEMPT && request->ttl_ms > 0);
}

/* What is said of one who waits, or listens, is of that one: it has got the lock by an entry behind its own, or by that one. */
static bool is_told_of_wait(const struct dlock *dlock, const struct request *request, const struct wire_result *result)
{
        if (result->outcome == WIRE_WAITING)
                return result->token == request->token;
        if (request->listener)
                return result->outcome == WIRE_NO || result->outcome == WIRE_UNKNOWN || result->outcome == WIRE_REJECTED;
        return result->outcome != WIRE_REENTERED &&
               (result->outcome != WIRE_YES || (result->token >= request->token && client_id_equal(&result->owner, &dlock->client)));
}

/* A yes says what lives: that of a renewal what was asked for. Nobody waits who was not ready to, and only a session has a lock already. */
static bool is_well_said(const struct dlock *dlock, const struct request *request, const struct wire_result *result)
{
        if (request->awaits)
                return is_told_of_wait(dlock, request, result);
        if (result->outcome == WIRE_WAITING)
                return result->token != 0 && request->wait_ms > 0;
        if (result->outcome == WIRE_REENTERED)
                return result->token != 0 && request->operation == DLOCK_OP_PREEMPT && request->session != 0 && !request->cancelling;
        if (result->outcome != WIRE_YES || request->cancelling || (!begins_life(request) && request->operation != DLOCK_OP_PREEMPT))
                return true;
        return request->operation == DLOCK_OP_RENEW ? result->token == request->session : result->token != 0;
}

/* Until when it certainly lives. The time to live began on the leader after the request was sent: an open or a preempt was decided
 * when any of its copies arrived, and its answer may be one that was kept; an answer to a renewal is to the copy that was sent on
 * this connection, which is the last. One part in a hundred is for clocks of different speed.
 *
 *   sent at 50,000   time to live 10,000   the leader starts its clock at 50,003, and ends it at 60,003 or later
 *   deadline 59,900; on a clock that runs 1 % slower than the leader's, that is 10,000 of its milliseconds after the sending */
uint64_t wait_deadline_of(const struct request *request)
{
        uint64_t sent = request->operation == DLOCK_OP_RENEW ? request->last_sent : request->first_sent;

        return sent + request->ttl_ms - (request->ttl_ms + 99) / 100;
}

/* A yes that comes after that is none: what it gave may have ended already. */
static void finish_alive(struct dlock *dlock, struct request *request, uint64_t session)
{
        struct dlock_answer *answer = &request->answer;

        (void)strcpy(request->server, dlock->link.server);
        if (request->ttl_ms > 0 && clock_boottime_ms() >= wait_deadline_of(request)) {
                request_finish(dlock, request, DLOCK_UNKNOWN, "granted as %" PRIu64 ", but told so late that its time to live may be over", session);
                return;
        }
        answer->session = session;
        answer->deadline_ms = request->ttl_ms > 0 ? wait_deadline_of(request) : 0;
        answer->ttl_ms = request->ttl_ms;
        request_finish_plainly(dlock, request, DLOCK_YES);
}

/* --- results --- */

/* While another copy of it is on its way, a request that one leader refused may be accepted by the next. A late copy of an open or
 * a close does no harm: a session that nobody knows ends by itself, and one that was to be closed may be. */
static bool must_cancel(const struct request *request, enum wire_outcome outcome)
{
        return request_changes_lock(request) && !request->waiting && request->copies > 1 &&
               (outcome == WIRE_NO || outcome == WIRE_REJECTED || outcome == WIRE_REENTERED);
}

/* A node that was removed is nobody's name: whoever is asked for it a second time cannot know it. */
static bool may_be_done(const struct request *request, const struct wire_result *result)
{
        return request->operation == DLOCK_OP_REMOVE && request->copies > 1 && result->outcome == WIRE_REJECTED;
}

/* What became of a request that shall not happen: it will not, or it has happened before, or nobody knows. */
static void take_cancelled(struct dlock *dlock, struct request *request, const struct wire_result *result)
{
        if (result->outcome == WIRE_YES && result->token == 0) {
                finish(dlock, request, request->kept, request->kept_reason);
                return;
        }
        if (result->outcome != WIRE_YES) {
                (void)strcpy(request->server, dlock->link.server);
                request_not_cancelled(dlock, request, *result->reason ? result->reason : "the node could not say that it will not");
                return;
        }
        keep_result(request, result);
        if (request->operation == DLOCK_OP_PREEMPT) {
                request->owner = dlock->client;
                request->answer.owner = request->owner.text;
        }
        if (request->keeps)
                (void)wait_begin(dlock, request, result->token, request);
        else if (begins_life(request))
                finish_alive(dlock, request, result->token);
        else
                finish(dlock, request, WIRE_YES, "");
}

/* A release that asks first: the client's hold is what it gives up, under its token. */
static void take_found(struct dlock *dlock, struct request *request, const struct wire_result *result)
{
        if (result->outcome == WIRE_YES && client_id_equal(&result->owner, &dlock->client)) {
                request_found(dlock, request, result->token);
                return;
        }
        keep_result(request, result);
        (void)strcpy(request->server, dlock->link.server);
        if (result->outcome == WIRE_YES || result->outcome == WIRE_NO)
                request_finish_plainly(dlock, request, DLOCK_NO);
        else
                request_finish(dlock, request, outcome_of(result->outcome), "who owns the lock is not known, and nothing was released: %s", result->reason);
}

/* It stands in the queue; or does so still, and there is no news of it. One that was called off too late does, too. */
static bool take_waiting(struct dlock *dlock, struct request *request, const struct wire_result *result)
{
        if (!request->awaits)
                return wait_begin(dlock, request, result->token, NULL);
        keep_result(request, result);
        request_finish(dlock, request, DLOCK_UNKNOWN, "%s", "");
        return true;
}

static bool take_result(struct dlock *dlock, struct request *request, const struct wire_frame *frame)
{
        struct wire_result result;

        if (!wire_read_result(frame, &result) || !is_well_said(dlock, request, &result))
                return false;
        if (ask_another(dlock, request, result.outcome, result.reason))
                return true;
        saw_index(dlock, result.outcome, result.index);
        if (result.outcome == WIRE_WAITING)
                return take_waiting(dlock, request, &result);
        if (request->cancelling || request->finding) {
                (request->cancelling ? take_cancelled : take_found)(dlock, request, &result);
                return true;
        }
        keep_result(request, &result);
        if (may_be_done(request, &result)) {
                (void)strcpy(request->server, dlock->link.server);
                request_finish(dlock, request, DLOCK_UNKNOWN, "it was rejected, but had been asked before, and that may have done it: %s", result.reason);
        } else if (must_cancel(request, result.outcome)) {
                request_cancel(dlock, request, result.outcome, result.reason);
        } else if (result.outcome == WIRE_YES && request->keeps) {
                return wait_begin(dlock, request, result.token, request);
        } else if (result.outcome == WIRE_YES && begins_life(request)) {
                finish_alive(dlock, request, result.token);
        } else {
                finish(dlock, request, result.outcome, result.reason);
        }
        return true;
}

/* Texts of rows: their sizes on the wire take as many bytes as their zeros here, and who holds a lock at least as many as its texts. */
static const char *add_text(char **arena, const char *text, size_t size)
{
        char *place = *arena;

        (void)memcpy(place, text, size + 1);
        *arena += size + 1;
        return place;
}

static bool take_holder(struct dlock_row *row, const struct wire_row *wire, char **arena)
{
        struct holder holder;

        if (!holder_get(wire->holder, &holder))
                return false;
        row->user = add_text(arena, wire->principal.text, wire->principal.size);
        row->host = *holder.host ? add_text(arena, holder.host, strlen(holder.host)) : "";
        row->unit = *holder.unit ? add_text(arena, holder.unit, strlen(holder.unit)) : "";
        row->note = *holder.note ? add_text(arena, holder.note, strlen(holder.note)) : "";
        row->pid = holder.pid;
        return true;
}

static bool take_rows(struct request *request, const struct wire_page *page, struct bytes_reader *reader)
{
        struct dlock_row *rows = malloc(page->count * sizeof(rows[0]) + reader->left);
        char *arena = (char *)(rows + page->count);

        if (!rows)
                return false;
        free(request->rows);
        request->rows = rows;
        for (unsigned i = 0; i < page->count; i++) {
                struct wire_row row;

                if (!wire_read_row(reader, &row))
                        return false;
                rows[i].lock = add_text(&arena, row.lock.text, row.lock.size);
                rows[i].owner = add_text(&arena, row.owner.text, row.owner.size);
                rows[i].token = row.token;
                rows[i].held_ms = row.held_ms;
                rows[i].since_wall_ms = row.since_wall_ms;
                rows[i].session = row.session;
                rows[i].ttl_ms = row.ttl_ms;
                rows[i].lock_delay_ms = row.delay_ms;
                rows[i].expires_ms = row.expires_ms;
                rows[i].lease = row.lease;
                rows[i].broken = row.broken;
                rows[i].waiting = row.waiting;
                rows[i].slots = row.slots;
                rows[i].holders = row.holders;
                if (!take_holder(&rows[i], &row, &arena))
                        return false;
        }
        request->answer.rows = rows;
        return bytes_reader_finished(reader);
}

static bool take_events(struct request *request, const struct wire_page *page, struct bytes_reader *reader)
{
        struct dlock_event *events = malloc(page->count * sizeof(events[0]) + reader->left);
        char *arena = (char *)(events + page->count);

        if (!events)
                return false;
        free(request->rows);
        request->rows = events;
        for (unsigned i = 0; i < page->count; i++) {
                struct wire_event event;

                if (!wire_read_event(reader, &event))
                        return false;
                events[i].index = event.index;
                events[i].term = event.term;
                events[i].kind = add_text(&arena, event.kind, strlen(event.kind));
                events[i].lock = add_text(&arena, event.lock.text, event.lock.size);
                events[i].client = add_text(&arena, event.client.text, event.client.size);
                events[i].detail = add_text(&arena, event.detail, strlen(event.detail));
                events[i].token = event.token;
                events[i].cluster_ms = event.cluster_ms;
                events[i].wall_ms = event.wall_ms;
        }
        request->answer.events = events;
        return bytes_reader_finished(reader);
}

static bool take_members(struct request *request, const struct wire_page *page, struct bytes_reader *reader)
{
        struct dlock_member *members = malloc(page->count * sizeof(members[0]) + reader->left);
        char *arena = (char *)(members + page->count);

        if (!members)
                return false;
        free(request->rows);
        request->rows = members;
        for (unsigned i = 0; i < page->count; i++) {
                struct wire_member member;

                if (!wire_read_member(reader, &member))
                        return false;
                members[i] = (struct dlock_member){
                        .id = member.id,
                        .name = add_text(&arena, member.name, strlen(member.name)),
                        .address = add_text(&arena, member.address, strlen(member.address)),
                        .leader = member.leader,
                        .voter = member.voter,
                        .witness = member.witness,
                        .preferred = member.preferred,
                        .linked = member.linked,
                        .away = member.away,
                        .match = member.match,
                        .level = member.level,
                };
        }
        request->answer.members = members;
        return bytes_reader_finished(reader);
}

/* W1, W3: in order, after what was asked for, and not beyond what the page is said to cover. */
static bool is_in_order(const struct request *request, const struct wire_page *page, const struct wire_change *change, uint64_t before)
{
        return change->index > request->after_index && change->index >= before && change->index <= page->next_after;
}

static bool take_change_holder(struct dlock_change *change, const struct wire_change *wire, char **arena)
{
        struct holder holder;

        if (!holder_get(wire->holder, &holder))
                return false;
        change->host = *holder.host ? add_text(arena, holder.host, strlen(holder.host)) : "";
        change->unit = *holder.unit ? add_text(arena, holder.unit, strlen(holder.unit)) : "";
        change->note = *holder.note ? add_text(arena, holder.note, strlen(holder.note)) : "";
        change->pid = holder.pid;
        return true;
}

/* Of an entry all but the last are behind the entry before: whoever goes on from there is told all of it again. */
static void set_after(struct dlock_change *changes, size_t count, uint64_t after)
{
        for (size_t i = 0; i < count; i++) {
                if (i > 0 && changes[i].index != changes[i - 1].index)
                        after = changes[i - 1].index;
                changes[i].after = i + 1 < count && changes[i + 1].index == changes[i].index ? after : changes[i].index;
        }
}

static bool take_changes(struct request *request, const struct wire_page *page, struct bytes_reader *reader)
{
        struct dlock_change *changes = malloc(page->count * sizeof(changes[0]) + reader->left);
        char *arena = (char *)(changes + page->count);
        uint64_t before = 0;

        if (!changes)
                return false;
        free(request->rows);
        request->rows = changes;
        for (unsigned i = 0; i < page->count; i++) {
                struct wire_change change;

                if (!wire_read_change(reader, &change) || !is_in_order(request, page, &change, before))
                        return false;
                before = change.index;
                changes[i] = (struct dlock_change){
                        .kind = change.kind,
                        .lock = add_text(&arena, change.lock.text, change.lock.size),
                        .owner = add_text(&arena, change.client.text, change.client.size),
                        .token = change.token,
                        .session = change.session,
                        .ttl_ms = change.ttl_ms,
                        .slots = change.slots,
                        .index = change.index,
                        .wall_ms = change.wall_ms,
                };
                if (!take_change_holder(&changes[i], &change, &arena))
                        return false;
        }
        set_after(changes, page->count, request->after_index);
        request->answer.changes = changes;
        return bytes_reader_finished(reader);
}

static bool take_content(struct request *request, const struct wire_page *page, struct bytes_reader *reader)
{
        if (request->operation == DLOCK_OP_LIST)
                return take_rows(request, page, reader);
        if (request->operation == DLOCK_OP_HISTORY)
                return take_events(request, page, reader);
        if (request->operation == DLOCK_OP_WATCH)
                return take_changes(request, page, reader);
        return take_members(request, page, reader);
}

/* Whoever asks for page after page must get to an end. */
static bool page_may_go_on(const struct request *request, const struct wire_page *page)
{
        if (request->operation == DLOCK_OP_LIST)
                return page->count > 0;
        return (request->operation == DLOCK_OP_HISTORY || request->operation == DLOCK_OP_WATCH) && page->next_after > request->after_index;
}

/* What was asked for; of a watch in whole entries. And who watches goes on from where the page ends. */
static bool page_is_sound(const struct request *request, const struct wire_page *page)
{
        if (request->operation != DLOCK_OP_WATCH)
                return page->count <= request->limit && page->outcome != WIRE_NO;
        if (page->outcome == WIRE_YES && (page->next_after < request->after_index || page->next_after > page->index))
                return false;
        return page->count <= MAX(request->limit, (uint16_t)LIMIT_ENTRY_RECORDS) && (page->outcome != WIRE_NO || page->log_first > request->after_index);
}

static bool take_page(struct dlock *dlock, struct request *request, const struct wire_frame *frame)
{
        struct wire_page page;
        struct bytes_reader reader;

        request->answer.changes = NULL;      /* of a frame before, which was none */
        if (!wire_read_page(frame, &page, &reader) || !page_is_sound(request, &page))
                return false;
        if (page.more && !page_may_go_on(request, &page))
                return false;
        if (ask_another(dlock, request, page.outcome, page.reason))
                return true;
        if (page.count > 0 && !take_content(request, &page, &reader))
                return false;
        saw_index(dlock, page.outcome, page.index);
        request->answer.count = page.count;
        request->answer.index = page.index;
        request->answer.leader_age_ms = page.leader_age_ms;
        request->answer.more = page.more;
        request->answer.next_after = page.next_after;
        request->answer.log_first = page.log_first;
        finish(dlock, request, page.outcome, page.reason);
        return true;
}

/* Those who hold the lock that was asked about, by their tokens. */
static bool is_of_one_lock(const struct request *request, const struct wire_page *page)
{
        const struct dlock_row *rows = request->answer.rows;

        for (unsigned i = 0; i < page->count; i++)
                if (strcmp(rows[i].lock, request->name.text) != 0 || rows[i].token <= (i > 0 ? rows[i - 1].token : request->after_token))
                        return false;
        return true;
}

/* A page of those who hold one lock; nobody, at the end of them too, is a no. */
static bool take_shown(struct dlock *dlock, struct request *request, const struct wire_frame *frame)
{
        struct wire_page page;
        struct bytes_reader reader;

        request->answer.rows = NULL;         /* of a frame before, which was none */
        if (!wire_read_page(frame, &page, &reader) || page.count > LIMIT_PAGE_ROWS || (page.more && page.count == 0))
                return false;
        if (ask_another(dlock, request, page.outcome, page.reason))
                return true;
        if (page.count > 0 && (!take_rows(request, &page, &reader) || !is_of_one_lock(request, &page)))
                return false;
        saw_index(dlock, page.outcome, page.index);
        if (page.count > 0) {
                request->answer.owner = request->answer.rows[0].owner;
                request->answer.token = request->answer.rows[0].token;
                request->answer.slots = request->answer.rows[0].slots;
                request->answer.holders = request->answer.rows[0].holders;
        }
        request->answer.more = page.more;
        request->answer.count = page.count;
        request->answer.index = page.index;
        request->answer.leader_age_ms = page.leader_age_ms;
        request->answer.free_in_ms = page.free_in_ms;
        finish(dlock, request, page.outcome == WIRE_YES && page.count == 0 ? WIRE_NO : page.outcome, page.reason);
        return true;
}

static bool take_state(struct dlock *dlock, struct request *request, const struct wire_frame *frame)
{
        struct wire_state *state = &request->state;

        if (!wire_read_state(frame, state))
                return false;
        if (!id128_is_null(state->cluster))
                (void)id128_format(state->cluster, request->cluster);
        request->status = (struct dlock_status){
                .node = state->node,
                .role = state->role,
                .leader = state->leader,
                .cluster = request->cluster,
                .version = state->version,
                .term = state->term,
                .commit = state->commit,
                .applied = state->applied,
                .log_first = state->log_first,
                .log_last = state->log_last,
                .locks = state->locks,
                .voters = state->voters,
                .members = state->members,
                .leader_age_ms = state->leader_age_ms,
        };
        request->answer.status = &request->status;
        request->answer.index = state->applied;
        request->answer.leader_age_ms = state->leader_age_ms;
        finish(dlock, request, WIRE_YES, "");
        return true;
}

static bool take_piece(struct dlock *dlock, struct request *request, const struct wire_frame *frame)
{
        struct wire_piece piece;

        if (!wire_read_piece(frame, &piece))
                return false;
        if (ask_another(dlock, request, piece.outcome, piece.reason))
                return true;
        /* What was asked for, and as long as something is left more than nothing: whoever asks for piece after piece gets to an end. */
        if (piece.outcome == WIRE_YES && request->backup != 0 &&
            (piece.backup != request->backup || piece.offset != request->offset || (piece.size == 0 && piece.offset < piece.total)))
                return false;
        if (piece.size > 0) {
                free(request->rows);
                request->rows = malloc(piece.size);
                if (!request->rows)
                        return false;
                (void)memcpy(request->rows, piece.data, piece.size);
        }
        request->answer.backup = piece.backup;
        request->answer.offset = piece.offset;
        request->answer.total = piece.total;
        request->answer.data = request->rows;
        request->answer.size = piece.size;
        request->answer.index = piece.index;
        request->answer.leader_age_ms = piece.leader_age_ms;
        finish(dlock, request, piece.outcome, piece.reason);
        return true;
}

bool answer_take(struct dlock *dlock, const struct wire_frame *frame)
{
        struct request *request = request_of_tag(dlock, frame->tag);

        /* The sign of life that was asked for, or an answer that nobody waits for any more. */
        if (!request)
                return frame->type >= WIRE_RESULT && frame->type <= WIRE_CHANGES;
        switch (request->operation) {
        case DLOCK_OP_PREEMPT:
        case DLOCK_OP_RELEASE:
        case DLOCK_OP_CHECK:
        case DLOCK_OP_OPEN:
        case DLOCK_OP_CLOSE:
        case DLOCK_OP_RENEW:
        case DLOCK_OP_KEEP:
        case DLOCK_OP_BREAK:
                return take_result(dlock, request, frame);
        case DLOCK_OP_SHOW:
        case DLOCK_OP_QUEUE:
                return frame->type == WIRE_ROWS && take_shown(dlock, request, frame);
        case DLOCK_OP_LIST:
                return frame->type == WIRE_ROWS && take_page(dlock, request, frame);
        case DLOCK_OP_HISTORY:
                return frame->type == WIRE_EVENTS && take_page(dlock, request, frame);
        case DLOCK_OP_STATUS:
                return take_state(dlock, request, frame);
        case DLOCK_OP_BACKUP:
                return take_piece(dlock, request, frame);
        case DLOCK_OP_MEMBERS:
                return frame->type == WIRE_ROSTER && take_page(dlock, request, frame);
        case DLOCK_OP_WATCH:
                return frame->type == WIRE_CHANGES && take_page(dlock, request, frame);
        case DLOCK_OP_TRANSFER:
        case DLOCK_OP_REMOVE:
                return take_result(dlock, request, frame);
        }
        return false;
}
