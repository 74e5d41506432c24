/* dlock.h - the client library of dlock, a distributed lock service.
 *
 * A handle is a conversation with a cluster through one of its nodes, whichever
 * answers. It has no threads, no global state and no signal handlers, and may
 * be used from one thread at a time. Two ways to use it:
 *
 *   blocking      dlock_preempt, dlock_release, dlock_check ... return when the
 *                 answer is there or the handle's timeout is over;
 *   event loop    dlock_submit queues a request; wait for dlock_get_fd to
 *                 become ready for dlock_get_events, for at most
 *                 dlock_get_timeout milliseconds, then call dlock_process and
 *                 take answers with dlock_next.
 *
 * After fork(2) a handle belongs to the parent: calls in the child on a handle
 * made before return -ECHILD, and dlock_free there only frees memory.
 *
 * One thing may block where nothing else does: a host name among the servers is
 * looked up with getaddrinfo(3) when its turn comes. Numeric addresses and
 * socket paths are never looked up. A process without memory for a buffer of
 * some kilobytes is ended with abort(3).
 *
 * Returns are 0 for success or a negative errno value; what the service says -
 * yes, no, not known - is not an error but the outcome of an answer. All text
 * is zero-terminated UTF-8. Times are milliseconds.
 *
 * Link with -ldlock (pkg-config libdlock). Manual: libdlock(3). */
#ifndef DLOCK_H
#define DLOCK_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#ifdef __GNUC__
#pragma GCC visibility push(default)
#endif

#define DLOCK_NAME_MAX 255        /* bytes of a lock name, without the zero */
#define DLOCK_CLIENT_MAX 64       /* bytes of a client id */
#define DLOCK_NOTE_MAX 255        /* bytes of a note */
#define DLOCK_PAGE_MAX 1000       /* rows of one page */
#define DLOCK_TTL_MIN 1000        /* milliseconds that a session or a lease lives without being renewed: at least, */
#define DLOCK_TTL_MAX 86400000    /* and at most */
#define DLOCK_PERIOD_MIN 1000     /* milliseconds in which a lock may be wanted once: at least, */
#define DLOCK_PERIOD_MAX UINT64_C(31622400000)        /* and at most: 366 days */
#define DLOCK_LOCK_DELAY_MAX 600000       /* milliseconds for which nobody gets a lock that was lost: at most */
#define DLOCK_SLOTS_MAX 4096      /* so many may hold a lock together at most */
#define DLOCK_LOCKS_MAX 8         /* locks that may be asked for at once, all or nothing */
#define DLOCK_SHARED 65535        /* for slots: as many as want to, up to that */
#define DLOCK_TIMEOUT_DEFAULT 10000
#define DLOCK_WAIT_FOREVER UINT64_MAX

struct dlock;                     /* a handle */

/* What the service said. */
enum dlock_outcome {
        DLOCK_YES = 1,            /* granted; released; opened; renewed; done; check, show: somebody owns it; watch: this has happened, or nothing */
        DLOCK_NO = 2,             /* held by another or by yourself; lost, and in its lock-delay; granted within the period already; not the owner; check, show: free; renew, close: that session has ended; watch: the node does not remember so far back */
        DLOCK_UNKNOWN = 3,        /* no answer in time, or from a node that cannot know: it may have happened or not */
        DLOCK_UNREACHABLE = 4,    /* no server could be reached, or none of this client's cluster: it has not happened */
        DLOCK_REJECTED = 5,       /* refused before it was decided: see reason; it has not happened */
        DLOCK_REENTERED = 6,      /* preempt: the very session holds the lock already, under the same token: still one hold, which one release gives up */
};

