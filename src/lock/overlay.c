#include "lock/overlay.h"

#include <assert.h>
#include <bsd/sys/tree.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "base/alloc.h"
#include "base/cleanup.h"

/* One pending change. It stands in each tree under its key as long as no newer one does. */
struct pending {
        TAILQ_ENTRY(pending) order;
        RB_ENTRY(pending) by_name, by_client, by_handle, by_session;
        bool in_names, in_clients, in_handles, in_sessions;
        uint64_t index;
        struct lock_change change;
};

RB_HEAD(name_tree, pending);
RB_HEAD(client_tree, pending);
RB_HEAD(handle_tree, pending);
RB_HEAD(session_tree, pending);

struct lock_overlay {
        TAILQ_HEAD(pending_list, pending) order; /* by index */
        struct name_tree names;
        struct client_tree clients;
        struct handle_tree handles;
        struct session_tree sessions;        /* that end */
        size_t count;
};

static int compare_names(const struct pending *a, const struct pending *b)
{
        int order = (int)a->change.name.size - (int)b->change.name.size;

        return order ? order : memcmp(a->change.name.text, b->change.name.text, a->change.name.size);
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

static int compare_sessions(const struct pending *a, const struct pending *b)
{
        return (a->change.session > b->change.session) - (a->change.session < b->change.session);
}

RB_GENERATE_INTERNAL(name_tree, pending, by_name, compare_names, _unused_ static)
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

static void add_name(struct lock_overlay *overlay, struct pending *pending)
{
        struct pending *older = RB_FIND(name_tree, &overlay->names, pending);

        if (older) {
                RB_REMOVE(name_tree, &overlay->names, older);
                older->in_names = false;
        }
        (void)RB_INSERT(name_tree, &overlay->names, pending);
        pending->in_names = true;
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

void lock_overlay_add(struct lock_overlay *overlay, uint64_t index, const struct lock_change *change)
{
        struct pending *pending = alloc_zeroed(1, sizeof(*pending));

        assert(TAILQ_EMPTY(&overlay->order) || TAILQ_LAST(&overlay->order, pending_list)->index < index);
        pending->index = index;
        pending->change = *change;
        pending->change.holder = (struct holder_view){ .data = NULL };       /* nothing is decided by it, and it may be gone soon */
        if (change->kind == LOCK_CHANGE_PREEMPT || change->kind == LOCK_CHANGE_RELEASE)
                add_name(overlay, pending);
        if (lock_change_ends(change->kind) && !RB_INSERT(session_tree, &overlay->sessions, pending))
                pending->in_sessions = true;
        if (change->kind != LOCK_CHANGE_EXPIRE) {
                add_handle(overlay, pending);
                /* The first use names the principal, so here the oldest stays. */
                if (!RB_INSERT(client_tree, &overlay->clients, pending))
                        pending->in_clients = true;
        }
        TAILQ_INSERT_TAIL(&overlay->order, pending, order);
        overlay->count++;
}

static void drop(struct lock_overlay *overlay, struct pending *pending)
{
        if (pending->in_names)
                RB_REMOVE(name_tree, &overlay->names, pending);
        if (pending->in_clients)
                RB_REMOVE(client_tree, &overlay->clients, pending);
        if (pending->in_handles)
                RB_REMOVE(handle_tree, &overlay->handles, pending);
        if (pending->in_sessions)
                RB_REMOVE(session_tree, &overlay->sessions, pending);
        TAILQ_REMOVE(&overlay->order, pending, order);
        overlay->count--;
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

bool lock_overlay_find(const struct lock_overlay *overlay, const struct lock_name *name, bool *ret_owned, struct lock_view *ret_view)
{
        struct pending probe, *pending;

        probe.change.name = *name;
        pending = RB_FIND(name_tree, (struct name_tree *)&overlay->names, &probe);
        if (!pending)
                return false;
        *ret_owned = pending->change.kind == LOCK_CHANGE_PREEMPT;
        *ret_view = (struct lock_view){
                .name = pending->change.name.text,
                .name_size = pending->change.name.size,
                .owner = pending->change.client.text,
                .principal = pending->change.principal.text,
                .token = pending->index,
                .session = pending->change.ttl_ms != 0 ? pending->index : pending->change.session,
                .ttl_ms = pending->change.ttl_ms,
        };
        return true;
}

bool lock_overlay_ends(const struct lock_overlay *overlay, uint64_t session)
{
        struct pending probe;

        probe.change.session = session;
        return RB_FIND(session_tree, (struct session_tree *)&overlay->sessions, &probe);
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
