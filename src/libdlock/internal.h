/* internal.h - a handle from the inside.
 *
 * A request is queued, then sent, then answered, and is on the list that says
 * so. A lost connection moves what was sent back to the queue; it goes out
 * again through the next server under its old request id. */
#pragma once

#include <stdatomic.h>
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
/* Of them, those that ask to be told of their end: fewer than a node is ready to remember for one connection. The others hear of it when they renew. */
#define LISTENERS_MAX 8000
/* Watches of one handle: what a node takes of one connection. */
#define WATCHES_MAX LIMIT_SESSION_WATCHES
/* A node on whose connection nothing is awaited but that something happens is asked for a sign of life less often. */
#define QUIET_WATCH_MS 5000
/* A tag is an id above a slot of so many bits: there is one for every request in flight and for every hold. */
#define SLOT_BITS 17
/* In the id of a renewal; the user's count without gaps. */
#define RENEWAL_ID (UINT64_C(1) << (63 - SLOT_BITS))
/* The lease that it waits in, when none was asked for. */
#define WAIT_TTL_MS 10000
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
        struct dlock_hold *listener;         /* who asks to be told when what it renews has ended; NULL: nobody */
        struct dlock_watch *watch;           /* LIST, SHOW, WATCH: whose it is; NULL: the user's */
        struct waiting *waiting;             /* what is asked for one who waits; NULL: the user's */
        struct lock_name name;
        uint64_t after_index, after_token;
        uint64_t backup, offset;
        uint64_t period_ms;                  /* PREEMPT */
        uint16_t slots;                      /* PREEMPT */
        uint8_t further_count;               /* PREEMPT: of the names in further */
        uint32_t node_ms;                    /* of a watch: how long a node may wait for something to happen; 0: as for others */
        uint16_t limit;
        bool consistent, exact;
        uint64_t token;                      /* RELEASE, KEEP; AWAITS: the waiter */
        uint64_t session;                    /* PREEMPT, CLOSE, RENEW */
        uint32_t ttl_ms;                     /* OPEN, PREEMPT, RENEW; 0: none, or not known */
        uint32_t lock_delay_ms;              /* OPEN, PREEMPT */
        bool finding;                        /* RELEASE: it asks for the token first, and has released nothing yet */
        bool awaits;                         /* PREEMPT: it asks how a wait stands; CHECK: of LISTENER */
        bool bound;                          /* AWAITS, of LISTENER: it ends with this process */
        bool keeps;                          /* PREEMPT: no lease was asked for: what it waits in is not to be what it holds in */
        bool now;                            /* BREAK */
        bool given_up;                       /* PREEMPT: before it was known that it waits */
        uint64_t wait_ms, wait_until;        /* PREEMPT: its patience in the queue; 0: none */
        uint32_t timeout_ms;
        uint64_t deadline;
        uint64_t first_sent, last_sent;      /* 0: never */
        unsigned moves;                      /* servers that could not answer */
        unsigned copies;                     /* that were sent: each may be decided while it is on its way */

        /* It was refused, and asked that no copy of it happens any more: what is said when that is certain. */
        bool cancelling;
        enum wire_outcome kept;

        /* The answer, and what it points to. */
        struct dlock_answer answer;
        struct client_id owner;
        void *rows;                          /* or events, members, changes, or a piece of a backup */

        /* Most of its bytes, and of few requests: in a new one these are empty, but not zeroed. */
        struct bytes holder;                 /* PREEMPT, OPEN */
        struct bytes further;                /* PREEMPT: names behind the first, in order */
        struct lock_name asked_first;        /* with further_count */
        struct lock_name after;
        char node[LIMIT_NODE_NAME_BYTES + 1];
        char told[SERVER_BYTES + LIMIT_REASON_BYTES + 8];    /* why the last server that could not answer could not */
        char kept_reason[LIMIT_REASON_BYTES + 1];
        char reason[ERROR_BYTES];
        char server[SERVER_BYTES];
        char cluster[ID128_TEXT_BYTES];
        struct dlock_status status;          /* once the answer shows it */
        struct wire_state state;
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

/* On a page that is empty in a child of fork(2), until that makes a handle of its own. */
struct fork_mark {
        atomic_uint process;                 /* a number that none of its parents has; 0: none yet */
};

struct dlock {
        const struct fork_mark *mark;
        unsigned process;                    /* whose it is, as the mark names it; */
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
        struct request_list listening;       /* of holds, sent: a node owes no answer to them, nor a sign of life */
        size_t listener_count;               /* queued or sent */
        size_t renewing;                     /* of holds, queued or sent; of pending */
        uint64_t last_renewal;
        struct request *current;             /* the answer that was handed out last */
        struct request *spare;               /* the last one that was freed: memory for the next; NULL: none */
        uint64_t next_deadline;              /* no request's patience ends before */