enum dlock_operation {
        DLOCK_OP_PREEMPT = 1,
        DLOCK_OP_RELEASE = 2,
        DLOCK_OP_CHECK = 3,
        DLOCK_OP_LIST = 4,
        DLOCK_OP_HISTORY = 5,
        DLOCK_OP_STATUS = 6,
        DLOCK_OP_BACKUP = 7,
        DLOCK_OP_MEMBERS = 8,
        DLOCK_OP_TRANSFER = 9,
        DLOCK_OP_REMOVE = 10,
        DLOCK_OP_SHOW = 11,
        DLOCK_OP_OPEN = 12,       /* a session */
        DLOCK_OP_CLOSE = 13,      /* a session, and with it everything that is held in it */
        DLOCK_OP_RENEW = 14,      /* a session or a lease */
        DLOCK_OP_QUEUE = 21,      /* who waits for a lock, in turn. Rows as of show: each as the hold that it would have, with the waiter's id for a token,
                                   * and held_ms for how long it waits. DLOCK_NO: nobody does */
        DLOCK_OP_KEEP = 18,       /* a hold lasts from now on until it is released, whatever becomes of its session or lease */
        DLOCK_OP_BREAK = 19,      /* an operator takes a lock away from its holder */
        DLOCK_OP_WATCH = 20,      /* what becomes of locks; a struct dlock_watch asks it again and again */
};

/* A lock that is held, as list and show tell it. Host, unit, process and note are what the holder said; the user is what the node saw. */
struct dlock_row {
        const char *lock;
        const char *owner;
        uint64_t token;
        uint64_t held_ms;         /* since it was granted, in cluster time */
        uint64_t since_wall_ms;   /* wall clock of the leader that granted it, Unix epoch; for display */
        uint64_t session;         /* in which it is held, or that of its lease; 0: it is held until it is released */
        uint32_t ttl_ms;          /* of that session or lease; 0: none */
        uint32_t lock_delay_ms;   /* of that session or lease: nobody gets the lock for so long when it is lost */
        int lease;                /* the session is its own, and goes with it */
        int broken;               /* lease: an operator has broken it: it is not renewed any more, and its holder was told to stop */
        uint32_t waiting;         /* so many wait for it */
        uint32_t slots;           /* 0: it is held by one alone; else together, as it was asked for: by so many at most, or DLOCK_SHARED */
        uint32_t holders;         /* so many hold it, each in a row of its own */
        int64_t expires_ms;       /* when it is not renewed it may end after so long; -1: never, or asked of a node that does not lead */
        const char *user;         /* who took it: "uid:1000" on a node's own host, "tcp" */
        const char *host;         /* where it was taken; "": not known */
        const char *unit;         /* of systemd, in which it was taken; "": not known */
        const char *note;         /* "" when there is none */
        uint32_t pid;             /* on that host; 0: not known */
};

/* A log entry as history shows it. */
struct dlock_event {
        uint64_t index;
        uint64_t term;
        const char *kind;         /* "preempt", "release", "client", "open", "close", "expire", "wait", "leave", "keep", "grant", "break", "configuration", "address", "noop" */
        const char *lock;         /* "" where the kind has none */
        const char *client;       /* "" where the kind has none */
        const char *detail;       /* configuration: the members; address: which node, and where it is; break: by whom, and why; of several locks: the others,
                                   * where lock is the one that was asked about, or the first; else "". For people */
        uint64_t token;           /* 0 where the kind has none */
        uint64_t cluster_ms;
        uint64_t wall_ms;
};

/* What became of a lock. Kinds above these that are less than 256 are of later versions: the lock is free from there on, for another cause. */
enum dlock_change_kind {
        DLOCK_CHANGE_GRANTED = 1,
        DLOCK_CHANGE_RELEASED = 2,        /* its owner gave it back */
        DLOCK_CHANGE_EXPIRED = 3,         /* nobody renewed the session or lease that it was held in */
        DLOCK_CHANGE_CLOSED = 4,          /* the client ended that session or lease */
        DLOCK_CHANGE_BROKEN = 5,          /* an operator took it away */
        /* Of a struct dlock_watch only: */
        DLOCK_CHANGE_LISTED = 256,        /* no change: somebody holds the lock as the watch begins */
        DLOCK_CHANGE_COMPLETE = 257,      /* no lock: all that are held were listed. Changes follow, without a gap */
        DLOCK_CHANGE_ANEW = 258,          /* no lock: what came next is not remembered any more. The locks are listed anew; one that is not is free */
};

