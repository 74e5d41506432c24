#include "lock/overlay.h"

#include <assert.h>
#include <bsd/sys/tree.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "base/alloc.h"
#include "base/cleanup.h"

/* A lock that a pending change grants, releases or waits for. */
struct named {
        RB_ENTRY(named) by_name, by_hold, by_wait;
        bool in_names, in_holds, in_waits;
        const struct lock_name *name;        /* of the change, or one of the further names; or what is looked for */
        struct pending *pending;
        size_t granted, released;            /* in_names: of all that are pending of this name */
        struct named *grant;                 /* in_names: the newest that grants; NULL: none */
        uint64_t once_at, ends_at;           /* in_names: the last that is remembered for a period; the last that ends the session of one of them */
        size_t come, let_in;                 /* in_waits: of all that are pending of this name, so many come to wait, and let somebody in */
        uint64_t unlike_at;                  /* in_waits: as long as this is pending, they do not all want the same */
};

/* One pending change. It stands in each tree under its key as long as no newer one does. */
struct pending {
        TAILQ_ENTRY(pending) order;
        RB_ENTRY(pending) by_token, by_client, by_handle, by_session;
        bool in_tokens, in_clients, in_handles, in_sessions;
        uint64_t index;
        struct lock_change change;
        const struct lock_name *given_up;    /* of which lock the token is given up; size 0: of all that a waiter has got or waits for */
        struct lock_name *further;           /* its own */
        unsigned named_count;
        struct named named[];
};

RB_HEAD(name_tree, named);
RB_HEAD(hold_tree, named);
RB_HEAD(wait_tree, named);
RB_HEAD(token_tree, pending);
RB_HEAD(client_tree, pending);
RB_HEAD(handle_tree, pending);
RB_HEAD(session_tree, pending);

struct lock_overlay {
        TAILQ_HEAD(pending_list, pending) order; /* by index */
        struct name_tree names;
        struct hold_tree holds;              /* that are granted in a session, by both */
        struct wait_tree waits;              /* by name */
        struct token_tree tokens;            /* that are given up, each of a lock: an entry may grant more than one; of a waiter, of all that it waited for */
        struct client_tree clients;
        struct handle_tree handles;
        struct session_tree sessions;        /* that end */
        size_t count, taking, ending;        /* of them, so many take a hold away, or end or give up one and are no release */
};

static const struct lock_name no_name = { .size = 0 };

static int compare_numbers(uint64_t a, uint64_t b)
{
        return (a > b) - (a < b);
}

static int compare_names(const struct named *a, const struct named *b)
{
        return lock_name_compare(a->name, b->name);
}

static int compare_holds(const struct named *a, const struct named *b)
{
        int order = compare_numbers(a->pending->change.session, b->pending->change.session);

        return order ? order : compare_names(a, b);
}

static int compare_clients(const struct pending *a, const struct pending *b)
{
        int order = (int)a->change.client.size - (int)b->change.client.size;

        return order ? order : memcmp(a->change.client.text, b->change.client.text, a->change.client.size);
}

static int compare_handles(const struct pending *a, const struct pending *b)
{
        return id128_compare(a->change.handle, b->change.handle);
}

static int compare_tokens(const struct pending *a, const struct pending *b)
{
        int order = compare_numbers(a->change.token, b->change.token);

        return order ? order : lock_name_compare(a->given_up, b->given_up);
}

static int compare_sessions(const struct pending *a, const struct pending *b)
{
        return compare_numbers(a->change.session, b->change.session);
}

RB_GENERATE_INTERNAL(name_tree, named, by_name, compare_names, _unused_ static)
RB_GENERATE_INTERNAL(hold_tree, named, by_hold, compare_holds, _unused_ static)
RB_GENERATE_INTERNAL(wait_tree, named, by_wait, compare_names, _unused_ static)
RB_GENERATE_INTERNAL(token_tree, pending, by_token, compare_tokens, _unused_ static)
RB_GENERATE_INTERNAL(client_tree, pending, by_client, compare_clients, _unused_ static)
RB_GENERATE_INTERNAL(handle_tree, pending, by_handle, compare_handles, _unused_ static)
RB_GENERATE_INTERNAL(session_tree, pending, by_session, compare_sessions, _unused_ static)

