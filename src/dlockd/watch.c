#include "dlockd/watch.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/random.h"

#define BUCKETS_FIRST 64

/* Those that wait for one name, or prefix, in the order of what they have seen. */
struct watch_group {
        LIST_ENTRY(watch_group) link;        /* of its bucket */
        TAILQ_ENTRY(watch_group) due_link;
        TAILQ_HEAD(, watcher) watchers;
        uint64_t hash;
        bool exact, due;
        uint64_t first, last;                /* DUE: the first event since it was not, and the newest */
        struct lock_name name;
};

LIST_HEAD(watch_bucket, watch_group);
RB_HEAD(deadline_tree, watcher);

struct watch_table {
        const struct daemon *daemon;
        const struct watch_owner *owner;
        uint64_t seed;                       /* of hashes: nobody outside knows which names share a bucket */
        struct watch_bucket *buckets;
        size_t bucket_count, group_count;
        size_t prefixes[LIMIT_LOCK_NAME_BYTES + 1];  /* groups of prefixes, by their size */
        TAILQ_HEAD(, watcher) looking;
        TAILQ_HEAD(, watch_group) due;
        struct deadline_tree deadlines;
        uint64_t serial;
        uint64_t matched;                    /* events up to here have found their groups */
        uint64_t generation;

        /* What is left of a turn. */
        size_t events_left, bytes_left, answers_left;
};

static int compare_deadlines(const struct watcher *a, const struct watcher *b)
{
        int order = (a->deadline > b->deadline) - (a->deadline < b->deadline);

        return order ? order : (a->serial > b->serial) - (a->serial < b->serial);
}

RB_GENERATE_INTERNAL(deadline_tree, watcher, by_deadline, compare_deadlines, _unused_ static)

/* --- groups by name --- */

/* Letter by letter (FNV-1a), so that the hashes of all prefixes of a name are found in one walk. */
static uint64_t add_letter(uint64_t hash, char letter)
{
        return (hash ^ (uint8_t)letter) * UINT64_C(0x100000001b3);
}

static uint64_t finish_hash(uint64_t hash, bool exact)
{
        hash ^= exact ? UINT64_C(0x9e3779b97f4a7c15) : 0;
        return (hash ^ hash >> 32) * UINT64_C(0xd6e8feb86659fd93);
}

static struct watch_bucket *bucket_of(const struct watch_table *table, uint64_t hash)
{
        return &table->buckets[hash >> 32 & (table->bucket_count - 1)];
}

static struct watch_group *find_group(const struct watch_table *table, uint64_t hash, bool exact, const char *name, size_t size)
{
        struct watch_group *group;

        LIST_FOREACH(group, bucket_of(table, hash), link)
                if (group->hash == hash && group->exact == exact && group->name.size == size && memcmp(group->name.text, name, size) == 0)
                        return group;
        return NULL;
}

static void grow(struct watch_table *table)
{
        struct watch_bucket *old = table->buckets;
        size_t count = table->bucket_count;

        table->bucket_count = count * 2;
        table->buckets = alloc_zeroed(table->bucket_count, sizeof(table->buckets[0]));
        for (size_t i = 0; i < count; i++) {
                struct watch_group *group;

                while ((group = LIST_FIRST(&old[i]))) {
                        LIST_REMOVE(group, link);
                        LIST_INSERT_HEAD(bucket_of(table, group->hash), group, link);
                }
        }
        free(old);
}

static struct watch_group *group_of(struct watch_table *table, const struct wire_request *request)
{
        uint64_t hash = table->seed;
        struct watch_group *group;

        for (size_t i = 0; i < request->name.size; i++)
                hash = add_letter(hash, request->name.text[i]);
        hash = finish_hash(hash, request->exact);
        group = find_group(table, hash, request->exact, request->name.text, request->name.size);
        if (group)
                return group;
        if (table->group_count == table->bucket_count)
                grow(table);
        group = alloc_zeroed(1, sizeof(*group));
        TAILQ_INIT(&group->watchers);
        group->hash = hash;
        group->exact = request->exact;
        group->name = request->name;
        LIST_INSERT_HEAD(bucket_of(table, hash), group, link);
        table->group_count++;
        if (!group->exact)
                table->prefixes[group->name.size]++;
        return group;
}

