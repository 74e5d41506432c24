/* wire.h - what clients and nodes say to each other, as bytes. No sockets here.
 *
 * A frame is a u32 length of what follows, a u8 type, a u64 tag that the answer
 * repeats, and a body; all little-endian. The first frame of a connection is
 * WIRE_HELLO, answered by WIRE_WELCOME or WIRE_REFUSAL and close. Versions: the
 * client offers a range, the node picks the highest it speaks. Unknown trailing
 * bytes in a body are an error within a version; only the hello of a client that
 * speaks newer versions too may be longer. Requests are pipelined and may
 * be answered in any order. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/holder.h"
#include "base/id128.h"
#include "base/name.h"

#define WIRE_VERSION_MIN 1
#define WIRE_VERSION_MAX 1
/* u32 length, u8 type, u64 tag. */
#define WIRE_HEADER_BYTES 13

enum wire_type {
        /* client to node */
        WIRE_HELLO = 1,
        WIRE_PREEMPT = 2,
        WIRE_RELEASE = 3,
        WIRE_CHECK = 4,
        WIRE_LIST = 5,
        WIRE_HISTORY = 6,
        WIRE_STATUS = 7,
        WIRE_CANCEL = 8,                     /* the request of this handle and seq shall not happen: after a no, when more than one copy of it was sent */
        WIRE_MEMBERS = 9,
        WIRE_TRANSFER = 10,                  /* leadership, to the node of that name */
        WIRE_REMOVE = 11,                    /* the node of that name from the cluster */
        WIRE_BACKUP = 12,
        WIRE_SHOW = 13,                      /* all that is known of one lock */
        WIRE_OPEN = 14,                      /* a session, which lives while it is renewed; YES: token is its id */
        WIRE_CLOSE = 15,                     /* a session ends, and with it every hold in it */
        WIRE_RENEW = 16,                     /* a session or a lease is wanted for its time to live from now on. Changes no log */
        WIRE_AWAIT = 17,                     /* the waiter of that token: answered when it has got the lock, or waits no more; WAITING at the deadline. Without
                                              * a name, the session or lease of that id: NO when it has ended, or is to end since it was broken */
        WIRE_KEEP = 18,                      /* the hold under that token lives until it is released, whatever becomes of its session */
        WIRE_BREAK = 19,                     /* an operator takes a lock from whoever holds it under that token */
        WIRE_QUEUE = 21,                     /* who waits for one lock, in turn */
        WIRE_WATCH = 20,                     /* what became of locks after an index: as soon as there is something, or nothing at the deadline */
        /* node to client */
        WIRE_WELCOME = 65,
        WIRE_REFUSAL = 66,                   /* closes the conversation; reason for people */
        WIRE_RESULT = 67,                    /* to PREEMPT, RELEASE, CHECK, CANCEL, TRANSFER, REMOVE, OPEN, CLOSE, RENEW, AWAIT, KEEP, BREAK */
        WIRE_ROWS = 68,                      /* to LIST; to SHOW: of each who holds it, up to LIMIT_PAGE_ROWS of them; none when nobody does; to QUEUE: the same
                                              * of each who waits, as the hold that it would have: token is the waiter's id, and held is how long it waits */
        WIRE_EVENTS = 69,                    /* to HISTORY */
        WIRE_STATE = 70,                     /* to STATUS */
        WIRE_ROSTER = 71,                    /* to MEMBERS */
        WIRE_PIECE = 72,                     /* to BACKUP */
        WIRE_CHANGES = 74,                   /* to WATCH */
};

struct wire_hello {
        uint16_t version_min, version_max;
        struct id128 cluster;                /* the pinned one, or null */
        struct client_id client;             /* size 0: none, or none yet */
        bool assign;                         /* only without a client: ask the leader for an id now; WELCOME waits for it */
        uint32_t pid;                        /* of the process that speaks; 0: not told. When it is the one at the other end of a Unix socket, and ends,
                                              * what it waits for is given up, and what it said is bound to it */
};

struct wire_welcome {
        uint16_t version;
        struct id128 cluster;                /* null: the node is not a member yet */
        struct client_id client;             /* the assigned one, or as in the hello */
        char node[LIMIT_NODE_NAME_BYTES + 1];
};

enum wire_refusal_code {
        WIRE_REFUSAL_VERSION = 1,
        WIRE_REFUSAL_CLUSTER = 2,            /* the client pinned another cluster */
        WIRE_REFUSAL_PROTOCOL = 3,           /* malformed frame */
        WIRE_REFUSAL_BUSY = 4,               /* too many connections; try another node */
        WIRE_REFUSAL_STOPPING = 5,           /* try another node */
};

