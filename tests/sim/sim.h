/* sim.h - a whole cluster in one thread: the shipped raft/, replica/ and lock/ rooms on model disks, a model
 * network and model clients, in virtual time, from one seed. The same seed gives the same run, to the last event.
 *
 * watch.c and history.c look on after every turn; any of them ends the run with sim_fail. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "replica/replica.h"

#define SIM_NODES 7
#define SIM_CLIENTS 5
#define SIM_LOCKS 4
#define SIM_ENTRIES 16384                    /* of one run */
#define SIM_TERMS 4096

#define MS UINT64_C(1000)                    /* virtual time is in microseconds */
#define TIMEOUT_MS 400
#define HEARTBEAT_MS 50

/* --- the disk of one node: what is synced, and what is on its way --- */

struct disk_record {
        enum raft_table table;
        char *key, *label;
        uint64_t number;
        struct bytes body;
};

/* A base and the tables as of it. */
struct disk_state {
        struct raft_base base;
        struct bytes configuration;
        struct disk_record *records;
        size_t count, capacity;
};

struct disk_write {
        struct disk_write *next;
        uint64_t persist_id;
        bool staged;                         /* the last stage of its turn */
        bool begin, install;
        bool has_hard, has_base, has_identity;
        struct raft_hard_state hard;
        struct id128 cluster;
        uint64_t node;
        uint64_t truncate_from, trim_to;
        struct raft_entry **entries;
        size_t entry_count;
        struct disk_state change;            /* base and after-images, or a chunk of staged records */
};

struct disk {
        struct id128 incarnation, cluster;
        uint64_t node;                       /* own id */
        struct raft_hard_state hard;
        struct raft_entry *log[SIM_ENTRIES];
        uint64_t log_first, log_last;
        struct disk_state state, staged;
        struct disk_write *writes, **writes_end;
        uint64_t stalled_until;
        bool syncing, held;                  /* HELD: by a scenario */
        struct disk *next;                   /* of those that were lost */
        struct disk *synced;                 /* what a power cut leaves, when a killed process wrote more than it synced; or NULL */
        struct bytes spool;                  /* a snapshot being sent */
        struct raft_base spool_base;
        struct bytes spool_configuration;
        uint64_t spool_id;
};

/* --- one node --- */

struct sim_node {
        unsigned number;                     /* from 0: its place in the machine room; ids are given by the cluster */
        struct replica *replica;             /* NULL: down */
        uint64_t life;                       /* of the process: events of an earlier one mean nothing */
        struct disk disk;
        uint64_t clock_origin, clock_base;   /* local = base + (now - origin) * rate / 1000 */
        uint64_t clock_rate;
        uint64_t paused_until;
        bool turn_wanted, leaving, stopped;
        bool awake;                          /* in a scenario: its election timer runs */
        bool witness;
        unsigned level;                      /* of its program */
        uint64_t keep_entries, sync_max;
        uint64_t reader_free, join_at;
        unsigned join_through;
        uint64_t told[SIM_NODES];            /* what it believes of its links: the other's id, 0: down */
        /* watch.c */
        uint64_t commit_seen, commit_before, hashed, lead_term;
};

/* --- the network --- */

struct sim_link {                            /* of a pair, from lower to higher number */
        bool alive, doomed;
        uint64_t epoch;
};

/* --- clients --- */

/* What a client counts on. */
struct sim_session {
        uint64_t id;                         /* 0: none */
        uint32_t ttl_ms;
        uint64_t until;                      /* virtual time; it stops before */
};