struct dlock_change {
        int kind;                         /* enum dlock_change_kind */
        const char *lock;
        const char *owner;                /* whose hold it is, or was */
        uint64_t token;                   /* of that hold */
        uint64_t session;                 /* in which it is held, or was, or that of its lease; 0: in none */
        uint32_t ttl_ms;                  /* of that session or lease; 0: none */
        uint32_t slots;                   /* as of struct dlock_row: when it is not 0, others may hold the lock still, or have held it before */
        uint32_t pid;                     /* granted, listed: as of struct dlock_row, like the next three */
        const char *host;
        const char *unit;
        const char *note;
        uint64_t index;                   /* of the log entry that did it; listed: as of which entry it was read */
        uint64_t wall_ms;                 /* wall clock of the leader then, Unix epoch; for display */
        uint64_t after;                   /* who goes on after this index has missed nothing behind this change: that of its entry, or when more of that
                                           * entry is to be told, of one before. 0: there is no such place yet, since the list is not complete */
};

struct dlock_status {
        const char *node;         /* its name */
        const char *role;         /* "leader", "candidate", "follower", "learner", "joining", "removed" */
        const char *leader;       /* the leader's name, "" when none is known */
        const char *cluster;      /* cluster id, "" when not a member yet */
        const char *version;      /* of the node's program */
        uint64_t term;
        uint64_t commit;
        uint64_t applied;
        uint64_t log_first;       /* the oldest entry history can show */
        uint64_t log_last;
        uint64_t locks;
        uint64_t voters;
        uint64_t members;
        int64_t leader_age_ms;    /* since this node heard from the leader; -1: never; 0 on the leader */
};

/* A node of the cluster, as the node that answered knows it. */
struct dlock_member {
        uint64_t id;
        const char *name;
        const char *address;      /* where other nodes reach it; "": not known */
        int leader;               /* it leads */
        int voter;                /* its disk counts for majorities; else it learns what they decide */
        int witness;              /* votes, but serves no clients */
        int preferred;            /* leadership goes back to it */
        int linked;               /* connected to the node that answered, or that node itself */
        int away;                 /* it said that it stops */
        uint64_t match;           /* log index up to which its disk is known to have all; 0: not known. Of others only the leader knows it */
        uint32_t level;           /* feature level of its program; 0: not known */
};

/* One answer. Pointers are valid until the next dlock_process, dlock_next or
 * blocking call on the handle, and until dlock_free. */
struct dlock_answer {
        uint64_t id;              /* as dlock_submit returned it */
        enum dlock_operation operation;
        enum dlock_outcome outcome;
        const char *lock;         /* as asked, of several the first; "" for list, history of all, status, members, transfer, remove, open, close, renew */
        const char *owner;        /* who owns the lock as far as the answer tells; NULL: nobody, or not told */
        uint64_t token;           /* fencing token of that ownership; 0: none. Preempt, no, and no owner: of the grant in the period, or of the hold that was lost; 0: the lock
                                   * is free, but somebody waits for it and for others together */
        uint32_t free_in_ms;      /* no to preempt, check, show: nobody owns it, but it was lost - its lease or session expired, or it was broken at
                                   * once - and nobody gets it for so long; 0: it is not in its lock-delay */
        uint64_t session;         /* yes to open, renew, and to preempt with a ttl: the session's id; that of a lease is its token */
        uint64_t deadline_ms;     /* with session: CLOCK_BOOTTIME until which it certainly lives, counted from before it was asked for. A
                                   * yes that comes later than that is DLOCK_UNKNOWN */
        uint32_t ttl_ms;          /* with deadline_ms: the time to live that it was asked for with; 0: none */
        int timed_out;            /* no to a preempt with wait_ms: it was not granted in that time */
        uint32_t slots;           /* check, show, yes: 0: it is held by one alone; else together: by so many at most, or DLOCK_SHARED */
        uint32_t holders;         /* check, show, yes: so many hold it. Owner and token are of one of them: check: of the client's own, if it is among
                                   * them and known to the handle */
        uint64_t index;           /* log index the answer rests on */
        int64_t leader_age_ms;    /* check, show, list: how long ago the node heard from its leader; -1: never */
        const char *reason;       /* one line for people when the outcome is not yes or no, or a preempt is told no and no owner; else "" */
        const char *server;       /* the address that answered; "" when none did */
        const struct dlock_row *rows;         /* list; show: of each who holds the lock, by token; none when nobody does */
        const struct dlock_event *events;     /* history, oldest first */
        const struct dlock_member *members;   /* members, by id */
        const struct dlock_change *changes;   /* watch, in the order of the log; whole entries */
        size_t count;                         /* of rows, events, members or changes */
        int more;                             /* list, show, queue, history, watch: ask again, after the last row */
        uint64_t next_after;                  /* history: the after of the next page; watch: everything up to and with this was told */
        uint64_t log_first;                   /* history: the oldest entry there is; watch: what came after this one is remembered */
        const struct dlock_status *status;    /* status */
        uint64_t backup;          /* backup: its id */
        uint64_t offset;          /* backup: of data in the whole */
        uint64_t total;           /* backup: bytes of the whole */
        const void *data;         /* backup */
        size_t size;              /* backup: bytes of data */
};

