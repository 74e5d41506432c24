/* request.c - requests on their way to an answer. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/mutation.h"
#include "replica/internal.h"

static int compare_origins(const struct pending *a, const struct pending *b)
{
        if (a->node != b->node)
                return a->node < b->node ? -1 : 1;
        if (a->origin.session != b->origin.session)
                return a->origin.session < b->origin.session ? -1 : 1;
        return (a->origin.tag > b->origin.tag) - (a->origin.tag < b->origin.tag);
}

static int compare_forwards(const struct pending *a, const struct pending *b)
{
        return (a->forward_id > b->forward_id) - (a->forward_id < b->forward_id);
}

static int compare_refusals(const struct refusal *a, const struct refusal *b)
{
        int order = id128_compare(a->handle, b->handle);

        return order ? order : (a->seq > b->seq) - (a->seq < b->seq);
}

RB_GENERATE_INTERNAL(origin_tree, pending, by_origin, compare_origins, _unused_ static)
RB_GENERATE_INTERNAL(forward_tree, pending, by_forward, compare_forwards, _unused_ static)
RB_GENERATE_INTERNAL(refusal_tree, refusal, node, compare_refusals, _unused_ static)

void replica_requests_init(struct replica *replica)
{
        RB_INIT(&replica->by_origin);
        RB_INIT(&replica->by_forward);
        RB_INIT(&replica->refusal_tree);
        TAILQ_INIT(&replica->undecided);
        TAILQ_INIT(&replica->later);
        TAILQ_INIT(&replica->forwarded);
        TAILQ_INIT(&replica->commit);
        TAILQ_INIT(&replica->round);
        TAILQ_INIT(&replica->renewal);
        TAILQ_INIT(&replica->apply);
        TAILQ_INIT(&replica->joins);
        replica_reads_init(replica);
        replica_awaits_init(replica);
        replica_admins_init(replica);
        /* A reply to an earlier life of this node may still be under way: no life repeats a number of another. */
        replica->forward_next = MUTATED(REPLY_MIXED) ? 0 : replica->settings.raft.seed;
}

/* --- one pending request --- */

static struct pending_list *list_of(struct replica *replica, enum pending_state state)
{
        switch (state) {
        case PENDING_UNDECIDED:
                return &replica->undecided;
        case PENDING_LATER:
                return &replica->later;
        case PENDING_FORWARDED:
                return &replica->forwarded;
        case PENDING_COMMIT:
                return &replica->commit;
        case PENDING_ROUND:
                return &replica->round;
        case PENDING_RENEWAL:
                return &replica->renewal;
        case PENDING_APPLY:
                return &replica->apply;
        }
        abort();
}

static void leave_state(struct replica *replica, struct pending *pending)
{
        TAILQ_REMOVE(list_of(replica, pending->state), pending, link);
        replica->later_count -= pending->state == PENDING_LATER;
        if (pending->state == PENDING_FORWARDED)
                RB_REMOVE(forward_tree, &replica->by_forward, pending);
}

/* Lists are kept in the order in which they are answered: by index. Indexes mostly come rising. */
static void enter_state(struct replica *replica, struct pending *pending, enum pending_state state)
{
        struct pending_list *list = list_of(replica, state);
        struct pending *before = TAILQ_LAST(list, pending_list);

        pending->state = state;
        replica->later_count += state == PENDING_LATER;
        if (state == PENDING_COMMIT || state == PENDING_APPLY)
                while (before && before->index > pending->index)
                        before = TAILQ_PREV(before, pending_list, link);
        if (before)
                TAILQ_INSERT_AFTER(list, before, pending, link);
        else
                TAILQ_INSERT_HEAD(list, pending, link);
}

static void move(struct replica *replica, struct pending *pending, enum pending_state state)
{
        leave_state(replica, pending);
        enter_state(replica, pending, state);
}