struct wire_refusal {
        enum wire_refusal_code code;
        struct id128 cluster;                /* the node's */
        char reason[LIMIT_REASON_BYTES + 1];
};

/* Any request after the hello. Fields that its type has not are zero. */
struct wire_request {
        enum wire_type type;
        uint64_t tag;
        uint32_t deadline_ms;                /* from receipt; after it the answer is UNKNOWN; 0: the node's default */
        uint64_t min_index;                  /* CHECK, SHOW, QUEUE, LIST, BACKUP: the highest index this client has seen; the node waits to have applied it */
        bool consistent;                     /* CHECK, SHOW, QUEUE: with everything that anybody was told before; costs a round of the leader */
        struct id128 handle;                 /* PREEMPT, RELEASE, OPEN, CLOSE, KEEP, BREAK: request id, DESIGN section 5; CANCEL: that of the request it is about */
        uint64_t seq;
        struct client_id client;             /* PREEMPT, RELEASE, CANCEL, OPEN, CLOSE, RENEW, KEEP, BREAK: on whose behalf; size 0: the hello's.
                                              * CHECK: of those who hold it together, this one, if it is among them; size 0: any */
        char node[LIMIT_NODE_NAME_BYTES + 1]; /* TRANSFER, REMOVE */
        struct lock_name name;               /* PREEMPT, RELEASE, CANCEL, KEEP, BREAK, AWAIT, CHECK, SHOW, QUEUE; LIST: prefix, HISTORY: lock, WATCH: prefix unless exact, may be empty */
        uint64_t token;                      /* RELEASE: of the hold that is given up, as its grant or a CHECK told it, or of the waiter, whatever has
                                              * become of it; AWAIT: of the waiter; KEEP, BREAK: of the hold; never 0. CHECK: of those who hold it together, this one,
                                              * if it is among them; 0: any */
        bool bound;                          /* AWAIT, of a session: it is closed when the process of the hello ends, unless it has a lock-delay */
        uint64_t session;                    /* CLOSE, RENEW: which; a lease's is its token. PREEMPT: in which; 0: in none */
        uint32_t ttl_ms;                     /* OPEN: time to live, LIMIT_TTL_MIN_MS to LIMIT_TTL_MS. PREEMPT: of the lease; 0: none, and always 0 in a session.
                                              * RENEW: as it was opened with, else it is rejected; 0: whatever that is */
        uint32_t delay_ms;                   /* OPEN, PREEMPT, with a ttl: when what is held so is lost, by expiry or by a break at once, nobody gets it for so
                                              * long: at most LIMIT_DELAY_MS, or 0. A no for that has a token and no owner */
        uint64_t period_ms;                  /* PREEMPT: only if it was not granted with a period within this time; LIMIT_PERIOD_MIN_MS to
                                              * LIMIT_PERIOD_MS, or 0. A no for that has a token and no owner */
        struct names_view further;           /* PREEMPT: of the locks that are wanted with it, all or nothing: in order behind name, each alone, and not once in a
                                              * period. They have one token; a lease is of all of them. Read: a part of the frame */
        uint16_t slots;                      /* PREEMPT: 0: alone; SLOTS_SHARED, or 2 to LIMIT_SLOTS: together with so many who say the same */
        bool now;                            /* BREAK: at once, though its holder may count on its lease */
        bool wait;                           /* PREEMPT: in the queue, if need be; only in a session, or with a ttl */
        struct holder_view holder;           /* PREEMPT, OPEN; BREAK: who does it, with the reason as a note; read: a part of the frame */
        struct lock_name after;              /* LIST: this and everything before it was seen; may be empty */
        uint64_t after_token;                /* LIST: of those who hold that one together, up to this one. SHOW: the same of the one that is asked about. QUEUE: up
                                              * to this waiter */
        uint64_t after_index;                /* HISTORY, WATCH: everything up to and with this was seen; the node waits to have applied it */
        bool exact;                          /* WATCH: of the lock of that name only */
        uint16_t limit;                      /* LIST, HISTORY, WATCH: 1 to LIMIT_PAGE_ROWS */
        uint64_t backup, offset;             /* BACKUP: a piece of this one from there on; both 0: make one. It ends with the connection */
};