struct sim_client {
        unsigned number;
        uint64_t clock_rate;
        struct id128 handle;
        uint64_t seq;
        bool accepted;                       /* the last request of the handle was */
        bool busy;
        bool retire;                         /* asks nothing more */
        struct lock_request request;
        uint8_t holder[16];                  /* what request.holder shows */
        bool is_read, consistent;
        uint64_t min_index, seen;            /* SEEN: the highest index it was told */
        uint64_t acked_before;               /* the highest index told to anybody before it asked */
        uint64_t deadline, next_at;
        unsigned node;                       /* asked now */
        uint64_t session, attempt;           /* 0: between two nodes */
        uint64_t copies;                     /* of this request that nodes were given */
        enum replica_outcome refused;        /* it was, and is being cancelled */
        struct lock_request was;             /* what is being cancelled */
        struct {
                uint64_t id, session;        /* it stands in the queue of the lock that it asked for, as this waiter, and asks how that stands; 0: it does not */
                bool in_vain;                /* it was told that it comes too soon */
        } wait;
        bool holds[SIM_LOCKS];
        uint16_t slots[SIM_LOCKS];           /* as which it has it */
        uint16_t wanted_slots;               /* in a scenario: as which it asks for locks */
        unsigned wanted_locks;               /* the same: a bit for each that it asks for as well */
        uint8_t further[8 * SIM_LOCKS];      /* what request.further shows */
        bool unsure[SIM_LOCKS];              /* a request ended unknown: it looks before it releases */
        struct sim_session leases[SIM_LOCKS], opened;
        uint32_t delay_ms;                   /* in a scenario: of the leases and sessions that it asks for */
        uint64_t former;                     /* the session it had before, or its last lease */
        struct sim_session *held_in[SIM_LOCKS];      /* the session in which it holds the lock, as far as it knows; NULL: none */
        uint64_t asked_at;                   /* when its request was sent first */
        struct {
                uint64_t session, asked_at, origin;  /* ORIGIN 0: no answer is awaited */
                enum replica_outcome outcome;        /* of the last answer */
                bool was_over;               /* when it asked */
        } renewal;
        struct {
                uint64_t session, origin;    /* it asked a node to be told of the end of that; ORIGIN 0: no answer is awaited */
                unsigned node;
                uint64_t life;               /* of the node, then */
                enum replica_outcome outcome;        /* of the last answer */
        } listens;
        uint64_t tokens[SIM_LOCKS], older[SIM_LOCKS];        /* of its last hold, and of the one before; 0: none */
        enum replica_outcome outcome;        /* the last answer */
        const char *read_owner;              /* READ: who had the lock; NULL: nobody */
        uint64_t read_token;
        uint64_t done;                       /* answers that were not unknown */
};

/* --- what happens when --- */

enum event_kind {
        EVENT_TICK, EVENT_TURN, EVENT_MESSAGE, EVENT_SYNC, EVENT_READ, EVENT_CLIENT, EVENT_PATIENCE, EVENT_FAULT, EVENT_START, EVENT_BREAK,
        EVENT_TELL_DOWN, EVENT_CONNECT, EVENT_UNCUT, EVENT_OPERATOR, EVENT_POWER, EVENT_RENEW,
};

struct sim_event {
        uint64_t at, order;
        enum event_kind kind;
        unsigned node, other;
        uint64_t life;                       /* of the node, or epoch of a link, or attempt of a client */
        void *what;                          /* owned: a message, a read */
};

struct sim {
        uint64_t seed, random;
        uint64_t now;
        struct sim_event *events;            /* a heap */
        size_t event_count, event_capacity;
        enum event_kind stepped;             /* the last */
        uint64_t event_order;

        struct script *script;               /* the scenario that is played; NULL: chance rules */
        uint64_t keep_writes;                /* scenario: of what a killed node had queued */
        unsigned max_voters;
        unsigned fault_kinds;                /* of this run */
        uint64_t drift_per_1000;             /* that clients allow for: no session may end before; 0: clocks do what they want, and jump */
        bool stumbles;                       /* leaders fall again and again */
        size_t chunk_bytes;                  /* of a snapshot */
        bool disks_get_lost;                 /* else members are removed */
        unsigned upgrade_per_1000;           /* of starts are with the program of the next level */

        unsigned node_count;
        struct sim_node nodes[SIM_NODES];
        struct sim_follower *followers;      /* one for each, which goes around */
        bool cut[SIM_NODES][SIM_NODES];      /* [from][to] */
        struct sim_link links[SIM_NODES][SIM_NODES];
        bool ordered;                        /* links keep the order, as TCP does */
        uint64_t arrival[SIM_NODES][SIM_NODES];
        unsigned drop_per_1000, duplicate_per_1000;
        uint64_t delay_max;
        unsigned hold[SIM_NODES][SIM_NODES]; /* of enum net_hold, by a scenario */
        struct held *held;
        bool faults;                         /* they have not stopped yet */
        uint64_t faults_until;

        struct disk *lost;                   /* what was on disks that are gone */

        struct sim_client clients[SIM_CLIENTS];
        struct {
                bool asked;
                uint64_t number, until;      /* of the wish, and when it is forgotten */
                enum admin_kind kind;
                unsigned node;
                uint64_t id;                 /* 0: the node was named; whoever was asked may know an older one of that name */
        } wish;
        uint64_t session_next, handle_next, spool_next, incarnation_next;

