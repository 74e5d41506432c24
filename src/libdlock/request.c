/* request.c - requests from submit to answer. */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/random.h"
#include "libdlock/internal.h"

/* --- memory --- */

struct request *request_new(struct dlock *dlock)
{
        struct request *request = dlock->spare;

        if (!request) {
                request = malloc(sizeof(*request));
                if (!request)
                        return NULL;
                request->holder = request->further = (struct bytes){ 0 };
        }
        dlock->spare = NULL;
        (void)memset(request, 0, offsetof(struct request, holder));
        bytes_clear(&request->holder);
        bytes_clear(&request->further);
        request->after.size = 0;
        request->after.text[0] = request->node[0] = request->told[0] = request->kept_reason[0] = 0;
        request->reason[0] = request->server[0] = request->cluster[0] = 0;
        return request;
}

/* --- slots --- */

static int grow_slots(struct dlock *dlock)
{
        uint32_t count = dlock->slot_count ? dlock->slot_count * 2 : 4;
        struct slot *slots = reallocarray(dlock->slots, count, sizeof(slots[0]));

        if (!slots)
                return -ENOMEM;
        for (uint32_t i = dlock->slot_count; i < count; i++)
                slots[i] = (struct slot){ .next_free = i + 1 < count ? i + 1 : UINT32_MAX };
        dlock->slots = slots;
        dlock->first_free = dlock->slot_count;
        dlock->slot_count = count;
        return 0;
}

/* Nodes know a handle by its last accepted request, and for ten minutes: when that is
 * not certain any more, a higher sequence number of it could not be judged. */
static void next_request_id(struct slot *slot, uint64_t now)
{
        if (slot->accepted == 0 || now - slot->accepted > HANDLE_KEPT_MS) {
                if (getentropy(slot->handle.bytes, sizeof(slot->handle.bytes)) < 0)
                        abort();
                slot->seq = 0;
                slot->accepted = 0;
        }
        slot->seq++;
}

static void free_slot(struct dlock *dlock, struct request *request)
{
        struct slot *slot = &dlock->slots[request->slot];

        slot->request = NULL;
        slot->next_free = dlock->first_free;
        dlock->first_free = request->slot;
}

struct request *request_of_tag(struct dlock *dlock, uint64_t tag)
{
        uint64_t slot = tag & ((UINT64_C(1) << SLOT_BITS) - 1);
        struct request *request = slot < dlock->slot_count ? dlock->slots[slot].request : NULL;

        return request && request->id == tag >> SLOT_BITS && request->on_wire ? request : NULL;
}

/* --- submit --- */

int request_set_name(struct dlock *dlock, struct lock_name *name, const char *text, const char *what, bool may_be_empty)
{
        if (may_be_empty && (!text || !*text))
                return 0;
        /* One byte too many is enough to know. */
        if (!text || !lock_name_set(name, text, strnlen(text, DLOCK_NAME_MAX + 1)))
                return set_error(dlock, -EINVAL, "not %s: %d to %d bytes of UTF-8 without control characters would be right", what, may_be_empty ? 0 : 1,
                                 DLOCK_NAME_MAX);
        return 0;
}

static int set_node(struct dlock *dlock, char name[LIMIT_NODE_NAME_BYTES + 1], const char *text)
{
        size_t size = text ? strnlen(text, LIMIT_NODE_NAME_BYTES + 1) : 0;

        if (!text || !node_name_is_valid(text, size))
                return set_error(dlock, -EINVAL, "not a node's name: 1 to %d letters, digits, '.', '_' and '-' would be right", LIMIT_NODE_NAME_BYTES);
        (void)memcpy(name, text, size + 1);
        return 0;
}

