/* The lock room: requests in any order, those of clients that guess tokens and ids too, appended before what they rest on is applied. What is
 * decided comes true when everything is applied; what waits is let in as soon as it may; and no order of entries is one that cannot be. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "unit/lock_kit.h"
#include "unit/suite.h"

#define STEPS 4000
#define CLIENTS 4
#define LOCKS 4
#define PENDING 24
#define HANDLES 12

static uint64_t state;

static uint64_t dice(uint64_t sides)
{
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        return state % sides;
}

/* Appended, and not applied. */
static struct lock_change pending[PENDING];
static uint64_t pending_ms[PENDING];
static size_t pending_count;
static uint64_t applied, now, last_token[LOCKS], lost_until[LOCKS];
static struct handle {
        struct lock_request request;
        uint64_t seq;
} handles[HANDLES];

static struct lock_name name_of(unsigned lock)
{
        return (struct lock_name){ .size = 1, .text = { (char)('a' + (int)lock) } };
}

/* Which locks, as bits: by the entry that was to grant them, or to put somebody in their queues. */
static unsigned wanted[LOCKS + STEPS * 8];

static unsigned number_of(const struct lock_name *name)
{
        return (unsigned)(name->text[0] - 'a');
}

static unsigned locks_of(const struct lock_name *name, struct names_view further)
{
        unsigned locks = 1u << number_of(name);
        struct lock_name next;

        while (names_view_take(&further, &next))
                locks |= 1u << number_of(&next);
        return locks;
}

/* The names of these locks but the first. */
static struct names_view further_of(unsigned locks)
{
        static uint8_t data[1u << LOCKS][2 * LOCKS];
        struct names_view further = { .data = data[locks] };

        for (unsigned i = 0; i < LOCKS; i++)
                if ((locks & (1u << i)) != 0 && (locks & ((1u << i) - 1)) != 0) {
                        data[locks][further.size++] = 1;
                        data[locks][further.size++] = (uint8_t)('a' + i);
                        further.count++;
                }
        return further;
}

static void add(const struct lock_change *change)
{
        ck_assert_uint_lt(index_next, sizeof(wanted) / sizeof(wanted[0]));
        wanted[index_next] = lock_change_wants(change->kind) ? locks_of(&change->name, change->further) : 0;
        lock_overlay_add(overlay, index_next++, change);
        pending_ms[pending_count] = now;
        pending[pending_count++] = *change;
}

/* The queue is one that the leader looks at. */
static bool is_held_up(const struct lock_name *name)
{
        struct lock_waiter_view waiter;
        bool found = false;

        for (bool more = lock_table_next_held_up(table, NULL, now, &waiter); more && !found;) {
                found = memcmp(waiter.name, name->text, 1) == 0;
                more = !found && lock_table_next_held_up(table, &(struct lock_name){ .size = 1, .text = { waiter.name[0] } }, now, &waiter);
        }
        return found;
}

static bool is_passed_over(const struct lock_waiter_view *waiter)
{
        struct lock_session_view session;

        return lock_table_waits_in_vain(table, waiter, now) || !lock_table_find_session(table, waiter->session, &session) || session.ended;
}

/* The first of the queue with an id below this one that may have the lock, but for its room. */
static bool find_first(const struct lock_name *name, uint64_t before, struct lock_waiter_view *ret_waiter)
{
        for (uint64_t id = 1; id < before; id++)
                if (lock_table_find_waiter(table, id, ret_waiter) && (wanted[id] & (1u << number_of(name))) != 0 && !is_passed_over(ret_waiter))
                        return true;
        return false;
}

/* Counted by hand. */
static bool has_room(const struct lock_name *name, uint16_t slots)
{
        struct lock_view lock = { .token = 0 };
        size_t count = 0;

        while (lock_table_next_hold(table, name, lock.token, &lock)) {
                if (lock.slots != slots || slots == 0)
                        return false;
                count++;
        }
        return count < slots_capacity(slots);
}

static bool is_nobodys(unsigned lock)
{
        return now < lost_until[lock] || now < lock_table_quiet_until(table);
}