struct lock_overlay *lock_overlay_new(void)
{
        struct lock_overlay *overlay = alloc_zeroed(1, sizeof(*overlay));

        TAILQ_INIT(&overlay->order);
        return overlay;
}

struct lock_overlay *lock_overlay_free(struct lock_overlay *overlay)
{
        if (overlay) {
                lock_overlay_clear(overlay);
                free(overlay);
        }
        return NULL;
}

/* None before it is pending any more. */
static uint64_t first_index(const struct lock_overlay *overlay)
{
        return TAILQ_EMPTY(&overlay->order) ? UINT64_MAX : TAILQ_FIRST(&overlay->order)->index;
}

static void add_name(struct lock_overlay *overlay, struct named *named)
{
        struct named *older = RB_FIND(name_tree, &overlay->names, named);
        bool grants = named->pending->change.kind == LOCK_CHANGE_PREEMPT;

        if (older) {
                RB_REMOVE(name_tree, &overlay->names, older);
                older->in_names = false;
                named->granted = older->granted;
                named->released = older->released;
                named->grant = older->grant;
                named->once_at = older->once_at;
                named->ends_at = older->ends_at;
        }
        named->granted += grants;
        named->released += !grants;
        if (grants)
                named->grant = named;
        if (grants && named->pending->change.period_ms != 0)
                named->once_at = named->pending->index;
        (void)RB_INSERT(name_tree, &overlay->names, named);
        named->in_names = true;
        if (grants && named->pending->change.session != 0 && !RB_INSERT(hold_tree, &overlay->holds, named))
                named->in_holds = true;
}

/* It is in the table from now on, and a newer one stands for the name. */
static void drop_name(struct lock_overlay *overlay, struct named *named)
{
        struct named *newest = named->in_names ? NULL : RB_FIND(name_tree, &overlay->names, named);

        if (named->in_holds)
                RB_REMOVE(hold_tree, &overlay->holds, named);
        if (!newest) {
                RB_REMOVE(name_tree, &overlay->names, named);
                return;
        }
        if (named->pending->change.kind == LOCK_CHANGE_PREEMPT)
                newest->granted--;
        else
                newest->released--;
        if (newest->grant == named)
                newest->grant = NULL;
}

static bool is_by_name(const struct lock_change *change)
{
        return change->kind == LOCK_CHANGE_PREEMPT || change->kind == LOCK_CHANGE_RELEASE;
}

static bool is_by_wait(const struct lock_change *change)
{
        return change->kind == LOCK_CHANGE_WAIT || change->kind == LOCK_CHANGE_GRANT;
}

static void add_wait(struct lock_overlay *overlay, struct named *named)
{
        struct named *older = RB_FIND(wait_tree, &overlay->waits, named);
        const struct lock_change *change = &named->pending->change;
        bool comes = change->kind == LOCK_CHANGE_WAIT;

        if (older) {
                RB_REMOVE(wait_tree, &overlay->waits, older);
                older->in_waits = false;
                named->come = older->come;
                named->let_in = older->let_in;
                named->unlike_at = older->pending->change.slots != change->slots ? older->pending->index : older->unlike_at;
        }
        named->come += comes;
        named->let_in += !comes;
        if (!comes || change->ttl_ms == 0 || change->period_ms != 0 || named->pending->named_count > 1)
                named->unlike_at = named->pending->index;
        (void)RB_INSERT(wait_tree, &overlay->waits, named);
        named->in_waits = true;
}

static void drop_wait(struct lock_overlay *overlay, struct named *named)
{
        struct named *newest = named->in_waits ? NULL : RB_FIND(wait_tree, &overlay->waits, named);

        if (!newest)
                RB_REMOVE(wait_tree, &overlay->waits, named);
        else if (named->pending->change.kind == LOCK_CHANGE_WAIT)
                newest->come--;
        else
                newest->let_in--;
}