static int set_names(struct dlock *dlock, const struct dlock_request *asked, struct request *request)
{
        int r;

        switch (asked->operation) {
        case DLOCK_OP_PREEMPT:
        case DLOCK_OP_RELEASE:
        case DLOCK_OP_KEEP:
        case DLOCK_OP_BREAK:
        case DLOCK_OP_CHECK:
        case DLOCK_OP_SHOW:
        case DLOCK_OP_QUEUE:
                return request_set_name(dlock, &request->name, asked->lock, "a lock name", false);
        case DLOCK_OP_LIST:
                r = request_set_name(dlock, &request->name, asked->lock, "a prefix of lock names", true);
                return r < 0 ? r : request_set_name(dlock, &request->after, asked->after, "a lock name", true);
        case DLOCK_OP_HISTORY:
                return request_set_name(dlock, &request->name, asked->lock, "a lock name", true);
        case DLOCK_OP_WATCH:
                return request_set_name(dlock, &request->name, asked->lock, asked->exact ? "a lock name" : "a prefix of lock names", !asked->exact);
        case DLOCK_OP_TRANSFER:
        case DLOCK_OP_REMOVE:
                return set_node(dlock, request->node, asked->node);
        case DLOCK_OP_STATUS:
        case DLOCK_OP_MEMBERS:
        case DLOCK_OP_BACKUP:
        case DLOCK_OP_OPEN:
        case DLOCK_OP_CLOSE:
        case DLOCK_OP_RENEW:
                return 0;
        }
        return set_error(dlock, -EINVAL, "no such operation");
}

/* Of fields that are not of its operation nothing is asked. */
static int set_session(struct dlock *dlock, const struct dlock_request *asked, struct request *request)
{
        bool about_one = asked->operation == DLOCK_OP_CLOSE || asked->operation == DLOCK_OP_RENEW;
        bool lives = asked->operation == DLOCK_OP_OPEN || asked->operation == DLOCK_OP_PREEMPT || asked->operation == DLOCK_OP_RENEW;
        uint32_t ttl_ms = lives ? asked->ttl_ms : 0;

        if (about_one && asked->session == 0)
                return set_error(dlock, -EINVAL, "no session: the id of one, as its open told it, or a lease's token would be right");
        if (asked->operation == DLOCK_OP_PREEMPT && asked->session != 0 && ttl_ms != 0)
                return set_error(dlock, -EINVAL, "a lock is held in a session, or is a lease with a time to live of its own: one of both would be right");
        if ((asked->operation == DLOCK_OP_OPEN || ttl_ms != 0) && (ttl_ms < DLOCK_TTL_MIN || ttl_ms > DLOCK_TTL_MAX))
                return set_error(dlock, -EINVAL, "a time to live of %d ms to 24 hours would be right", DLOCK_TTL_MIN);
        if (asked->operation == DLOCK_OP_PREEMPT && asked->period_ms != 0 && (asked->period_ms < DLOCK_PERIOD_MIN || asked->period_ms > DLOCK_PERIOD_MAX))
                return set_error(dlock, -EINVAL, "a period of %d ms to 366 days would be right", DLOCK_PERIOD_MIN);
        request->period_ms = asked->operation == DLOCK_OP_PREEMPT ? asked->period_ms : 0;
        request->lock_delay_ms = lives && asked->operation != DLOCK_OP_RENEW ? asked->lock_delay_ms : 0;
        if (request->lock_delay_ms > DLOCK_LOCK_DELAY_MAX)
                return set_error(dlock, -EINVAL, "a lock-delay of up to %d min would be right", DLOCK_LOCK_DELAY_MAX / 60000);
        if (request->lock_delay_ms != 0 && ttl_ms == 0)
                return set_error(dlock, -EINVAL, "a lock-delay is that of a lease, or of the session that a lock is held in: one with a time to live would be right");
        request->slots = asked->operation == DLOCK_OP_PREEMPT && asked->slots != 1 ? (uint16_t)asked->slots : 0;
        if (asked->operation == DLOCK_OP_PREEMPT && asked->slots > DLOCK_SLOTS_MAX && asked->slots != DLOCK_SHARED)
                return set_error(dlock, -EINVAL, "1 to %d slots, or DLOCK_SHARED, would be right", DLOCK_SLOTS_MAX);
        if ((asked->operation == DLOCK_OP_KEEP || asked->operation == DLOCK_OP_BREAK) && asked->token == 0)
                return set_error(dlock, -EINVAL, "no token: that of the hold, as its grant told it, would be right");
        request->wait_ms = asked->operation == DLOCK_OP_PREEMPT ? asked->wait_ms : 0;
        request->wait_until = request->wait_ms < UINT64_MAX / 2 ? clock_boottime_ms() + request->wait_ms : UINT64_MAX;
        request->keeps = request->wait_ms > 0 && ttl_ms == 0 && asked->session == 0;
        if (request->keeps)
                ttl_ms = WAIT_TTL_MS;
        request->session = about_one || asked->operation == DLOCK_OP_PREEMPT ? asked->session : 0;
        request->ttl_ms = ttl_ms;
        return 0;
}