struct dlock_request {
        enum dlock_operation operation;
        const char *lock;         /* preempt, release, check, show, queue: the name; list: the prefix; history: the name; watch: the prefix unless exact; NULL: all */
        const char *after;        /* list: what comes after this name; NULL: from the start */
        uint64_t after_token;     /* list: and, where several hold the lock of that name, after this token; 0: all of that name were seen. show, queue:
                                   * those who hold the lock, or wait for it, after this token; 0: from the first */
        uint64_t after_index;     /* history, watch: entries after this index */
        int now;                  /* break: at once. Else a lease is only not renewed any more, so that its holder stops in time */
        uint64_t token;           /* break, keep, release: of the hold to give up, as its grant told it; 0: whichever the client has, the oldest of several, which a
                                   * consistent check finds out first. check: of those who hold the lock together this one is told, if it does */
        uint64_t session;         /* preempt: the lock is held as long as this session lives; 0: in no session. close, renew: which */
        uint32_t ttl_ms;          /* open: time to live, DLOCK_TTL_MIN to DLOCK_TTL_MAX. preempt: the lock is a lease of so long, alone in
                                   * a session of its own, which ends with it; 0: no lease. renew: as it was opened with, else it is rejected; 0: not known, nor is the deadline */
        uint32_t lock_delay_ms;   /* open, and preempt with a ttl: when what is held so is lost - it expires, or is broken at once - nobody gets it for so
                                   * long, so that what its holder has on its way may land; at most DLOCK_LOCK_DELAY_MAX. Never after a release, a
                                   * close, or a preempt that is given up. 0: none */
        uint64_t period_ms;       /* preempt: no when the lock was granted to anybody who asked with a period, within so long of cluster time;
                                   * DLOCK_PERIOD_MIN to DLOCK_PERIOD_MAX. A grant is remembered for the period it was asked for with. 0: none */
        uint32_t slots;           /* preempt: 0 or 1: it is held alone. 2 to DLOCK_SLOTS_MAX: together with others who say the same number, as many as it
                                   * is. DLOCK_SHARED: with others who say that, as readers do. Who says something else waits until all of them are gone,
                                   * and who comes later than one that waits does so behind it. Each grant is a hold of its own, also to the same client,
                                   * and is given up by its token. Tokens tell those who held a lock alone from those before and behind them; of holders at the
                                   * same time they say nothing */
        const char *const *further;       /* preempt: names of more locks, in any order, that are wanted with lock, all or nothing: each once, and DLOCK_LOCKS_MAX with
                                   * lock; each alone, and not once in a period. By one grant, so all have one token, and a lease is of all of
                                   * them: it is renewed as one, and when it expires or is closed all are free at once. A release is of one, and the lease
                                   * lives on with the others. Keep, and break at once, are of all in the lease. A no tells who holds one of them.
                                   * Who waits has none of them before it is its turn for each */
        size_t further_count;     /* of further; 0: it is about one lock */
        uint64_t wait_ms;         /* preempt: when somebody has the lock it stands in its queue for so long, from now on; DLOCK_WAIT_FOREVER: however
                                   * long. 0: no is said at once. With a ttl it waits in the lease, which is renewed for it until the answer; without a
                                   * ttl or a session in one of 10 s, and the hold lasts then */
        uint32_t limit;           /* list, history, watch (of which one entry may have up to 256 in any case): rows, 1 to DLOCK_PAGE_MAX; 0: DLOCK_PAGE_MAX */
        uint32_t timeout_ms;      /* patience for this request; 0: the handle's */
        uint64_t backup;          /* backup: which; 0: make one */
        uint64_t offset;          /* backup: where the piece begins; 0 with a backup that is to be made */
        int exact;                /* watch: the lock of that name only */
        int consistent;           /* check, show, queue: with everything that anybody was told before it was asked */
        const char *node;         /* transfer, remove: the node's name */
        const char *note;         /* break: the reason, which history tells. preempt, open: for people, up to DLOCK_NOTE_MAX bytes of UTF-8 without control characters; NULL: none */
        uint32_t pid;             /* preempt, open: of the process that will hold the lock, which show tells with its unit; 0: this one */
};