enum wire_outcome {
        WIRE_YES = 1,                        /* CANCEL: token 0: it will not happen; else it had happened, under that token */
        WIRE_NO = 2,
        WIRE_UNKNOWN = 3,
        WIRE_REJECTED = 4,                   /* before it was decided: bad principal, limit; reason says which */
        WIRE_WAITING = 5,                    /* PREEMPT, AWAIT: it stands in the queue of the lock, as the waiter of that token. Its session, or its lease,
                                              * which has the same id, is to be renewed. A retry is told so, too, when that has got the lock by now; and
                                              * CANCEL, when it is too late for that: AWAIT tells the token, RELEASE of the waiter gives it up */
        WIRE_REENTERED = 6,                  /* PREEMPT: the very session holds it already, under that token */
};

struct wire_result {
        uint64_t tag;
        enum wire_outcome outcome;
        uint64_t token;
        uint64_t index;
        int64_t leader_age_ms;               /* CHECK; -1: never heard */
        uint32_t free_in_ms;                 /* NO to PREEMPT, CHECK: nobody owns the lock, which was lost, and nobody gets it for so long */
        uint16_t slots;                      /* CHECK: as which it is held */
        uint16_t holders;                    /* CHECK: so many hold it; 0: nobody */
        struct client_id owner;              /* size 0: nobody, or not told */
        char reason[LIMIT_REASON_BYTES + 1];
};

struct wire_row {
        struct lock_name lock;
        struct client_id owner;
        uint64_t token;
        uint64_t held_ms;
        uint64_t since_wall_ms;
        uint64_t session;                    /* in which it is held, or that of its lease; 0: until it is released */
        uint32_t ttl_ms;                     /* of that session; 0: none */
        uint32_t delay_ms;                   /* of that session: nobody gets it for so long when it is lost */
        bool lease;                          /* it is its own, and goes with it */
        bool broken;                         /* LEASE: an operator has broken it, and it is not renewed any more */
        uint32_t waiting;                    /* so many wait for it */
        uint16_t slots;                      /* as which it is held: 0: alone */
        uint16_t holders;                    /* so many hold it, of whom this is one */
        int64_t expires_ms;                  /* without a renewal it may end after so long; -1: only a leader knows, or never */
        struct principal principal;          /* who took it for the owner */
        struct holder_view holder;           /* read: a part of the frame */
};

struct wire_event {
        uint64_t index, term, token, cluster_ms, wall_ms;
        char kind[16];
        struct lock_name lock;               /* may be empty */
        struct client_id client;             /* may be empty */
        char detail[LIMIT_REASON_BYTES + 1]; /* of other kinds, for people; may be empty */
};

/* Grants are 1, and whatever else becomes of a lock frees it: clients take kinds that they do not know for such. */
#define WIRE_CHANGE_GRANTED 1

struct wire_change {
        uint8_t kind;                        /* enum lock_event_kind of the node's; never 0 */
        uint64_t index, wall_ms;             /* of the entry */
        struct lock_name lock;
        struct client_id client;             /* whose hold it is, or was */
        uint64_t token, session;             /* of the hold; in which it is held, or 0 */
        uint32_t ttl_ms;                     /* of that session; 0: none */
        uint16_t slots;                      /* as which it is held, or was; 0: alone */
        struct holder_view holder;           /* GRANTED. Read: a part of the frame */
};

/* A member as the answering node knows it. */
struct wire_member {
        uint64_t id;
        char name[LIMIT_NODE_NAME_BYTES + 1];
        char address[LIMIT_ADDRESS_BYTES + 1];       /* "": not known */
        bool voter, witness, preferred, leader;
        bool linked;                         /* with the answering node, or it itself */
        bool away;                           /* stopped on purpose */
        uint64_t match;                      /* how far its log is known to reach; 0: only the leader knows */
        uint16_t level;                      /* feature level of its program; 0: not known */
};

/* Head of WIRE_ROWS, WIRE_EVENTS, WIRE_ROSTER and WIRE_CHANGES; rows follow one by one, count of them.
 *
 * WIRE_CHANGES has whole entries only, so that next_after is a place to go on from: up to limit rows, or those of one entry, which are at most
 * LIMIT_ENTRY_RECORDS. Without rows it says that nothing asked for has happened up to and with next_after. NO: the node remembers only what came after
 * log_first: whoever has seen no more than after_index is to read the locks as they are. */