static int compare_names(const void *a, const void *b)
{
        return lock_name_compare(a, b);
}

/* All or nothing: in order, so that the first of them is not always the one that was named first. */
static int set_further(struct dlock *dlock, const struct dlock_request *asked, struct request *request)
{
        struct lock_name names[DLOCK_LOCKS_MAX] = { request->name };
        size_t count = asked->operation == DLOCK_OP_PREEMPT ? asked->further_count + 1 : 1;

        if (count == 1)
                return 0;
        if (asked->further_count >= DLOCK_LOCKS_MAX)
                return set_error(dlock, -EINVAL, "up to %d locks at once would be right", DLOCK_LOCKS_MAX);
        if (request->slots != 0 || request->period_ms != 0)
                return set_error(dlock, -EINVAL, "several locks at once are held alone, and not once in a period: without slots and period would be right");
        for (size_t i = 1; i < count; i++)
                if (request_set_name(dlock, &names[i], asked->further[i - 1], "a lock name", false) < 0)
                        return -EINVAL;
        qsort(names, count, sizeof(names[0]), compare_names);
        request->asked_first = request->name;
        request->name = names[0];
        for (size_t i = 1; i < count; i++) {
                if (lock_name_equal(&names[i], &names[i - 1]))
                        return set_error(dlock, -EINVAL, "%s is asked for twice: each lock once would be right", names[i].text);
                lock_name_put(&request->further, &names[i]);
        }
        request->further_count = (uint8_t)(count - 1);
        return 0;
}

static int set_request(struct dlock *dlock, const struct dlock_request *asked, struct request *request)
{
        uint32_t limit = asked->limit ? asked->limit : DLOCK_PAGE_MAX;
        bool names_hold = asked->operation == DLOCK_OP_KEEP || asked->operation == DLOCK_OP_BREAK;
        int r;

        r = set_names(dlock, asked, request);
        if (r == 0)
                r = set_session(dlock, asked, request);
        if (r == 0)
                r = set_further(dlock, asked, request);
        if (r < 0)
                return r;
        if (limit > DLOCK_PAGE_MAX)
                return set_error(dlock, -EINVAL, "a page of 1 to %d rows would be right", DLOCK_PAGE_MAX);
        if (asked->backup == 0 && asked->offset != 0)
                return set_error(dlock, -EINVAL, "a piece from offset 0, or of a backup that was made, would be right");
        if (asked->timeout_ms > LIMIT_DEADLINE_MS)
                return set_error(dlock, -EINVAL, "a timeout of 1 ms to 1 hour would be right");
        request->operation = asked->operation;
        request->after_index = asked->after_index;
        request->after_token = asked->operation == DLOCK_OP_LIST && asked->after_token == 0 ? UINT64_MAX : asked->after_token;
        request->limit = (uint16_t)limit;
        request->consistent = (asked->operation == DLOCK_OP_CHECK || asked->operation == DLOCK_OP_SHOW || asked->operation == DLOCK_OP_QUEUE) && asked->consistent;
        request->exact = asked->operation == DLOCK_OP_WATCH && asked->exact;
        request->token = asked->operation == DLOCK_OP_RELEASE || asked->operation == DLOCK_OP_CHECK || names_hold ? asked->token : 0;
        request->now = asked->operation == DLOCK_OP_BREAK && asked->now;
        request->finding = asked->operation == DLOCK_OP_RELEASE && asked->token == 0;
        request->backup = asked->backup;
        request->offset = asked->offset;
        request->timeout_ms = asked->timeout_ms ? asked->timeout_ms : dlock->timeout_ms;
        r = asked->operation == DLOCK_OP_PREEMPT || asked->operation == DLOCK_OP_OPEN || asked->operation == DLOCK_OP_BREAK ? holder_describe(dlock, asked, request) : 0;
        if (r == 0)
                r = identity_load_cluster(dlock);
        if (r == 0 && request_names_client(request))
                r = identity_load_client(dlock);
        return r;
}

