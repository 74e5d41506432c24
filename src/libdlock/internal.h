/* internal.h - a handle from the inside.
 *
 * A request is queued, then sent, then answered, and is on the list that says
 * so. A lost connection moves what was sent back to the queue; it goes out
 * again through the next server under its old request id. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/types.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "dlock.h"
#include "libdlock/servers.h"
#include "wire/wire.h"

#define SERVER_BYTES (LIMIT_ADDRESS_BYTES + 16)
#define ERROR_BYTES 512
/* Requests in flight of one handle, and of them on the connection: fewer than make a node stop reading. */
#define REQUESTS_MAX 1024
#define SENT_MAX 1000
/* Holds of one handle. Their renewals count for themselves, and some fit on a connection that is full of others. */
#define HOLDS_MAX 65536
#define RENEWALS_MORE 20
/* A tag is an id above a slot of so many bits: there is one for every request in flight and for every hold. */
#define SLOT_BITS 17
/* In the id of a renewal; the user's count without gaps. */
#define RENEWAL_ID (UINT64_C(1) << (63 - SLOT_BITS))
/* Servers that refuse connections are tried again for so long before they count as not there: one may be just starting. */
#define DOWN_MS 1000
/* A node that owes answers and says nothing for so long is asked for a sign of life, and left if it gives none. */
#define QUIET_MS 2000
/* A request id's handle is used on while its last success is younger than this: half of what the nodes remember. */
#define HANDLE_KEPT_MS (LIMIT_REQUEST_KEPT_MS / 2)

TAILQ_HEAD(request_list, request);

struct request {
        TAILQ_ENTRY(request) link;
        uint64_t id;
        uint32_t slot;
        enum dlock_operation operation;
        bool on_wire;                        /* on the list of what was sent */
        struct dlock_hold *hold;             /* RENEW: whose renewal it is; NULL: the user's */
        struct lock_name name, after;
        uint64_t after_index;
        uint64_t backup, offset;
        uint64_t period_ms;                  /* PREEMPT */
        uint16_t limit;
        bool consistent;
        uint64_t token;                      /* RELEASE */
        uint64_t session;                    /* PREEMPT, CLOSE, RENEW */
        uint32_t ttl_ms;                     /* OPEN, PREEMPT, RENEW; 0: none, or not known */
        bool finding;                        /* RELEASE: it asks for the token first, and has released nothing yet */
        struct bytes holder;                 /* PREEMPT, OPEN */
        char node[LIMIT_NODE_NAME_BYTES + 1];
        uint32_t timeout_ms;
        uint64_t deadline;
        uint64_t first_sent, last_sent;      /* 0: never */
        unsigned moves;                      /* servers that could not answer */
        char told[SERVER_BYTES + LIMIT_REASON_BYTES + 8];    /* why the last of them could not */
        unsigned copies;                     /* that were sent: each may be decided while it is on its way */

        /* It was refused, and asked that no copy of it happens any more: what is said when that is certain. */
        bool cancelling;
        enum wire_outcome kept;
        char kept_reason[LIMIT_REASON_BYTES + 1];

        /* The answer, and what it points to. */
        struct dlock_answer answer;
        struct client_id owner;
        char reason[ERROR_BYTES];
        char server[SERVER_BYTES];
        void *rows;                          /* or events, or members, or a piece of a backup */
        struct dlock_status status;
        struct wire_state state;
        char cluster[ID128_TEXT_BYTES];
};

/* A place for a request in flight, with a request id's handle to use again. */
struct slot {
        struct request *request;
        struct id128 handle;
        uint64_t seq;                        /* of the last request; 0: none yet */
        uint64_t accepted;                   /* when the last request that was granted was sent; 0: none, or not known */
        uint32_t next_free;
};

enum link_state { LINK_NONE, LINK_CONNECTING, LINK_GREETING, LINK_READY };

struct link {
        enum link_state state;
        int fd;
        struct address address;
        char server[SERVER_BYTES];
        struct addrinfo *found, *trying;     /* of a host name */
        uint64_t give_up;                    /* CONNECTING, GREETING; 0: never */
        struct bytes in, out;
        size_t in_taken, out_sent;
        uint32_t events;
        bool assign;                         /* the hello asked for a client id */
        bool stranger;                       /* not a member yet, and the client knows a cluster */
        uint64_t heard, pinged;              /* pinged 0: no sign of life is awaited */
};

struct dlock {
        const uint8_t *parents;              /* a page that is empty in a child of fork(2) */
        pid_t pid;                           /* whose it is, under a kernel that empties no pages; else 0 */
        int epoll;
        uint32_t timeout_ms;
        char error[ERROR_BYTES];

        struct servers servers;
        size_t next_server;
        struct link link;
        struct address shunned;              /* that was silent while a renewal waited, and is passed over once; no host: none */

        bool client_known, client_assign, cluster_read, submitted;
        struct client_id client;
        char client_text[LIMIT_CLIENT_ID_BYTES + 1];
        struct id128 cluster;                /* null: none pinned */
        uint64_t min_index;
        struct holder self;                  /* this process, once holder_known */
        bool holder_known;

        uint64_t last_id;
        struct slot *slots;
        uint32_t slot_count, first_free;
        size_t pending, sent_count;
        struct request_list queued, sent, answered;
        struct request_list renewals;        /* of holds, queued, before everything else */
        size_t renewing;                     /* of holds, queued or sent; of pending */
        uint64_t last_renewal;
        struct request *current;             /* the answer that was handed out last */
        uint64_t next_deadline;              /* no request's patience ends before */