/* Makes a handle; contacts nobody yet. servers: "ADDR[,ADDR...]", tried in turn,
 * an ADDR being an absolute socket path, "host:port", "[ipv6]:port" or "local"
 * for every socket in /run/dlock, the leader's first; NULL or "": $DLOCK_SERVER,
 * else "servers" in /etc/dlock/client.ini, else "local". 0; -EINVAL: an address
 * or that file is not understood; -ENOMEM; the -errno of the file or of
 * epoll_create(2). Then one line for people goes to error unless it is NULL. */
int dlock_new(struct dlock **ret_dlock, const char *servers, char *error, size_t error_size);

/* Closes and frees. Requests without an answer are abandoned: they may still happen. Accepts NULL; returns NULL. */
struct dlock *dlock_free(struct dlock *dlock);

/* The client id for preempt and release: 1 to 64 printable ASCII characters
 * without spaces; a UUID is kept in lower case. NULL: $DLOCK_CLIENT, else the one kept per user
 * and machine under $XDG_STATE_HOME/dlock, made at first use. Without this call
 * the default is taken at the first request that needs one. "" lets the leader
 * assign a new one, which dlock_get_client tells after the first answer.
 * 0; -EINVAL; -EBUSY: a request was sent already; the -errno of the file. */
int dlock_set_client(struct dlock *dlock, const char *client);
/* The id in use, NULL before one is known. */
const char *dlock_get_client(const struct dlock *dlock);

/* Patience of each request from submit to answer; default DLOCK_TIMEOUT_DEFAULT, at most 1 hour.
 * What changes something is sent again, under the same request id, for at most one minute. When a preempt or release that was sent
 * more than once is refused, the nodes are asked that no copy of it happens any more, before the refusal is told: else it is unknown. */
int dlock_set_timeout(struct dlock *dlock, uint32_t timeout_ms);

/* Why the last call that returned a negative value did so, as one line for people; "" when none did. */
const char *dlock_get_error(const struct dlock *dlock);

/* --- blocking: one request, its answer (NULL: not wanted). 0 when there is an
 * answer, with any outcome; else as dlock_submit. Signals do not end the wait,
 * and what is held is renewed meanwhile. --- */
/* Of any kind, with all that can be asked for; the others are short for some of it. */
int dlock_ask(struct dlock *dlock, const struct dlock_request *request, struct dlock_answer *ret_answer);
int dlock_preempt(struct dlock *dlock, const char *lock, struct dlock_answer *ret_answer);
/* Gives up the hold that the client has now: asks for its token first, as dlock_check_consistent does. Whoever has the token of
 * the grant says it, in a struct dlock_request to dlock_submit or here, and is quicker; and is sure that a hold granted since is
 * not given up instead. DLOCK_NO: nobody owns the lock, or somebody else, or the client itself under another token. */
int dlock_release(struct dlock *dlock, const char *lock, struct dlock_answer *ret_answer);
int dlock_release_token(struct dlock *dlock, const char *lock, uint64_t token, struct dlock_answer *ret_answer);
int dlock_check(struct dlock *dlock, const char *lock, struct dlock_answer *ret_answer);
/* The same, with everything that anybody was told before the call, from whichever node: it asks the leader, who asks a majority.
 * Without a majority the outcome is DLOCK_UNKNOWN. The lock may have changed when the answer is read: it is no permission to act. */
int dlock_check_consistent(struct dlock *dlock, const char *lock, struct dlock_answer *ret_answer);
/* All that is known of the lock, in the rows of a yes, one for each who holds it: who, since when, where, and what for. consistent: as of
 * dlock_check_consistent. Of more than DLOCK_PAGE_MAX, dlock_ask with after_token tells those who follow. */
