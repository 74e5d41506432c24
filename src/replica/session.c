/* session.c - a leader's clock for sessions: who was not heard of for too long is ended.
 *
 * Renewals are not in the log, so a leader knows of none that went to another
 * one: to a new leader every session was renewed just now. So it is to one that
 * stood still, since what was renewed meanwhile waits unread. That a session has
 * ended is an entry, proposed only by a leader that has proved, by a round begun
 * when the time was over, that it leads still and hears the others. */
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/mutation.h"
#include "replica/internal.h"

/* Entries that end sessions, or free what they held, in one turn, so that a host of them delays nobody. */
#define END_PER_TURN 256
/* Entries for one session that holds more than an entry may free. */
#define FREE_PER_TURN 16

static int compare_ids(const struct session_timer *a, const struct session_timer *b)
{
        return (a->id > b->id) - (a->id < b->id);
}

static int compare_due(const struct session_timer *a, const struct session_timer *b)
{
        int order = (a->due > b->due) - (a->due < b->due);

        return order ? order : compare_ids(a, b);
}

RB_GENERATE_INTERNAL(timer_tree, session_timer, by_id, compare_ids, _unused_ static)
RB_GENERATE_INTERNAL(due_tree, session_timer, by_due, compare_due, _unused_ static)

static struct session_timer *find_timer(const struct replica *replica, uint64_t id)
{
        struct session_timer probe = { .id = id };

        return RB_FIND(timer_tree, (struct timer_tree *)&replica->timers, &probe);
}

static void remove_timer(struct replica *replica, struct session_timer *timer)
{
        RB_REMOVE(timer_tree, &replica->timers, timer);
        RB_REMOVE(due_tree, &replica->timers_due, timer);
        free(timer);
}

static void set_due(struct replica *replica, struct session_timer *timer, uint64_t due)
{
        RB_REMOVE(due_tree, &replica->timers_due, timer);
        timer->due = due;
        (void)RB_INSERT(due_tree, &replica->timers_due, timer);
}

static void add_timer(struct replica *replica, uint64_t id, uint32_t ttl_ms, uint64_t due)
{
        struct session_timer *timer = alloc_zeroed(1, sizeof(*timer));

        timer->id = id;
        timer->ttl_ms = ttl_ms;
        timer->due = due;
        (void)RB_INSERT(timer_tree, &replica->timers, timer);        /* an id is one session's */
        (void)RB_INSERT(due_tree, &replica->timers_due, timer);
}

void replica_sessions_init(struct replica *replica)
{
        RB_INIT(&replica->timers);
        RB_INIT(&replica->timers_due);
}

void replica_sessions_done(struct replica *replica)
{
        struct session_timer *timer;

        while ((timer = RB_MIN(timer_tree, &replica->timers)))
                remove_timer(replica, timer);
}

void replica_sessions_leader_changed(struct replica *replica)
{
        replica_sessions_done(replica);
        replica->timed_term = replica->expiry_round = 0;
}

/* T4: what was renewed with leaders before is not known, so all begin anew. */
static void time_all(struct replica *replica)
{
        struct lock_session_view session = { .id = 0 };

        while (lock_table_next_session(replica->table, session.id, &session))
                if (!session.ended)
                        add_timer(replica, session.id, session.ttl_ms, replica->now + (MUTATED(NO_REARM) ? 0 : session.ttl_ms));
        replica->timed_term = raft_term(replica->raft);
}

void replica_session_opened(struct replica *replica, uint64_t id, uint32_t ttl_ms)
{
        if (replica->timed_term != 0)
                add_timer(replica, id, ttl_ms, replica->now + ttl_ms);
}

void replica_session_over(struct replica *replica, uint64_t id)
{
        struct session_timer *timer = find_timer(replica, id);

        if (timer)
                remove_timer(replica, timer);
}

void replica_session_renewed(struct replica *replica, uint64_t id)
{
        struct session_timer *timer = find_timer(replica, id);

        if (timer)
                set_due(replica, timer, replica->now + timer->ttl_ms);
}

/* T5: renewals of that time may be waiting to be read. */
void replica_sessions_stalled(struct replica *replica, uint64_t gap_ms)
{
        struct session_timer *timer;

        if (gap_ms <= LIMIT_TTL_MIN_MS / 4 || MUTATED(STALL_EXPIRES))
                return;
        RB_FOREACH(timer, timer_tree, &replica->timers)
                if (gap_ms > timer->ttl_ms / 4)
                        set_due(replica, timer, replica->now + gap_ms + timer->ttl_ms);
}

static void propose_end(struct replica *replica, const struct lock_session_view *session)
{
        struct lock_change change = { .kind = LOCK_CHANGE_EXPIRE, .session = session->id };

        /* All of it was well formed when it came into the table. */
        (void)client_id_set(&change.client, session->client, strlen(session->client));
        (void)principal_set(&change.principal, session->principal, strlen(session->principal));
        if (session->lock_size > 0)
                (void)lock_name_set(&change.name, session->lock, session->lock_size);
        (void)replica_append(replica, &change);
}

