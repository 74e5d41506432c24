/* mutation.h - bugs on purpose, one at a time, that the simulator must find ("make mutations").
 *
 * MUTATED(R1) stands at the line that keeps a rule. It is the constant false in
 * every build but the simulator's own (-DDLOCK_MUTATIONS), and leaves nothing
 * behind there. R1 to R7 are bugs that a library in use really had. */
#pragma once

#include <stdbool.h>

#define MUTATIONS(X)                                                                                      \
        X(R1, "a leader commits an entry of an earlier term by counting copies")                          \
        X(R2, "an acknowledgement speaks of entries that were never compared with this leader")           \
        X(R3, "a transfer gets a second vote in one term")                                                \
        X(R4, "what was compared with an old leader is acknowledged to a new one")                        \
        X(R5, "after a restart an uncommitted configuration counts as committed")                         \
        X(R6, "members change before an entry of the own term is committed")                              \
        X(R7, "a leader commits at the end of its log only")                                              \
        X(TRUNCATE, "a log is cut without a conflict")                                                    \
        X(ACK_EARLY, "an entry is acknowledged before the disk has it")                                   \
        X(VOTE_FORGOTTEN, "a vote is forgotten over a restart")                                           \
        X(VOTE_CLEARED, "stepping down in the same term clears the vote")                                 \
        X(VOTE_EARLY, "a vote is spoken before the disk has it")                                          \
        X(TERM_EARLY, "a term is spoken of before the disk has it")                                       \
        X(STALE_LOG, "votes go to a candidate whose log is behind")                                       \
        X(IN_FLIGHT, "a node campaigns with a write in flight")                                           \
        X(DEPOSE, "voters help to depose a leader they hear")                                             \
        X(UNVERIFIED, "a follower commits beyond what it has compared")                                   \
        X(LATE_WRITE, "a late completion of a truncated write counts")                                    \
        X(OWN_UNSYNCED, "a leader counts entries that its own disk does not have")                        \
        X(LEARNERS, "copies at learners count for a commit")                                              \
        X(EVENTS_KEPT, "what became of locks is remembered over a snapshot, which leaves a gap")          \
        X(NO_WAIT, "a leader decides before the no-op of its term is committed")                          \
        X(SECOND_CHANGE, "members change again before the change before is committed")                    \
        X(REMOVED_LEADS, "a leader that was taken out goes on leading")                                   \
        X(BASE_CONFIGURATION, "a base has a configuration from after its index")                          \
        X(OLD_SNAPSHOT, "a snapshot from before the commit index is installed")                           \
        X(SNAPSHOT_RESULTS, "a snapshot forgets the results kept for retries")                            \
        X(JOIN_EARLY, "a joining node gets its id before that is committed")                              \
        X(APPLY_AHEAD, "the table moves with what is appended, not with what is committed")               \
        X(TOKEN, "a token is used again")                                                                 \
        X(OVERLAY, "the leader decides on the table alone, without what it has appended")                 \
        X(OVERLAY_KEPT, "a new leader decides on what it appended as an earlier one")                     \
        X(NO_RETRY, "a retry is taken for a new request")                                                 \
        X(STALE_ROUND, "a refusal rests on a proof of leadership from before it was asked for")           \
        X(EARLY_REFUSAL, "a refusal does not wait for what it rests on to be committed")                  \
        X(REFUSAL_FORGOTTEN, "a late copy of a refused request is decided again")                         \
        X(REFUSAL_KEPT, "a refusal of an earlier term is said again when the request has happened since")   \
        X(OWN_MAP, "a follower answers before its own map shows it")                                      \
        X(READ_UNPROVED, "a consistent read does not wait for a proof of leadership")                     \
        X(CANCEL_LOST, "a cancelled request is not remembered")                                           \
        X(RELEASE_ANY, "a release takes whatever hold its client has by now")                             \
        X(OLD_FORWARD, "a request that was forwarded to an earlier leadership is decided")                \
        X(RENEW_UNPROVED, "a renewal is answered without a proof of leadership")                         \
        X(EXPIRE_UNPROVED, "a session is ended without a proof of leadership")                            \
        X(NO_REARM, "a new leader does not give sessions their whole time again")                         \
        X(STALL_EXPIRES, "a leader that stood still ends sessions before it reads what was renewed")      \
        X(ENDED_LIVES, "a lock is granted in a session that is about to end")                             \
        X(LAST_FIRST, "a lock goes to who waited shortest")                                               \
        X(BARGE, "a lock that is being freed goes to who comes, and not to who waits")                      \
        X(ONE_TOO_MANY, "more hold a lock together than said that they may")                               \
        X(PART_OF_ALL, "who waits for several locks gets them when it is its turn for one")                  \
        X(LEASE_IN_PARTS, "of what was taken together an end of the lease frees one lock only")            \
        X(KEEP_IN_PARTS, "of what was taken together one lock is kept, and the others stay in the lease")  \
        X(SHARE_PASSES, "who comes to share a lock passes who waits to have it alone")                     \
        X(LEFT_KEPT, "who gives up while it waits keeps what it is granted in the meantime")              \
        X(PLACE_LOST, "a snapshot forgets who waits")                                                     \
        X(BREAK_NOW, "a lease that is broken is free before its holder knows")                            \
        X(DELAY_SKIPPED, "a lock that was lost goes to the next at once, whatever its delay")              \
        X(DELAY_ON_RELEASE, "a lock that is given back waits for a delay")                                \
        X(DELAY_LOST, "a snapshot forgets which locks were lost")                                         \
        X(BREAK_UNSAID, "who holds a lease hears that it is broken by its next renewal only")                \
        X(END_UNSAID, "who holds something in a session hears that it has ended by its next renewal only")   \
        X(GHOST, "a waiter stays in its queue when its session has ended")                                \
        X(PERIOD_RELEASED, "a release forgets that the lock was granted within the period")               \
        X(PERIOD_LATE, "the leader counts a period by its own clock")                                     \
        X(LEVEL_EARLY, "the level rises when one member knows it")                                        \
        X(READ_BACK, "a read goes back behind what its client has seen")                                  \
        X(REPLY_MIXED, "answers to an earlier life of a node are taken for those of this one")            \
        X(CLUSTER_TIME, "cluster time falls when the leader changes")                                     \
        X(UNSYNCED_START, "what a killed process left is taken for durable without a sync")               \
        X(SAME_NODE, "an emptied disk is the voter that it was")

#ifdef DLOCK_MUTATIONS
#define MUTATION_ENUM(name, what) MUTATION_##name,
enum mutation { MUTATION_NONE, MUTATIONS(MUTATION_ENUM) MUTATION_COUNT };
extern enum mutation mutation_active;
#define MUTATED(name) (mutation_active == MUTATION_##name)
#else
#define MUTATED(name) false
#endif