static void drop(struct replica *replica, struct pending *pending)
{
        leave_state(replica, pending);
        RB_REMOVE(origin_tree, &replica->by_origin, pending);
        replica->pending_count--;
        free(pending);
}

static struct pending *add(struct replica *replica, uint64_t node, const struct replica_origin *origin, const struct lock_request *request,
                           uint64_t deadline)
{
        struct pending *pending = alloc_zeroed(1, sizeof(*pending) + request->holder.size + request->further.size), *twin;

        pending->node = node;
        pending->origin = *origin;
        pending->request = *request;
        if (request->holder.size > 0)
                memcpy(pending->borrowed, request->holder.data, request->holder.size);
        pending->request.holder.data = pending->borrowed;
        if (request->further.size > 0)
                memcpy(pending->borrowed + request->holder.size, request->further.data, request->further.size);
        pending->request.further.data = pending->borrowed + request->holder.size;
        pending->deadline = deadline;
        pending->arrived = replica->now;
        pending->asked_cluster_ms = replica_cluster_ms(replica);
        twin = RB_INSERT(origin_tree, &replica->by_origin, pending);
        if (twin) {
                /* The same question of the same asker: the newer one takes the place of the older. */
                drop(replica, twin);
                (void)RB_INSERT(origin_tree, &replica->by_origin, pending);
        }
        replica->pending_count++;
        enter_state(replica, pending, PENDING_UNDECIDED);
        return pending;
}

void replica_requests_done(struct replica *replica)
{
        struct pending *pending;
        struct waiting_join *join;

        while ((pending = RB_MIN(origin_tree, &replica->by_origin)))
                drop(replica, pending);
        while ((join = TAILQ_FIRST(&replica->joins))) {
                TAILQ_REMOVE(&replica->joins, join, link);
                free(join);
        }
        free(replica->refusals);
        replica_reads_done(replica);
        replica_awaits_done(replica);
        replica_admins_done(replica);
}

/* --- answering --- */

static void answer_client(struct replica *replica, const struct pending *pending)
{
        struct replica_answer *answer = replica_add_answer(replica);

        /* Field by field: a turn has many of them, and the reply to a join, which is most of an answer, is in none. */
        answer->kind = REPLICA_ANSWER_CHANGE;
        answer->origin = pending->origin;
        answer->outcome = pending->outcome;
        answer->token = pending->token;
        answer->index = pending->index;
        answer->client = pending->owner;
        answer->until_cluster_ms = pending->until_cluster_ms;
}

/* Whether who wanted to wait had to is in the table, now that the entry is applied. Who had to is told as which waiter, also when that has got
 * the lock by now: its lease goes by that id, and who asks how it stands is told the token. */
static void look_at_wait(struct replica *replica, struct pending *pending)
{
        if (pending->token == 0)
                pending->token = lock_table_granted(replica->table, &pending->request.name, pending->waiter);
        if (pending->token == pending->waiter)
                return;
        pending->outcome = REPLICA_WAITING;
        pending->token = pending->waiter;
        pending->owner.size = 0;
}

static void answer(struct replica *replica, struct pending *pending)
{
        if (pending->waiter != 0 && pending->outcome == REPLICA_YES)
                look_at_wait(replica, pending);
        if (pending->node != 0) {
                replica_send(replica, pending->node, &(struct node_message){
                        .kind = NODE_FORWARD_REPLY,
                        .id = pending->origin.tag,
                        .outcome = pending->outcome,
                        .token = pending->token,
                        .index = pending->index,
                        .client = pending->owner,
                        .until_cluster_ms = pending->until_cluster_ms,
                });
        } else {
                answer_client(replica, pending);
        }
        drop(replica, pending);
}

/* --- refusals: they leave no trace in the log, so that a late copy of the request must be told from a new one --- */

static struct refusal *find_refusal(struct replica *replica, const struct lock_request *request)
{
        struct refusal probe = { .handle = request->handle, .seq = request->seq };

        return RB_FIND(refusal_tree, &replica->refusal_tree, &probe);
}

