/* options.c - the command line: options, the command, its options, its operands. */
#include <stdlib.h>
#include <string.h>

#include "tool.h"

#define TIMEOUT_MS_MAX UINT64_C(3600000)
#define FOR_MS_MAX (366 * UINT64_C(86400000))

enum { OPTION_CLIENTS = 256, OPTION_SECONDS, OPTION_PREFIX, OPTION_SPREAD, OPTION_FORCE, OPTION_CONSISTENT, OPTION_TOKEN, OPTION_INTO, OPTION_MINE, OPTION_MAX_AGE,
       OPTION_NOTE, OPTION_TTL, OPTION_ONCE_PER, OPTION_WAIT, OPTION_REASON, OPTION_NOW, OPTION_KILL_AFTER, OPTION_ON_LOST, OPTION_HOLD_AT_LEAST,
       OPTION_AFTER, OPTION_COUNT, OPTION_FOR, OPTION_ONCE, OPTION_UNIT, OPTION_FINISH, OPTION_LOCK_DELAY, OPTION_SHARED, OPTION_SLOTS, OPTION_ALSO };

/* "+": options end at the first operand; ":": problems are told here. */
static const char short_options[] = "+:s:c:t:jhVE:nw:";
static const struct option long_options[] = {
        { "server", required_argument, NULL, 's' },
        { "client", required_argument, NULL, 'c' },
        { "timeout", required_argument, NULL, 't' },
        { "json", no_argument, NULL, 'j' },
        { "help", no_argument, NULL, 'h' },
        { "version", no_argument, NULL, 'V' },
        /* What follows is for some commands. */
        { "force", no_argument, NULL, OPTION_FORCE },
        { "consistent", no_argument, NULL, OPTION_CONSISTENT },
        { "mine", no_argument, NULL, OPTION_MINE },
        { "max-age", required_argument, NULL, OPTION_MAX_AGE },
        { "note", required_argument, NULL, OPTION_NOTE },
        { "ttl", required_argument, NULL, OPTION_TTL },
        { "lock-delay", required_argument, NULL, OPTION_LOCK_DELAY },
        { "once-per", required_argument, NULL, OPTION_ONCE_PER },
        { "token", required_argument, NULL, OPTION_TOKEN },
        { "into", required_argument, NULL, OPTION_INTO },
        { "reason", required_argument, NULL, OPTION_REASON },
        { "now", no_argument, NULL, OPTION_NOW },
        { "try", no_argument, NULL, 'n' },
        { "wait", optional_argument, NULL, OPTION_WAIT },
        { "shared", no_argument, NULL, OPTION_SHARED },
        { "slots", required_argument, NULL, OPTION_SLOTS },
        { "also", required_argument, NULL, OPTION_ALSO },
        { "kill-after", required_argument, NULL, OPTION_KILL_AFTER },
        { "on-lost", required_argument, NULL, OPTION_ON_LOST },
        { "hold-at-least", required_argument, NULL, OPTION_HOLD_AT_LEAST },
        { "unit", required_argument, NULL, OPTION_UNIT },
        { "finish", no_argument, NULL, OPTION_FINISH },
        { "conflict-exit-code", required_argument, NULL, 'E' },
        { "after", required_argument, NULL, OPTION_AFTER },
        { "count", required_argument, NULL, OPTION_COUNT },
        { "for", required_argument, NULL, OPTION_FOR },
        { "once", no_argument, NULL, OPTION_ONCE },
        { "clients", required_argument, NULL, OPTION_CLIENTS },
        { "seconds", required_argument, NULL, OPTION_SECONDS },
        { "prefix", required_argument, NULL, OPTION_PREFIX },
        { "spread", no_argument, NULL, OPTION_SPREAD },
        { 0 },
};