        TAILQ_HEAD(, dlock_hold) holds;
        size_t hold_count;
        uint64_t hold_wake;                  /* none of them has anything to do before */
        uint32_t hold_tenth;                 /* of the shortest time to live of those not lost; UINT32_MAX: none */

        /* What went wrong since the last answer. */
        unsigned failures;                   /* attempts */
        uint64_t down_since, retry_at;
        bool alive;                          /* in this round somebody was there, but could not help */
        bool round_over;                     /* and the next failure begins another */
        bool fresh;                          /* something was submitted since the last turn */
        char why[ERROR_BYTES];
};

/* It is about one lock, and changes it. */
static inline bool request_changes_lock(const struct request *request)
{
        return request->operation == DLOCK_OP_PREEMPT || request->operation == DLOCK_OP_RELEASE;
}

/* It changes what the log says: it has a request id, and happens once. */
static inline bool request_changes(const struct request *request)
{
        return request_changes_lock(request) || request->operation == DLOCK_OP_OPEN || request->operation == DLOCK_OP_CLOSE;
}

/* It is asked on behalf of a client. A renewal has no request id: one too many does no harm, and one too late neither. */
static inline bool request_names_client(const struct request *request)
{
        return request_changes(request) || request->operation == DLOCK_OP_RENEW;
}

/* It is no mere question: once sent, it may have happened. */
static inline bool request_acts(const struct request *request)
{
        return (request_changes(request) && !request->finding) || request->operation == DLOCK_OP_TRANSFER || request->operation == DLOCK_OP_REMOVE;
}

/* How long one node may take for a renewal. When it cannot tell it says so then; and when it says nothing for as long again, it is left. */
static inline uint32_t renewal_patience(const struct request *request)
{
        return MIN(request->ttl_ms / 10, (uint32_t)DLOCK_TIMEOUT_DEFAULT);
}

/* In a child of fork(2) the handle is its parent's. Asked at every call, so it costs no system call where the kernel helps. */
static inline bool is_forked(const struct dlock *dlock)
{
        return *dlock->parents == 0 || (dlock->pid != 0 && dlock->pid != getpid());
}

int set_error(struct dlock *dlock, int error, const char *format, ...) _printf_(3, 4);

/* identity.c */
int identity_load_client(struct dlock *dlock);
int identity_load_cluster(struct dlock *dlock);
/* True: id is the cluster of this client, now at the latest. */
bool identity_is_cluster(struct dlock *dlock, struct id128 id);

/* holder.c: who will hold a lock, as bytes into request. 0 or -EINVAL. */
int holder_describe(struct dlock *dlock, const struct dlock_request *asked, struct request *request);

/* hold.c */
/* Renews what is due, and tells whom a state has changed for. */
void holds_turn(struct dlock *dlock, uint64_t now);
/* A renewal has its outcome. It is freed by who calls. */
void hold_take_answer(struct request *request);
/* The handle is freed: they are lost. */
void holds_forget(struct dlock *dlock);

/* request.c */
/* Into the queue, with a slot and an id. 0, or -ENOMEM and it is still the caller's. */
int request_enter(struct dlock *dlock, struct request *request, uint64_t deadline);
/* Nobody wants its answer any more: it is freed. */
void request_drop(struct dlock *dlock, struct request *request);
void request_finish(struct dlock *dlock, struct request *request, enum dlock_outcome outcome, const char *format, ...) _printf_(4, 5);
/* Goes out again, as the wish that it does not happen. The node's outcome and reason are kept until that is answered. */
void request_cancel(struct dlock *dlock, struct request *request, enum wire_outcome kept, const char *reason);
/* The token to release under is known: what was a question goes out as a request. */
void request_found(struct dlock *dlock, struct request *request, uint64_t token);
/* Its outcome is not known, since that wish was not granted. */
void request_not_cancelled(struct dlock *dlock, struct request *request, const char *why);
/* What was sent is queued again, before everything else. */
void request_requeue_sent(struct dlock *dlock);
/* Ends what has waited long enough. */
void request_expire(struct dlock *dlock, uint64_t now);
/* No server is there: ends what can be said not to have happened. */
void request_give_up(struct dlock *dlock);
struct request *request_of_tag(struct dlock *dlock, uint64_t tag);
/* Appends the request's frame to the connection. */
void request_send(struct dlock *dlock, struct request *request, uint64_t now);
void request_free(struct request *request);

/* answer.c: what a frame says. False: malformed. */
bool answer_take(struct dlock *dlock, const struct wire_frame *frame);

/* link.c */
void link_receive(struct dlock *dlock, uint64_t now);
void link_send(struct dlock *dlock, uint64_t now);
void link_close(struct dlock *dlock);
/* The node is there and cannot help, or (hard) is not there: the next one is tried. */
void link_fail(struct dlock *dlock, bool hard, const char *format, ...) _printf_(3, 4);
/* It says nothing. While a renewal waits, its next turn is another one's. */
void link_fail_silent(struct dlock *dlock, const char *text);
/* Until when nothing need be done; 0: there is something to do now; UINT64_MAX: no limit. */
uint64_t link_wake(const struct dlock *dlock);
