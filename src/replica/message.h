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
};

enum join_outcome {
        JOIN_WELCOME = 1,                    /* node is the new member's id */
        JOIN_ELSEWHERE = 2,                  /* address is the leader's */
        JOIN_LATER = 3,                      /* not now: no leader, or a change is under way */
        JOIN_NAME_TAKEN = 4,                 /* a connected member has this name */
        JOIN_CLUSTER_FULL = 5,               /* LIMIT_MEMBERS */
};

/* Fields that a kind does not name are zero. */
struct node_message {
        enum node_message_kind kind;
        uint64_t id;                         /* FORWARD*: the sender's number, repeated in the reply */
        struct lock_request request;         /* FORWARD */
        enum replica_outcome outcome;        /* FORWARD_REPLY */
        uint64_t token, index;               /* FORWARD_REPLY */
        struct client_id client;             /* FORWARD_REPLY: the owner, or the assigned id; may be empty */
        struct id128 incarnation;            /* JOIN */
        char name[LIMIT_NODE_NAME_BYTES + 1];        /* JOIN */
        bool witness;                        /* JOIN */
        char address[LIMIT_ADDRESS_BYTES + 1];       /* JOIN, ANNOUNCE: own; JOIN_REPLY ELSEWHERE: the leader's; may be empty */
        enum join_outcome join;              /* JOIN_REPLY */
        uint64_t node;                       /* JOIN_REPLY */
        struct id128 cluster;                /* JOIN_REPLY */
};

void node_message_put(struct bytes *bytes, const struct node_message *message);
/* False: not a well-formed message. */
bool node_message_get(const void *data, size_t size, struct node_message *ret_message);