        TAILQ_HEAD(, dlock_hold) holds;
        size_t hold_count;
        uint64_t hold_wake;                  /* none of them has anything to do before */
        uint32_t hold_tenth;                 /* of the shortest time to live of those not lost; UINT32_MAX: none */

        TAILQ_HEAD(, waiting) waits;
        uint64_t wait_wake;                  /* none of them has anything to do before */
        TAILQ_HEAD(, dlock_watch) watches;
        size_t watch_count;
        uint64_t watch_wake;                 /* none of them has anything to do before */
        size_t watching;                     /* requests of watches, of those who wait, and of those who listen, queued or sent; of pending */
        size_t patient_sent;                 /* of sent, those that are answered when there is something to tell */

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
        return (request->operation == DLOCK_OP_PREEMPT && !request->awaits) || request->operation == DLOCK_OP_RELEASE || request->operation == DLOCK_OP_KEEP ||
               request->operation == DLOCK_OP_BREAK;
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

/* The user has not asked for it. */
static inline bool request_is_own(const struct request *request)
{
        return request->hold || request->listener || request->watch || request->waiting;
}

/* Of these, it does not wait in a list of its own. */
static inline bool request_looks_on(const struct request *request)
{
        return request->listener || request->watch || request->waiting;
}

/* A node answers it when there is something to tell. */
static inline bool request_is_patient(const struct request *request)
{
        return request->operation == DLOCK_OP_WATCH || request->awaits;
}

/* How long one node may take for a renewal. When it cannot tell it says so then; and when it says nothing for as long again, it is left. */
static inline uint32_t renewal_patience(const struct request *request)
{
        return MIN(request->ttl_ms / 10, (uint32_t)DLOCK_TIMEOUT_DEFAULT);
}

/* In a child of fork(2) the handle is its parent's. Asked at every call, so it costs no system call where the kernel helps. */
static inline bool is_forked(const struct dlock *dlock)
{
        return dlock->mark->process != dlock->process || (dlock->pid != 0 && dlock->pid != getpid());
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
/* What was asked for one that listens has its outcome. It is freed by who calls. */
void hold_take_news(struct request *request);
/* As dlock_hold_new. listens: it asks to be told of its end. */
int hold_new(struct dlock_hold **ret_hold, struct dlock *dlock, const struct dlock_answer *answer, uint32_t stop_ms, bool listens, dlock_hold_handler handler,
             void *userdata);
/* The handle is freed: they are lost. */
void holds_forget(struct dlock *dlock);

/* wait.c */
/* The node says that the request waits, as this one: it leaves its list, and is answered later. granted: it has the lock already, as that says,
 * and is to keep it. False: out of memory; nothing has changed. */
bool wait_begin(struct dlock *dlock, struct request *asked, uint64_t waiter, const struct request *granted);
/* Asks again, and ends what has lasted long enough. */
void waits_turn(struct dlock *dlock, uint64_t now);
/* What was asked for one who waits has its outcome. It is freed by who calls. */
void wait_take_answer(struct request *told);
/* The handle is freed. */
void waits_forget(struct dlock *dlock);
/* Until when what was asked for certainly lives, that was granted, or entered a queue. */
uint64_t wait_deadline_of(const struct request *request);

/* watch.c */
/* Asks again for what could not be answered. */
void watches_turn(struct dlock *dlock, uint64_t now);
/* A request has its outcome. It is freed by who calls; its rows may be taken. */
void watch_take_answer(struct request *request);
/* NULL: it has none any more. */
struct dlock *watch_get_handle(const struct dlock_watch *watch);
/* The handle is freed. */
void watches_forget(struct dlock *dlock);

/* request.c */
/* 0 or -EINVAL. */
int request_set_name(struct dlock *dlock, struct lock_name *name, const char *text, const char *what, bool may_be_empty);
/* Empty, on no list. NULL: out of memory. */
struct request *request_new(struct dlock *dlock);
/* Into the queue, with a slot and an id. 0, or -ENOMEM and it is still the caller's. */
int request_enter(struct dlock *dlock, struct request *request, uint64_t deadline);
/* It has its place no more, and is on no list. */
void request_detach(struct dlock *dlock, struct request *request);
/* One that was detached is answered. */
void request_answer(struct dlock *dlock, struct request *request, enum dlock_outcome outcome);
/* The user's, queued or sent. */
struct request *request_of_id(struct dlock *dlock, uint64_t id);
/* Nobody wants its answer any more: it is freed. */
void request_drop(struct dlock *dlock, struct request *request);
void request_finish(struct dlock *dlock, struct request *request, enum dlock_outcome outcome, const char *format, ...) _printf_(4, 5);
/* With nothing to say about it. */
void request_finish_plainly(struct dlock *dlock, struct request *request, enum dlock_outcome outcome);
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
/* Accepts NULL. */
void request_free(struct dlock *dlock, struct request *request);
/* The memory that is kept for the next one, too. */
void request_free_spare(struct dlock *dlock);

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
