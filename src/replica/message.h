/* message.h - what nodes ask of each other besides raft: forwarded requests,
 * joining, leaving, addresses. Bytes only; peer/ carries them. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/id128.h"
#include "base/name.h"
#include "lock/decide.h"

/* Numbers are on the wire: never reused. */
enum node_message_kind {
        NODE_FORWARD = 1,                    /* follower to leader: a client's request */
        NODE_FORWARD_REPLY = 2,
        NODE_JOIN = 3,                       /* not yet a member, to any member */
        NODE_JOIN_REPLY = 4,
        NODE_LEAVE = 5,                      /* a member stops cleanly */
        NODE_LEAVE_REPLY = 6,
        NODE_ANNOUNCE = 7,                   /* a member's address, at every start */
        NODE_READ = 8,                       /* follower to leader: how far is committed now, proved by a round? */
        NODE_READ_REPLY = 9,
        NODE_ADMIN = 10,                     /* to the leader: what an operator wants */
        NODE_ADMIN_REPLY = 11,
};

/* The answer to a request, at a node or on its way between nodes. */
enum replica_outcome {
        REPLICA_YES = 1,
        REPLICA_HELD = 2,                    /* no: owner has it */
        REPLICA_NOT_OWNER = 3,               /* no: owner has it, or nobody */
        REPLICA_FOREIGN_CLIENT = 4,          /* rejected: the client id belongs to another user */
        REPLICA_FULL = 5,                    /* rejected: a limit */
        REPLICA_UNKNOWN = 6,                 /* it may have happened or not */
        REPLICA_NO_LEADER = 7,               /* unknown, and most probably not sent: no leader with a majority in time */
        REPLICA_NOT_LEADER = 8,              /* between nodes only: ask another */
        REPLICA_NO_SESSION = 9,              /* no: the session has ended, or the client never had it */
        REPLICA_TOO_SOON = 10,               /* no: nobody has it, or it was to wait, but owner had it within the period */
        REPLICA_QUIET = 11,                  /* rejected: nothing is granted yet */
        REPLICA_LATER = 12,                  /* unknown, and most probably not happened: the lock was being freed for longer than it could wait */
        REPLICA_WAITING = 13,                /* neither yes nor no yet: it stands in the queue, as the waiter token */
        REPLICA_REENTERED = 14,              /* yes, already: the very session holds it, under token */
        REPLICA_NOT_ALONE = 15,              /* rejected: it is held in a session with others, and can only be broken at once */
        REPLICA_DELAYED = 16,                /* no: owner lost it, and nobody gets it yet */
        REPLICA_OTHER_TTL = 17,              /* rejected: the session lives for token milliseconds, and not for what was said */
        REPLICA_ENDED = 18,                  /* of a node's own to who awaits the end of a session: it has come */
        REPLICA_BROKEN = 19,                 /* of a node's own to who awaits the end of a lease: an operator has broken it, and it is renewed no more */
};

enum join_outcome {
        JOIN_WELCOME = 1,                    /* node is the new member's id */
        JOIN_ELSEWHERE = 2,                  /* address is the leader's */
        JOIN_LATER = 3,                      /* not now: no leader, or a change is under way */
        JOIN_NAME_TAKEN = 4,                 /* a connected member has this name */
        JOIN_CLUSTER_FULL = 5,               /* LIMIT_MEMBERS */
};

/* What an operator may want of the cluster. Each names a state; it is done when a leader sees it. */
enum admin_kind {
        ADMIN_TRANSFER = 1,                  /* the node leads, and keeps to it until it dies */
        ADMIN_REMOVE = 2,                    /* the node is no member */
};

enum admin_outcome {
        ADMIN_DONE = 1,
        ADMIN_NO_SUCH_NODE = 2,
        ADMIN_NOT_A_VOTER = 3,               /* TRANSFER: only voters lead */
        ADMIN_NOT_CAUGHT_UP = 4,             /* TRANSFER: not connected, or too far behind, within the deadline */
        ADMIN_LAST_VOTER = 5,                /* REMOVE: nothing would be left */
        ADMIN_NO_MAJORITY_LEFT = 6,          /* REMOVE: too few of the others are there to go on without it */
        ADMIN_LATER = 7,                     /* no leader, or another change under way, within the deadline: it may still happen */
        ADMIN_NOT_LEADER = 8,                /* between nodes only: ask another */
        ADMIN_WITNESS = 9,                   /* TRANSFER: a witness leads only while no other can */
};

struct admin_request {
        enum admin_kind kind;
        uint64_t node;                       /* 0: not looked up yet */
        char name[LIMIT_NODE_NAME_BYTES + 1];
};

/* Fields that a kind does not name are zero. */
struct node_message {
        enum node_message_kind kind;
        uint64_t id;                         /* FORWARD*, READ*, ADMIN*: the sender's number, repeated in the reply */
        uint64_t cluster_ms;                 /* FORWARD: when the client asked, as its node knew it */
        uint64_t term;                       /* FORWARD, READ: of the leader that is asked; another leadership does not answer */
        struct lock_request request;         /* FORWARD */
        enum replica_outcome outcome;        /* FORWARD_REPLY, READ_REPLY */
        uint64_t token, index;               /* FORWARD_REPLY; READ_REPLY: index */
        uint64_t until_cluster_ms;           /* FORWARD_REPLY, DELAYED: nobody gets it before */
        struct client_id client;             /* FORWARD_REPLY: the owner, or the assigned id; may be empty */
        struct id128 incarnation;            /* JOIN */
        char name[LIMIT_NODE_NAME_BYTES + 1];        /* JOIN */
        bool returns;                        /* LEAVE: with its host, which goes down: whoever wants it may wake it */
        bool witness, preferred;             /* JOIN; PREFERRED: leadership belongs here, unless it does elsewhere already */
        char address[LIMIT_ADDRESS_BYTES + 1];       /* JOIN, ANNOUNCE: own; JOIN_REPLY ELSEWHERE: the leader's; may be empty */
        enum join_outcome join;              /* JOIN_REPLY */
        uint64_t node;                       /* JOIN_REPLY */
        struct id128 cluster;                /* JOIN_REPLY */
        struct admin_request admin;          /* ADMIN */
        enum admin_outcome admin_outcome;    /* ADMIN_REPLY */
};

void node_message_put(struct bytes *bytes, const struct node_message *message);
/* False: not a well-formed message. */
bool node_message_get(const void *data, size_t size, struct node_message *ret_message);