static void add_token(struct lock_overlay *overlay, struct pending *pending)
{
        struct pending *older = RB_FIND(token_tree, &overlay->tokens, pending);

        if (older) {
                RB_REMOVE(token_tree, &overlay->tokens, older);
                older->in_tokens = false;
        }
        (void)RB_INSERT(token_tree, &overlay->tokens, pending);
        pending->in_tokens = true;
}

/* One that holds much ends by several entries, and is about to until the last of them. What is granted in it meanwhile ends with it. */
static void add_end(struct lock_overlay *overlay, struct pending *pending)
{
        struct pending *older = RB_FIND(session_tree, &overlay->sessions, pending);
        struct named probe = { .pending = pending, .name = &no_name }, *hold;

        if (older) {
                RB_REMOVE(session_tree, &overlay->sessions, older);
                older->in_sessions = false;
        }
        (void)RB_INSERT(session_tree, &overlay->sessions, pending);
        pending->in_sessions = true;
        for (hold = RB_NFIND(hold_tree, &overlay->holds, &probe); hold && hold->pending->change.session == pending->change.session;
             hold = RB_NEXT(hold_tree, &overlay->holds, hold))
                RB_FIND(name_tree, &overlay->names, hold)->ends_at = pending->index;
}

static bool takes_away(const struct lock_change *change)
{
        return change->kind == LOCK_CHANGE_EXPIRE || (change->kind == LOCK_CHANGE_BREAK && change->now);
}

static bool ends_hold(const struct lock_change *change)
{
        return lock_change_ends(change->kind) || (change->token != 0 && change->kind != LOCK_CHANGE_RELEASE);
}

static void add_handle(struct lock_overlay *overlay, struct pending *pending)
{
        struct pending *older = RB_FIND(handle_tree, &overlay->handles, pending);

        if (older) {
                RB_REMOVE(handle_tree, &overlay->handles, older);
                older->in_handles = false;
        }
        (void)RB_INSERT(handle_tree, &overlay->handles, pending);
        pending->in_handles = true;
}

static struct pending *new_pending(uint64_t index, const struct lock_change *change)
{
        bool is_named = is_by_name(change) || is_by_wait(change);
        unsigned count = is_named ? 1 + change->further.count : 0;
        struct pending *pending = alloc_zeroed(1, sizeof(*pending) + count * sizeof(pending->named[0]));
        struct names_view further = change->further;

        pending->index = index;
        pending->change = *change;
        /* Nothing is decided by the one, the other is read here, and both may be gone soon. */
        pending->change.holder = (struct holder_view){ .data = NULL };
        pending->change.further = (struct names_view){ .data = NULL };
        if (is_named)
                pending->named[pending->named_count++].name = &pending->change.name;
        if (is_named && further.count > 0)
                pending->further = alloc_zeroed(further.count, sizeof(pending->further[0]));
        for (unsigned i = 0; pending->further && names_view_take(&further, &pending->further[i]); i++)
                pending->named[pending->named_count++].name = &pending->further[i];
        for (unsigned i = 0; i < pending->named_count; i++)
                pending->named[i].pending = pending;
        return pending;
}

/* It is known by its waiter's id alone, which may be given up under any of the names. */
static bool is_of_waiter(const struct lock_change *change)
{
        return change->kind == LOCK_CHANGE_LEAVE || change->kind == LOCK_CHANGE_CANCEL;
}

void lock_overlay_add(struct lock_overlay *overlay, uint64_t index, const struct lock_change *change)
{
        struct pending *pending = new_pending(index, change);

        assert(TAILQ_EMPTY(&overlay->order) || TAILQ_LAST(&overlay->order, pending_list)->index < index);
        for (unsigned i = 0; i < pending->named_count; i++)
                (is_by_name(change) ? add_name : add_wait)(overlay, &pending->named[i]);
        pending->given_up = is_of_waiter(change) ? &no_name : &pending->change.name;
        if (change->token != 0)
                add_token(overlay, pending);
        if ((lock_change_ends(change->kind) || change->kind == LOCK_CHANGE_BREAK) && change->session != 0)
                add_end(overlay, pending);
        if (!lock_change_is_leaders(change->kind)) {
                add_handle(overlay, pending);
                /* The first use names the principal, so here the oldest stays. */
                if (!RB_INSERT(client_tree, &overlay->clients, pending))
                        pending->in_clients = true;
        }
        TAILQ_INSERT_TAIL(&overlay->order, pending, order);
        overlay->count++;
        overlay->taking += takes_away(change);
        overlay->ending += ends_hold(change);
}