/* Who waits may have each of the locks that it waits for. */
static bool may_have_all(const struct lock_waiter_view *waiter)
{
        struct lock_waiter_view before;

        for (unsigned i = 0; i < LOCKS; i++) {
                struct lock_name name = name_of(i);

                if ((wanted[waiter->id] & (1u << i)) != 0 && (is_nobodys(i) || !has_room(&name, waiter->slots) || find_first(&name, waiter->id, &before)))
                        return false;
        }
        return !is_passed_over(waiter);
}

/* Of who waits for several locks, or asks for them, none is held before all are. */
static void check_all_or_nothing(void)
{
        struct lock_waiter_view waiter;

        for (unsigned i = 0; i < LOCKS; i++) {
                struct lock_name name = name_of(i);
                struct lock_view lock, other;

                if (!lock_table_find_hold(table, &name, applied, &lock))
                        continue;
                ck_assert(lock.waiter == 0 || !lock_table_find_waiter(table, lock.waiter, &waiter));
                for (unsigned j = 0; j < LOCKS; j++) {
                        name = name_of(j);
                        if ((wanted[lock.waiter ? lock.waiter : applied] & (1u << j)) != 0)
                                ck_assert(lock_table_find_hold(table, &name, applied, &other) && other.waiter == lock.waiter && other.session == lock.session);
                }
        }
}

/* Nobody owns a lock that somebody in its queue may have, unless the leader is to say so; and those who own it may do so together. */
static void check_queues(void)
{
        check_all_or_nothing();
        for (unsigned i = 0; i < LOCKS; i++) {
                struct lock_name name = name_of(i);
                struct lock_view lock = { .token = 0 }, first;
                struct lock_waiter_view waiter;
                size_t count = 0, fresh = 0;

                while (lock_table_next_hold(table, &name, lock.token, &lock)) {
                        fresh += lock.token == applied;
                        if (count++ == 0)
                                first = lock;
                        ck_assert_uint_eq(lock.slots, first.slots);
                        ck_assert(lock.token != applied || !is_nobodys(i));
                        if (lock.token == applied && lock_table_find_hold(table, &name, applied, &lock))
                                ck_assert(!find_first(&name, lock.waiter ? lock.waiter : applied, &waiter));
                }
                ck_assert_uint_le(fresh, 1);
                if (count > 0) {
                        ck_assert_uint_le(count, slots_capacity(first.slots));
                        ck_assert_uint_eq(count, first.holders);
                        ck_assert_uint_ge(first.token, last_token[i]);
                        last_token[i] = first.token;
                }
                if (lock_table_queue_length(table, &name) > 0 && (count == 0 || (find_first(&name, applied + 1, &waiter) && has_room(&name, waiter.slots))))
                        ck_assert(is_held_up(&name));
        }
}

/* L1, by another count. */
static void note_losses(const struct lock_change *change)
{
        struct lock_session_view session = { .lease = false };
        bool expires = change->kind == LOCK_CHANGE_EXPIRE && lock_table_find_session(table, change->session, &session);
        struct lock_view broken = { .token = 0 };

        if (change->kind == LOCK_CHANGE_BREAK && change->now)
                (void)lock_table_find_hold(table, &change->name, change->token, &broken);

        for (unsigned i = 0; i < LOCKS; i++) {
                struct lock_name name = name_of(i);
                struct lock_view lock = { .token = 0 };

                while (lock_table_next_hold(table, &name, lock.token, &lock)) {
                        bool lost = (expires && lock.session == change->session) || (broken.lease && lock.session == broken.session) ||
                                    (broken.token != 0 && change->name.text[0] == name.text[0] && change->token == lock.token);

                        if (lost && lock.delay_ms != 0 && lost_until[i] < now + lock.delay_ms)
                                lost_until[i] = now + lock.delay_ms;
                }
        }
}

/* What the disk has. */
static struct row {
        enum lock_image_kind kind;
        char key[LIMIT_LOCK_NAME_BYTES + 1], label[LIMIT_LOCK_NAME_BYTES + 1];
        uint64_t number;
        size_t size;
        uint8_t body[1024];
} *rows[2];
static size_t row_count[2], row_capacity[2];