int dlock_show(struct dlock *dlock, const char *lock, int consistent, struct dlock_answer *ret_answer);
/* after: from the first lock with another name on. Where more than a page may hold one lock together, dlock_ask with after_token misses none. */
int dlock_list(struct dlock *dlock, const char *prefix, const char *after, uint32_t limit, struct dlock_answer *ret_answer);
int dlock_history(struct dlock *dlock, const char *lock, uint64_t after_index, uint32_t limit, struct dlock_answer *ret_answer);
int dlock_status(struct dlock *dlock, struct dlock_answer *ret_answer);
/* Who leads, where leading is holding a lock: as dlock_show, but while the lock is free it waits for up to timeout_ms until somebody holds
 * it (0: the handle's timeout). DLOCK_YES: rows[0] is who, and its note the address, where holders say so. DLOCK_NO: nobody held it in all that
 * time. Servers that cannot answer are asked again meanwhile; after that the outcome is DLOCK_UNKNOWN or DLOCK_UNREACHABLE. It may be another's
 * already: that somebody leads is proved by a fencing token, where it matters. A struct dlock_watch of that name tells all that lead, one
 * after the other. Those who hold a lock together lead nobody: that is waited out like a free lock. */
int dlock_observe(struct dlock *dlock, const char *lock, int consistent, uint32_t timeout_ms, struct dlock_answer *ret_answer);
/* The nodes of the cluster, of the newest configuration in the log of the node that answers. */
int dlock_members(struct dlock *dlock, struct dlock_answer *ret_answer);
/* Hands leadership to the node of that name, which keeps it until it stops. DLOCK_YES: it leads. DLOCK_REJECTED: see reason: no
 * such node, or one that does not vote; and only root and the user that a node runs as may, through a node on their own host.
 * DLOCK_UNKNOWN: not in time; it may still happen. */
int dlock_transfer(struct dlock *dlock, const char *node, struct dlock_answer *ret_answer);
/* Takes the node of that name out of the cluster, for good: with an emptied state directory it may join as a new one. Outcomes as
 * of dlock_transfer; rejected also when the others would be no majority without it. A node that leads hands over first. */
int dlock_remove(struct dlock *dlock, const char *node, struct dlock_answer *ret_answer);
/* A copy of a node's database, piece by piece. backup 0, offset 0: the node makes one; the answer has its id, its total size
 * and, as index, the newest log entry in it, but no data yet. Then with that id, from offset 0 on, for piece after piece
 * until total is reached. Only root and the node's own user, through the node's socket on its host, are not rejected. The node
 * drops it a minute after the last piece, and with the connection: then, or when another server answers, the rest is
 * rejected, and another one is to be made. Making one may take longer than the default timeout. */
int dlock_backup(struct dlock *dlock, uint64_t backup, uint64_t offset, struct dlock_answer *ret_answer);

/* --- sessions and leases: what is held by who is alive ---
 *
 * A session lives as long as it is renewed: at least its time to live from when the last renewal that was answered with yes was
 * sent, whatever connection, node or leader that went through; then the cluster ends it, and everything that is held in it is free.
 * A lease is a lock in a session of its own. Nobody is ended by the servers' own trouble: a leader that is new, or stood still,
 * begins every time to live anew. deadline_ms of an answer is the other side of it: until then the session certainly lives. It is
 * counted from before the request was sent, on CLOCK_BOOTTIME, which runs while a host is suspended, and is 1 % shorter than the
 * time to live, which is how far the clocks of client and leader may differ in speed.
 *
 * What a holder does must be over at the deadline, so it must begin to stop before it: a struct dlock_hold watches over that. */

/* A session or lease that is renewed, and watched. It belongs to its handle, and works in dlock_process. */
struct dlock_hold;

enum dlock_hold_state {
        DLOCK_HELD = 1,           /* go on */
        DLOCK_AT_RISK = 2,        /* renewals do not get through: what can wait should not be begun. It may be DLOCK_HELD again */
        DLOCK_LOST = 3,           /* stop now: after stop_ms from here another may hold it; or it has ended already. For good */
};

/* Told of every change of state, from inside dlock_process. It may call everything but dlock_process, dlock_next, dlock_free, the
 * blocking calls and dlock_hold_free. */
typedef void (*dlock_hold_handler)(struct dlock_hold *hold, enum dlock_hold_state state, void *userdata);