static void drop(struct lock_overlay *overlay, struct pending *pending)
{
        for (unsigned i = 0; i < pending->named_count; i++)
                (is_by_name(&pending->change) ? drop_name : drop_wait)(overlay, &pending->named[i]);
        if (pending->in_tokens)
                RB_REMOVE(token_tree, &overlay->tokens, pending);
        if (pending->in_clients)
                RB_REMOVE(client_tree, &overlay->clients, pending);
        if (pending->in_handles)
                RB_REMOVE(handle_tree, &overlay->handles, pending);
        if (pending->in_sessions)
                RB_REMOVE(session_tree, &overlay->sessions, pending);
        TAILQ_REMOVE(&overlay->order, pending, order);
        overlay->count--;
        overlay->taking -= takes_away(&pending->change);
        overlay->ending -= ends_hold(&pending->change);
        free(pending->further);
        free(pending);
}

void lock_overlay_applied(struct lock_overlay *overlay, uint64_t index)
{
        struct pending *pending = TAILQ_FIRST(&overlay->order);

        if (!pending || pending->index > index)
                return;
        assert(pending->index == index);
        drop(overlay, pending);
}

void lock_overlay_clear(struct lock_overlay *overlay)
{
        struct pending *pending;

        while ((pending = TAILQ_FIRST(&overlay->order)))
                drop(overlay, pending);
}

size_t lock_overlay_count(const struct lock_overlay *overlay)
{
        return overlay->count;
}

static void view_grant(const struct named *named, struct lock_view *ret_view)
{
        const struct pending *pending = named->pending;

        *ret_view = (struct lock_view){
                .name = named->name->text,
                .name_size = named->name->size,
                .owner = pending->change.client.text,
                .principal = pending->change.principal.text,
                .token = pending->index,
                .session = pending->change.ttl_ms != 0 ? pending->index : pending->change.session,
                .ttl_ms = pending->change.ttl_ms,
                .lease = pending->change.ttl_ms != 0,
                .slots = pending->change.slots,
        };
}

bool lock_overlay_find(const struct lock_overlay *overlay, const struct lock_name *name, struct lock_overlay_holds *ret_holds)
{
        struct named probe, *named;

        if (RB_EMPTY(&overlay->names))
                return false;
        probe.name = name;
        named = RB_FIND(name_tree, (struct name_tree *)&overlay->names, &probe);
        if (!named)
                return false;
        *ret_holds = (struct lock_overlay_holds){
                .granted = named->granted,
                .released = named->released,
                .ends = named->ends_at >= first_index(overlay),
                .once = named->once_at >= first_index(overlay),
        };
        if (named->grant)
                view_grant(named->grant, &ret_holds->newest);
        return true;
}

bool lock_overlay_find_in_session(const struct lock_overlay *overlay, const struct lock_name *name, uint64_t session, struct lock_view *ret_view)
{
        struct pending asked;
        struct named probe, *named;

        if (RB_EMPTY(&overlay->holds))
                return false;
        asked.change.session = session;
        probe.name = name;
        probe.pending = &asked;
        named = RB_FIND(hold_tree, (struct hold_tree *)&overlay->holds, &probe);
        if (named)
                view_grant(named, ret_view);
        return named;
}

static const struct named *find_wait(const struct lock_overlay *overlay, const struct lock_name *name)
{
        struct named probe;

        if (RB_EMPTY(&overlay->waits))
                return NULL;
        probe.name = name;
        return RB_FIND(wait_tree, (struct wait_tree *)&overlay->waits, &probe);
}

bool lock_overlay_waits(const struct lock_overlay *overlay, const struct lock_name *name)
{
        return find_wait(overlay, name);
}

bool lock_overlay_waits_alike(const struct lock_overlay *overlay, const struct lock_name *name, uint16_t slots, size_t *ret_count)
{
        const struct named *wait = find_wait(overlay, name);

        *ret_count = wait ? wait->come : 0;
        return !wait || (wait->pending->change.slots == slots && wait->unlike_at < first_index(overlay));
}