static void write_row(unsigned disk, const struct lock_image *image)
{
        size_t i = 0;

        while (i < row_count[disk] && (rows[disk][i].kind != image->kind || strcmp(rows[disk][i].key, image->key) != 0))
                i++;
        if (image->deleted) {
                ck_assert_uint_lt(i, row_count[disk]);
                rows[disk][i] = rows[disk][--row_count[disk]];
                return;
        }
        if (i == row_count[disk] && ++row_count[disk] > row_capacity[disk])
                rows[disk] = realloc(rows[disk], (row_capacity[disk] = 2 * row_count[disk]) * sizeof(struct row));
        rows[disk][i].kind = image->kind;
        (void)strcpy(rows[disk][i].key, image->key);
        (void)strcpy(rows[disk][i].label, image->label);
        rows[disk][i].number = image->number;
        rows[disk][i].size = image->body.size;
        ck_assert_uint_le(image->body.size, sizeof(rows[disk][i].body));
        memcpy(rows[disk][i].body, image->body.data, image->body.size);
}

static void write_all(unsigned disk, struct lock_table *from)
{
        struct lock_image image = { .kind = LOCK_IMAGE_LOCK };

        while (lock_table_take_image(from, &image))
                write_row(disk, &image);
        bytes_done(&image.body);
}

static struct lock_table *twin;              /* that was loaded from the disk some time ago, and follows */

static void follow(void)
{
        write_all(0, table);
        if (twin) {
                write_all(1, twin);
                ck_assert_uint_eq(row_count[0], row_count[1]);
                for (size_t i = 0; i < row_count[0]; i++) {
                        size_t j = 0;

                        while (j < row_count[1] && (rows[1][j].kind != rows[0][i].kind || strcmp(rows[1][j].key, rows[0][i].key) != 0))
                                j++;
                        ck_assert_uint_lt(j, row_count[1]);
                        ck_assert_uint_eq(rows[0][i].size, rows[1][j].size);
                        ck_assert(memcmp(rows[0][i].body, rows[1][j].body, rows[0][i].size) == 0);
                }
                lock_table_free(twin);
        }
        twin = lock_table_new();
        free(rows[1]);
        rows[1] = malloc((row_capacity[1] = row_count[1] = row_count[0]) * sizeof(struct row));
        if (row_count[0] > 0)
                memcpy(rows[1], rows[0], row_count[0] * sizeof(struct row));
        for (size_t i = 0; i < row_count[0]; i++)
                ck_assert(lock_table_load(twin, rows[0][i].kind, rows[0][i].key, rows[0][i].label, rows[0][i].number, rows[0][i].body, rows[0][i].size));
        ck_assert(lock_table_load_finish(twin));
}

/* The lease that goes as a whole by this change, or 0. */
static uint64_t lease_that_ends(const struct lock_change *change)
{
        struct lock_session_view session;
        struct lock_view lock;

        if (lock_change_ends(change->kind))
                return lock_table_find_session(table, change->session, &session) && session.lease ? session.id : 0;
        if ((change->kind == LOCK_CHANGE_KEEP || (change->kind == LOCK_CHANGE_BREAK && change->now)) && lock_table_find_hold(table, &change->name, change->token, &lock) && lock.lease)
                return lock.session;
        return 0;
}

static void check_gone(const struct lock_change *change, uint64_t lease)
{
        bool leaves = change->kind == LOCK_CHANGE_LEAVE || (change->kind == LOCK_CHANGE_CANCEL && change->token != 0);
        struct lock_session_view session;
        struct lock_waiter_view waiter;
        struct lock_view lock;

        ck_assert(lease == 0 || !lock_table_find_session(table, lease, &session));
        ck_assert(!leaves || !lock_table_find_waiter(table, change->token, &waiter));
        for (unsigned i = 0; i < LOCKS; i++) {
                struct lock_name name = name_of(i);

                ck_assert(lease == 0 || !lock_table_find_of(table, &name, NULL, lease, &lock));
                ck_assert(!leaves || !lock_table_find_waited(table, &name, change->token, &lock));
        }
}