static void forget_refusal(struct replica *replica, struct refusal *refusal)
{
        if (refusal->used)
                RB_REMOVE(refusal_tree, &replica->refusal_tree, refusal);
        *refusal = (struct refusal){ 0 };
}

static void remember_refusal(struct replica *replica, const struct pending *pending)
{
        struct refusal *refusal = find_refusal(replica, &pending->request);

        if (!replica->refusals)
                replica->refusals = alloc_zeroed(LIMIT_REFUSALS, sizeof(replica->refusals[0]));
        if (!refusal) {
                refusal = &replica->refusals[replica->refusal_next];
                replica->refusal_next = (replica->refusal_next + 1) % LIMIT_REFUSALS;
        }
        forget_refusal(replica, refusal);
        *refusal = (struct refusal){
                .handle = pending->request.handle,
                .seq = pending->request.seq,
                .decided_ms = replica->now,
                .token = pending->token,
                .index = pending->index,
                .outcome = pending->outcome,
                .owner = pending->owner,
                .until_cluster_ms = pending->until_cluster_ms,
                .used = true,
        };
        (void)RB_INSERT(refusal_tree, &replica->refusal_tree, refusal);
}

static void refusal_is_said(struct replica *replica, const struct lock_request *request)
{
        struct refusal *refusal = find_refusal(replica, request);

        if (refusal)
                refusal->said = true;
}

/* What no client was told may not have been true at the end of the leadership it was decided in. */
static void forget_unsaid_refusals(struct replica *replica)
{
        for (size_t i = 0; i < LIMIT_REFUSALS && replica->refusals; i++)
                if (replica->refusals[i].used && !replica->refusals[i].said)
                        forget_refusal(replica, &replica->refusals[i]);
}

/* --- deciding: leader --- */

static void wait_for_commit(struct replica *replica, struct pending *pending, uint64_t index)
{
        pending->index = MAX(index, pending->waiter != 0 ? pending->token : 0);
        pending->outcome = REPLICA_YES;
        move(replica, pending, PENDING_COMMIT);
}

uint64_t replica_append(struct replica *replica, const struct lock_change *change)
{
        struct bytes *body = &replica->change_body;
        uint64_t index;

        bytes_clear(body);
        lock_change_put(body, change);
        index = raft_propose(replica->raft, (enum raft_entry_kind)change->kind, body->data, body->size);
        lock_overlay_add(replica->overlay, index, change);
        return index;
}

static void append_change(struct replica *replica, struct pending *pending, const struct lock_change *change)
{
        uint64_t index = replica_append(replica, change);

        pending->sent = true;
        pending->token = lock_change_token(change, index);
        if (lock_change_wants(change->kind) || change->kind == LOCK_CHANGE_CLIENT || change->kind == LOCK_CHANGE_OPEN)
                pending->owner = change->client;
        pending->waiter = change->kind == LOCK_CHANGE_WAIT ? index : 0;
        wait_for_commit(replica, pending, index);
}

/* F2: a refusal is a read: it rests on everything appended, and on a proof of leadership begun after it came. */
static void wait_for_round(struct replica *replica, struct pending *pending, enum pending_state state)
{
        pending->round = raft_read_round(replica->raft);
        move(replica, pending, state);
}

static void refuse(struct replica *replica, struct pending *pending, enum replica_outcome outcome, const struct lock_decision *decision)
{
        pending->outcome = outcome;
        pending->owner = decision->owner;
        pending->token = decision->token;
        pending->until_cluster_ms = decision->until_cluster_ms;
        pending->index = raft_last(replica->raft);
        if (pending->request.kind != LOCK_CHANGE_CANCEL && pending->request.kind != LOCK_RENEW)
                remember_refusal(replica, pending);
        wait_for_round(replica, pending, PENDING_ROUND);
}

