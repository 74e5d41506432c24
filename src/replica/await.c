/* await.c - clients that wait in a queue ask their node, whichever it is, to be told when they have got the lock; and those who hold something
 * in a session or lease, to be told when that has ended, or is broken, before they would hear of it by their next renewal.
 *
 * The wait, and the session, are records of the replicated table and hang on nobody's connection; this is only about telling. What is told was
 * committed: it is read from this node's own table, which no later leader takes back. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/mutation.h"
#include "replica/internal.h"

static int compare_numbers(uint64_t a, uint64_t b)
{
        return (a > b) - (a < b);
}

static int compare_origins(const struct waiting_await *a, const struct waiting_await *b)
{
        int order = compare_numbers(a->origin.session, b->origin.session);

        return order ? order : compare_numbers(a->origin.tag, b->origin.tag);
}

static int compare_waiters(const struct waiting_await *a, const struct waiting_await *b)
{
        int order = compare_numbers(a->waiter, b->waiter);

        return order ? order : compare_origins(a, b);
}

RB_GENERATE_INTERNAL(await_origin_tree, waiting_await, by_origin, compare_origins, _unused_ static)
RB_GENERATE_INTERNAL(await_waiter_tree, waiting_await, by_waiter, compare_waiters, _unused_ static)

void replica_awaits_init(struct replica *replica)
{
        RB_INIT(&replica->awaits);
        RB_INIT(&replica->awaits_by_waiter);
        TAILQ_INIT(&replica->awaits_due);
}

static void set_due(struct replica *replica, struct waiting_await *await)
{
        if (await->due)
                return;
        await->due = true;
        TAILQ_INSERT_TAIL(&replica->awaits_due, await, due_link);
}

static void drop(struct replica *replica, struct waiting_await *await)
{
        RB_REMOVE(await_origin_tree, &replica->awaits, await);
        RB_REMOVE(await_waiter_tree, &replica->awaits_by_waiter, await);
        if (await->due)
                TAILQ_REMOVE(&replica->awaits_due, await, due_link);
        free(await);
}

void replica_awaits_done(struct replica *replica)
{
        struct waiting_await *await;

        while ((await = RB_MIN(await_origin_tree, &replica->awaits)))
                drop(replica, await);
}

void replica_await(struct replica *replica, const struct replica_origin *origin, const struct lock_name *name, uint64_t waiter, uint64_t deadline)
{
        struct waiting_await *await = alloc_zeroed(1, sizeof(*await)), *twin;

        *await = (struct waiting_await){ .origin = *origin, .name = *name, .waiter = waiter, .deadline = deadline };
        twin = RB_FIND(await_origin_tree, &replica->awaits, await);
        if (twin)
                drop(replica, twin);
        (void)RB_INSERT(await_origin_tree, &replica->awaits, await);
        (void)RB_INSERT(await_waiter_tree, &replica->awaits_by_waiter, await);
        set_due(replica, await);
}

void replica_forget_awaits(struct replica *replica, uint64_t session)
{
        struct waiting_await probe = { .origin = { .session = session } }, *await = RB_NFIND(await_origin_tree, &replica->awaits, &probe), *next;

        for (; await && await->origin.session == session; await = next) {
                next = RB_NEXT(await_origin_tree, &replica->awaits, await);
                drop(replica, await);
        }
}

/* --- what there is to tell --- */

static void answer(struct replica *replica, struct waiting_await *await, enum replica_outcome outcome, uint64_t token, const char *client)
{
        struct replica_answer *told = replica_add_answer(replica);

        *told = (struct replica_answer){ .kind = REPLICA_ANSWER_CHANGE, .origin = await->origin, .outcome = outcome, .token = token, .index = replica->applied };
        if (client)
                (void)client_id_set(&told->client, client, strlen(client));
        drop(replica, await);
}

static void look_at_session(struct replica *replica, struct waiting_await *await)
{
        struct lock_session_view session;

        if (!lock_table_find_session(replica->table, await->waiter, &session) || session.ended)
                answer(replica, await, REPLICA_ENDED, 0, NULL);
        else if (session.broken && !MUTATED(BREAK_UNSAID))
                answer(replica, await, REPLICA_BROKEN, 0, NULL);
}

/* Answers, if there is something to say. */
static void look(struct replica *replica, struct waiting_await *await)
{
        struct lock_waiter_view waiter;
        struct lock_period_view period;
        struct lock_view lock;

        if (replica->applied < await->waiter)
                return;                      /* this table has not heard of it yet */
        if (await->name.size == 0) {
                look_at_session(replica, await);
                return;
        }
        if (lock_table_find_waited(replica->table, &await->name, await->waiter, &lock)) {
                answer(replica, await, REPLICA_YES, lock.token, lock.owner);
        } else if (!lock_table_find_waiter(replica->table, await->waiter, &waiter)) {
                answer(replica, await, REPLICA_NO_SESSION, 0, NULL);
        } else if (lock_table_waits_in_vain(replica->table, &waiter, replica_cluster_ms(replica)) &&
                   lock_table_find_period(replica->table, &await->name, &period)) {
                answer(replica, await, REPLICA_TOO_SOON, period.token, period.client);
        } else {
                await->once = waiter.period_ms != 0;
        }
}

void replica_awaits_settled(struct replica *replica, const uint64_t *waiters, size_t count)
{
        for (size_t i = 0; i < count; i++) {
                struct waiting_await probe = { .waiter = waiters[i] }, *await = RB_NFIND(await_waiter_tree, &replica->awaits_by_waiter, &probe);

                for (; await && await->waiter == waiters[i]; await = RB_NEXT(await_waiter_tree, &replica->awaits_by_waiter, await))
                        set_due(replica, await);
        }
}

void replica_awaits_look_again(struct replica *replica)
{
        struct waiting_await *await;

        RB_FOREACH(await, await_origin_tree, &replica->awaits)
                set_due(replica, await);
}

void replica_answer_awaits(struct replica *replica)
{
        struct waiting_await *await;

        while ((await = TAILQ_FIRST(&replica->awaits_due))) {
                TAILQ_REMOVE(&replica->awaits_due, await, due_link);
                await->due = false;
                look(replica, await);
        }
}

/* Deadlines; what this table has caught up with; and grants to others that let the patience of those end who want the lock once in a period. */
void replica_sweep_awaits(struct replica *replica)
{
        struct waiting_await *await, *next;

        for (await = RB_MIN(await_origin_tree, &replica->awaits); await; await = next) {
                next = RB_NEXT(await_origin_tree, &replica->awaits, await);
                if (replica->now >= await->deadline)
                        answer(replica, await, REPLICA_WAITING, await->waiter, NULL);
                else if (await->once || await->waiter > replica->settled_index)
                        set_due(replica, await);
        }
        replica->settled_index = replica->applied;
}