static void apply_one(void)
{
        const struct lock_moment moment = { .index = ++applied, .cluster_ms = pending_ms[0], .wall_ms = now };
        uint64_t later = now, lease = lease_that_ends(&pending[0]);
        size_t held = lock_table_lock_count(table);

        now = moment.cluster_ms;
        note_losses(&pending[0]);
        now = later;
        lock_table_apply(table, &moment, &pending[0]);
        if (twin)
                lock_table_apply(twin, &moment, &pending[0]);
        check_gone(&pending[0], lease);
        ck_assert(pending[0].kind != LOCK_CHANGE_KEEP || lock_table_lock_count(table) == held);
        lock_overlay_applied(overlay, applied);
        memmove(&pending[0], &pending[1], --pending_count * sizeof(pending[0]));
        memmove(&pending_ms[0], &pending_ms[1], pending_count * sizeof(pending_ms[0]));
        now = moment.cluster_ms;
        check_queues();
        now = later;
}

static void apply_all(void)
{
        while (pending_count > 0)
                apply_one();
}

/* What nobody asked for. */
static void be_leader(bool thorough)
{
        struct lock_session_view session = { .id = 0 };
        struct lock_waiter_view waiter;

        apply_all();
        while (lock_table_next_ended(table, 0, &session)) {
                struct lock_change change = end_of(session.id, session.client);

                add(&change);
                apply_all();
        }
        for (bool more = lock_table_next_held_up(table, NULL, now, &waiter); more;) {
                struct lock_change change = { .kind = LOCK_CHANGE_GRANT };
                bool due = waiter.id != 0;

                (void)client_id_set(&change.client, waiter.client, strlen(waiter.client));
                (void)principal_set(&change.principal, "uid:1", 5);
                (void)lock_name_set(&change.name, waiter.name, waiter.name_size);
                if (due)
                        add(&change);
                if (due && thorough)
                        apply_all();
                more = lock_table_next_held_up(table, due && thorough ? NULL : &change.name, now, &waiter);
        }
}

static void end_some(void)
{
        struct lock_session_view session;

        if (pending_count < PENDING && lock_table_next_session(table, dice(applied + 1), &session) && !lock_overlay_ends(overlay, session.id)) {
                struct lock_change change = end_of(session.id, session.client);

                add(&change);
        }
}

/* Somebody's, or nobody's; most of them of late. */
static uint64_t guess(void)
{
        struct lock_session_view session;
        struct lock_name name = name_of((unsigned)dice(LOCKS));
        struct lock_view lock;

        switch (dice(6)) {
        case 0:
                if (lock_table_next_session(table, dice(applied + 1), &session))
                        return session.id;
                break;
        case 1:
        case 2:
                if (lock_table_find(table, &name, &lock))
                        return dice(2) && lock.waiter ? lock.waiter : lock.token;
                break;
        }
        return index_next > 12 ? index_next - dice(12) : 1 + dice(12);
}

/* Most know what is theirs. */
static uint64_t own_session(const char *client)
{
        struct lock_session_view session = { .id = dice(applied + 1) };

        while (lock_table_next_session(table, session.id, &session))
                if (!session.lease && strcmp(session.client, client) == 0)
                        return session.id;
        return guess();
}

static uint64_t own_hold(const struct lock_request *request)
{
        struct lock_view lock = { .token = 0 };
        size_t skip = dice(3);

        while (lock_table_next_hold(table, &request->name, lock.token, &lock))
                if ((request->kind == LOCK_CHANGE_BREAK || strcmp(lock.owner, request->client.text) == 0) && skip-- == 0)
                        return lock.waiter != 0 && dice(2) ? lock.waiter : lock.token;
        return guess();
}

static void want_several(struct lock_request *request)
{
        unsigned locks = 1 + (unsigned)dice((1u << LOCKS) - 1);

        for (unsigned i = LOCKS; i-- > 0;)
                if ((locks & (1u << i)) != 0)
                        request->name = name_of(i);
        request->further = further_of(locks);
        if (request->further.count > 0)
                request->period_ms = request->slots = 0;
}

