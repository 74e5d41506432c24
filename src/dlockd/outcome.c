#include "dlockd/outcome.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/cleanup.h"

/* For how long nothing is granted yet, after a cluster began anew. */
static uint64_t quiet_s(const struct daemon *daemon)
{
        uint64_t until = lock_table_quiet_until(replica_table(daemon->replica)), now = replica_cluster_ms(daemon->replica);

        return until > now ? (until - now + 999) / 1000 : 1;
}

/* It was more when the leader said no, and may be over by now. */
static void tell_delay(const struct daemon *daemon, const struct replica_answer *answer, char words[LIMIT_REASON_BYTES + 1], struct wire_result *result)
{
        uint64_t until = answer->until_cluster_ms, now = replica_cluster_ms(daemon->replica);

        result->outcome = WIRE_NO;
        result->owner.size = 0;              /* it had the lock, and has it no more */
        result->free_in_ms = until > now ? (uint32_t)MIN(until - now, (uint64_t)LIMIT_DELAY_MS) : 1;
        (void)snprintf(words, LIMIT_REASON_BYTES + 1, "free in %" PRIu32 ".%" PRIu32 " s (lock-delay after %s lost it)", (result->free_in_ms + 99) / 1000,
                       (result->free_in_ms + 99) / 100 % 10, answer->client.text);
}

void outcome_of_change(const struct daemon *daemon, enum wire_type type, const struct replica_answer *answer, struct wire_result *ret_result)
{
        struct wire_result result = { .token = answer->token, .index = answer->index, .owner = answer->client, .leader_age_ms = -1 };
        char words[LIMIT_REASON_BYTES + 1];
        const char *reason = "";

        switch (answer->outcome) {
        case REPLICA_YES:
                result.outcome = WIRE_YES;
                break;
        case REPLICA_WAITING:
                result.outcome = WIRE_WAITING;
                break;
        case REPLICA_REENTERED:
                result.outcome = WIRE_REENTERED;
                break;
        case REPLICA_HELD:
                result.outcome = WIRE_NO;
                reason = answer->client.size > 0 ? "" : "it is free, but somebody waits for it and for others together";
                break;
        case REPLICA_NOT_OWNER:
                result.outcome = WIRE_NO;
                break;
        case REPLICA_TOO_SOON:
                result.outcome = WIRE_NO;
                result.owner.size = 0;       /* it had the lock, and has it no more */
                (void)snprintf(words, sizeof(words), "it was granted within the period already, to %s", answer->client.text);
                reason = words;
                break;
        case REPLICA_DELAYED:
                tell_delay(daemon, answer, words, &result);
                reason = words;
                break;
        case REPLICA_QUIET:
                result.outcome = WIRE_REJECTED;
                (void)snprintf(words, sizeof(words), "the cluster began anew, and grants nothing for %" PRIu64 " s more: leases of before may still be counted on",
                               quiet_s(daemon));
                reason = words;
                break;
        case REPLICA_NO_SESSION:
                result.outcome = type == WIRE_PREEMPT ? WIRE_REJECTED : WIRE_NO;
                reason = type == WIRE_AWAIT ? "it waits no more: its session has ended, or it was given up"
                         : type == WIRE_KEEP ? "an operator has broken it: it is free when its lease is over"
                                            : "this client has no such session, or it has ended, or it is that of a lease";
                break;
        case REPLICA_ENDED:
                result.outcome = WIRE_NO;
                reason = "it has ended";
                break;
        case REPLICA_BROKEN:
                result.outcome = WIRE_NO;
                reason = "an operator has broken it";
                break;
        case REPLICA_NOT_ALONE:
                result.outcome = WIRE_REJECTED;
                reason = "it is held in a session or lease with others, which cannot be told of one of them: it can only be broken at once";
                break;
        case REPLICA_OTHER_TTL:
                result.outcome = WIRE_REJECTED;
                result.token = 0;
                (void)snprintf(words, sizeof(words), "its time to live is %" PRIu64 ".%03" PRIu64 " s, and a renewal does not change that: the same would be right", answer->token / 1000,
                               answer->token % 1000);
                reason = words;
                break;
        case REPLICA_FOREIGN_CLIENT:
                result.outcome = WIRE_REJECTED;
                reason = "this client id belongs to another user of its host; an id of one's own would be right";
                break;
        case REPLICA_FULL:
                result.outcome = WIRE_REJECTED;
                reason = "the cluster holds as many locks, sessions or recent requests as it may";
                break;
        case REPLICA_UNKNOWN:
                result.outcome = WIRE_UNKNOWN;
                reason = raft_has_quorum(replica_raft(daemon->replica)) ? "no answer in time: it may have happened or not"
                                                                        : "there was no leader with a majority any more: it may have happened or not";
                break;
        case REPLICA_NO_LEADER:
        case REPLICA_NOT_LEADER:
                result.outcome = WIRE_UNKNOWN;
                reason = "there was no leader with a majority in time";
                break;
        case REPLICA_LATER:
                result.outcome = WIRE_UNKNOWN;
                reason = "the lock was being freed, and was not free in time";
                break;
        }
        if (*reason)
                (void)snprintf(result.reason, sizeof(result.reason), "%s", reason);
        *ret_result = result;
}

/* By kind of outcome: yes, not possible, and not yet. */
void outcome_of_admin(enum admin_outcome outcome, struct wire_result *ret_result)
{
        static const struct {
                enum wire_outcome outcome;
                const char *reason;
        } words[] = {
                [ADMIN_DONE] = { WIRE_YES, "" },
                [ADMIN_NO_SUCH_NODE] = { WIRE_REJECTED, "no member has this name; \"dlockctl members\" shows who there is" },
                [ADMIN_NOT_A_VOTER] = { WIRE_REJECTED, "this node does not vote, so it cannot lead" },
                [ADMIN_NOT_CAUGHT_UP] = { WIRE_UNKNOWN, "this node was not connected to the leader, or not caught up, in time; it may still happen" },
                [ADMIN_LAST_VOTER] = { WIRE_REJECTED, "this is the only voter: without it there would be no cluster" },
                [ADMIN_NO_MAJORITY_LEFT] = { WIRE_REJECTED, "too few of the other voters are connected to go on without this one" },
                [ADMIN_LATER] = { WIRE_UNKNOWN, "no leader with a majority, or another change under way, in time; it may still happen" },
                [ADMIN_WITNESS] = { WIRE_REJECTED, "this node is a witness, which leads only while no other can; a node that serves clients would be right" },
                [ADMIN_NOT_LEADER] = { WIRE_UNKNOWN, "no leader in time" },
        };
        struct wire_result result = { .outcome = words[outcome].outcome, .leader_age_ms = -1 };

        (void)snprintf(result.reason, sizeof(result.reason), "%s", words[outcome].reason);
        *ret_result = result;
}