static struct request_list *list_of(struct dlock *dlock, const struct request *request)
{
        if (request->on_wire)
                return request->listener ? &dlock->listening : &dlock->sent;
        return request->hold ? &dlock->renewals : &dlock->queued;
}

/* The first request after a quiet time begins anew, whatever went wrong before it. */
static void forget_failures(struct dlock *dlock)
{
        dlock->failures = 0;
        dlock->down_since = dlock->retry_at = 0;
        dlock->alive = dlock->round_over = false;
        dlock->why[0] = 0;
}

int request_enter(struct dlock *dlock, struct request *request, uint64_t deadline)
{
        int r = dlock->first_free == UINT32_MAX ? grow_slots(dlock) : 0;
        struct slot *slot;

        if (r < 0)
                return r;
        if (dlock->pending == 0)
                forget_failures(dlock);
        request->id = request_is_own(request) ? RENEWAL_ID | ++dlock->last_renewal : ++dlock->last_id;
        request->slot = dlock->first_free;
        slot = &dlock->slots[request->slot];
        dlock->first_free = slot->next_free;
        slot->request = request;
        request->deadline = deadline;
        dlock->next_deadline = MIN(dlock->next_deadline, request->deadline);
        dlock->pending++;
        if (request->hold)
                dlock->renewing++;
        if (request_looks_on(request))
                dlock->watching++;
        dlock->listener_count += request->listener != NULL;
        dlock->submitted = dlock->fresh = true;
        request->on_wire = false;
        TAILQ_INSERT_TAIL(list_of(dlock, request), request, link);
        return 0;
}

static int64_t submit(struct dlock *dlock, struct request *request)
{
        if (dlock->pending - dlock->renewing - dlock->watching == REQUESTS_MAX)
                return set_error(dlock, -EAGAIN, "%d requests are in flight already", REQUESTS_MAX);
        if (request_enter(dlock, request, clock_boottime_ms() + request->timeout_ms) < 0)
                return set_error(dlock, -ENOMEM, "out of memory");
        return (int64_t)request->id;
}

int64_t dlock_submit(struct dlock *dlock, const struct dlock_request *asked)
{
        struct request *request;
        int64_t r;

        if (is_forked(dlock))
                return -ECHILD;
        request = request_new(dlock);
        if (!request)
                return set_error(dlock, -ENOMEM, "out of memory");
        r = set_request(dlock, asked, request);
        if (r == 0)
                r = submit(dlock, request);
        if (r < 0)
                request_free(dlock, request);
        return r;
}

/* --- on the wire --- */

static enum wire_type wire_type_of(enum dlock_operation operation)
{
        switch (operation) {
        case DLOCK_OP_PREEMPT:
                return WIRE_PREEMPT;
        case DLOCK_OP_RELEASE:
                return WIRE_RELEASE;
        case DLOCK_OP_CHECK:
                return WIRE_CHECK;
        case DLOCK_OP_SHOW:
                return WIRE_SHOW;
        case DLOCK_OP_QUEUE:
                return WIRE_QUEUE;
        case DLOCK_OP_LIST:
                return WIRE_LIST;
        case DLOCK_OP_HISTORY:
                return WIRE_HISTORY;
        case DLOCK_OP_STATUS:
                return WIRE_STATUS;
        case DLOCK_OP_BACKUP:
                return WIRE_BACKUP;
        case DLOCK_OP_MEMBERS:
                return WIRE_MEMBERS;
        case DLOCK_OP_TRANSFER:
                return WIRE_TRANSFER;
        case DLOCK_OP_REMOVE:
                return WIRE_REMOVE;
        case DLOCK_OP_OPEN:
                return WIRE_OPEN;
        case DLOCK_OP_CLOSE:
                return WIRE_CLOSE;
        case DLOCK_OP_RENEW:
                return WIRE_RENEW;
        case DLOCK_OP_KEEP:
                return WIRE_KEEP;
        case DLOCK_OP_BREAK:
                return WIRE_BREAK;
        case DLOCK_OP_WATCH:
                return WIRE_WATCH;
        }
        abort();
}