static struct lock_request any_request(struct handle *handle)
{
        static const enum lock_change_kind kinds[] = { LOCK_CHANGE_PREEMPT, LOCK_CHANGE_PREEMPT, LOCK_CHANGE_PREEMPT, LOCK_CHANGE_RELEASE, LOCK_CHANGE_RELEASE,
                                                       LOCK_CHANGE_CANCEL, LOCK_CHANGE_OPEN, LOCK_CHANGE_CLOSE, LOCK_RENEW, LOCK_CHANGE_KEEP, LOCK_CHANGE_BREAK };
        static const uint16_t slots_of[] = { 0, SLOTS_SHARED, SLOTS_SHARED, 2, 3, 3, 3 };
        enum lock_change_kind kind = kinds[dice(sizeof(kinds) / sizeof(kinds[0]))];
        struct lock_request request;
        char client[8];

        if (kind == LOCK_CHANGE_CANCEL || dice(12) == 0) {
                request = handle->request;           /* a retry, or the wish that it had never been */
                if (kind == LOCK_CHANGE_CANCEL && request.kind != LOCK_RENEW && request.name.size > 0) {
                        request.kind = kind;
                        request.token = request.session = request.ttl_ms = request.delay_ms = 0;
                        request.wait = false;
                        request.period_ms = 0;
                        request.slots = 0;
                        request.further = (struct names_view){ .data = NULL };
                }
                request.cluster_ms = now;
                return request;
        }
        (void)snprintf(client, sizeof(client), "c%u", (unsigned)dice(CLIENTS));
        request = request_of(kind, client, NULL);
        if (handle->seq > 0 && dice(2)) {
                request.handle = handle->request.handle;
                request.client = handle->request.client;
                request.seq = handle->seq + 1;
        }
        request.cluster_ms = now;
        if (lock_change_names(kind))
                request.name = name_of((unsigned)dice(LOCKS));
        if (kind == LOCK_CHANGE_OPEN) {
                request.ttl_ms = 5000;
                request.delay_ms = dice(2) ? 1 + (uint32_t)dice(100) : 0;
        }
        if (kind == LOCK_CHANGE_RELEASE || kind == LOCK_CHANGE_KEEP || kind == LOCK_CHANGE_BREAK)
                request.token = dice(4) ? own_hold(&request) : guess();
        if (kind == LOCK_CHANGE_CLOSE || kind == LOCK_RENEW)
                request.session = dice(3) ? own_session(request.client.text) : guess();
        request.now = kind == LOCK_CHANGE_BREAK && dice(2);
        if (kind != LOCK_CHANGE_PREEMPT)
                return request;
        if (dice(3) == 0)
                request.session = dice(8) ? own_session(request.client.text) : guess();
        else if (dice(3))
                request.ttl_ms = 5000;
        if (request.ttl_ms != 0 && dice(2))
                request.delay_ms = 1 + (uint32_t)dice(100);
        if (dice(8) == 0)
                request.period_ms = 200;
        request.slots = slots_of[dice(sizeof(slots_of) / sizeof(slots_of[0]))];
        if (dice(2))
                want_several(&request);
        request.wait = (request.session || request.ttl_ms) && dice(4);
        return request;
}

/* Of the locks that are wanted, so many are held so. */
static unsigned count_held(const struct lock_request *request, const struct lock_decision *decision, uint64_t session)
{
        unsigned locks = locks_of(&request->name, request->further), count = 0;
        struct lock_view lock;

        for (unsigned i = 0; i < LOCKS; i++) {
                struct lock_name name = name_of(i);

                count += (locks & (1u << i)) != 0 && lock_table_find_hold(table, &name, decision->token, &lock) && strcmp(lock.owner, decision->owner.text) == 0 &&
                         (session == 0 || lock.session == session);
        }
        return count;
}

/* In the very session it holds one of them. */
static bool has_own(const struct lock_request *request)
{
        unsigned locks = locks_of(&request->name, request->further);
        struct lock_view lock;

        for (unsigned i = 0; i < LOCKS && request->session != 0; i++) {
                struct lock_name name = name_of(i);

                if ((locks & (1u << i)) != 0 && lock_table_find_of(table, &name, NULL, request->session, &lock))
                        return true;
        }
        return false;
}