static void refuse_again(struct replica *replica, struct pending *pending, const struct refusal *refusal)
{
        pending->outcome = refusal->outcome;
        pending->owner = refusal->owner;
        pending->token = refusal->token;
        pending->until_cluster_ms = refusal->until_cluster_ms;
        pending->index = refusal->index;
        wait_for_round(replica, pending, PENDING_ROUND);
}

/* T2: a yes rests on a proof of leadership from after it came: a leader elected since then counts its full time from later on. */
static void renew(struct replica *replica, struct pending *pending)
{
        replica_session_renewed(replica, pending->request.session);
        pending->outcome = REPLICA_YES;
        pending->token = pending->request.session;
        pending->index = 0;
        if (MUTATED(RENEW_UNPROVED))
                wait_for_commit(replica, pending, 0);
        else
                wait_for_round(replica, pending, PENDING_RENEWAL);
}

static void decide(struct replica *replica, struct pending *pending)
{
        bool cancels = pending->request.kind == LOCK_CHANGE_CANCEL || pending->request.kind == LOCK_RENEW;
        const struct refusal *refusal = cancels ? NULL : find_refusal(replica, &pending->request);
        struct lock_decision decision;

        pending->waiter = 0;
        pending->request.cluster_ms = MUTATED(PERIOD_LATE) ? replica->now : replica_cluster_ms(replica);
        lock_decide(replica->table, replica->overlay, &pending->request, &decision);
        /* What happened under another leader since counts for more than what this one refused. A client sends for so long, and a follower
         * that got it at the end for as long again. */
        if (refusal && (decision.verdict != LOCK_REPEATED || MUTATED(REFUSAL_KEPT)) && !MUTATED(REFUSAL_FORGOTTEN) &&
            replica->now - refusal->decided_ms <= 2 * LIMIT_RESEND_MS) {
                refuse_again(replica, pending, refusal);
                return;
        }
        switch (decision.verdict) {
        case LOCK_ACCEPTED:
                append_change(replica, pending, &decision.change);
                return;
        case LOCK_REPEATED:
                pending->owner = decision.owner;
                pending->token = decision.token;
                pending->waiter = decision.waits ? decision.index : 0;
                wait_for_commit(replica, pending, decision.index);
                return;
        case LOCK_REENTERED:
                refuse(replica, pending, REPLICA_REENTERED, &decision);
                return;
        case LOCK_HELD:
                refuse(replica, pending, REPLICA_HELD, &decision);
                return;
        case LOCK_QUIET:
                refuse(replica, pending, REPLICA_QUIET, &decision);
                return;
        case LOCK_DELAYED:
                refuse(replica, pending, REPLICA_DELAYED, &decision);
                return;
        case LOCK_TOO_SOON:
                refuse(replica, pending, REPLICA_TOO_SOON, &decision);
                return;
        case LOCK_NOT_ALONE:
                refuse(replica, pending, REPLICA_NOT_ALONE, &decision);
                return;
        case LOCK_NOT_OWNER:
                refuse(replica, pending, REPLICA_NOT_OWNER, &decision);
                return;
        case LOCK_FOREIGN_CLIENT:
                refuse(replica, pending, REPLICA_FOREIGN_CLIENT, &decision);
                return;
        case LOCK_FULL:
                refuse(replica, pending, REPLICA_FULL, &decision);
                return;
        case LOCK_UNKNOWABLE:
                refuse(replica, pending, REPLICA_UNKNOWN, &decision);
                return;
        case LOCK_NO_SESSION:
                refuse(replica, pending, REPLICA_NO_SESSION, &decision);
                return;
        case LOCK_RENEWED:
                renew(replica, pending);
                return;
        case LOCK_OTHER_TTL:
                refuse(replica, pending, REPLICA_OTHER_TTL, &decision);
                return;
        case LOCK_LATER:
                move(replica, pending, PENDING_LATER);
                return;
        }
        abort();
}

/* --- forwarding: follower --- */