/* Listeners are apart: nothing waits for them. */
static void count_sent(struct dlock *dlock, const struct request *request, int more)
{
        if (request->listener)
                return;
        dlock->sent_count += (size_t)more;
        if (request_is_patient(request))
                dlock->patient_sent += (size_t)more;
}

/* How long this node may take. It answers "unknown" a little before the client stops waiting, because it knows why;
 * and while there are nodes that were not asked yet, in time for one of them. */
static uint32_t patience_for_node(const struct dlock *dlock, const struct request *request, uint64_t now)
{
        uint64_t left = request->deadline > now ? request->deadline - now : 1;

        if (request->hold)
                left = MIN(left, (uint64_t)renewal_patience(request));
        else if (request->node_ms > 0)
                left = MIN(left, (uint64_t)request->node_ms);
        else if (request->moves + 1 < dlock->servers.found_count && left > QUIET_MS)
                left = MAX(left / 2, (uint64_t)QUIET_MS);
        return (uint32_t)(left - MIN(left / 10, UINT64_C(100)));
}

void request_send(struct dlock *dlock, struct request *request, uint64_t now)
{
        struct slot *slot = &dlock->slots[request->slot];
        struct wire_request frame;

        /* Not before: it may have waited for longer than the nodes know a handle. */
        if (request_changes(request) && !request->finding && request->first_sent == 0)
                next_request_id(slot, now);
        frame = (struct wire_request){
                .type = request->cancelling ? WIRE_CANCEL : request->finding ? WIRE_CHECK : request->awaits ? WIRE_AWAIT : wire_type_of(request->operation),
                .tag = request->id << SLOT_BITS | request->slot,
                .deadline_ms = patience_for_node(dlock, request, now),
                .min_index = dlock->min_index,
                .consistent = request->consistent || request->finding,
                .token = request->token,
                .bound = request->bound,
                .session = request->session,
                .ttl_ms = request->ttl_ms,
                .delay_ms = request->lock_delay_ms,
                .period_ms = request->period_ms,
                .slots = request->slots,
                .further = { .data = request->further.data, .size = (uint16_t)request->further.size, .count = request->further_count },
                .wait = request->wait_ms > 0,
                .now = request->now,
                .handle = slot->handle,
                .seq = slot->seq,
                .name = request->name,
                .holder = { .data = request->holder.data, .size = (uint16_t)request->holder.size },
                .after = request->after,
                .after_token = request->after_token,
                .after_index = request->after_index,
                .exact = request->exact,
                .limit = request->limit,
                .backup = request->backup,
                .offset = request->offset,
        };

        (void)memcpy(frame.node, request->node, sizeof(frame.node));
        if (request_names_client(request) || frame.type == WIRE_CHECK)
                frame.client = dlock->client;
        wire_write_request(&dlock->link.out, &frame);
        if (request->first_sent == 0)
                request->first_sent = now;
        request->last_sent = now;
        request->copies++;
        TAILQ_REMOVE(list_of(dlock, request), request, link);
        request->on_wire = true;
        TAILQ_INSERT_TAIL(list_of(dlock, request), request, link);
        count_sent(dlock, request, 1);
        if (request->hold)
                dlock->hold_wake = MIN(dlock->hold_wake, now + 2 * (uint64_t)renewal_patience(request));
}

static void requeue(struct dlock *dlock, struct request *request)
{
        TAILQ_REMOVE(list_of(dlock, request), request, link);
        request->on_wire = false;
        TAILQ_INSERT_HEAD(list_of(dlock, request), request, link);
        count_sent(dlock, request, -1);
        if (request_acts(request))
                dlock->next_deadline = MIN(dlock->next_deadline, request->first_sent + LIMIT_RESEND_MS);
}

void request_requeue_sent(struct dlock *dlock)
{
        struct request *request;

        while ((request = TAILQ_LAST(&dlock->listening, request_list)))
                requeue(dlock, request);
        while ((request = TAILQ_LAST(&dlock->sent, request_list)))
                requeue(dlock, request);
}

void request_cancel(struct dlock *dlock, struct request *request, enum wire_outcome kept, const char *reason)
{
        request->cancelling = true;
        request->kept = kept;
        (void)snprintf(request->kept_reason, sizeof(request->kept_reason), "%s", reason);
        request->moves = 0;
        requeue(dlock, request);
}