bool lock_overlay_lets_in(const struct lock_overlay *overlay, const struct lock_name *name)
{
        const struct named *wait = find_wait(overlay, name);

        return wait && wait->let_in > 0;
}

static const struct pending *find_token(const struct lock_overlay *overlay, const char *name, size_t name_size, uint64_t token)
{
        struct lock_name given_up = { .size = (uint8_t)name_size };
        struct pending probe;

        if (RB_EMPTY(&overlay->tokens))
                return NULL;
        probe.change.token = token;
        probe.given_up = &given_up;
        memcpy(given_up.text, name, name_size);
        return RB_FIND(token_tree, (struct token_tree *)&overlay->tokens, &probe);
}

bool lock_overlay_gives_up(const struct lock_overlay *overlay, const char *name, size_t name_size, uint64_t token)
{
        return find_token(overlay, name, name_size, token);
}

bool lock_overlay_leaves(const struct lock_overlay *overlay, uint64_t waiter)
{
        return find_token(overlay, "", 0, waiter);
}

bool lock_overlay_keeps(const struct lock_overlay *overlay, const char *name, size_t name_size, uint64_t token)
{
        const struct pending *pending = find_token(overlay, name, name_size, token);

        return pending && pending->change.kind == LOCK_CHANGE_KEEP;
}

bool lock_overlay_breaks(const struct lock_overlay *overlay, const char *name, size_t name_size, uint64_t token)
{
        const struct pending *pending = find_token(overlay, name, name_size, token);

        return pending && pending->change.kind == LOCK_CHANGE_BREAK && !pending->change.now;
}

bool lock_overlay_takes_away(const struct lock_overlay *overlay, const char *name, size_t name_size, uint64_t token)
{
        const struct pending *pending = find_token(overlay, name, name_size, token);

        return pending && takes_away(&pending->change);
}

bool lock_overlay_makes(const struct lock_overlay *overlay, uint64_t id)
{
        return !TAILQ_EMPTY(&overlay->order) && id >= TAILQ_FIRST(&overlay->order)->index && id <= TAILQ_LAST(&overlay->order, pending_list)->index;
}

bool lock_overlay_takes_some(const struct lock_overlay *overlay)
{
        return overlay->taking > 0;
}

bool lock_overlay_ends_some(const struct lock_overlay *overlay)
{
        return overlay->ending > 0;
}

static const struct pending *find_end(const struct lock_overlay *overlay, uint64_t session)
{
        struct pending probe;

        probe.change.session = session;
        return RB_FIND(session_tree, (struct session_tree *)&overlay->sessions, &probe);
}

bool lock_overlay_ends(const struct lock_overlay *overlay, uint64_t session)
{
        return find_end(overlay, session);
}

bool lock_overlay_expires(const struct lock_overlay *overlay, uint64_t session)
{
        const struct pending *end = find_end(overlay, session);

        return end && end->change.kind == LOCK_CHANGE_EXPIRE;
}

bool lock_overlay_find_client(const struct lock_overlay *overlay, const struct client_id *id, struct lock_client_view *ret_view)
{
        struct pending probe, *pending;

        probe.change.client = *id;
        pending = RB_FIND(client_tree, (struct client_tree *)&overlay->clients, &probe);
        if (!pending)
                return false;
        *ret_view = (struct lock_client_view){ .principal = pending->change.principal.text, .last_index = pending->index };
        return true;
}

bool lock_overlay_find_result(const struct lock_overlay *overlay, struct id128 handle, struct lock_result_view *ret_view)
{
        struct pending probe, *pending;

        probe.change.handle = handle;
        pending = RB_FIND(handle_tree, (struct handle_tree *)&overlay->handles, &probe);
        if (!pending)
                return false;
        *ret_view = (struct lock_result_view){
                .seq = pending->change.seq,
                .kind = pending->change.kind,
                .name = pending->change.name.text,
                .name_size = pending->change.name.size,
                .client = pending->change.client.text,
                .token = lock_change_token(&pending->change, pending->index),
                .index = pending->index,
        };
        return true;
}