struct wire_page {
        uint64_t tag;
        enum wire_outcome outcome;           /* YES, or UNKNOWN/REJECTED (CHANGES: or NO) with a reason and no rows */
        uint64_t index;                      /* applied index the page is read at */
        int64_t leader_age_ms;
        uint32_t free_in_ms;                 /* ROWS, to SHOW, none: as of a result */
        uint64_t next_after;                 /* EVENTS, CHANGES */
        uint64_t log_first;                  /* EVENTS, CHANGES */
        bool more;
        uint16_t count;
        char reason[LIMIT_REASON_BYTES + 1];
};

struct wire_state {
        uint64_t tag;
        char node[LIMIT_NODE_NAME_BYTES + 1];
        char role[16];
        char leader[LIMIT_NODE_NAME_BYTES + 1];
        char version[32];
        struct id128 cluster;
        uint64_t term, commit, applied, log_first, log_last, locks, voters, members;
        int64_t leader_age_ms;
};

/* A piece of a backup. The first answer, to whom asked to make it, has no data yet. */
struct wire_piece {
        uint64_t tag;
        enum wire_outcome outcome;           /* YES, or UNKNOWN/REJECTED with a reason and nothing else */
        uint64_t index;                      /* of the newest entry in it */
        int64_t leader_age_ms;               /* when it was made */
        uint64_t backup, offset, total;
        const uint8_t *data;                 /* read: points into the frame; at most LIMIT_BACKUP_PIECE_BYTES */
        size_t size;
        char reason[LIMIT_REASON_BYTES + 1];
};

/* --- frames --- */

enum wire_frame_status { WIRE_FRAME_READY, WIRE_FRAME_INCOMPLETE, WIRE_FRAME_TOO_LONG, WIRE_FRAME_MALFORMED };

struct wire_frame {
        uint8_t type;
        uint64_t tag;
        const uint8_t *body;
        size_t body_size;
        size_t total;                        /* bytes of the whole frame, to drop after use */
};

/* Looks at the front of data for one whole frame of at most frame_max bytes in all. Copies nothing. */
enum wire_frame_status wire_frame_parse(const uint8_t *data, size_t size, size_t frame_max, struct wire_frame *ret_frame);

/* --- writers: append one whole frame to out --- */
void wire_write_hello(struct bytes *out, const struct wire_hello *hello);
void wire_write_welcome(struct bytes *out, const struct wire_welcome *welcome);
void wire_write_refusal(struct bytes *out, const struct wire_refusal *refusal);
void wire_write_request(struct bytes *out, const struct wire_request *request);
void wire_write_result(struct bytes *out, const struct wire_result *result);
/* A page: begin, count times row, event, member or change, end (which fixes the length). type: WIRE_ROWS, WIRE_EVENTS, WIRE_ROSTER or WIRE_CHANGES. Returns the frame's offset for end. */
size_t wire_write_page_begin(struct bytes *out, enum wire_type type, const struct wire_page *page);
void wire_write_row(struct bytes *out, const struct wire_row *row);
void wire_write_event(struct bytes *out, const struct wire_event *event);
void wire_write_member(struct bytes *out, const struct wire_member *member);
void wire_write_change(struct bytes *out, const struct wire_change *change);
void wire_write_page_end(struct bytes *out, size_t frame_offset);
void wire_write_state(struct bytes *out, const struct wire_state *state);
void wire_write_piece(struct bytes *out, const struct wire_piece *piece);

/* --- readers: false means malformed; *ret_ is then unspecified --- */
bool wire_read_hello(const struct wire_frame *frame, struct wire_hello *ret_hello);
bool wire_read_welcome(const struct wire_frame *frame, struct wire_welcome *ret_welcome);
bool wire_read_refusal(const struct wire_frame *frame, struct wire_refusal *ret_refusal);
bool wire_read_request(const struct wire_frame *frame, struct wire_request *ret_request);
bool wire_read_result(const struct wire_frame *frame, struct wire_result *ret_result);
/* The head; rows are then read from *ret_rows, count times; after them bytes_reader_finished must hold. */
bool wire_read_page(const struct wire_frame *frame, struct wire_page *ret_page, struct bytes_reader *ret_rows);
bool wire_read_row(struct bytes_reader *rows, struct wire_row *ret_row);
bool wire_read_event(struct bytes_reader *rows, struct wire_event *ret_event);
bool wire_read_member(struct bytes_reader *rows, struct wire_member *ret_member);
bool wire_read_change(struct bytes_reader *rows, struct wire_change *ret_change);
bool wire_read_state(const struct wire_frame *frame, struct wire_state *ret_state);
bool wire_read_piece(const struct wire_frame *frame, struct wire_piece *ret_piece);