static void forward(struct replica *replica, struct pending *pending)
{
        pending->forward_id = replica->forward_next++;
        pending->sent = true;
        replica_send(replica, replica->leader, &(struct node_message){
                .kind = NODE_FORWARD,
                .id = pending->forward_id,
                .term = raft_term(replica->raft),
                .cluster_ms = pending->asked_cluster_ms,
                .request = pending->request,
        });
        move(replica, pending, PENDING_FORWARDED);
        (void)RB_INSERT(forward_tree, &replica->by_forward, pending);
}

/* Promise 3: who asked may have asked another node since, and what the nodes remember of that has an end. A suspended node's own clock
 * stands still meanwhile, so cluster time counts too: half of what is remembered. */
static bool is_too_old(const struct replica *replica, const struct pending *pending)
{
        uint64_t cluster_ms = replica_cluster_ms(replica);

        return replica->now - pending->arrived > LIMIT_RESEND_MS ||
               (cluster_ms > pending->asked_cluster_ms && cluster_ms - pending->asked_cluster_ms > LIMIT_REQUEST_KEPT_MS / 2);
}

/* A pass over them may take some turns: however many wait for what one session held, no turn is long. */
static void decide_later(struct replica *replica)
{
        struct pending *pending;

        replica->later_left = MIN(replica->later_left, replica->later_count);
        for (unsigned i = 0; i < LIMIT_LATER_PER_TURN && replica->later_left > 0 && replica_may_decide(replica); i++, replica->later_left--) {
                pending = TAILQ_FIRST(&replica->later);
                if (is_too_old(replica, pending))
                        move(replica, pending, PENDING_LATER);       /* it is answered soon */
                else
                        decide(replica, pending);
        }
}

void replica_decide_waiting(struct replica *replica)
{
        bool may_forward = replica->leader != 0 && replica->leader != raft_id(replica->raft) && replica->leader_linked;
        struct pending *pending, *next;

        /* First: what was applied a moment ago is certain only as long as nobody has answered to it. */
        decide_later(replica);
        for (pending = TAILQ_FIRST(&replica->undecided); pending; pending = next) {
                next = TAILQ_NEXT(pending, link);
                if (is_too_old(replica, pending))
                        continue;
                if (replica_may_decide(replica))
                        decide(replica, pending);
                else if (may_forward)
                        forward(replica, pending);
        }
}

void replica_forward_reply(struct replica *replica, const struct node_message *message)
{
        struct pending probe = { .forward_id = message->id }, *pending = RB_FIND(forward_tree, &replica->by_forward, &probe);

        if (!pending)
                return;
        if (message->outcome == REPLICA_NOT_LEADER) {
                pending->retry_at = replica->now + 20;
                return;
        }
        pending->outcome = message->outcome;
        pending->token = message->token;
        pending->index = message->index;
        pending->waiter = 0;                 /* of a leadership of this node that is over */
        pending->owner = message->client;
        pending->until_cluster_ms = message->until_cluster_ms;
        move(replica, pending, PENDING_APPLY);
}

/* --- events --- */

void replica_request(struct replica *replica, const struct replica_origin *origin, const struct lock_request *request, uint64_t deadline)
{
        (void)add(replica, 0, origin, request, deadline);
}

void replica_forwarded(struct replica *replica, uint64_t node, const struct node_message *message)
{
        struct replica_origin origin = { .tag = message->id };

        /* F3: a forward to an earlier leadership of this node may be late: its sender has asked another leader since, who may have
         * refused what would be accepted now. */
        if (raft_role(replica->raft) != RAFT_LEADER || (message->term != raft_term(replica->raft) && !MUTATED(OLD_FORWARD))) {
                replica_send(replica, node, &(struct node_message){
                        .kind = NODE_FORWARD_REPLY, .id = message->id, .outcome = REPLICA_NOT_LEADER });
                return;
        }
        add(replica, node, &origin, &message->request, replica->now + LIMIT_RESEND_MS)->asked_cluster_ms = message->cluster_ms;
}

