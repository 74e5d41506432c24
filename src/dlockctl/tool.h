/* tool.h - what the commands of dlockctl share. Of dlock itself they know dlock.h only. */
#pragma once

#include <getopt.h>
#include <json-c/json.h>
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
        bool consistent;                     /* check, show */
        bool mine;                           /* check */
        const char *note;                    /* preempt, run; NULL: not given */
        uint32_t ttl_ms;                     /* preempt, renew, run; 0: not given */
        uint64_t period_ms;                  /* preempt, run: --once-per; 0: none */
        int64_t max_age_ms;                  /* check; -1: not given */
        uint64_t token;                      /* release, fence; 0: not given */
        const char *into;                    /* fence; NULL: not given */

        /* run */
        int64_t kill_after_ms;               /* -1: not given */
        const char *on_lost;                 /* NULL: not given */
        int conflict_code;                   /* -1: not given */

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
        bool lives;                          /* has --ttl */
        bool names_a_hold;                   /* has --token */
        bool fences;                         /* has --into */
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
int command_whoami(struct tool *tool, char **operands);
int command_forget_cluster(struct tool *tool, char **operands);
int command_members(struct tool *tool, char **operands);
int command_transfer(struct tool *tool, char **operands);
int command_remove(struct tool *tool, char **operands);
int command_backup(struct tool *tool, char **operands);
int command_fence(struct tool *tool, char **operands);
int command_run(struct tool *tool, char **operands);
int command_bench(struct tool *tool, char **operands);

extern const char backup_details[], bench_details[], fence_details[], remove_details[], run_details[], transfer_details[];

/* Reads argv into tool. A negative number: run the command with the operands at *ret_operands; else what to exit with. */
int options_read(struct tool *tool, const struct command *commands, int argc, char **argv, char ***ret_operands);

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

/* The line of check about a lock. */
void tool_print_check(const struct tool *tool, const struct dlock_answer *answer);
/* ", for 29 s if it is not renewed" and the like: until the deadline of an answer; "" when it has none. */
const char *tool_life(const struct dlock_answer *answer, char buffer[96]);
/* The session, time to live and deadline that an answer tells; null when it tells none. */
void tool_json_life(struct json_object *object, const struct tool *tool, const struct dlock_answer *answer);
/* What is known of who holds a lock. */
void tool_json_row(struct json_object *object, const struct dlock_row *row);

/* Opens, asks, shows. Returns what to exit with. */
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