/* Renews and watches from now on what answer says lives: a yes to an open, to a preempt with a ttl, or to a renew with it. stop_ms:
 * how long the holder needs to stop; DLOCK_LOST comes so long before the deadline. -EINVAL: not such an answer, or less than two
 * renewals would fit in before that: of the answer's ttl_ms, ttl_ms * 0.99 - stop_ms > ttl_ms * 2 / 3 would be right; -EAGAIN: 65536
 * of this handle are watched; -ECHILD, -ENOMEM, or the -errno of the client id's file. Renewals go out after a third of the time to
 * live, with some jitter, or earlier where stop_ms is long; and what is held for longer than a moment is asked about, so that DLOCK_LOST comes
 * as soon as it was broken, or has ended for another reason. A renewal that no node can answer within a tenth goes to the next server, and
 * a server that says nothing for two tenths is left, with all that was asked there. DLOCK_AT_RISK comes at deadline - 2 * stop_ms,
 * or after two renewals that were not answered in time, whichever is earlier. Requests of the user, however many, do not delay
 * renewals, but an event loop that does not call dlock_process does. handler may be NULL. */
int dlock_hold_new(struct dlock_hold **ret_hold, struct dlock *dlock, const struct dlock_answer *answer, uint32_t stop_ms, dlock_hold_handler handler,
                   void *userdata);
/* From now on it ends with this process, however that ends: its node closes the session, or gives the lease back, at once. That is a node on
 * this host, reached through a Unix socket; else, and with a lock-delay, it ends by its time to live as any other. Not for what others may still use
 * then: children, or who renews it next. Whoever only waits for a lock leaves the queue like that without being asked to. 0; -ECHILD: in a child
 * of fork(2), or without its handle. */
int dlock_hold_bind(struct dlock_hold *hold);
/* Renews no more. It neither releases nor closes: that is dlock_release_token, or dlock_ask with DLOCK_OP_CLOSE. When the handle is
 * freed first, or in a child of fork(2), a hold is lost and can only be freed. Accepts NULL; returns NULL. */
struct dlock_hold *dlock_hold_free(struct dlock_hold *hold);
/* As of now, whether or not dlock_process was called in time. */
enum dlock_hold_state dlock_hold_get_state(const struct dlock_hold *hold);
uint64_t dlock_hold_get_session(const struct dlock_hold *hold);
/* CLOCK_BOOTTIME in milliseconds: until when it certainly lives, as far as is known now; every renewal moves it. */
uint64_t dlock_hold_get_deadline(const struct dlock_hold *hold);
/* Why it is at risk or lost, as one line for people; "" while it is held. Valid until the next dlock_process. */
const char *dlock_hold_get_reason(const struct dlock_hold *hold);

/* --- watching: what becomes of locks ---
 *
 * A watch tells the locks as they are, and from there on every change, in the order of the log: nothing twice, and nothing left out unsaid,
 * whichever nodes it was told by. It never goes back in time for a lock. It is late by an unknown time: a change is told after the state that it leads to can
 * be read, and a watch proves nothing about now. The nodes remember so many changes; for whoever comes back later the watch lists the locks anew, and
 * says so (DLOCK_CHANGE_ANEW).
 *
 * It belongs to its handle and works in dlock_process: call dlock_watch_next until it returns 0 after each; nothing more is fetched before. It does not
 * end when no server answers: it goes on trying, and dlock_watch_get_outcome and dlock_watch_get_reason tell why there is nothing; before the first
 * answer as soon as the handle's timeout is over. */
struct dlock_watch;

/* lock: the name if exact, else a prefix; NULL: all locks. after_index 0: begins with those that are held; else with what came after that index,
 * as a change's after, or dlock_watch_get_index, told it. -EINVAL: not a name; -EAGAIN: 32 of this handle are watched, which is what a node takes
 * of one connection; -ECHILD, -ENOMEM, or the -errno of the file with the cluster's id. */
