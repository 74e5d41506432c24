/* limits.h - every limit of dlock, each with its reason.
 *
 * A limit reached from outside is an outcome that the client is told, not an
 * error; a limit broken from inside is a bug and an assertion. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* What a user may say. One byte of length on the wire; longer names belong into a note. */
#define LIMIT_LOCK_NAME_BYTES 255
/* A UUID has 36; room for names that people give with --client. */
#define LIMIT_CLIENT_ID_BYTES 64
/* "uid:4294967295", "tcp"; later a certificate's name. */
#define LIMIT_PRINCIPAL_BYTES 64
/* What a person wants to say about a lock: a sentence, or the address of who leads. */
#define LIMIT_NOTE_BYTES 255
/* HOST_NAME_MAX of Linux. */
#define LIMIT_HOST_BYTES 64
/* The longest name of a systemd unit. */
#define LIMIT_UNIT_BYTES 255
/* Note, host, unit and pid as bytes: the texts with their sizes, four bytes, and one for the format. */
#define LIMIT_HOLDER_BYTES 582
/* How long a session or a lease lives without a sign of life: shorter than a change of leaders would be lost in every one,
 * longer is a lock that is held until it is released. */
#define LIMIT_TTL_MIN_MS 1000
#define LIMIT_TTL_MS 86400000
static inline bool limit_ttl_is_valid(uint32_t ttl_ms)
{
        return ttl_ms >= LIMIT_TTL_MIN_MS && ttl_ms <= LIMIT_TTL_MS;
}
/* For how long nobody gets a lock that was lost: what its holder had on its way lands by then. Longer is for people to decide. */
#define LIMIT_DELAY_MS 600000
static inline bool limit_delay_is_valid(uint32_t ttl_ms, uint32_t delay_ms)
{
        return delay_ms == 0 || (ttl_ms != 0 && delay_ms <= LIMIT_DELAY_MS);
}
/* For how long the cluster may be asked to remember that a lock was granted, so that it is granted once in that time. */
#define LIMIT_PERIOD_MIN_MS 1000
#define LIMIT_PERIOD_MS UINT64_C(31622400000)
static inline bool limit_period_is_valid(uint64_t period_ms)
{
        return period_ms >= LIMIT_PERIOD_MIN_MS && period_ms <= LIMIT_PERIOD_MS;
}
/* How many may hold a lock together: 0, the usual, one alone; SLOTS_SHARED, whoever says so, too, as readers do; or so many. Those who hold it
 * together all said the same, and are not more than this bound, which keeps what is to be looked through small. */
#define LIMIT_SLOTS 4096
#define SLOTS_SHARED UINT16_MAX
static inline bool limit_slots_is_valid(uint16_t slots)
{
        return slots == 0 || slots == SLOTS_SHARED || (slots > 1 && slots <= LIMIT_SLOTS);
}
static inline uint16_t slots_capacity(uint16_t slots)
{
        return slots == 0 ? 1 : slots == SLOTS_SHARED ? LIMIT_SLOTS : slots;
}
/* Locks that may be asked for at once, all or nothing: a request with the longest names fits LIMIT_CLIENT_REQUEST_BYTES. */
#define LIMIT_LOCKS_AT_ONCE 8
/* Node names appear in every status line. */
#define LIMIT_NODE_NAME_BYTES 64
/* "[ipv6%scope]:port", or a host name of DNS length and a port, or a socket path. */
#define LIMIT_ADDRESS_BYTES 280
/* Text of an error on the wire: one line for a terminal. */
#define LIMIT_REASON_BYTES 200

/* The table, with those that are in their lock-delay: records of some 400 bytes with the longest names, 1 KiB with the longest notes, and the
 * allocator's share. */
#define LIMIT_LOCKS 4000000
/* Sessions, leases included: some 400 bytes each, and two timers on the leader. */
#define LIMIT_LOCK_SESSIONS 1000000
/* In the queues of all locks: some 400 bytes each, and a session. */
#define LIMIT_WAITERS 1000000
/* Locks of which it is remembered when they were granted last: some 300 bytes each. */
#define LIMIT_PERIODS 1000000
/* Clients that own nothing are forgotten, longest unused first, above this. */
#define LIMIT_CLIENTS_IDLE 100000
/* Results kept for retries; 6,600 one-shot clients per second for ten minutes. */
#define LIMIT_REQUESTS 4000000
/* A result is kept for this much cluster time (DESIGN section 5). */
#define LIMIT_REQUEST_KEPT_MS 600000
/* Nobody sends a request again after this long (DESIGN section 5). */
#define LIMIT_RESEND_MS 60000
/* Recent refusals a leader remembers, to answer a retry as it answered first. */
#define LIMIT_REFUSALS 8192

/* One entry changes at most so many records, so that applying it takes microseconds. */
#define LIMIT_ENTRY_RECORDS 256
#define LIMIT_ENTRY_BYTES 65536
/* What a node remembers of what became of locks, for those who watch: some 150,000 events, a minute at 2,500 a second and 7 s at 20,000. Who comes
 * back later reads the locks as they are. None in a node that has no clients. */