/* One of them is held by others, or nobody's for a while, or somebody who waits is first. */
static bool is_out_of_reach(const struct lock_request *request)
{
        unsigned locks = locks_of(&request->name, request->further);
        struct lock_waiter_view waiter;

        for (unsigned i = 0; i < LOCKS; i++) {
                struct lock_name name = name_of(i);

                if ((locks & (1u << i)) != 0 && (!has_room(&name, request->slots) || is_nobodys(i) || find_first(&name, applied + 1, &waiter)))
                        return true;
        }
        return false;
}

/* Each has room, and of one the delay ends then. */
static bool is_delayed_until(const struct lock_request *request, uint64_t until_ms)
{
        unsigned locks = locks_of(&request->name, request->further);
        bool found = false;

        for (unsigned i = 0; i < LOCKS; i++) {
                struct lock_name name = name_of(i);

                if ((locks & (1u << i)) == 0)
                        continue;
                if (!has_room(&name, request->slots))
                        return false;
                found |= lost_until[i] == until_ms;
        }
        return found;
}

/* It is held in a session that is not its own. */
static bool is_with_others(const struct lock_request *request)
{
        struct lock_session_view session;
        struct lock_view lock;

        return lock_table_find_hold(table, &request->name, request->token, &lock) && lock_table_find_session(table, lock.session, &session) &&
               (!session.lease || session.held > 1);
}

static bool has_under(const struct lock_request *request, uint64_t token)
{
        struct lock_waiter_view waiter;
        struct lock_view lock;

        if (lock_table_find_waiter(table, token, &waiter) && strcmp(waiter.client, request->client.text) == 0 && (wanted[token] & (1u << number_of(&request->name))) != 0)
                return true;
        return (lock_table_find_hold(table, &request->name, token, &lock) || lock_table_find_waited(table, &request->name, token, &lock)) && strcmp(lock.owner, request->client.text) == 0;
}

static bool lives(const struct lock_request *request)
{
        struct lock_session_view session;

        return lock_table_find_session(table, request->session, &session) && !session.ended && strcmp(session.client, request->client.text) == 0 &&
               (request->kind != LOCK_RENEW || !session.broken) && (request->kind != LOCK_CHANGE_PREEMPT || !session.lease);
}

/* All that is appended is applied, and nothing else. */
static void comes_true(const struct lock_request *request, const struct lock_decision *decision)
{
        struct lock_view lock;

        switch (decision->verdict) {
        case LOCK_HELD:
                if (decision->owner.size > 0)
                        ck_assert_uint_gt(count_held(request, decision, 0), 0);
                ck_assert((decision->owner.size > 0 && has_own(request)) || is_out_of_reach(request));
                return;
        case LOCK_REENTERED:
                ck_assert_uint_eq(count_held(request, decision, request->session), 1u + request->further.count);
                return;
        case LOCK_NOT_OWNER:
                ck_assert(request->kind == LOCK_CHANGE_BREAK ? !lock_table_find_hold(table, &request->name, request->token, &lock) :
                          request->kind == LOCK_CHANGE_KEEP || !has_under(request, request->token));
                return;
        case LOCK_NO_SESSION:
                ck_assert(!lives(request));
                return;
        case LOCK_RENEWED:
        case LOCK_OTHER_TTL:
                ck_assert(lives(request));
                return;
        case LOCK_LATER:
                be_leader(true);
                ck_assert_int_ne(decide(request).verdict, LOCK_LATER);
                return;
        case LOCK_DELAYED:
                ck_assert(request->kind == LOCK_CHANGE_PREEMPT && !request->wait && is_delayed_until(request, decision->until_cluster_ms));
                return;
        case LOCK_NOT_ALONE:
                ck_assert(is_with_others(request));
                return;
        case LOCK_ACCEPTED:
        case LOCK_REPEATED:
        case LOCK_QUIET:
        case LOCK_TOO_SOON:
        case LOCK_FOREIGN_CLIENT:
        case LOCK_FULL:
        case LOCK_UNKNOWABLE:
                return;
        }
}