static void set_due(struct watch_table *table, struct watch_group *group, bool due)
{
        if (group->due)
                TAILQ_REMOVE(&table->due, group, due_link);
        group->due = due;
        if (due)
                TAILQ_INSERT_TAIL(&table->due, group, due_link);
}

static void free_group(struct watch_table *table, struct watch_group *group)
{
        set_due(table, group, false);
        LIST_REMOVE(group, link);
        table->group_count--;
        if (!group->exact)
                table->prefixes[group->name.size]--;
        free(group);
}

/* --- who waits --- */

static void park(struct watch_table *table, struct watcher *watcher)
{
        watcher->group = group_of(table, watcher->request);
        TAILQ_INSERT_TAIL(&watcher->group->watchers, watcher, link);
        (void)RB_INSERT(deadline_tree, &table->deadlines, watcher);
}

void watch_add(struct watch_table *table, struct watcher *watcher, const struct wire_request *request, uint64_t deadline)
{
        *watcher = (struct watcher){ .request = request, .serial = table->serial++, .deadline = deadline, .seen = request->after_index };
        TAILQ_INSERT_TAIL(&table->looking, watcher, link);
}

void watch_remove(struct watch_table *table, struct watcher *watcher)
{
        struct watch_group *group = watcher->group;

        if (!group) {
                TAILQ_REMOVE(&table->looking, watcher, link);
                return;
        }
        TAILQ_REMOVE(&group->watchers, watcher, link);
        RB_REMOVE(deadline_tree, &table->deadlines, watcher);
        watcher->group = NULL;
        if (TAILQ_EMPTY(&group->watchers))
                free_group(table, group);
}

/* --- events find groups --- */

static void mark(struct watch_table *table, struct watch_group *group, uint64_t index)
{
        if (!group)
                return;
        group->last = index;
        if (group->due)
                return;
        group->first = index;
        set_due(table, group, true);
}

static void match(struct watch_table *table, const struct lock_event *event)
{
        uint64_t hash = table->seed;

        for (size_t i = 0; i <= event->name_size; i++) {
                if (table->prefixes[i] > 0)
                        mark(table, find_group(table, finish_hash(hash, false), false, event->name, i), event->index);
                if (i < event->name_size)
                        hash = add_letter(hash, event->name[i]);
        }
        mark(table, find_group(table, finish_hash(hash, true), true, event->name, event->name_size), event->index);
}

/* A state took the place of what led to it: whoever waits has missed something. */
static void mark_all(struct watch_table *table, uint64_t floor)
{
        for (size_t i = 0; i < table->bucket_count; i++) {
                struct watch_group *group;

                LIST_FOREACH(group, &table->buckets[i], link) {
                        set_due(table, group, false);
                        mark(table, group, floor);
                }
        }
}

static void match_new(struct watch_table *table)
{
        const struct lock_events *events = replica_events(table->daemon->replica);
        uint64_t applied = replica_applied(table->daemon->replica);
        struct lock_events_cursor cursor;
        struct lock_event event;

        if (table->generation != lock_events_generation(events)) {
                table->generation = lock_events_generation(events);
                mark_all(table, lock_events_floor(events));
                table->matched = lock_events_floor(events);
        }
        if (table->group_count > 0 && table->matched < applied) {
                cursor = lock_events_seek(events, MAX(table->matched, lock_events_floor(events)));
                while (lock_events_next(events, &cursor, &event))
                        match(table, &event);
        }
        table->matched = applied;
}

/* --- answers --- */

static struct wire_page page_of(const struct watch_table *table, const struct wire_request *request)
{
        return (struct wire_page){
                .tag = request->tag,
                .outcome = WIRE_YES,
                .index = replica_applied(table->daemon->replica),
                .leader_age_ms = replica_leader_age_ms(table->daemon->replica),
                .log_first = lock_events_floor(replica_events(table->daemon->replica)),
        };
}