static const char options_help[] =
        "Options, before or after the command and before its operands:\n"
        "  -s, --server ADDR[,ADDR...]  servers to try in turn: /path/of/a/socket, host:port, or local for the\n"
        "                               sockets in /run/dlock; else $DLOCK_SERVER, /etc/dlock/client.ini, local\n"
        "  -c, --client ID              who asks: 1 to 64 printable ASCII characters without spaces; empty: the leader\n"
        "                               assigns an id; else $DLOCK_CLIENT, or an id kept for this user on this machine\n"
        "  -t, --timeout TIME           patience: 500ms, 10s, 2min (10s)\n"
        "  -j, --json                   answers for programs\n"
        "  -h, --help                   of dlockctl, or of a command\n"
        "  -V, --version\n";

static const char exit_help[] =
        "Exit status: 0 yes; 1 no - held by another, not the owner, ended, for check and show: free; 2 wrong usage, or refused;\n"
        "3 outcome unknown: it may have happened or not; 4 no server could be reached, nothing has happened.\n";

static void print_help(const struct command *commands)
{
        (void)printf("dlockctl [OPTIONS] COMMAND [OPTIONS] [OPERAND]\n\nAsks a dlock cluster for locks. Without a command: status.\n\n");
        for (const struct command *command = commands; command->name; command++)
                (void)printf("  %-15s%-8s  %s\n", command->name, command->operands, command->summary);
        (void)printf("\n%s\n%s", options_help, exit_help);
}

static void print_command_help(const struct command *command)
{
        (void)printf("dlockctl %s [OPTIONS]%s%s\n\n%s.\n%s\n%s\n%s", command->name, *command->operands ? " " : "", command->operands, command->summary,
                     command->details, options_help, command->runs ? "" : exit_help);
}

/* Digits and a unit; bare digits are seconds. */
static bool parse_time(const char *text, uint64_t *ret_ms)
{
        static const struct {
                const char *name;
                uint64_t ms;
        } units[] = { { "ms", 1 }, { "s", 1000 }, { "", 1000 }, { "min", 60000 }, { "h", 3600000 }, { "d", 86400000 } };
        size_t digits = strspn(text, "0123456789");
        uint64_t number;

        if (digits == 0 || digits > 9)
                return false;
        number = strtoull(text, NULL, 10);
        for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++)
                if (strcmp(text + digits, units[i].name) == 0) {
                        *ret_ms = number * units[i].ms;
                        return true;
                }
        return false;
}

/* -1, or what to exit with. */
static int take_bench_option(struct tool *tool, int option)
{
        uint64_t ms;

        switch (option) {
        case OPTION_CLIENTS:
                tool->clients = optarg;
                return -1;
        case OPTION_PREFIX:
                tool->prefix = optarg;
                return -1;
        case OPTION_SPREAD:
                tool->spread = true;
                return -1;
        default:
                if (!parse_time(optarg, &ms) || ms < 1000 || ms > TIMEOUT_MS_MAX)
                        return tool_fail(EXIT_USAGE, "--seconds %s: a time from 1s to 1h would be right", optarg);
                tool->seconds = ms / 1000;
                return -1;
        }
}

static int unknown_option(const struct tool *tool, char **argv)
{
        const char *of = tool->command ? tool->command->name : "", *space = tool->command ? " " : "";
        char letter[3] = { '-', (char)optopt, 0 };

        /* A cluster of letters names no long option. */
        if (optopt > 0 && optopt < 256 && strncmp(argv[optind - 1], "--", 2) != 0)
                return tool_fail(EXIT_USAGE, "unknown option %s; dlockctl%s%s --help lists them", letter, space, of);
        return tool_fail(EXIT_USAGE, "option %s is unknown, ambiguous or takes no value; dlockctl%s%s --help lists them", argv[optind - 1], space, of);
}

