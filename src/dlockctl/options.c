/* options.c - the command line: options, the command, its options, its operands. */
#include <stdlib.h>
#include <string.h>

#include "tool.h"

#define TIMEOUT_MS_MAX UINT64_C(3600000)

enum { OPTION_CLIENTS = 256, OPTION_SECONDS, OPTION_PREFIX, OPTION_SPREAD, OPTION_FORCE, OPTION_CONSISTENT, OPTION_TOKEN, OPTION_INTO, OPTION_MINE, OPTION_MAX_AGE,
       OPTION_NOTE, OPTION_TTL, OPTION_ONCE_PER, OPTION_TRY, OPTION_KILL_AFTER, OPTION_ON_LOST };

/* "+": options end at the first operand; ":": problems are told here. */
static const char short_options[] = "+:s:c:t:jhVE:";
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
        { "once-per", required_argument, NULL, OPTION_ONCE_PER },
        { "token", required_argument, NULL, OPTION_TOKEN },
        { "into", required_argument, NULL, OPTION_INTO },
        { "try", no_argument, NULL, OPTION_TRY },
        { "kill-after", required_argument, NULL, OPTION_KILL_AFTER },
        { "on-lost", required_argument, NULL, OPTION_ON_LOST },
        { "conflict-exit-code", required_argument, NULL, 'E' },
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
                (void)printf("  %-15s%-10s%s\n", command->name, command->operands, command->summary);
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
                return -1;                   /* --try is what it does anyway */
        }
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
                        return misplaced_option(name, "check and show");
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
        case OPTION_NOTE:
                if (!tool->command || !tool->command->takes)
                        return misplaced_option(name, "preempt and run");
                tool->note = optarg;
                return -1;
        case OPTION_TTL:
                if (!tool->command || !tool->command->lives)
                        return misplaced_option(name, "preempt, renew and run");
                if (!parse_time(optarg, &ms) || ms < DLOCK_TTL_MIN || ms > DLOCK_TTL_MAX)
                        return tool_fail(EXIT_USAGE, "--ttl %s: a time from 1s to 24h would be right", optarg);
                tool->ttl_ms = (uint32_t)ms;
                return -1;
        case OPTION_ONCE_PER:
                if (!tool->command || !tool->command->takes)
                        return misplaced_option(name, "preempt and run");
                if (!parse_time(optarg, &ms) || ms < DLOCK_PERIOD_MIN || ms > DLOCK_PERIOD_MAX)
                        return tool_fail(EXIT_USAGE, "--once-per %s: a time from 1s to 366d, like 50min or 23h, would be right", optarg);
                tool->period_ms = ms;
                return -1;
        case OPTION_TOKEN:
                if (!tool->command || !tool->command->names_a_hold)
                        return misplaced_option(name, "release and fence");
                if (!tool_parse_token(optarg, &tool->token))
                        return tool_fail(EXIT_USAGE, "--token %s: a number from 1 to 2^53 - 1, as preempt or check tells it, would be right", optarg);
                return -1;
        case OPTION_INTO:
                if (!tool->command || !tool->command->fences)
                        return misplaced_option(name, "fence");
                tool->into = optarg;
                return -1;
        case OPTION_TRY:
        case OPTION_KILL_AFTER:
        case OPTION_ON_LOST:
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

static int read_options(struct tool *tool, const struct command *commands, int argc, char **argv)
{
        int option, which = 0, r;

        opterr = 0;
        optind = 0;                          /* anew, also what the last argv left behind */
        while ((option = getopt_long(argc, argv, short_options, long_options, &which)) >= 0) {
                r = take_option(tool, commands, option, long_options[which].name, argv);
                if (r >= 0)
                        return r;
        }
        return -1;
}

static int check_operands(const struct command *command, int count)
{
        static const char *const numbers[] = { "no operand", "one operand", "at most one operand", "a file, and maybe a command", "a name and a command" };

        if (count >= command->operands_min && count <= command->operands_max)
                return -1;
        return tool_fail(EXIT_USAGE, "%s takes %s: dlockctl %s [OPTIONS]%s%s would be right", command->name,
                         numbers[command->operands_max == 0 ? 0 : command->runs ? 4 : command->operands_max > 1 ? 3 : command->operands_min == 1 ? 1 : 2], command->name, *command->operands ? " " : "",
                         command->operands);
}

static int read_all(struct tool *tool, const struct command *commands, int argc, char **argv, char ***ret_operands)
{
        static char status[] = "status";
        static char *without_command[] = { status, NULL };
        const char *name;
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
        if (r >= 0)
                return r;
        argc -= optind;
        argv += optind;
        if (tool->command->runs && argc > 0) {
                /* No command begins with '-': what does so after NAME is an option. */
                lock = argv[0];
                r = read_options(tool, commands, argc, argv);
                if (r >= 0)
                        return r;
                argc -= optind - 1;
                argv += optind - 1;
                argv[0] = lock;
        }
        *ret_operands = argv;
        return check_operands(tool->command, argc);
}

int options_read(struct tool *tool, const struct command *commands, int argc, char **argv, char ***ret_operands)
{
        int code = read_all(tool, commands, argc, argv, ret_operands);

        /* Not a status that a command of the user's may well have. */
        return code == EXIT_USAGE && tool->command && tool->command->runs ? EXIT_USAGE_BESIDE : code;
}