static bool is_asked_for(const struct wire_request *request, const struct lock_event *event)
{
        if (request->exact ? event->name_size != request->name.size : event->name_size < request->name.size)
                return false;
        return memcmp(event->name, request->name.text, request->name.size) == 0;
}

static size_t bytes_of(const struct lock_event *event)
{
        return (size_t)64 + event->name_size + event->client_size + event->holder.size;
}

static void write_change(struct bytes *out, const struct lock_event *event)
{
        struct wire_change change = {
                .kind = (uint8_t)event->kind,
                .index = event->index,
                .wall_ms = event->wall_ms,
                .token = event->token,
                .session = event->session,
                .ttl_ms = event->ttl_ms,
                .slots = event->slots,
                .holder = event->holder,
        };
        bool valid = lock_name_set(&change.lock, event->name, event->name_size) && client_id_set(&change.client, event->client, event->client_size);

        assert(valid);
        wire_write_change(out, &change);
}

/* from: some index after which the first event of the page comes. */
static void answer(struct watch_table *table, struct watcher *watcher, const struct wire_page *page, uint64_t from)
{
        const struct lock_events *events = replica_events(table->daemon->replica);
        const struct wire_request *request = watcher->request;
        struct lock_events_cursor cursor = { 0 };
        struct bytes *out = table->owner->out(watcher);
        size_t before = out->size, frame = wire_write_page_begin(out, WIRE_CHANGES, page);
        struct lock_event event;

        if (page->count > 0)
                cursor = lock_events_seek(events, from);
        for (size_t written = 0; written < page->count;) {
                bool there = lock_events_next(events, &cursor, &event);

                assert(there);
                if (!is_asked_for(request, &event))
                        continue;
                write_change(out, &event);
                written++;
        }
        wire_write_page_end(out, frame);
        table->bytes_left -= MIN(table->bytes_left, out->size - before);
        table->answers_left--;
        table->owner->answered(watcher);
}

/* What a walk over events has found, up to the end of an entry. */
struct found {
        uint64_t until;                      /* the last index of which everything is in it */
        size_t count, bytes;
        uint64_t from;                       /* just before the first */
};

/* Walks on from what the watcher has seen. A page has whole entries, since an index is what is gone on from: the next one is in it while it fits. */
static struct found look(struct watch_table *table, const struct watcher *watcher)
{
        const struct lock_events *events = replica_events(table->daemon->replica);
        const struct wire_request *request = watcher->request;
        struct found whole = { .until = watcher->seen }, found = whole;
        struct lock_events_cursor cursor = lock_events_seek(events, watcher->seen);
        struct lock_event event;

        while (lock_events_next(events, &cursor, &event)) {
                if (event.index != found.until) {
                        whole = found;
                        if (table->events_left == 0 || whole.count >= request->limit || whole.bytes >= LIMIT_WATCH_PAGE_BYTES)
                                return whole;
                        if (found.count == 0)
                                found.from = found.until;
                }
                table->events_left -= table->events_left > 0;
                found.until = event.index;
                if (!is_asked_for(request, &event))
                        continue;
                found.count++;
                found.bytes += bytes_of(&event);
                if (found.count > request->limit && whole.count > 0)
                        return whole;
        }
        found.until = table->matched;        /* all that was applied */
        return found;
}