/* -1, or what to exit with. */
static int take_run_option(struct tool *tool, int option)
{
        uint64_t ms;
        char *end;

        switch (option) {
        case OPTION_KILL_AFTER:
                if (!parse_time(optarg, &ms) || ms > DLOCK_TTL_MAX)
                        return tool_fail(EXIT_USAGE, "--kill-after %s: a time like 500ms, 5s or 1min would be right", optarg);
                tool->kill_after_ms = (int64_t)ms;
                return -1;
        case OPTION_HOLD_AT_LEAST:
                if (!parse_time(optarg, &ms) || ms > DLOCK_TTL_MAX)
                        return tool_fail(EXIT_USAGE, "--hold-at-least %s: a time like 30s or 5min, up to 24h, would be right", optarg);
                tool->hold_at_least_ms = ms;
                return -1;
        case OPTION_ON_LOST:
                if (!*optarg)
                        return tool_fail(EXIT_USAGE, "--on-lost without a value: term, kill, or a command of the shell would be right");
                tool->on_lost = optarg;
                return -1;
        case 'E':
                tool->conflict_code = (int)strtol(optarg, &end, 10);
                if (strspn(optarg, "0123456789") == 0 || *end || strlen(optarg) > 3 || tool->conflict_code > 255)
                        return tool_fail(EXIT_USAGE, "--conflict-exit-code %s: a number from 0 to 255 would be right", optarg);
                return -1;
        default:
                return -1;
        }
}

/* -1, or what to exit with. */
static int take_hold_option(struct tool *tool, int option)
{
        if (option == OPTION_FINISH)
                tool->finish = true;
        else if (strlen(optarg) < 9 || strcmp(optarg + strlen(optarg) - 8, ".service") != 0 || strchr(optarg, '/'))
                return tool_fail(EXIT_USAGE, "--unit %s: the name of a service of systemd, like app.service, would be right", optarg);
        else
                tool->unit = optarg;
        return -1;
}

/* -1, or what to exit with. */
static int take_follow_option(struct tool *tool, int option)
{
        uint64_t ms;

        switch (option) {
        case OPTION_AFTER:
                if (!tool_parse_token(optarg, &tool->after_index))
                        return tool_fail(EXIT_USAGE, "--after %s: a number from 1 to 2^53 - 1, as watch tells it, would be right", optarg);
                return -1;
        case OPTION_COUNT:
                if (!tool_parse_token(optarg, &tool->count))
                        return tool_fail(EXIT_USAGE, "--count %s: a number from 1 on would be right", optarg);
                return -1;
        default:
                if (!parse_time(optarg, &ms) || ms > FOR_MS_MAX)
                        return tool_fail(EXIT_USAGE, "--for %s: a time like 500ms, 10s or 1h, up to 366d, would be right", optarg);
                tool->for_ms = (int64_t)ms;
                return -1;
        }
}

/* -1, or what to exit with. The last of them counts. */
static int take_wait_option(struct tool *tool, int option)
{
        tool->tries = option == 'n';
        tool->wait_ms = tool->tries ? 0 : DLOCK_WAIT_FOREVER;
        if (option == 'n' || !optarg)
                return -1;
        if (!parse_time(optarg, &tool->wait_ms) || tool->wait_ms == 0)
                return tool_fail(EXIT_USAGE, "--wait %s: a time like 500ms, 30s or 2h would be right, or none for as long as it takes: --wait, or --wait=TIME", optarg);
        return -1;
}

/* -1, or what to exit with. Of --slots the last counts. */
static int take_together_option(struct tool *tool, int option)
{
        uint64_t slots = DLOCK_SHARED;

        if (option == OPTION_SLOTS && (!tool_parse_token(optarg, &slots) || slots > DLOCK_SLOTS_MAX))
                return tool_fail(EXIT_USAGE, "--slots %s: a number from 1 to %d would be right", optarg, DLOCK_SLOTS_MAX);
        if (tool->slots != 0 && (tool->slots == DLOCK_SHARED) != (option == OPTION_SHARED))
                return tool_fail(EXIT_USAGE, "--shared and --slots: one of both would be right");
        tool->slots = (uint32_t)slots;
        return -1;
}

static int misplaced_option(const char *name, const char *command)
{
        return tool_fail(EXIT_USAGE, "option --%s is for dlockctl %s, after that word", name, command);
}

