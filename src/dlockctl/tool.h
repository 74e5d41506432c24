/* tool.h - what the commands of dlockctl share. Of dlock itself they know dlock.h only. */
#pragma once

#include <getopt.h>
#include <json-c/json.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "dlock.h"

#define TOOL_PRINTF(text, values) __attribute__((__format__(__printf__, text, values)))

/* What dlockctl exits with. */
enum tool_exit {
        EXIT_YES = 0,
        EXIT_NO = 1,                         /* held by another, not the owner; check: free */
        EXIT_USAGE = 2,                      /* usage, or something on this side: no client id, an answer that cannot be written */
        EXIT_UNKNOWN = 3,                    /* also: it has happened, but that cannot be written */
        EXIT_UNREACHABLE = 4,
        EXIT_USAGE_BESIDE = 125,             /* usage, where other statuses are those of a command that is run */
};

struct tool {
        const struct command *command;
        const char *servers, *client;        /* NULL: not given */
        uint32_t timeout_ms;                 /* 0: not given */
        bool json;
        bool force;                          /* backup */
        bool consistent;                     /* check, show, observe */
        bool mine;                           /* check */
        const char *note;                    /* preempt, run, hold; NULL: not given */
        uint32_t ttl_ms;                     /* preempt, renew, run, hold; 0: not given */
        int64_t lock_delay_ms;               /* preempt, run, hold; -1: not given */
        const char *reason;                  /* break */
        bool now;                            /* break: at once */
        uint64_t wait_ms;                    /* 0: no waiting; hold: without end unless it tries */
        bool tries;                          /* --try was given */
        uint32_t slots;                      /* preempt, run, hold: 1: alone; so many together, or DLOCK_SHARED; 0: not given, which is alone */
        uint64_t period_ms;                  /* preempt, run: --once-per; 0: none */
        const char *further[DLOCK_LOCKS_MAX];    /* preempt: operands behind the first; run, hold: --also */
        size_t further_count;                /* DLOCK_LOCKS_MAX: too many, which the library says */
        int64_t max_age_ms;                  /* check; -1: not given */
        uint64_t token;                      /* release, check, fence, break; 0: not given */
        const char *into;                    /* fence; NULL: not given */

        /* run */
        int64_t kill_after_ms;               /* also hold; -1: not given */
        uint64_t hold_at_least_ms;           /* 0: no longer than the command */
        const char *on_lost;                 /* NULL: not given */
        int conflict_code;                   /* -1: not given */

        /* watch, observe */
        uint64_t after_index;                /* 0: not given */
        uint64_t count;                      /* 0: not given */
        int64_t for_ms;                      /* -1: not given */
        bool once, note_only;
        const char *observed;
        bool reader_gone;                    /* nobody reads what is written, which is no failure */

        /* hold */
        const char *unit;                    /* NULL: not given */
        bool finish;

        struct dlock *dlock;

        /* bench */
        const char *clients, *prefix;
        uint64_t seconds;
        bool spread;
};

struct command {
        const char *name;
        const char *operands;                /* for people: "NAME", "[NAME]", "" */
        int operands_min, operands_max;
        const char *summary;
        const char *details;                 /* of --help; ends with a newline, or is empty */
        int (*run)(struct tool *tool, char **operands);
        bool changes;                        /* something: its outcome matters even when it cannot be shown */
        bool bench;                          /* has its options */
        bool writes_file;                    /* has --force */
        bool looks;                          /* at a lock: has --consistent */
        bool judges;                         /* has --max-age, --mine */
        bool takes;                          /* has --note and --once-per */
        bool names_several;                  /* operands are names of locks, as many as there are */
        bool lives;                          /* has --ttl, and unless it renews --lock-delay */
        bool waits;                          /* has --wait and --try, --shared and --slots */
        bool breaks;                         /* has --reason and --now */
        bool names_a_hold;                   /* has --token */
        bool fences;                         /* has --into */
        bool follows;                        /* has --after, --count, --for */
        bool observes;                       /* has --once, and a --note without a value */
        bool holds;                          /* has those of hold */
        bool runs;                           /* a command: options may follow upon NAME too; has those of run */
};

int command_preempt(struct tool *tool, char **operands);
int command_release(struct tool *tool, char **operands);
int command_renew(struct tool *tool, char **operands);
int command_check(struct tool *tool, char **operands);
int command_show(struct tool *tool, char **operands);
int command_list(struct tool *tool, char **operands);
int command_status(struct tool *tool, char **operands);
int command_history(struct tool *tool, char **operands);
int command_watch(struct tool *tool, char **operands);
int command_observe(struct tool *tool, char **operands);
int command_whoami(struct tool *tool, char **operands);
int command_forget_cluster(struct tool *tool, char **operands);
int command_members(struct tool *tool, char **operands);
int command_break(struct tool *tool, char **operands);
int command_transfer(struct tool *tool, char **operands);
int command_remove(struct tool *tool, char **operands);
int command_backup(struct tool *tool, char **operands);
int command_fence(struct tool *tool, char **operands);
int command_run(struct tool *tool, char **operands);
int command_hold(struct tool *tool, char **operands);
int command_bench(struct tool *tool, char **operands);

extern const char backup_details[], bench_details[], break_details[], fence_details[], hold_details[], observe_details[], remove_details[], run_details[], transfer_details[], watch_details[];

/* Reads argv into tool. A negative number: run the command with the operands at *ret_operands; else what to exit with. */
int options_read(struct tool *tool, const struct command *commands, int argc, char **argv, char ***ret_operands);