        /* history.c: what is committed, and what it means */
        struct raft_entry *committed[SIM_ENTRIES];
        uint64_t committed_in[SIM_ENTRIES];  /* the term of the leader that committed it: later than the entry's, when that had lost its term */
        uint64_t committed_last;
        struct lock_table *truth;
        uint64_t truth_hash[SIM_ENTRIES];
        struct raft_configuration *configuration;    /* the last committed */
        uint64_t configuration_at[SIM_ENTRIES];      /* index of the one in force there */
        uint64_t acked;                      /* highest index told to a client */
        struct history *history;

        /* watch.c */
        unsigned leader_of_term[SIM_TERMS];  /* number + 1 */
        uint64_t vote_of_term[SIM_NODES][SIM_TERMS];
        struct watch *watch;

        char (*trace)[160];                  /* a ring */
        size_t trace_next;
        bool verbose;
        uint64_t counts[8];                  /* of what happened, for the summary */
};

enum sim_count { COUNT_EVENTS, COUNT_COMMITTED, COUNT_YES, COUNT_NO, COUNT_UNKNOWN, COUNT_CRASHES, COUNT_SNAPSHOTS, COUNT_TERMS };

/* world.c - time, chance, and the timeline */
uint64_t sim_random(struct sim *sim, uint64_t below);
bool sim_chance(struct sim *sim, unsigned per_1000);
uint64_t sim_between(struct sim *sim, uint64_t low, uint64_t high);
void sim_at(struct sim *sim, uint64_t at, enum event_kind kind, unsigned node, unsigned other, uint64_t life, void *what);
bool sim_next(struct sim *sim, struct sim_event *ret_event);
void sim_trace(struct sim *sim, const char *format, ...) _printf_(2, 3);
_Noreturn void sim_fail(struct sim *sim, const char *format, ...) _printf_(2, 3);
/* Prints the last lines of the timeline. */
void sim_print_trace(const struct sim *sim);
/* Which run, and when in it: the beginning of a line. */
void sim_print_place(const struct sim *sim);

/* disk.c */
void disk_init(struct disk *disk, struct id128 incarnation);
void disk_done(struct disk *disk);
void disk_queue(struct sim *sim, struct sim_node *node, const struct replica_effects *effects);
void disk_queue_stages(struct sim *sim, struct sim_node *node, const struct raft_effects *effects);
/* A transaction, or a few of them, are durable: tells the replica. */
void disk_sync(struct sim *sim, struct sim_node *node);
/* The process is gone; kept: so many of the queued transactions the system had written, but not synced. */
void disk_crash(struct sim *sim, struct sim_node *node, uint64_t kept);
/* What was not synced is gone. */
void disk_lose_power(struct disk *disk);
/* A node of a new cluster, as of its beginning; the first is its only voter. */
void disk_bootstrap(struct sim *sim, struct sim_node *node);
/* The first so many became voters, one by one, in term 1. */
void disk_grow_cluster(struct sim *sim, unsigned voters);
struct replica *disk_load(struct sim *sim, struct sim_node *node);
/* It stalls no longer. */
void disk_hurry(struct sim *sim, struct sim_node *node);
/* A scenario lets nothing become durable for a while. */
void disk_hold(struct sim *sim, struct sim_node *node, bool held);
/* The node is down, and has lost all: P7, it comes back as another one. */
void disk_empty(struct sim *sim, struct sim_node *node);
/* Entries from..last of the synced log; false: not there. */
bool disk_has(const struct disk *disk, uint64_t index, uint64_t term);
void disk_read(struct sim *sim, struct sim_node *node, const struct raft_effects *effects);
void disk_read_done(struct sim *sim, struct sim_node *node, void *what);
void disk_read_free(void *what);

/* net.c */
void net_send_raft(struct sim *sim, struct sim_node *from, const struct raft_message *message);
void net_send_node(struct sim *sim, struct sim_node *from, const struct replica_send *send);
void net_join(struct sim *sim, struct sim_node *node);
void net_answer_join(struct sim *sim, struct sim_node *from, const struct replica_answer *answer);
void net_deliver(struct sim *sim, const struct sim_event *event);
void net_message_free(void *what);
void net_break(struct sim *sim, unsigned a, unsigned b, uint64_t notice_max);
/* It stops cleanly, and says so to everybody. */
void net_bye(struct sim *sim, unsigned number);
void net_node_gone(struct sim *sim, unsigned number);
void net_node_back(struct sim *sim, unsigned number);
void net_event(struct sim *sim, const struct sim_event *event);
struct sim_node *net_find(struct sim *sim, uint64_t id);
/* Scenarios hold messages back, and let them go on, or be lost, or arrive now and again later. */
enum net_hold { HOLD_ENTRIES = 1, HOLD_HEARTBEATS = 2, HOLD_REPLIES = 4, HOLD_VOTES = 8, HOLD_SNAPSHOTS = 16, HOLD_REQUESTS = 32, HOLD_EVERYTHING = 63 };
enum net_release { NET_RELEASE, NET_LOSE, NET_REPEAT, NET_REPEAT_FIRST };
void net_hold(struct sim *sim, unsigned from, unsigned to, enum net_hold kinds);
void net_release(struct sim *sim, unsigned from, unsigned to, enum net_release how);
size_t net_held(const struct sim *sim, unsigned from, unsigned to);