/* The rest of one that held more than an entry may free, whoever ended it. */
static void free_ended(struct replica *replica)
{
        struct lock_session_view session = { .id = 0 };
        unsigned looked = 0, proposed = 0;

        for (; looked < END_PER_TURN && proposed < END_PER_TURN && lock_table_next_ended(replica->table, session.id, &session); looked++) {
                if (lock_overlay_ends(replica->overlay, session.id))
                        continue;
                for (uint64_t i = 0; i < FREE_PER_TURN && i * LOCK_FREED_PER_ENTRY < session.held; i++, proposed++)
                        propose_end(replica, &session);
        }
}

bool replica_sessions_have_more(const struct replica *replica)
{
        struct lock_session_view session;

        return replica_may_decide(replica) && lock_table_next_ended(replica->table, 0, &session) && !lock_overlay_ends(replica->overlay, session.id);
}

/* T3: false as long as there is no proof from after the time was over. */
static bool leadership_is_proved(struct replica *replica)
{
        if (MUTATED(EXPIRE_UNPROVED)) {
                replica->expiry_asked = replica->now;
                return true;
        }
        /* Another question when nothing confirms the first: the voters may be others by now. */
        if (replica->expiry_round == 0 || replica->now - replica->expiry_asked > LIMIT_TTL_MIN_MS) {
                replica->expiry_round = raft_read_round(replica->raft);
                replica->expiry_asked = replica->now;
        }
        return replica->expiry_round <= raft_round_confirmed(replica->raft);
}

static void end_due(struct replica *replica)
{
        struct session_timer *timer = RB_MIN(due_tree, &replica->timers_due);

        if (!timer || timer->due >= replica->now) {
                replica->expiry_round = 0;
                return;
        }
        if (!leadership_is_proved(replica))
                return;
        for (unsigned i = 0; i < END_PER_TURN && timer && timer->due < replica->expiry_asked; i++) {
                struct lock_session_view session;

                if (lock_table_find_session(replica->table, timer->id, &session) && !session.ended && !lock_overlay_ends(replica->overlay, timer->id))
                        propose_end(replica, &session);
                remove_timer(replica, timer);
                timer = RB_MIN(due_tree, &replica->timers_due);
        }
        if (!timer || timer->due >= replica->expiry_asked)
                replica->expiry_round = 0;
}

/* Looked at as often, and so many of them at a time: they wait for a time that passes, and for who leaves. */
#define HELD_UP_MS 100
#define HELD_UP_PER_LOOK 1024
/* So many of those who may hold a lock together are let in at once: each by an entry of its own, for its token. */
#define GRANTS_AT_ONCE 64

static void propose_grants(struct replica *replica, const struct lock_name *name, const struct lock_waiter_view *waiter)
{
        struct lock_change change = { .kind = LOCK_CHANGE_GRANT, .name = *name };
        size_t count;

        if (waiter->id == 0 || lock_overlay_lets_in(replica->overlay, name))
                return;
        (void)client_id_set(&change.client, waiter->client, strlen(waiter->client));
        (void)principal_set(&change.principal, waiter->principal, strlen(waiter->principal));
        count = lock_table_due_count(replica->table, name, replica_cluster_ms(replica), GRANTS_AT_ONCE);
        for (size_t i = 0; i < count; i++)
                if (!replica_append(replica, &change))
                        return;
}

/* Of the queues after that of this name, which moves on to the last that was looked at, or to none when that was all. */
static void grant_after(struct replica *replica, struct lock_name *after)
{
        struct lock_name name = *after;
        struct lock_waiter_view waiter;
        bool more = lock_table_next_held_up(replica->table, name.size > 0 ? &name : NULL, replica_cluster_ms(replica), &waiter);

        for (unsigned i = 0; more && i < HELD_UP_PER_LOOK; i++) {
                (void)lock_name_set(&name, waiter.name, waiter.name_size);
                propose_grants(replica, &name, &waiter);
                more = lock_table_next_held_up(replica->table, &name, replica_cluster_ms(replica), &waiter);
        }
        *after = more ? name : (struct lock_name){ .size = 0 };
}

/* Where there is room for more than an entry lets in, or was none for those who wait until a time passed, this says so. */
static void grant_held_up(struct replica *replica)
{
        struct lock_name first = { .size = 0 };

        if (replica->now >= replica->held_up_next) {
                replica->held_up_next = replica->now + HELD_UP_MS;
                /* The next look goes on from there: those before it may have to wait for longer than those behind it. */
                grant_after(replica, &replica->held_up_after);
        } else if (lock_table_take_due(replica->table)) {
                grant_after(replica, &first);
        }
}

void replica_sessions_turn(struct replica *replica)
{
        if (!replica_may_decide(replica))
                return;
        if (replica->timed_term != raft_term(replica->raft))
                time_all(replica);
        free_ended(replica);
        end_due(replica);
        grant_held_up(replica);
}

int64_t replica_session_left_ms(const struct replica *replica, uint64_t session)
{
        const struct session_timer *timer = replica->timed_term == raft_term(replica->raft) ? find_timer(replica, session) : NULL;

        return !timer ? -1 : timer->due > replica->now ? (int64_t)(timer->due - replica->now) : 0;
}
