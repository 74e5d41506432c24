/* entry.h - what is replicated and what a disk must keep: the words shared by
 * raft, store and peer. Declarations, and what belongs to them. */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* What this program knows of entries, configurations and messages between nodes. It goes up by one with a release that
 * adds to them; the cluster's own level, in its configuration, follows when every member knows it. */
#ifndef RAFT_FEATURE_LEVEL
#define RAFT_FEATURE_LEVEL 1
#endif

/* Numbers are on disk and on the wire: never reused. A kind newer than the
 * cluster's feature level is not proposed; a node that meets a kind it does
 * not know stops with a message. */
enum raft_entry_kind {
        RAFT_ENTRY_NOOP = 1,                 /* opens a term; empty body */
        RAFT_ENTRY_CONFIGURATION = 2,        /* the members, body by raft/configuration */
        RAFT_ENTRY_ADDRESS = 3,              /* where a member is reached, body by replica/directory */
        RAFT_ENTRY_CLIENT = 4,               /* an id assigned to a client, body by lock/change */
        RAFT_ENTRY_PREEMPT = 5,              /* a granted lock, body by lock/change */
        RAFT_ENTRY_RELEASE = 6,              /* a lock given back, body by lock/change */
        RAFT_ENTRY_CANCEL = 7,               /* a request that may be under way will not happen, body by lock/change */
        RAFT_ENTRY_OPEN = 8,                 /* a session, body by lock/change */
        RAFT_ENTRY_CLOSE = 9,                /* its client ended it, body by lock/change */
        RAFT_ENTRY_EXPIRE = 10,              /* the leader ended it, or goes on freeing what an ended one held, body by lock/change */
        RAFT_ENTRY_WAIT = 11,                /* a client in the queue of a lock, or the lock's owner if it was free by then, body by lock/change */
        RAFT_ENTRY_LEAVE = 12,               /* it does not want the lock any more, body by lock/change */
        RAFT_ENTRY_KEEP = 13,                /* a lock held from here on in no session, body by lock/change */
        RAFT_ENTRY_GRANT = 14,               /* a free lock goes to whoever is next, body by lock/change */
        RAFT_ENTRY_BREAK = 15,               /* a lock that is taken from its owner, body by lock/change */
#if RAFT_FEATURE_LEVEL > 1
        RAFT_ENTRY_NEXT = 100,               /* stands for what the next level brings, in tests of upgrades; empty body */
#endif
};

/* The level a cluster needs to be at before such an entry is proposed. */
static inline unsigned raft_entry_kind_level(enum raft_entry_kind kind)
{
        return kind < 100 ? 1 : 2;
}

/* The word for a kind, in the database and for people: as permanent as the number. NULL: no such kind. */
static inline const char *raft_entry_kind_name(enum raft_entry_kind kind)
{
        switch (kind) {
        case RAFT_ENTRY_NOOP:
                return "noop";
        case RAFT_ENTRY_CONFIGURATION:
                return "configuration";
        case RAFT_ENTRY_ADDRESS:
                return "address";
        case RAFT_ENTRY_CLIENT:
                return "client";
        case RAFT_ENTRY_PREEMPT:
                return "preempt";
        case RAFT_ENTRY_RELEASE:
                return "release";
        case RAFT_ENTRY_CANCEL:
                return "cancel";
        case RAFT_ENTRY_OPEN:
                return "open";
        case RAFT_ENTRY_CLOSE:
                return "close";
        case RAFT_ENTRY_EXPIRE:
                return "expire";
        case RAFT_ENTRY_WAIT:
                return "wait";
        case RAFT_ENTRY_LEAVE:
                return "leave";
        case RAFT_ENTRY_KEEP:
                return "keep";
        case RAFT_ENTRY_GRANT:
                return "grant";
        case RAFT_ENTRY_BREAK:
                return "break";
#if RAFT_FEATURE_LEVEL > 1
        case RAFT_ENTRY_NEXT:
                return "next";
#endif
        }
        return NULL;
}

/* One entry of the log. cluster_ms: the leader's count of monotonic time, never
 * falls from one entry to the next (DESIGN D10); wall_ms: for display only. */
struct raft_entry {
        uint64_t index;
        uint64_t term;
        uint64_t cluster_ms;
        uint64_t wall_ms;
        enum raft_entry_kind kind;
        uint32_t size;
        uint8_t body[];
};

/* What must be durable before this node speaks again in a term. */
struct raft_hard_state {
        uint64_t term;
        uint64_t vote;                       /* node id, 0: none in this term */
};

/* The state as of a committed index: what stands in the place of the log up to there. */
struct raft_base {
        uint64_t index;
        uint64_t term;
        uint64_t cluster_ms;
        uint64_t configuration_index;        /* of the entry that made the configuration */
        const uint8_t *configuration;        /* encoded, as of index */
        size_t configuration_size;
};

/* One record of the replicated state, as the tables in the database and a
 * snapshot carry it. body is authoritative; key, label and number are derived
 * from it, for people and for the primary key, and compared when it is read.
 * Table numbers are in snapshots: never reused. */
enum raft_table {
        RAFT_TABLE_LOCK = 1,                 /* key: name; label: owner's client id; number: token */
        RAFT_TABLE_CLIENT = 2,               /* key: client id; label: principal; number: index of last change */
        RAFT_TABLE_REQUEST = 3,              /* key: handle as a UUID; label: lock name; number: index of the entry */
        RAFT_TABLE_ADDRESS = 4,              /* key: node id in decimal; label: address; number: index of the entry */
        RAFT_TABLE_SESSION = 5,              /* key: id in decimal; label: its client's id; number: id */
        RAFT_TABLE_PERIOD = 6,               /* key: lock name; label: client's id; number: token of the grant that is remembered */
        RAFT_TABLE_PROMISE = 7,              /* key: "leases"; label: ""; number: the longest time to live so far, with its lock-delay, in ms */
        RAFT_TABLE_WAITER = 8,               /* key: id in decimal; label: lock name; number: id */
        RAFT_TABLE_DELAY = 9,                /* key: lock name; label: id of the client that lost it; number: token of that hold */
        RAFT_TABLE_SHARE = 10,               /* key: id of what asked for it, in decimal; label: lock name; number: token */
};

struct raft_record {
        enum raft_table table;
        const char *key;                     /* zero-terminated text, 1 to 255 bytes */
        const char *label;                   /* zero-terminated text, at most 512 bytes */
        uint64_t number;                     /* below 2^63 */
        const uint8_t *body;                 /* NULL: the record is deleted (label and number are then unset) */
        size_t body_size;
};