/* node.c */
uint64_t node_clock(const struct sim *sim, const struct sim_node *node);
void node_start(struct sim *sim, struct sim_node *node);
enum crash { CRASH_POWER, CRASH_KILL, CRASH_CLEAN };
void node_crash(struct sim *sim, struct sim_node *node, enum crash crash);
void node_want_turn(struct sim *sim, struct sim_node *node);
void node_turn(struct sim *sim, struct sim_node *node);
void node_tick(struct sim *sim, struct sim_node *node);
struct sim_node *node_leader(struct sim *sim);
/* The preferred leader came and went, so that leadership does not go back to it for a while; or an operator handed it to this node. */
bool node_keeps_leadership(const struct sim_node *node);
/* Into the timeline. */
void node_tell_all(struct sim *sim);

/* client.c */
void client_begin(struct sim *sim);
void client_next(struct sim *sim, struct sim_client *client);
void client_patience(struct sim *sim, struct sim_client *client, uint64_t attempt);
void client_answer(struct sim *sim, struct sim_node *node, const struct replica_answer *answer);

/* In a scenario: a new request, the same one again, and nobody waits for the old answer any more. */
void client_ask(struct sim *sim, struct sim_client *client, struct sim_node *node, enum lock_change_kind kind, unsigned lock);
void client_ask_lease(struct sim *sim, struct sim_client *client, struct sim_node *node, unsigned lock, uint32_t ttl_ms);
/* In the queue, as a lease of so long; or, with 0, in its session. */
void client_ask_to_wait(struct sim *sim, struct sim_client *client, struct sim_node *node, unsigned lock, uint32_t ttl_ms, uint64_t period_ms);
/* Does not want any more what it waits for, or waited for. */
void client_leave(struct sim *sim, struct sim_client *client, struct sim_node *node);
void client_call_off(struct sim *sim, struct sim_client *client);
/* Takes it from whoever has it. */
void client_break(struct sim *sim, struct sim_client *client, struct sim_node *node, unsigned lock, bool now);
void client_ask_once(struct sim *sim, struct sim_client *client, struct sim_node *node, unsigned lock, uint64_t period_ms);
void client_ask_in_session(struct sim *sim, struct sim_client *client, struct sim_node *node, unsigned lock);
/* Asks for so many locks more in its session, and for no answer. */
void client_hold_many(struct sim *sim, struct sim_client *client, struct sim_node *node, uint64_t count);
void client_open(struct sim *sim, struct sim_client *client, struct sim_node *node, uint32_t ttl_ms);
void client_close(struct sim *sim, struct sim_client *client, struct sim_node *node);
void client_read(struct sim *sim, struct sim_client *client, struct sim_node *node, unsigned lock, bool consistent);
void client_ask_again(struct sim *sim, struct sim_client *client, struct sim_node *node);
void client_hang_up(struct sim *sim, struct sim_client *client);
/* The outcome of its request is unknown to it for good. */
void client_wait_no_longer(struct sim *sim, struct sim_client *client);
extern const char *const client_outcomes[];

/* Where a client that may choose goes. */
struct sim_node *client_any_node(struct sim *sim);
/* The leader of the lowest term: one that does not know yet that it was deposed. */
struct sim_node *client_stale_leader(struct sim *sim);

/* lease.c - what clients hold as long as they renew it */
/* Until when a client counts on what it asked for then. */
uint64_t lease_until(const struct sim *sim, const struct sim_client *client, uint64_t asked_at, uint32_t ttl_ms);
/* 0: it does not count on a session for this lock. */
bool lease_is_counted_on(const struct sim_client *client, uint64_t session);
uint64_t lease_believed_until(const struct sim_client *client, unsigned lock);
void lease_let_go(struct sim_client *client, unsigned lock);
/* session: of which a lease has the id. */
void lease_granted(struct sim *sim, struct sim_client *client, unsigned lock, uint64_t session);
void lease_opened(struct sim *sim, struct sim_client *client, enum replica_outcome outcome, uint64_t id);
void lease_close(struct sim_client *client);
void lease_renew(struct sim *sim, struct sim_client *client, struct sim_node *node, uint64_t id);
/* Asks the node to tell when the session, or lease, has ended. */
void lease_listen(struct sim *sim, struct sim_client *client, struct sim_node *node, uint64_t id);
void lease_told(struct sim *sim, const struct sim_node *node, struct sim_client *client, const struct replica_answer *answer);
/* After a turn of the node: whoever listens there was told what its table shows. */
void lease_check_told(struct sim *sim, const struct sim_node *node);
void lease_next(struct sim *sim, struct sim_client *client);
void lease_answer(struct sim *sim, const struct sim_node *node, struct sim_client *client, const struct replica_answer *answer);