static int lacks_value(const struct tool *tool, char **argv)
{
        const char *of = tool->command ? tool->command->name : "", *space = tool->command ? " " : "";

        return tool_fail(EXIT_USAGE, "option %s wants a value; dlockctl%s%s --help shows which", argv[optind - 1], space, of);
}

/* name: in full, of one of some commands. -1, or what to exit with. */
static int take_option(struct tool *tool, const struct command *commands, int option, const char *name, char **argv)
{
        uint64_t ms;

        switch (option) {
        case 's':
                if (!*optarg)
                        return tool_fail(EXIT_USAGE, "--server without an address: /path/of/a/socket, host:port or local would be right");
                tool->servers = optarg;
                return -1;
        case 'c':
                tool->client = optarg;
                return -1;
        case 't':
                if (!parse_time(optarg, &ms) || ms == 0 || ms > TIMEOUT_MS_MAX)
                        return tool_fail(EXIT_USAGE, "--timeout %s: a time like 500ms, 10s or 2min, up to 1h, would be right", optarg);
                tool->timeout_ms = (uint32_t)ms;
                return -1;
        case 'j':
                tool->json = true;
                return -1;
        case 'h':
                if (tool->command)
                        print_command_help(tool->command);
                else
                        print_help(commands);
                return EXIT_YES;
        case 'V':
                (void)printf("dlockctl %s\n", dlock_version());
                return EXIT_YES;
        case ':':
                return lacks_value(tool, argv);
        case '?':
                return unknown_option(tool, argv);
        case OPTION_FORCE:
                if (!tool->command || !tool->command->writes_file)
                        return misplaced_option(name, "backup");
                tool->force = true;
                return -1;
        case OPTION_CONSISTENT:
                if (!tool->command || !tool->command->looks)
                        return misplaced_option(name, "check, show and observe");
                tool->consistent = true;
                return -1;
        case OPTION_MINE:
                if (!tool->command || !tool->command->judges)
                        return misplaced_option(name, "check");
                tool->mine = true;
                return -1;
        case OPTION_MAX_AGE:
                if (!tool->command || !tool->command->judges)
                        return misplaced_option(name, "check");
                if (!parse_time(optarg, &ms) || ms > TIMEOUT_MS_MAX)
                        return tool_fail(EXIT_USAGE, "--max-age %s: a time like 500ms or 10s, up to 1h, would be right", optarg);
                tool->max_age_ms = (int64_t)ms;
                return -1;
        case OPTION_AFTER:
        case OPTION_COUNT:
        case OPTION_FOR:
                if (!tool->command || !tool->command->follows)
                        return misplaced_option(name, "watch and observe");
                return take_follow_option(tool, option);
        case OPTION_ONCE:
                if (!tool->command || !tool->command->observes)
                        return misplaced_option(name, "observe");
                tool->once = true;
                return -1;
        case OPTION_NOTE:
                if (tool->command && tool->command->observes) {
                        tool->note_only = true;
                        return -1;
                }
                if (!tool->command || !(tool->command->takes || tool->command->holds))
                        return misplaced_option(name, "preempt, run and hold");
                tool->note = optarg;
                return -1;
        case OPTION_TTL:
                if (!tool->command || !tool->command->lives)
                        return misplaced_option(name, "preempt, renew, run and hold");
                if (!parse_time(optarg, &ms) || ms < DLOCK_TTL_MIN || ms > DLOCK_TTL_MAX)
                        return tool_fail(EXIT_USAGE, "--ttl %s: a time from 1s to 24h would be right", optarg);
                tool->ttl_ms = (uint32_t)ms;
                return -1;
        case OPTION_LOCK_DELAY:
                if (!tool->command || !tool->command->lives || !(tool->command->takes || tool->command->holds))
                        return misplaced_option(name, "preempt, run and hold");
                if (!parse_time(optarg, &ms) || ms > DLOCK_LOCK_DELAY_MAX)
                        return tool_fail(EXIT_USAGE, "--lock-delay %s: a time up to 10min, like 2s, or 0 for none, would be right", optarg);
                tool->lock_delay_ms = (int64_t)ms;
                return -1;
        case OPTION_ONCE_PER:
                if (!tool->command || !tool->command->takes)
                        return misplaced_option(name, "preempt and run");
                if (!parse_time(optarg, &ms) || ms < DLOCK_PERIOD_MIN || ms > DLOCK_PERIOD_MAX)
                        return tool_fail(EXIT_USAGE, "--once-per %s: a time from 1s to 366d, like 50min or 23h, would be right", optarg);
                tool->period_ms = ms;
                return -1;
        case 'n':
        case 'w':
        case OPTION_WAIT:
                if (!tool->command || !tool->command->waits)
                        return misplaced_option(option == 'n' ? "try" : "wait", "preempt, run and hold");
                return take_wait_option(tool, option);
        case OPTION_SHARED:
        case OPTION_SLOTS:
                if (!tool->command || !tool->command->waits)
                        return misplaced_option(name, "preempt, run and hold");
                return take_together_option(tool, option);
        case OPTION_ALSO:
                if (!tool->command || !(tool->command->runs || tool->command->holds))
                        return misplaced_option(name, "run and hold");
                tool_add_lock(tool, optarg);
                return -1;
        case OPTION_TOKEN:
                if (!tool->command || !tool->command->names_a_hold)
                        return misplaced_option(name, "release, check, fence and break");
                if (!tool_parse_token(optarg, &tool->token))
                        return tool_fail(EXIT_USAGE, "--token %s: a number from 1 to 2^53 - 1, as preempt or check tells it, would be right", optarg);
                return -1;
        case OPTION_REASON:
        case OPTION_NOW:
                if (!tool->command || !tool->command->breaks)
                        return misplaced_option(name, "break");
                if (option == OPTION_REASON && !*optarg)
                        return tool_fail(EXIT_USAGE, "--reason without a value: why the lock is taken away would be right");
                if (option == OPTION_REASON)
                        tool->reason = optarg;
                else
                        tool->now = true;
                return -1;
        case OPTION_INTO:
                if (!tool->command || !tool->command->fences)
                        return misplaced_option(name, "fence");
                tool->into = optarg;
                return -1;
        case OPTION_KILL_AFTER:
                if (!tool->command || !(tool->command->runs || tool->command->holds))
                        return misplaced_option(name, "run and hold");
                return take_run_option(tool, option);
        case OPTION_UNIT:
        case OPTION_FINISH:
                if (!tool->command || !tool->command->holds)
                        return misplaced_option(name, "hold");
                return take_hold_option(tool, option);
        case OPTION_ON_LOST:
        case OPTION_HOLD_AT_LEAST:
        case 'E':
                if (!tool->command || !tool->command->runs)
                        return misplaced_option(option == 'E' ? "conflict-exit-code" : name, "run");
                return take_run_option(tool, option);
        default:
                if (tool->command && tool->command->bench)
                        return take_bench_option(tool, option);
                return misplaced_option(name, "bench");
        }
}