#define LIMIT_EVENTS_BYTES (16 * 1024 * 1024)
/* Entries applied in one turn of the loop: about 2 ms. */
#define LIMIT_APPLY_PER_TURN 4096
/* Requests about locks that are being freed, looked at again in one turn: about 2 ms. */
#define LIMIT_LATER_PER_TURN 1024
/* Dirty records that make the replica hand after-images to the writer. */
#define LIMIT_DIRTY_RECORDS 1024
/* Log rows deleted in one transaction behind the trailing window. */
#define LIMIT_TRIM_PER_BATCH 2048

/* Members of one cluster; a configuration entry of that many fits LIMIT_ENTRY_BYTES. */
#define LIMIT_MEMBERS 128
/* More voters make every change slower and hardly safer. */
#define LIMIT_VOTERS 9

/* Leadership goes back to the preferred leader when it has been connected and caught up for so long; after a transfer that failed,
 * or a loss soon after one, it waits: a minute at first, and half an hour in the end, so that a flapping node disturbs little. */
#define LIMIT_RETURN_STEADY_MS 10000
#define LIMIT_RETURN_FIRST_WAIT_MS 60000
#define LIMIT_RETURN_WAIT_MS 1800000

/* One append message: a follower's heartbeat never waits behind more than this. */
#define LIMIT_APPEND_BYTES (1024 * 1024)
#define LIMIT_APPEND_ENTRIES 4096
/* Unacknowledged appends to one follower. */
#define LIMIT_INFLIGHT_BYTES (4 * 1024 * 1024)
#define LIMIT_INFLIGHT_MESSAGES 256
/* Committed entries kept in memory for followers that are only a little behind. */
#define LIMIT_LOG_CACHE_BYTES (2 * 1024 * 1024)
/* Entries a leader appends beyond the committed ones: what a slow disk may queue. */
#define LIMIT_UNCOMMITTED 65536
/* One chunk of a streamed snapshot. */
#define LIMIT_SNAPSHOT_CHUNK_BYTES (256 * 1024)

/* Client frames: a request is a name and some numbers; a reply may be a page. */
#define LIMIT_CLIENT_REQUEST_BYTES 4096
#define LIMIT_CLIENT_REPLY_BYTES (1024 * 1024)
/* One piece of a backup: a node never has more of it in memory for one client. */
#define LIMIT_BACKUP_PIECE_BYTES (256 * 1024)
/* Backups of one node at once: each is a copy of its database on its disk. */
#define LIMIT_BACKUPS 2
/* A backup of which no piece was asked for so long is dropped. */
#define LIMIT_BACKUP_IDLE_MS 60000
/* Rows of one page of list or history (DESIGN section 5). */
#define LIMIT_PAGE_ROWS 1000
/* Peer frames: an append, or a snapshot chunk, and its header. */
#define LIMIT_PEER_FRAME_BYTES (LIMIT_APPEND_BYTES + LIMIT_ENTRY_BYTES + 4096)

/* Connections of clients to one node; one descriptor and about 1 KiB each. */
#define LIMIT_SESSIONS 20000
/* Requests in flight from one connection before the node stops reading from it. */
#define LIMIT_SESSION_REQUESTS 1024
/* Requests in flight from all of them: some 100 MiB with long notes. Beyond it every connection has one. */
#define LIMIT_REQUESTS_WAITING 65536
/* Questions of one connection, and of all of them, how a wait in the queue of a lock stands: some 500 bytes each, and a look 20 times a second
 * at each. They are answered when there is news; those beyond it are told at once that there is none. */
#define LIMIT_SESSION_AWAITS 8192
#define LIMIT_AWAITS 65536
/* Pages of locks written in one turn of the loop: some 3 ms. */
#define LIMIT_PAGES_PER_TURN_BYTES (256 * 1024)
/* Clients that watch one node: as many as may be connected; and of one connection, each with a page of answers on its way. */
#define LIMIT_WATCHES LIMIT_SESSIONS
#define LIMIT_SESSION_WATCHES 32
/* A page of what became of locks ends with the entry that reaches this: a turn has some of them. */
#define LIMIT_WATCH_PAGE_BYTES 65536
/* In one turn of the loop, for all who watch: events looked at, some 1 ms, and answers, each a call of the kernel, some 3 ms. */
#define LIMIT_EVENTS_PER_TURN 16384
#define LIMIT_WATCHES_PER_TURN 512
/* Unsent answers of one connection before it is closed as a slow reader; at a quarter of it no request is taken. */
#define LIMIT_SESSION_UNSENT_BYTES (4 * 1024 * 1024)
/* A connection that takes nothing of what is to be sent for so long is closed. */
#define LIMIT_STALL_MS 10000
/* Unsent messages to one peer before its link is closed and dialled again. */
#define LIMIT_PEER_UNSENT_BYTES (64 * 1024 * 1024)
/* A connection that does not say hello within this time is closed. */
#define LIMIT_HELLO_MS 5000
/* A client's patience, as the longest deadline a request may carry. */
#define LIMIT_DEADLINE_MS 3600000

/* Fencing tokens stay exact in JSON numbers (DESIGN D11). */
#define LIMIT_TOKEN ((UINT64_C(1) << 53) - 1)
