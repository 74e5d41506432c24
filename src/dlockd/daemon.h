/* daemon.h - one node: the pure replica wired to disk, peers and clients. */
#pragma once

#include <sys/queue.h>

#include "config/config.h"
#include "net/listen.h"
#include "net/loop.h"
#include "peer/hub.h"
#include "replica/replica.h"
#include "store/store.h"

struct session_table;

/* Where a node stands on its way into a cluster. */
enum join_state {
        JOIN_DONE,                           /* a member */
        JOIN_LISTENING,                      /* a first leader: is there a cluster already? */
        JOIN_SEEKING,                        /* asks the join addresses in turn */
};

/* What was handed to the store, in order, and what becomes true when it is durable. */
struct in_flight {
        uint64_t token;
        uint64_t persist_id;                 /* 0: none */
        bool staged;
};

struct daemon {
        struct config config;
        const char *config_directory;
        struct loop *loop;
        struct store *store;
        struct replica *replica;
        struct peer_hub *hub;
        struct session_table *sessions;
        struct store_identity identity;
        unsigned level_found;                /* of the newest configuration in the database, while it is loaded */
        struct loop_source *turn, *timer, *store_source, *signals[4];
        uint64_t now;

        LIST_HEAD(, read_request) reads;     /* asked for, not answered yet */
        LIST_HEAD(, backup) backups;         /* that clients take */
        size_t backup_count;
        struct in_flight *in_flight;         /* a ring */
        size_t in_flight_head, in_flight_count, in_flight_capacity;

        uint64_t disk_judged_at, disk_worst_ms;      /* when it was last said that the disk is slow, and how slow */
        uint64_t snapshot_again;             /* 0: none failed */

        enum join_state join;
        uint64_t listened_ms, listened_at;           /* LISTENING: for so long, up to then */
        uint64_t join_next;
        size_t join_at;
        char join_elsewhere[LIMIT_ADDRESS_BYTES + 1];
        struct id128 join_met_cluster;               /* an empty leader heard of it while it listened, */
        char join_met[LIMIT_ADDRESS_BYTES + 1];      /* from the node at this address; "": it did not */
        char join_dialled[LIMIT_ADDRESS_BYTES + 1];
        char join_complaint[LIMIT_REASON_BYTES + 128];
        char address[LIMIT_ADDRESS_BYTES + 1];       /* where this node is reached; "": not known yet */
        uint64_t members_next, linked_at, led_at;
        bool removed;                        /* so said a member, and no leader was heard since */
        bool witness_compared;

        bool stopping, host_stops, may_leave, failed;
        uint64_t stop_by, status_next;
        uint64_t well_at;                            /* 0: it is */
        uint64_t named;                              /* changes up to here were named in the journal */
        struct raft_configuration *named_members;    /* as the journal has them; NULL: not yet */
        uint64_t logged_term, logged_leader, logged_target;
        struct id128 logged_guests[8];
        unsigned logged_guest_next;
        uint64_t journal_second;
        unsigned journal_count;
};

/* Opens store and links, and runs until told to stop. sockets are taken over. The exit status. */
int daemon_run(const struct config *config, const char *config_directory, struct listen_sockets *clients, struct listen_sockets *peers);

/* --- between the files of dlockd/ --- */

/* A turn will follow. */
void daemon_want_turn(struct daemon *daemon);
/* The node cannot go on: says why, once, and ends the loop with a failure. */
void daemon_fail(struct daemon *daemon, const char *what);
/* The name of a member, or "" when it is not known. */
const char *daemon_node_name(const struct daemon *daemon, uint64_t node);

/* Why and for whom the store reads: its cookie. */
struct read_request {
        LIST_ENTRY(read_request) link;
        enum { READ_LOG, READ_SNAPSHOT, READ_CHUNK, READ_HISTORY, READ_BACKUP, READ_BACKUP_PIECE } kind;
        uint64_t node;                       /* LOG, CHUNK */
        uint64_t from;                       /* LOG: first index; CHUNK, BACKUP_PIECE: offset */
        uint64_t snapshot;                   /* CHUNK */
        uint64_t session, tag;               /* HISTORY, BACKUP* */
};

/* storage.c */
/* A copy on the heap, freed when the store has answered. */
uint64_t daemon_read_cookie(struct daemon *daemon, const struct read_request *request);
/* At the end: what the store will not answer any more. */
void daemon_drop_reads(struct daemon *daemon);
/* The settings of config are those of the replica from now on. */
void daemon_apply_settings(struct daemon *daemon);
int daemon_open_store(struct daemon *daemon);
void daemon_make_replica(struct daemon *daemon, const struct store_content *content);
void daemon_carry_out_storage(struct daemon *daemon, const struct replica_effects *effects);
void daemon_on_store(void *context, uint32_t events);
void daemon_storage_tick(struct daemon *daemon);
int daemon_bootstrap(struct daemon *daemon);
/* For whoever loads a database: what contradicts itself in it, or in a record, NULL: nothing; and an entry that may follow those before it.
 * level is that of the newest configuration so far; beyond RAFT_FEATURE_LEVEL a newer program was here, which explain says, -ENOTSUP. */
const char *daemon_what_is_wrong(const struct store_content *content, unsigned *ret_level);
const char *daemon_load_record(struct replica *replica, const struct raft_record *record);
bool daemon_level_is_known(const struct raft_entry *entry, unsigned *level);
bool daemon_load_entry(struct replica *replica, const struct raft_entry *entry);
int daemon_explain_level(const char *path, unsigned level, char error[512]);
bool daemon_describe(const struct raft_entry *entry, struct store_columns *ret_columns);

/* members.c */
extern const struct peer_handler daemon_peer_handler;
void daemon_members_start(struct daemon *daemon);
void daemon_members_tick(struct daemon *daemon);
/* After every socket that was ready: whoever has said hello was heard. */
void daemon_members_turn(struct daemon *daemon);
/* It is no member any more, as far as it knows, and waits for its state directory to be emptied. */
bool daemon_is_removed(const struct daemon *daemon);
void daemon_answer_join(struct daemon *daemon, const struct replica_answer *answer);
void daemon_self(const struct daemon *daemon, struct peer_hello *ret_self);