/* To observe a note is a question, and takes no value. */
static void options_of(const struct command *command, struct option options[sizeof(long_options) / sizeof(long_options[0])])
{
        (void)memcpy(options, long_options, sizeof(long_options));
        for (struct option *option = options; option->name; option++)
                if (option->val == OPTION_NOTE && command && command->observes)
                        option->has_arg = no_argument;
}

static int read_options(struct tool *tool, const struct command *commands, int argc, char **argv)
{
        struct option options[sizeof(long_options) / sizeof(long_options[0])];
        int option, which = 0, r;

        options_of(tool->command, options);
        opterr = 0;
        optind = 0;                          /* anew, also what the last argv left behind */
        while ((option = getopt_long(argc, argv, short_options, options, &which)) >= 0) {
                r = take_option(tool, commands, option, long_options[which].name, argv);
                if (r >= 0)
                        return r;
        }
        return -1;
}

/* A time behind --wait is meant for it, and must become no name: whoever wrote it would wait without an end, for the lock of that name too. */
static int check_wait(char **argv)
{
        uint64_t ms;

        if (optind < 2 || !argv[optind] || strcmp(argv[optind - 1], "--wait") != 0 || !parse_time(argv[optind], &ms))
                return -1;
        return tool_fail(EXIT_USAGE, "--wait %s: --wait=%s would be right, or --wait -- %s for what is called so", argv[optind], argv[optind], argv[optind]);
}