/* operator.c - hands leadership over, takes members out, and puts empty disks in the place of lost ones */
void operator_next(struct sim *sim);
void operator_answer(struct sim *sim, const struct replica_answer *answer);

/* fault.c */
void fault_begin(struct sim *sim);
void fault_next(struct sim *sim);
/* Power is gone for a moment, after what the node is about to do. */
void fault_blink(struct sim *sim, struct sim_node *node);
void fault_heal(struct sim *sim);
/* The world is well: cuts, stalls, pauses end, and who is down starts. */
void fault_end(struct sim *sim);

/* main.c - on whose timeline an assertion that fails is told. */
void main_watch(struct sim *sim);

/* run.c */
struct sim *run_new(uint64_t seed, bool verbose);
void run_free(struct sim *sim);
/* The next event. False: there is none. */
bool run_step(struct sim *sim);
/* The machine room of a cluster of so many, all down. */
void run_set_up(struct sim *sim, unsigned node_count);
/* One random run. */
void run_seed(struct sim *sim);
/* NULL: all is well between the nodes. */
const char *run_what_is_wrong(struct sim *sim);

/* script.c - scenarios: tests/sim/scenarios/README says how they are written */
/* Plays what is in a file, but only scenarios whose title has WORD in it. Returns how many. */
unsigned script_play(const char *path, const char *word, bool verbose);
const char *script_file(const struct script *script);
unsigned script_line(const struct script *script);
const char *script_title(const struct script *script);
/* The sentences of a scenario; false: this is none. */
bool sentence_do(struct sim *sim, const char *text);
/* Election timers run only where the scenario wants it. */
void script_mind_timer(struct sim_node *node);

/* watch.c - what must hold between nodes at every moment */
void watch_init(struct sim *sim);
void watch_done(struct sim *sim);
void watch_message(struct sim *sim, struct sim_node *node, const struct raft_message *message);
void watch_appended(struct sim *sim, struct sim_node *node, const struct raft_effects *effects);
/* The node was told its id: only once that is committed. */
void watch_joined(struct sim *sim, const struct sim_node *node, uint64_t id);
void watch_base(struct sim *sim, const struct sim_node *node, const struct raft_base *base);
/* Before the turn: what is committed may leave memory in it. */
void watch_commit(struct sim *sim, struct sim_node *node);
void watch_node(struct sim *sim, struct sim_node *node);

/* follower.c - who watches what becomes of locks */
void follower_begin(struct sim *sim);
void follower_end(struct sim *sim);
void follower_turn(struct sim *sim, const struct sim_node *node);

/* history.c: what was committed, and what it makes of the table; told.c: whether what clients were told is true */
void history_init(struct sim *sim);
void history_done(struct sim *sim);
void history_commit(struct sim *sim, const struct raft_entry *entry);
void history_answer(struct sim *sim, struct sim_client *client, const struct replica_answer *answer);
/* The no is final: the request must not happen any more. */
void history_refused(struct sim *sim, const struct sim_client *client);
void history_waited(struct sim *sim, const struct sim_client *client, const struct replica_answer *answer);
/* A request is about to be asked for the first time. */
void history_asked(struct sim *sim, const struct sim_client *client);
/* Who has the lock, as far as is committed; NULL: nobody. */
/* How many wait for the lock, as far as is committed. */
size_t history_queue_length(const struct sim *sim, unsigned lock);
/* Under which it is held, by the first of those who do; 0: nobody does. */
uint64_t history_token(const struct sim *sim, unsigned lock);
bool history_owns(const struct sim *sim, unsigned lock, const struct sim_client *client);
size_t history_holders(const struct sim *sim, unsigned lock);
/* The client was told that its session has ended. */
bool history_session_lives(const struct sim *sim, const struct sim_client *client, uint64_t session);
void history_has_ended(struct sim *sim, const struct sim_client *client, uint64_t session);
void history_read(struct sim *sim, struct sim_node *node, struct sim_client *client, const struct replica_answer *answer);
uint64_t history_hash(const struct lock_table *table);
