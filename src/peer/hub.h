/* hub.h - this node's links to the others: listening, dialling, handshakes.
 *
 * A link carries messages both ways, whoever dialled it. Only an answered hello
 * is contact: with socket activation a dead node's socket still accepts. A node
 * is linked while at least one link to it is up. Never blocks, except to
 * resolve a host name given in the ini. */
#pragma once

#include "net/listen.h"
#include "net/loop.h"
#include "peer/codec.h"

/* For a node that was a member. */
#define PEER_REASON_OLD "the refused node's program is older than what the cluster uses by now: upgrade dlock-server on its host"
#define PEER_REASON_GONE "not a member any more: empty its state directory to let it join as a new one"

/* The longest pause between two attempts to dial a member. */
#define PEER_REDIAL_MS_MAX 1000

struct peer_hub;
struct peer_link;

/* What happens on the links. Calls come from within the loop. */
struct peer_handler {
        void *context;
        /* A link to a member is up, maybe one more, or its last one is gone. level: what its program understands, when up. */
        void (*linked)(void *context, uint64_t node, unsigned level, bool up);
        void (*raft)(void *context, uint64_t node, const struct raft_message *message);
        void (*node)(void *context, uint64_t node, const void *data, size_t size);
        /* From a node that is no member; answer with peer_hub_reply to cookie. host: where it connected from. */
        void (*guest)(void *context, uint64_t cookie, const char *host, const void *data, size_t size);
        /* A member of a cluster (not ours: we have none yet) said hello. host: where it connected from. */
        void (*met_cluster)(void *context, const struct peer_hello *hello, const char *host);
        /* The dialled join address: up (welcome), an answer, or the end of it with a reason. */
        void (*join_up)(void *context, const struct peer_hello *welcome, const char *local_host);
        void (*join_message)(void *context, const void *data, size_t size);
        void (*join_down)(void *context, const char *reason);
        /* A link is about to be up: the local address of it, numeric. */
        void (*reached)(void *context, const char *local_host);
        /* A member stops cleanly. */
        void (*bye)(void *context, uint64_t node);
        /* A member refused this one with PEER_REASON_OLD, */
        void (*outdated)(void *context);
        /* or with PEER_REASON_GONE. */
        void (*removed)(void *context);
        /* Is this hello from a member as we know it? NULL: yes; else the reason to refuse it. */
        const char *(*judge)(void *context, const struct peer_hello *hello);
};

/* 0 or -errno. Takes over the listening descriptors. */
int peer_hub_new(struct loop *loop, const struct peer_handler *handler, const struct peer_hello *self, struct listen_sockets *sockets,
                 struct peer_hub **ret_hub);
/* Accepts NULL; returns NULL. */
struct peer_hub *peer_hub_free(struct peer_hub *hub);

/* Who this node is changed: it was let in. Existing links are closed. */
void peer_hub_set_self(struct peer_hub *hub, const struct peer_hello *self);

/* The members. address NULL: not known, or not to be dialled now. Call for all, and often: begin, add each, end. Whoever is not
 * among them any more is told so a second later, and its links are closed. */
void peer_hub_members_begin(struct peer_hub *hub);
void peer_hub_member(struct peer_hub *hub, uint64_t node, const char *name, const char *address);
void peer_hub_members_end(struct peer_hub *hub);

/* Dials an address to join through; one at a time, the previous attempt is given up. NULL: stop. */
void peer_hub_join(struct peer_hub *hub, const char *address);
void peer_hub_join_send(struct peer_hub *hub, const void *data, size_t size);

/* Queue a message; lost when the node is not linked. */
void peer_hub_send_raft(struct peer_hub *hub, const struct raft_message *message);
void peer_hub_send_node(struct peer_hub *hub, uint64_t node, const void *data, size_t size);
void peer_hub_reply(struct peer_hub *hub, uint64_t cookie, const void *data, size_t size);
/* Sends what is queued. Once per turn. */
void peer_hub_flush(struct peer_hub *hub);

/* Dials who is due, closes who is silent. now: monotonic ms. */
void peer_hub_tick(struct peer_hub *hub, uint64_t now);
bool peer_hub_is_linked(const struct peer_hub *hub, uint64_t node);
/* The last that this member said to this node was PEER_REASON_GONE. */
bool peer_hub_is_removed_by(const struct peer_hub *hub, uint64_t node);
/* Says BYE on every link and sends what is queued, as far as it goes without waiting. */
void peer_hub_bye(struct peer_hub *hub);