void request_found(struct dlock *dlock, struct request *request, uint64_t token)
{
        requeue(dlock, request);
        request->finding = false;
        request->token = token;
        request->first_sent = request->last_sent = 0;
        request->copies = request->moves = 0;
        request->told[0] = 0;
}

/* --- the end --- */

/* A handle that was granted something, or whose request was called off, is known to the nodes; one whose last outcome is not
 * known is not used again. */
static void settle_request_id(struct dlock *dlock, const struct request *request, enum dlock_outcome outcome)
{
        struct slot *slot = &dlock->slots[request->slot];

        if (!request_changes(request) || request->finding)
                return;
        if (outcome == DLOCK_YES || (request->cancelling && outcome != DLOCK_UNKNOWN))
                slot->accepted = request->first_sent;
        else if (outcome != DLOCK_NO)
                slot->accepted = 0;
}

/* Off its list, and its slot is free. */
static void leave(struct dlock *dlock, struct request *request)
{
        TAILQ_REMOVE(list_of(dlock, request), request, link);
        if (request->on_wire)
                count_sent(dlock, request, -1);
        request->on_wire = false;
        free_slot(dlock, request);
        dlock->pending--;
        if (request->hold)
                dlock->renewing--;
        if (request_looks_on(request))
                dlock->watching--;
        dlock->listener_count -= request->listener != NULL;
        if (dlock->pending == 0)
                dlock->next_deadline = UINT64_MAX;
}

void request_drop(struct dlock *dlock, struct request *request)
{
        leave(dlock, request);
        request_free(dlock, request);
}

static void fill_answer(struct request *request, enum dlock_outcome outcome)
{
        struct dlock_answer *answer = &request->answer;

        answer->id = request->id;
        answer->operation = request->operation;
        answer->outcome = outcome;
        answer->lock = request->further_count > 0 ? request->asked_first.text : request->name.text;
        answer->reason = request->reason;
        answer->server = request->server;
}

void request_detach(struct dlock *dlock, struct request *request)
{
        settle_request_id(dlock, request, DLOCK_YES);
        leave(dlock, request);
}

void request_answer(struct dlock *dlock, struct request *request, enum dlock_outcome outcome)
{
        fill_answer(request, outcome);
        TAILQ_INSERT_TAIL(&dlock->answered, request, link);
}

struct request *request_of_id(struct dlock *dlock, uint64_t id)
{
        for (uint32_t i = 0; i < dlock->slot_count; i++)
                if (dlock->slots[i].request && dlock->slots[i].request->id == id)
                        return dlock->slots[i].request;
        return NULL;
}

static void finish(struct dlock *dlock, struct request *request, enum dlock_outcome outcome)
{
        settle_request_id(dlock, request, outcome);
        fill_answer(request, outcome);
        leave(dlock, request);
        if (!request_is_own(request)) {
                TAILQ_INSERT_TAIL(&dlock->answered, request, link);
                return;
        }
        (request->hold ? hold_take_answer : request->listener ? hold_take_news : request->watch ? watch_take_answer : wait_take_answer)(request);
        request_free(dlock, request);
}

void request_finish(struct dlock *dlock, struct request *request, enum dlock_outcome outcome, const char *format, ...)
{
        va_list values;

        va_start(values, format);
        (void)vsnprintf(request->reason, sizeof(request->reason), format, values);
        va_end(values);
        finish(dlock, request, outcome);
}

void request_finish_plainly(struct dlock *dlock, struct request *request, enum dlock_outcome outcome)
{
        request->reason[0] = 0;
        finish(dlock, request, outcome);
}

void request_not_cancelled(struct dlock *dlock, struct request *request, const char *why)
{
        request->answer.owner = NULL;
        request->answer.token = request->answer.index = 0;
        request_finish(dlock, request, DLOCK_UNKNOWN, "it was refused, but had been sent more than once, and a copy of it may happen still: %s", why);
}

/* This server could not tell, and why, before it was asked again. */
static bool was_told_by(const struct request *request, const char *server)
{
        size_t size = strlen(server);

        return *request->told && strncmp(request->told + 2, server, size) == 0 && request->told[2 + size] == ':';
}

