/* dlockd - one node of a dlock cluster. See dlockd(8). */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/diag.h"
#include "dlockd/daemon.h"
#include "dlockd/failure.h"
#include "dlockd/notify.h"
#include "dlockd/rescue.h"

#define EXIT_USAGE 2
/* As LimitNOFILE= in the units. */
#define DESCRIPTORS 65536

static const char usage[] =
        "Usage: dlockd [OPTION...] leader\n"
        "       dlockd [OPTION...] follower N\n"
        "Runs one node of a dlock cluster in the foreground.\n"
        "\n"
        "  -c, --config-dir=DIR  read leader.ini, or follower.ini and follower-N.ini, from DIR (default /etc/dlock)\n"
        "      --check-config    check the settings, print those in force, and exit\n"
        "  -q, --quiet           with --check-config: print what is wrong, and nothing else\n"
        "      --restore=FILE    make a new cluster of a backup, in an empty state directory, and exit\n"
        "      --recover         make a new cluster of this node's database, when the others are gone for good, and exit\n"
        "      --tokens-above=N  with --restore: a cluster made of the same backup before gave tokens up to N\n"
        "      --grants-after=S  with --restore or --recover: grant nothing for so many seconds; else for the longest time to\n"
        "                        live of a lease so far, and its lock-delay: who counts on one has stopped then\n"
        "      --accept-loss     with --restore or --recover: do it; without this they tell what would be done and lost\n"
        "  -h, --help            show this and exit\n"
        "      --version         show the version and exit\n"
        "\n"
        "Signals: TERM and INT stop the node cleanly, HUP reads the settings again.\n"
        "Exit status: 0 stopped, or done; 1 failed; 2 usage or settings, or not without --accept-loss.\n";

struct arguments {
        const char *directory;
        bool directory_given;
        enum config_role role;
        unsigned instance;
        bool check_only, quiet;
        const char *restore;                 /* the backup */
        bool recover, accept_loss;
        uint64_t tokens_above;
        bool grants_given;
        uint64_t grants_after;               /* seconds */
};

static int misused(const char *what)
{
        (void)fprintf(stderr, "dlockd: %s; see \"dlockd --help\"\n", what);
        return EXIT_USAGE;
}

/* -1: go on; else the exit status. */
static int read_operands(int argc, char **argv, struct arguments *arguments)
{
        uint64_t instance;

        if (argc == 1 && strcmp(argv[0], "leader") == 0)
                return -1;
        if (argc > 1 && argv[argc - 1][0] == '-')
                return misused("options come before the node: [OPTION...] leader, or [OPTION...] follower N");
        if (argc != 2 || strcmp(argv[0], "follower") != 0)
                return misused("say which node to run: leader, or follower N");
        /* A number has one spelling: follower 01 would be follower-1 with another unit's directory and sockets. */
        if (!parse_u64(argv[1], &instance) || instance < 1 || instance > CONFIG_INSTANCE_MAX || argv[1][0] == '0')
                return misused("the number of a follower is 1 to 250, without zeros before it");
        arguments->role = CONFIG_FOLLOWER;
        arguments->instance = (unsigned)instance;
        return -1;
}