static void ask(void)
{
        struct handle *handle = &handles[dice(HANDLES)];
        struct lock_request request = any_request(handle);
        struct lock_decision decision;

        if (request.client.size == 0)
                return;
        if (pending_count == PENDING)
                apply_one();
        decision = decide(&request);
        if (request.kind != LOCK_CHANGE_CANCEL && request.kind != LOCK_RENEW) {
                handle->request = request;
                handle->seq = decision.verdict == LOCK_ACCEPTED ? request.seq : 0;
        }
        if (decision.verdict == LOCK_ACCEPTED) {
                add(&decision.change);
        } else if (dice(8) == 0) {
                apply_all();
                comes_true(&request, &decision);
        }
}

/* As another leader would: what is not committed has not happened. */
static void lose_leadership(void)
{
        lock_overlay_clear(overlay);
        pending_count = 0;
        index_next = applied + 1;
        memset(handles, 0, sizeof(handles));
}

/* The leader has done what is its. */
static void check_let_in(void)
{
        struct lock_waiter_view waiter;

        for (uint64_t id = 1; id <= applied; id++)
                ck_assert(!lock_table_find_waiter(table, id, &waiter) || !may_have_all(&waiter));
}

static void give_back_all(const struct lock_name *name)
{
        struct lock_view lock;

        while (lock_table_find(table, name, &lock)) {
                struct lock_change change = { .kind = LOCK_CHANGE_RELEASE, .seq = 1, .name = *name, .token = lock.token };

                memcpy(change.handle.bytes, &handle_next, sizeof(handle_next));
                handle_next++;
                (void)client_id_set(&change.client, lock.owner, strlen(lock.owner));
                (void)principal_set(&change.principal, "uid:1", 5);
                add(&change);
                apply_all();
        }
}

/* No two wait for each other: what is held is given back, and again, until all have had their turn. */
static void let_all_in(void)
{
        now += 5000;
        be_leader(true);
        while (lock_table_waiter_count(table) > 0) {
                size_t before = lock_table_waiter_count(table);

                for (unsigned i = 0; i < LOCKS; i++) {
                        struct lock_name name = name_of(i);

                        give_back_all(&name);
                }
                now += 200;                  /* also who wants it once in a period */
                be_leader(true);
                ck_assert_uint_lt(lock_table_waiter_count(table), before);
        }
}

START_TEST(what_is_decided_in_any_order_comes_true)
{
        state = (uint64_t)_i * UINT64_C(0x9e3779b97f4a7c15) + 1;
        pending_count = 0;
        applied = 0;
        now = 1000;
        memset(handles, 0, sizeof(handles));
        memset(last_token, 0, sizeof(last_token));
        memset(lost_until, 0, sizeof(lost_until));
        row_count[0] = row_count[1] = 0;
        twin = lock_table_free(twin);
        if (_i % 4 == 0)
                lock_table_be_quiet(table, 3000);
        for (unsigned i = 0; i < STEPS; i++) {
                now += dice(8);
                if (dice(40) == 0)
                        end_some();
                else if (dice(60) == 0 && pending_count + LOCKS < PENDING)
                        be_leader(false);
                else if (dice(5) == 0 && pending_count > 0)
                        apply_one();
                else
                        ask();
                if (dice(400) == 0)
                        lose_leadership();
                if (dice(200) == 0)
                        follow();
                if (dice(150) == 0) {
                        be_leader(true);
                        check_let_in();
                }
        }
        let_all_in();
        follow();
        twin = lock_table_free(twin);
        lock_table_free(table);
        table = lock_table_new();
}
END_TEST

static Suite *suite(void)
{
        const char *seeds = getenv("ORDERS_SEEDS");
        Suite *s = suite_create("orders");
        TCase *c = tcase_create("orders");

        tcase_add_checked_fixture(c, lock_setup, lock_teardown);
        tcase_set_timeout(c, 600);
        tcase_add_loop_test(c, what_is_decided_in_any_order_comes_true, 0, seeds ? atoi(seeds) : 40);
        suite_add_tcase(s, c);
        return s;
}

int main(void)
{
        return run_suite(suite());
}