static int check_operands(const struct command *command, int count)
{
        static const char *const numbers[] = { "no operand", "one operand", "at most one operand", "a file, and maybe a command", "a name and a command", "one operand or more" };

        if (count >= command->operands_min && count <= command->operands_max)
                return -1;
        return tool_fail(EXIT_USAGE, "%s takes %s: dlockctl %s [OPTIONS]%s%s would be right", command->name,
                         numbers[command->operands_max == 0 ? 0 : command->runs ? 4 : command->names_several ? 5 : command->operands_max > 1 ? 3 : command->operands_min == 1 ? 1 : 2], command->name, *command->operands ? " " : "",
                         command->operands);
}

/* Options that come too late must not become names. */
static int check_names(const struct command *command, bool are_names, char **operands)
{
        for (char **operand = operands; command->names_several && !are_names && *operand; operand++)
                if (**operand == '-')
                        return tool_fail(EXIT_USAGE, "%s: options come before the names: dlockctl %s [OPTIONS] %s would be right, with -- before a name that begins with -", *operand,
                                         command->name, command->operands);
        return -1;
}

static int read_all(struct tool *tool, const struct command *commands, int argc, char **argv, char ***ret_operands)
{
        static char status[] = "status";
        static char *without_command[] = { status, NULL };
        const char *name;
        bool are_names;
        char *lock;
        int r;

        r = read_options(tool, commands, argc, argv);
        if (r >= 0)
                return r;
        argc -= optind;
        argv += optind;
        if (argc == 0) {
                argc = 1;
                argv = without_command;
        }
        name = argv[0];
        for (tool->command = commands; tool->command->name && strcmp(tool->command->name, name) != 0;)
                tool->command++;
        if (!tool->command->name)
                return tool_fail(EXIT_USAGE, "unknown command %s; dlockctl --help lists them", name);
        r = read_options(tool, commands, argc, argv);
        if (r < 0)
                r = check_wait(argv);
        if (r >= 0)
                return r;
        are_names = strcmp(argv[optind - 1], "--") == 0;
        argc -= optind;
        argv += optind;
        if (tool->command->runs && argc > 0) {
                /* No command begins with '-': what does so after NAME is an option. */
                lock = argv[0];
                r = read_options(tool, commands, argc, argv);
                if (r < 0)
                        r = check_wait(argv);
                if (r >= 0)
                        return r;
                argc -= optind - 1;
                argv += optind - 1;
                argv[0] = lock;
        }
        *ret_operands = argv;
        r = check_operands(tool->command, argc);
        return r >= 0 ? r : check_names(tool->command, are_names, argv);
}

/* What is wrong before the command is wrong for it, too: for the first of the words behind that is one. Whether they would have been that, had
 * the option been right, nobody knows. */
static const struct command *command_among(const struct command *commands, char **words)
{
        for (; *words; words++)
                for (const struct command *command = commands; command->name; command++)
                        if (strcmp(command->name, *words) == 0)
                                return command;
        return NULL;
}

int options_read(struct tool *tool, const struct command *commands, int argc, char **argv, char ***ret_operands)
{
        int code = read_all(tool, commands, argc, argv, ret_operands);
        const struct command *command = tool->command ? tool->command : command_among(commands, argv + (optind < argc ? optind : argc));

        /* Not a status that a command of the user's may well have. */
        return code == EXIT_USAGE && command && (command->runs || command->holds) ? EXIT_USAGE_BESIDE : code;
}