static void explain_silence(const struct dlock *dlock, const struct request *request, char why[2 * ERROR_BYTES])
{
        bool trying = dlock->link.state == LINK_CONNECTING || dlock->link.state == LINK_GREETING;
        const char *server = dlock->link.server;

        if (request->on_wire && was_told_by(request, server))
                (void)snprintf(why, 2 * ERROR_BYTES, "%s", request->told + 2);
        else if (request->on_wire)
                (void)snprintf(why, 2 * ERROR_BYTES, "no answer from %s in time", server);
        else if (trying)
                (void)snprintf(why, 2 * ERROR_BYTES, "%s%s%s: no answer in time", dlock->why, *dlock->why ? "; " : "", server);
        else if (*dlock->why)
                (void)snprintf(why, 2 * ERROR_BYTES, "%s", dlock->why);
        else
                (void)snprintf(why, 2 * ERROR_BYTES, "%s%sthere was no time to ask", server, *server ? ": " : "");
}

static void finish_without_answer(struct dlock *dlock, struct request *request)
{
        static const char perhaps[] = ": it may have happened or not";
        bool acts = request_acts(request);
        char why[2 * ERROR_BYTES];

        explain_silence(dlock, request, why);
        request->answer.leader_age_ms = -1;
        if (request->cancelling)
                request_not_cancelled(dlock, request, why);
        else if (request->on_wire)
                request_finish(dlock, request, DLOCK_UNKNOWN, "%s%s%s", why,
                               !acts ? (request->finding ? ", and nothing was released" : "") : strstr(why, perhaps) ? "" : perhaps,
                               was_told_by(request, dlock->link.server) ? "" : request->told);
        else if (!acts && *request->told)
                request_finish(dlock, request, DLOCK_UNKNOWN, "nobody could tell: %s%s", why, strstr(why, request->told + 2) ? "" : request->told);
        else if (request->first_sent == 0 || !acts)
                request_finish(dlock, request, DLOCK_UNREACHABLE, "no server could be reached: %s", why);
        else
                request_finish(dlock, request, DLOCK_UNKNOWN, "it may have happened or not, and nobody could tell: %s", why);
}

/* When the request ends without an answer: at the end of its patience, or when it could be sent again no more. */
static uint64_t end_of(const struct request *request)
{
        if (!request->on_wire && request->first_sent && request_acts(request))
                return MIN(request->deadline, request->first_sent + LIMIT_RESEND_MS);
        return request->deadline;
}

static void expire_list(struct dlock *dlock, struct request_list *list, uint64_t now)
{
        struct request *request, *next;

        for (request = TAILQ_FIRST(list); request; request = next) {
                uint64_t end = end_of(request);

                next = TAILQ_NEXT(request, link);
                if (now >= end)
                        finish_without_answer(dlock, request);
                else
                        dlock->next_deadline = MIN(dlock->next_deadline, end);
        }
}

void request_expire(struct dlock *dlock, uint64_t now)
{
        dlock->next_deadline = UINT64_MAX;
        expire_list(dlock, &dlock->sent, now);
        expire_list(dlock, &dlock->listening, now);
        expire_list(dlock, &dlock->queued, now);
        expire_list(dlock, &dlock->renewals, now);
}

static void give_up_list(struct dlock *dlock, struct request_list *list)
{
        struct request *request, *next;

        for (request = TAILQ_FIRST(list); request; request = next) {
                next = TAILQ_NEXT(request, link);
                if (request->first_sent == 0 || !request_acts(request))
                        finish_without_answer(dlock, request);
        }
}

void request_give_up(struct dlock *dlock)
{
        give_up_list(dlock, &dlock->queued);
        give_up_list(dlock, &dlock->renewals);
}

void request_free(struct dlock *dlock, struct request *request)
{
        if (!request)
                return;
        free(request->rows);
        if (!dlock->spare) {
                dlock->spare = request;
                return;
        }
        bytes_done(&request->holder);
        bytes_done(&request->further);
        free(request);
}

void request_free_spare(struct dlock *dlock)
{
        if (dlock->spare) {
                bytes_done(&dlock->spare->holder);
                bytes_done(&dlock->spare->further);
        }
        free(dlock->spare);
        dlock->spare = NULL;
}