static int read_arguments(int argc, char **argv, struct arguments *arguments)
{
        enum { CHECK_CONFIG = 256, RESTORE, RECOVER, TOKENS_ABOVE, GRANTS_AFTER, ACCEPT_LOSS, VERSION };
        static const struct option options[] = {
                { "config-dir", required_argument, NULL, 'c' },
                { "check-config", no_argument, NULL, CHECK_CONFIG },
                { "quiet", no_argument, NULL, 'q' },
                { "restore", required_argument, NULL, RESTORE },
                { "recover", no_argument, NULL, RECOVER },
                { "tokens-above", required_argument, NULL, TOKENS_ABOVE },
                { "grants-after", required_argument, NULL, GRANTS_AFTER },
                { "accept-loss", no_argument, NULL, ACCEPT_LOSS },
                { "help", no_argument, NULL, 'h' },
                { "version", no_argument, NULL, VERSION },
                { 0 },
        };
        int option;

        while ((option = getopt_long(argc, argv, "+c:qh", options, NULL)) >= 0)
                switch (option) {
                case 'c':
                        arguments->directory = optarg;
                        arguments->directory_given = true;
                        break;
                case CHECK_CONFIG:
                        arguments->check_only = true;
                        break;
                case 'q':
                        arguments->quiet = true;
                        break;
                case RESTORE:
                        arguments->restore = optarg;
                        break;
                case RECOVER:
                        arguments->recover = true;
                        break;
                case TOKENS_ABOVE:
                        if (!parse_u64(optarg, &arguments->tokens_above))
                                return misused("--tokens-above wants a token, a number");
                        break;
                case GRANTS_AFTER:
                        if (!parse_u64(optarg, &arguments->grants_after) || arguments->grants_after > LIMIT_TTL_MS / 1000)
                                return misused("--grants-after wants a number of seconds, up to 86400");
                        arguments->grants_given = true;
                        break;
                case ACCEPT_LOSS:
                        arguments->accept_loss = true;
                        break;
                case 'h':
                        (void)fputs(usage, stdout);
                        return EXIT_SUCCESS;
                case VERSION:
                        (void)puts("dlockd " DLOCK_VERSION);
                        return EXIT_SUCCESS;
                default:
                        return EXIT_USAGE;   /* getopt said what */
                }
        if (arguments->check_only + arguments->recover + (arguments->restore != NULL) > 1)
                return misused("--check-config, --restore and --recover are one at a time");
        if (arguments->quiet && !arguments->check_only)
                return misused("--quiet is for --check-config");
        if (arguments->tokens_above != 0 && !arguments->restore)
                return misused("--tokens-above is for --restore");
        if (arguments->grants_given && !arguments->recover && !arguments->restore)
                return misused("--grants-after is for --restore and --recover");
        if (arguments->accept_loss && !arguments->recover && !arguments->restore)
                return misused("--accept-loss is for --restore and --recover");
        return read_operands(argc - optind, argv + optind, arguments);
}

/* --- sockets: from systemd by name, else bound here (DESIGN D12) --- */

/* As the end of a sentence: what is wrong, and what would be right. */
static const char *explain(int r)
{
        switch (-r) {
        case ENOENT:
                return "its directory does not exist: make it, or name another path";
        case EADDRINUSE:
                return "something listens there already, perhaps this very node: stop it, or name another address";
        case EADDRNOTAVAIL:
                return "this host has no such address: name one of its own";
        case EACCES:
        case EROFS:
                return getenv("NOTIFY_SOCKET") ? "this user may not make it, and the socket unit has not passed it: \"systemctl --failed\" names a socket unit that could not listen"
                                               : "this user may not make it: name another path";
        default:
                return strerror(-r);
        }
}

static int bind_one(const struct address *address, const char *key, struct listen_sockets *sockets)
{
        char text[LIMIT_ADDRESS_BYTES + 16], line[LIMIT_ADDRESS_BYTES + 256];
        int r = listen_bind(address, sockets);

        if (r >= 0)
                return 0;
        (void)snprintf(line, sizeof(line), "cannot listen on %s ([listen] %s): %s", address_format(address, text), key, explain(r));
        failure_say(line);
        return r;
}

static void compare(const struct listen_sockets *adopted, const struct address *address, const char *key)
{
        char text[LIMIT_ADDRESS_BYTES + 16];

        if (!listen_has(adopted, address))
                diag_warning("[listen] %s names %s, but the socket unit does not: \"systemctl daemon-reload\", stop this service and its socket units, start it again",
                             key, address_format(address, text));
}

/* A node without clients listens to none, whatever the service manager has opened for it; who connects there waits in vain. */
static void drop_unwanted(const struct config *config, struct listen_sockets *clients)
{
        if (config->clients.count > 0 || clients->count == 0)
                return;
        diag_warning("%s: the sockets for clients that were passed are not served: \"systemctl daemon-reload\", then stop the socket unit",
                     config->witness ? "[node] witness = yes" : "[listen] clients = none");
        listen_close(clients);
}