int dlock_watch_new(struct dlock_watch **ret_watch, struct dlock *dlock, const char *lock, int exact, uint64_t after_index);
/* In any order with dlock_free; without its handle, or in a child of fork(2), a watch can only be freed. Accepts NULL; returns NULL. */
struct dlock_watch *dlock_watch_free(struct dlock_watch *watch);
/* The next change: 1; 0: there is none now; -ECHILD. Pointers are valid until the next call for this watch, or dlock_process. */
int dlock_watch_next(struct dlock_watch *watch, struct dlock_change *ret_change);
/* The same, blocking for up to timeout_ms (0: not at all) while there is none. What is held is renewed meanwhile. Signals do not end the wait. */
int dlock_watch_wait(struct dlock_watch *watch, uint32_t timeout_ms, struct dlock_change *ret_change);
/* Everything up to and with this index was told; it rises also while nothing happens. 0: not yet known, the list is not complete. */
uint64_t dlock_watch_get_index(const struct dlock_watch *watch);
/* DLOCK_YES while a server answers; else how the last question ended, or DLOCK_UNKNOWN before the first answer. */
enum dlock_outcome dlock_watch_get_outcome(const struct dlock_watch *watch);
/* Why nothing is known of now, as one line for people; "" while a server answers. Valid until the next dlock_process. */
const char *dlock_watch_get_reason(const struct dlock_watch *watch);
/* "granted", "released", "expired", "closed", "broken", "held" (listed), "complete", "anew"; "freed" for one that this version has no name for. */
const char *dlock_change_name(int kind);

/* --- the other half of a fencing token --- */

/* A lock cannot stop a holder that was paused, or cut off, and acts on what it believed before: the resource has to refuse it. For one
 * that cannot, file remembers the highest token that was accepted for it: a file of its own beside the resource, made if need be, with a
 * number in it. Needs no handle and no server. 0 or more: accepted, as the highest ever or once more; it is on disk, and nobody else
 * is accepted until this descriptor is closed, also by children that inherited it: close it when the resource was written.
 * -ESTALE: refused, since a higher one was accepted, which *ret_highest (unless NULL) tells. -EWOULDBLOCK: somebody who was accepted has
 * the descriptor still, and wait is 0; else that is waited for. -EINVAL: token 0, or no file; -EBADMSG: it holds something else; the
 * -errno of the file. A resource that is a database does this itself: see libdlock(3). */
int dlock_fence(const char *file, uint64_t token, int wait, uint64_t *ret_highest);

/* --- event loop --- */

/* Queues a request and returns its id (> 0), or -EINVAL, -ECHILD, -ENOMEM, -EAGAIN (1024 are
 * in flight already), or the -errno of the client id's file. Call dlock_process to send it.
 * Requests in flight together may be decided in any order. Waits for no server. */
int64_t dlock_submit(struct dlock *dlock, const struct dlock_request *request);
/* Who waits for a lock, by the id of its request, does not any more: its answer comes soon, and is no, unless the lock had been granted
 * before: that is yes, and to be released. 0; -ENOENT: no request of that id waits; -ECHILD. */
int dlock_give_up(struct dlock *dlock, uint64_t id);
/* A descriptor for poll(2), the same for the handle's life. Wait for it to be readable. */
int dlock_get_fd(const struct dlock *dlock);
/* The poll(2) events to wait for: POLLIN. */
int dlock_get_events(const struct dlock *dlock);
/* Milliseconds until dlock_process must be called even if nothing is ready; -1: no limit. */
int dlock_get_timeout(const struct dlock *dlock);
/* Connects, sends, receives, retries, renews and tells handlers of holds; never blocks. 0 or -ECHILD. */
int dlock_process(struct dlock *dlock);
/* The next answer, or 0 when there is none now; 1: *ret_answer is filled. */
int dlock_next(struct dlock *dlock, struct dlock_answer *ret_answer);

/* --- what a client remembers --- */

/* The cluster id pinned for this user and machine, into buffer[37]; -ENOENT: none yet. */
int dlock_get_cluster(struct dlock *dlock, char *buffer, size_t size);
/* Forgets it: the next cluster that answers is taken as the right one. 0 or -errno. */
int dlock_forget_cluster(struct dlock *dlock);

/* The name of an outcome: "yes", "no", "unknown", "unreachable", "rejected", "reentered". */
const char *dlock_outcome_name(enum dlock_outcome outcome);
/* The version of the library, "1.0.0". */
const char *dlock_version(void);

#ifdef __GNUC__
#pragma GCC visibility pop
#endif

#ifdef __cplusplus
}
#endif

#endif