/* One more lock that is wanted, all or nothing. */
void tool_add_lock(struct tool *tool, const char *lock);
/* Of the locks that are wanted with first: the one of that number; NULL: there are no more. */
const char *tool_lock_of(const struct tool *tool, const char *first, size_t number);
/* All of them: "a, b, c". Never NULL; in buffer when there are several. */
#define TOOL_LABEL_SIZE (DLOCK_LOCKS_MAX * (DLOCK_NAME_MAX + 2) + 1)
const char *tool_label(const struct tool *tool, const char *first, char buffer[TOOL_LABEL_SIZE]);
/* The names of all of them; of one nothing is added. */
void tool_json_locks(struct json_object *object, const struct tool *tool, const char *first);

/* A decimal number above 0. */
bool tool_parse_token(const char *text, uint64_t *ret_token);

/* "dlockctl: ..." on stderr, one line. Returns code. */
int tool_fail(int code, const char *format, ...) TOOL_PRINTF(2, 3);
/* Makes a handle for the servers as the options say. 0, or what to exit with. */
int tool_new_handle(const struct tool *tool, const char *servers, struct dlock **ret_dlock);
/* The same for tool->dlock. */
int tool_open(struct tool *tool);
/* For a call of the library that returned r < 0. */
int tool_call_failed(const struct tool *tool);
/* 0 for yes, 1 for no; else says what is wrong and returns what to exit with. */
int tool_outcome(const struct dlock_answer *answer);

/* A question about one lock, and how its yes or no is shown. */
struct tool_question {
        int (*call)(const struct tool *tool, const char *lock, struct dlock_answer *ret_answer);
        void (*print)(const struct tool *tool, const struct dlock_answer *answer);
        void (*put_json)(const struct tool *tool, const struct dlock_answer *answer);
        /* What to exit with after a yes or no, or NULL; above EXIT_NO it has said why, and nothing is shown. */
        int (*judge)(const struct tool *tool, const struct dlock_answer *answer);
};

/* How long a lock that was lost is left alone when nothing else was said: what was under way needs stop_ms to be stopped, and clocks differ by one part
 * in a hundred. */
uint32_t tool_lock_delay_ms(const struct tool *tool, uint64_t ttl_ms, uint64_t stop_ms);

/* "free", or "free in 4.2 s (lock-delay)". */
const char *tool_free(const struct dlock_answer *answer, char buffer[80]);

/* Of several holds of one lock the one that is meant: that is not guessed. */
struct tool_holds {
        size_t count;
        uint64_t first;                      /* token */
        char text[1024];                     /* the tokens, for people, of some of them */
};

/* Which client holds the lock under which tokens; client NULL: all who do, with their names. 0, or what to exit with after a line on standard error. */
int tool_find_holds(const struct tool *tool, const char *lock, const char *client, struct tool_holds *ret_holds);

/* " (shared)", " (3 slots)"; "" when it is held alone. */
const char *tool_mode(uint32_t slots, char buffer[24]);
/* " and 2 others"; "" when there are none. */
const char *tool_others(uint32_t holders, char buffer[32]);
/* 1: held alone; "shared", or by how many together at most; null: by nobody. */
struct json_object *tool_json_slots(bool held, uint32_t slots);

/* The line of check about a lock. */
void tool_print_check(const struct tool *tool, const struct dlock_answer *answer);
/* ", for 29 s if it is not renewed" and the like: until the deadline of an answer; "" when it has none. */
const char *tool_life(const struct dlock_answer *answer, char buffer[96]);
/* The session, time to live and deadline that an answer tells; null when it tells none. */
void tool_json_life(struct json_object *object, const struct tool *tool, const struct dlock_answer *answer);
/* What is known of a hold. */
void tool_json_hold(struct json_object *object, const struct dlock_row *row);
/* The same, and of its lock. */
void tool_json_row(struct json_object *object, const struct dlock_row *row);

/* Opens, asks the cluster for something about a node, and with --json shows that it is done, as key. Returns what to exit with. */
int tool_ask_node(struct tool *tool, int (*call)(struct dlock *dlock, const char *node, struct dlock_answer *ret_answer), const char *node, const char *key);

/* Signals that end a program are to be read from the descriptor that is returned, but those that whoever started it wants to be ignored: *ret_set
 * are blocked. -errno. */
int tool_catch_signals(sigset_t *ret_set);

/* Opens, unless that was done, asks, shows. Returns what to exit with. */
int tool_ask(struct tool *tool, const char *lock, const struct tool_question *question);

/* Text without what a terminal would obey. */
void tool_print(FILE *file, const char *text);
/* The same, then spaces up to width. */
void tool_print_column(const char *text, int width);
/* "3 s", "2 d 4 h". */
const char *tool_duration(uint64_t ms, char buffer[48]);
/* Local time. */
const char *tool_time(uint64_t wall_ms, char buffer[48]);
/* ", 12 ms ago" and the like, of a leader. */
const char *tool_age(int64_t leader_age_ms, char buffer[64]);

/* One line of JSON; takes the object over. */
void tool_put_json(struct json_object *object);
/* NULL or "" becomes null. */
struct json_object *tool_json_text(const char *text);
/* 0 becomes null: there is no token 0, nor a session, nor a time to live. */
struct json_object *tool_json_token(uint64_t token);
/* -1 becomes null. */
struct json_object *tool_json_age(int64_t age_ms);