static int open_sockets(const struct config *config, struct listen_sockets *clients, struct listen_sockets *peers)
{
        char line[256];
        int r = listen_adopt("clients", clients);

        if (r >= 0)
                r = listen_adopt("peers", peers);
        if (r < 0) {
                (void)snprintf(line, sizeof(line), "a descriptor passed by the service manager is not a listening socket: %s", strerror(-r));
                failure_say(line);
                return r;
        }
        drop_unwanted(config, clients);
        for (size_t i = 0; i < config->clients.count; i++)
                if (clients->count > 0 && i == 0) {
                        for (size_t j = 0; j < config->clients.count; j++)
                                compare(clients, &config->clients.items[j], "clients");
                        break;
                } else {
                        r = bind_one(&config->clients.items[i], "clients", clients);
                        if (r < 0)
                                return r;
                }
        if (peers->count > 0)
                compare(peers, &config->peers, "peers");
        else
                r = bind_one(&config->peers, "peers", peers);
        return r;
}

/* A shell gives few descriptors and allows many; every client needs one. */
static void take_all_descriptors(void)
{
        struct rlimit files;

        if (getrlimit(RLIMIT_NOFILE, &files) < 0 || files.rlim_cur >= DESCRIPTORS)
                return;
        files.rlim_cur = MIN(files.rlim_max, (rlim_t)DESCRIPTORS);
        (void)setrlimit(RLIMIT_NOFILE, &files);
}

/* --- settings --- */

static int load(const struct arguments *arguments, struct config *ret_config, char error[512])
{
        if (access(arguments->directory, R_OK | X_OK) < 0 && (errno != ENOENT || arguments->directory_given)) {
                (void)snprintf(error, 512, "%.300s cannot be read: %s: a directory with the ini files%s would be right", arguments->directory, strerror(errno),
                               errno == EACCES ? " that the user of this node may read" : "");
                return -EACCES;
        }
        return config_load(arguments->directory, arguments->role, arguments->instance, ret_config, error);
}

/* The exit status. */
static int check(const struct arguments *arguments)
{
        struct config config;
        char error[512];

        if (load(arguments, &config, error) < 0) {
                diag_error("%s", error);
                return EXIT_USAGE;
        }
        if (!arguments->quiet)
                config_print(&config, stdout);
        return fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* The exit status. */
static int rescue(const struct arguments *arguments)
{
        struct config config;
        char error[512];

        if (load(arguments, &config, error) < 0) {
                diag_error("%s", error);
                return EXIT_USAGE;
        }
        return rescue_run(&(struct rescue){ .config = &config, .backup = arguments->restore, .tokens_above = arguments->tokens_above,
                                            .quiet_ms = arguments->grants_given ? (int64_t)arguments->grants_after * 1000 : -1,
                                            .accept_loss = arguments->accept_loss });
}

/* -1: go on; else the exit status. */
static int load_or_wait(const struct arguments *arguments, struct config *ret_config)
{
        enum failure_next next = failure_pause();
        char error[512];

        while (next == FAILURE_TRY_AGAIN) {
                if (load(arguments, ret_config, error) >= 0)
                        return -1;
                next = failure_try_again(error);
        }
        return next == FAILURE_STOPPED ? EXIT_SUCCESS : EXIT_USAGE;
}

int main(int argc, char **argv)
{
        struct arguments arguments = { .directory = "/etc/dlock", .role = CONFIG_LEADER };
        struct listen_sockets clients = { 0 }, peers = { 0 };
        struct config config;
        int r = read_arguments(argc, argv, &arguments);

        if (r >= 0)
                return r;
        if (arguments.check_only)
                return check(&arguments);
        notify_use_journal();
        (void)signal(SIGPIPE, SIG_IGN);
        (void)signal(SIGUSR2, SIG_IGN);              /* until there is a node to tell (on_host_stops) */
        (void)signal(SIGXFSZ, SIG_IGN);      /* a file that may not grow is a failed write like any other */
        if (arguments.restore || arguments.recover)
                return rescue(&arguments);
        r = load_or_wait(&arguments, &config);
        if (r >= 0)
                return r;
        diag_set_level((enum diag_level)config.log_level);
        take_all_descriptors();
        r = open_sockets(&config, &clients, &peers) < 0 ? EXIT_FAILURE : daemon_run(&config, arguments.directory, &clients, &peers);
        listen_close(&clients);
        listen_close(&peers);
        return r;
}