/* Everything undecided goes to the new leader under its request id; what other nodes
 * forwarded here they send to it themselves. Answers that are known stay known. */
void replica_leader_changed(struct replica *replica, bool was_leader)
{
        static const enum pending_state states[] = { PENDING_LATER, PENDING_FORWARDED, PENDING_COMMIT, PENDING_ROUND, PENDING_RENEWAL, PENDING_UNDECIDED };
        bool lost_link = replica->leader != 0 && replica->leader != raft_id(replica->raft) && !raft_is_linked(replica->raft, replica->leader);

        replica->leader_linked = replica->leader != 0 && !lost_link;
        for (size_t i = 0; i < ARRAY_SIZE(states); i++) {
                struct pending *pending, *next;

                for (pending = TAILQ_FIRST(list_of(replica, states[i])); pending; pending = next) {
                        next = TAILQ_NEXT(pending, link);
                        if (pending->node != 0 && was_leader)
                                drop(replica, pending);
                        else if (states[i] == PENDING_FORWARDED || (was_leader && states[i] != PENDING_UNDECIDED))
                                move(replica, pending, PENDING_UNDECIDED);
                }
        }
        if (was_leader)
                forget_unsaid_refusals(replica);
        if (was_leader)
                replica_sessions_leader_changed(replica);
        replica_reads_leader_changed(replica);
        replica_admin_leader_changed(replica);
}

void replica_forget(struct replica *replica, uint64_t session)
{
        struct pending probe = { .origin = { .session = session } }, *pending = RB_NFIND(origin_tree, &replica->by_origin, &probe), *next;

        for (; pending && pending->node == 0 && pending->origin.session == session; pending = next) {
                next = RB_NEXT(origin_tree, &replica->by_origin, pending);
                drop(replica, pending);
        }
        replica_forget_reads(replica, session);
        replica_forget_awaits(replica, session);
        replica_forget_admins(replica, session);
}

void replica_answer_waiting(struct replica *replica)
{
        struct pending *pending;

        while ((pending = TAILQ_FIRST(&replica->commit)) && pending->index <= replica->applied)
                answer(replica, pending);
        while ((pending = TAILQ_FIRST(&replica->apply)) && (pending->index <= replica->applied || MUTATED(OWN_MAP)))
                answer(replica, pending);
        while ((pending = TAILQ_FIRST(&replica->round)) && (pending->index <= replica->applied || MUTATED(EARLY_REFUSAL)) &&
               pending->round <= raft_round_confirmed(replica->raft)) {
                refusal_is_said(replica, &pending->request);
                answer(replica, pending);
        }
        while ((pending = TAILQ_FIRST(&replica->renewal)) && pending->round <= raft_round_confirmed(replica->raft))
                answer(replica, pending);
        replica_answer_awaits(replica);
        replica_answer_reads(replica);
}

/* Deadlines, what nobody decides any more, and forwards that came back from a node that does not lead. */
void replica_sweep_requests(struct replica *replica)
{
        struct pending *pending, *next;

        for (pending = RB_MIN(origin_tree, &replica->by_origin); pending; pending = next) {
                next = RB_NEXT(origin_tree, &replica->by_origin, pending);
                if (replica->now >= pending->deadline || ((pending->state == PENDING_UNDECIDED || pending->state == PENDING_LATER) && is_too_old(replica, pending))) {
                        pending->outcome = pending->sent ? REPLICA_UNKNOWN : pending->state == PENDING_LATER ? REPLICA_LATER : REPLICA_NO_LEADER;
                        pending->owner.size = 0;
                        pending->token = pending->index = 0;
                        answer(replica, pending);
                } else if (pending->state == PENDING_FORWARDED && pending->retry_at != 0 && replica->now >= pending->retry_at) {
                        pending->retry_at = 0;
                        move(replica, pending, PENDING_UNDECIDED);
                }
        }
}