/* The watcher is in no list. */
static void serve(struct watch_table *table, struct watcher *watcher)
{
        struct wire_page page = page_of(table, watcher->request);
        struct found found;

        if (watcher->seen < page.log_first) {
                page.outcome = WIRE_NO;
                (void)snprintf(page.reason, sizeof(page.reason), "this node remembers what became of locks after %" PRIu64 " only: read them as they are", page.log_first);
                answer(table, watcher, &page, 0);
                return;
        }
        found = look(table, watcher);
        if (found.count > 0) {
                page.count = (uint16_t)found.count;
                page.next_after = found.until;
                page.more = found.until < table->matched;
                answer(table, watcher, &page, found.from);
                return;
        }
        watcher->seen = found.until;
        if (watcher->seen == table->matched && table->daemon->now < watcher->deadline) {
                park(table, watcher);
        } else if (watcher->seen == table->matched) {
                page.next_after = watcher->seen;
                answer(table, watcher, &page, 0);
        } else {
                TAILQ_INSERT_TAIL(&table->looking, watcher, link);
        }
}

static bool may_go_on(const struct watch_table *table)
{
        return table->events_left > 0 && table->bytes_left > 0 && table->answers_left > 0;
}

static void serve_new(struct watch_table *table)
{
        struct watcher *watcher = TAILQ_FIRST(&table->looking);

        TAILQ_REMOVE(&table->looking, watcher, link);
        serve(table, watcher);
}

/* Of what happened before the first event since the group was not due, nothing is for it. Who has seen the last one came later. */
static void serve_due(struct watch_table *table)
{
        struct watch_group *group = TAILQ_FIRST(&table->due);
        struct watcher *watcher = TAILQ_FIRST(&group->watchers);
        uint64_t first = group->first, last = group->last;

        if (watcher->seen >= last) {
                set_due(table, group, false);
                return;
        }
        set_due(table, group, true);         /* the others first */
        watcher->seen = MAX(watcher->seen, first - 1);
        watch_remove(table, watcher);
        serve(table, watcher);
}

/* Only of those who wait: for the others there is something else to say first. */
static void serve_late(struct watch_table *table)
{
        struct watcher *watcher;

        while (may_go_on(table) && (watcher = RB_MIN(deadline_tree, &table->deadlines)) && watcher->deadline <= table->daemon->now) {
                bool waits = !watcher->group->due;

                watcher->seen = waits ? table->matched : MAX(watcher->seen, watcher->group->first - 1);
                watch_remove(table, watcher);
                serve(table, watcher);
        }
}

bool watch_turn(struct watch_table *table)
{
        match_new(table);
        table->events_left = LIMIT_EVENTS_PER_TURN;
        table->bytes_left = LIMIT_PAGES_PER_TURN_BYTES;
        table->answers_left = LIMIT_WATCHES_PER_TURN;
        while (may_go_on(table) && (!TAILQ_EMPTY(&table->due) || !TAILQ_EMPTY(&table->looking))) {
                if (!TAILQ_EMPTY(&table->due))
                        serve_due(table);
                if (!TAILQ_EMPTY(&table->looking) && may_go_on(table))
                        serve_new(table);
        }
        serve_late(table);
        return !may_go_on(table);
}

void watch_refuse(const struct daemon *daemon, struct bytes *out, uint64_t tag, enum wire_outcome outcome, const char *reason)
{
        struct wire_page page = { .tag = tag, .outcome = outcome, .index = replica_applied(daemon->replica), .leader_age_ms = replica_leader_age_ms(daemon->replica) };

        (void)snprintf(page.reason, sizeof(page.reason), "%s", reason);
        wire_write_page_end(out, wire_write_page_begin(out, WIRE_CHANGES, &page));
}

/* --- life --- */

struct watch_table *watch_table_new(const struct daemon *daemon, const struct watch_owner *owner)
{
        struct watch_table *table = alloc_zeroed(1, sizeof(*table));

        table->daemon = daemon;
        table->owner = owner;
        table->seed = random_u64();
        table->bucket_count = BUCKETS_FIRST;
        table->buckets = alloc_zeroed(table->bucket_count, sizeof(table->buckets[0]));
        TAILQ_INIT(&table->looking);
        TAILQ_INIT(&table->due);
        return table;
}

struct watch_table *watch_table_free(struct watch_table *table)
{
        if (!table)
                return NULL;
        assert(table->group_count == 0 && TAILQ_EMPTY(&table->looking));
        free(table->buckets);
        free(table);
        return NULL;
}
