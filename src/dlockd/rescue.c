#include "dlockd/rescue.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/random.h"
#include "dlockd/daemon.h"
#include "store/backup.h"

#define EXIT_NOT_ACCEPTED 2

/* D11: no cluster makes so many entries between a backup and its end: at 100,000 each second it would take four months. */
#define RAISE (UINT64_C(1) << 40)

/* What is under way. */
struct work {
        const struct rescue *rescue;
        struct store *store;
        struct replica *replica;
        struct store_content content;        /* of the old cluster */
        unsigned level;                      /* what all its nodes knew */
        struct raft_base base;               /* of the new one, with what follows */
        struct store_identity identity;
        struct bytes configuration;
        uint64_t quiet_ms;                   /* for how long it grants nothing */
        char failure[512];                   /* why the store could not write */
        char kept[80];                       /* the copy of the old database, in the directory */
};

static int fail(const char *format, ...) _printf_(1, 2);
static int fail(const char *format, ...)
{
        va_list values;

        va_start(values, format);
        (void)fputs("dlockd: ", stderr);
        (void)vfprintf(stderr, format, values);
        (void)fputc('\n', stderr);
        va_end(values);
        return EXIT_FAILURE;
}

/* --- who does it --- */

/* Everything in the directory belongs to the node's user, and stays so: root takes that user's place. */
static int become_owner(const char *directory)
{
        struct stat status;

        if (stat(directory, &status) < 0)
                return errno == ENOENT ? fail("%s is not there: make it first: install -d -o dlock -g dlock -m 700 %s", directory, directory)
                                       : fail("%s: %s", directory, strerror(errno));
        (void)umask(0077);
        if (geteuid() != 0 || status.st_uid == 0)
                return EXIT_SUCCESS;
        if (setgroups(0, NULL) < 0 || setresgid(status.st_gid, status.st_gid, status.st_gid) < 0 ||
            setresuid(status.st_uid, status.st_uid, status.st_uid) < 0)
                return fail("cannot become the user that owns %s: %s", directory, strerror(errno));
        return EXIT_SUCCESS;
}

static const char *unit_of(const struct config *config, char buffer[64])
{
        if (config->role == CONFIG_LEADER)
                (void)strcpy(buffer, "dlock-leader");
        else
                (void)snprintf(buffer, 64, "dlock-follower@%u", config->instance);
        return buffer;
}

/* --- what there is --- */

static const char *load_begin(void *context, const struct store_content *content)
{
        const struct raft_start start = { .id = content->identity.node, .hard = content->hard, .base = content->base, .log_first = content->log_first };
        const struct replica_settings settings = { .raft = { .election_timeout_ms = 1000, .heartbeat_ms = 100, .max_voters = 1, .seed = 1, .level = RAFT_FEATURE_LEVEL },
                                                   .cluster = content->identity.cluster };
        struct work *work = context;
        const char *wrong = daemon_what_is_wrong(content, &work->level);

        if (!wrong)
                work->replica = replica_new(&settings, &start);
        return wrong;
}

static const char *load_record(void *context, const struct raft_record *record)
{
        return daemon_load_record(((struct work *)context)->replica, record);
}

static bool load_entry(void *context, const struct raft_entry *entry)
{
        struct work *work = context;

        return daemon_level_is_known(entry, &work->level) && daemon_load_entry(work->replica, entry);
}

static int load(struct work *work, const char *path)
{
        const struct store_loader loader = { .context = work, .begin = load_begin, .record = load_record, .entry = load_entry };
        char error[512];

        if (store_load(work->store, &loader, &work->content, error) < 0) {
                if (work->level <= RAFT_FEATURE_LEVEL)
                        return fail("%s is not usable: %s", path, error);
                (void)daemon_explain_level(path, work->level, error);
                return fail("%s", error);
        }
        if (!replica_load_finish(work->replica))
                return fail("%s: its state tables contradict each other", path);
        if (work->content.identity.node == 0 || work->content.log_last == 0)
                return fail("%s has nothing of a cluster yet", path);
        return EXIT_SUCCESS;
}

static int open_backup(struct work *work)
{
        const struct rescue *rescue = work->rescue;
        _cleanup_close_ int fd = open(rescue->backup, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);   /* as whoever calls */
        char error[512];
        int r;

        if (fd < 0)
                return fail("%s cannot be opened: %s", rescue->backup, strerror(errno));
        r = become_owner(rescue->config->directory);
        if (r != EXIT_SUCCESS)
                return r;
        r = store_restore_open(rescue->config->directory, rescue->config->name, fd, rescue->backup, daemon_describe, &work->store, error);
        return r < 0 ? fail("%s", error) : load(work, rescue->backup);
}

static int open_survivor(struct work *work)
{
        const struct config *config = work->rescue->config;
        _cleanup_free_ char *path = NULL;
        char error[512], unit[64];
        int r = become_owner(config->directory);

        if (r != EXIT_SUCCESS)
                return r;
        if (asprintf(&path, "%s/dlock.db", config->directory) < 0)
                return fail("out of memory");
        /* To open a store where there is none would make one. */
        if (access(path, F_OK) < 0)
                return fail("%s: %s: the database of a node that survived would be right", path, strerror(errno));
        r = store_open(config->directory, config->name, daemon_describe, &work->store, error);
        if (r == -EBUSY)
                return fail("%s (systemctl stop %s.service %s.socket, and its peer socket)", error, unit_of(config, unit), unit);
        return r < 0 ? fail("%s", error) : load(work, path);
}

/* --- what there will be --- */

static bool is_only_voter(const struct work *work)
{
        const struct raft_configuration *configuration = raft_configuration(replica_raft(work->replica));

        return raft_configuration_voters(configuration) == 1 && raft_configuration_votes(configuration, work->content.identity.node);
}

static void make_configuration(struct work *work)
{
        const struct config *config = work->rescue->config;
        struct raft_configuration *configuration = raft_configuration_copy(NULL, 1);

        configuration->count = 1;
        configuration->level = raft_configuration(replica_raft(work->replica))->level;
        configuration->members[0] = (struct raft_member){
                .id = 1, .incarnation = work->identity.incarnation, .standing = RAFT_VOTER, .preferred = config->role == CONFIG_LEADER };
        memcpy(configuration->members[0].name, config->name, sizeof(configuration->members[0].name));
        raft_configuration_put(&work->configuration, configuration);
        free(configuration);
}

/* The state is that of the whole log; index and configuration are those of another cluster. */
static int prepare(struct work *work)
{
        uint64_t last = MAX(work->content.log_last, work->rescue->tokens_above);

        if (raft_configuration(replica_raft(work->replica))->level > RAFT_FEATURE_LEVEL)
                return fail("its cluster was at feature level %u, this dlockd knows levels up to %d: install the newer one",
                            raft_configuration(replica_raft(work->replica))->level, RAFT_FEATURE_LEVEL);
        if (last > LIMIT_TOKEN - 2 * RAISE)
                return fail("tokens of up to %" PRIu64 " were given: new ones above it by 2^40 would not leave room below 2^53", last);
        work->quiet_ms = replica_apply_log(work->replica, work->rescue->quiet_ms);
        work->base = *replica_effects(work->replica)->base;
        work->identity = (struct store_identity){ .cluster = id128_random(), .incarnation = id128_random(), .node = 1 };
        memcpy(work->identity.name, work->rescue->config->name, sizeof(work->identity.name));
        make_configuration(work);
        work->base.index = last + RAISE;
        work->base.configuration_index = work->base.index;
        work->base.configuration = work->configuration.data;
        work->base.configuration_size = work->configuration.size;
        return EXIT_SUCCESS;
}

static void tell_what(const struct work *work)
{
        const struct config *config = work->rescue->config;
        char cluster[ID128_TEXT_BYTES];

        (void)printf("From:     %s%s, node '%s' of cluster %s\n", work->rescue->backup ? work->rescue->backup : config->directory,
                     work->rescue->backup ? "" : "/dlock.db", work->content.identity.name, id128_format(work->content.identity.cluster, cluster));
        (void)printf("Holds:    all up to entry %" PRIu64 " of term %" PRIu64 ": %zu locks that are held, %zu clients\n", work->content.log_last,
                     work->base.term, lock_table_lock_count(replica_table(work->replica)), lock_table_client_count(replica_table(work->replica)));
        (void)printf("Lost:     every grant and release that was acknowledged after that entry; and a request that was answered\n"
                     "          \"unknown\" may turn out to have happened. Whoever was granted a lock after it still believes to own it,\n"
                     "          and it may be granted to another: stop or fence such work first.\n");
        (void)printf("Makes:    a new cluster in %s with node '%s' alone. Its tokens begin above %" PRIu64 ".\n", config->directory, config->name,
                     work->base.index);
        (void)printf("Grants:   nothing for %" PRIu64 " s after its start, %s\n", (work->quiet_ms + 999) / 1000,
                     work->rescue->quiet_ms >= 0 ? "as --grants-after said." : "the longest time to live of a lease so far, with its lock-delay: who had one has stopped by then.");
        if (work->rescue->backup)
                (void)printf("          If a cluster was made of this backup before: with --tokens-above=N, N the highest token that one gave.\n");
}

static int refuse_to_go_on(const struct work *work)
{
        tell_what(work);
        if (!work->rescue->backup)
                (void)printf("Only if a majority of the voters is gone for good: one that comes back would go on with the old cluster. Of several\n"
                             "survivors take the one with the highest term and then the highest entry.\n");
        (void)fflush(stdout);
        (void)fail("nothing was done: --accept-loss does it, and accepts that what was acknowledged after that entry is lost");
        return EXIT_NOT_ACCEPTED;
}

/* --- doing it --- */

static void keep_failure(void *context, const struct store_event *event)
{
        struct work *work = context;

        if (event->kind == STORE_FAILED)
                (void)snprintf(work->failure, sizeof(work->failure), "%s", event->text);
}

/* One transaction: a crash leaves the old cluster's state or the new one's. */
static int write_anew(struct work *work)
{
        const struct replica_effects *effects = replica_effects(work->replica);
        const struct directory *directory = replica_directory(work->replica);
        struct raft_record *records = alloc_zeroed(effects->record_count + LIMIT_MEMBERS, sizeof(*records));
        const struct raft_hard_state hard = { .term = MAX(work->content.hard.term, work->base.term) };
        char (*keys)[24] = alloc_zeroed(LIMIT_MEMBERS, sizeof(*keys));
        struct store_batch batch = { .identity = &work->identity, .hard = &hard, .clear_log = true, .base = &work->base, .records = records };
        int r;

        for (size_t i = 0; i < effects->record_count; i++)
                records[batch.record_count++] = effects->records[i];
        /* The old members are reached no more. */
        for (size_t i = 0; i < directory->count; i++) {
                (void)snprintf(keys[i], sizeof(keys[i]), "%" PRIu64, directory->items[i].change.node);
                records[batch.record_count++] = (struct raft_record){ .table = RAFT_TABLE_ADDRESS, .key = keys[i] };
        }
        (void)store_write(work->store, &batch);
        r = store_flush(work->store);
        store_process(work->store, keep_failure, work);
        free(records);
        free(keys);
        return r < 0 ? fail("%s", *work->failure ? work->failure : strerror(-r)) : EXIT_SUCCESS;
}

/* Another in the same second is another one. */
static void name_copy(struct work *work)
{
        char path[sizeof(work->rescue->config->directory) + sizeof(work->kept)], when[32] = "";
        time_t now = time(NULL);
        struct tm parts;

        if (gmtime_r(&now, &parts))
                (void)strftime(when, sizeof(when), "-%Y%m%dT%H%M%SZ", &parts);
        for (unsigned number = 1; number < 1000; number++) {
                (void)snprintf(work->kept, sizeof(work->kept), number == 1 ? "dlock.db.before-recover%s" : "dlock.db.before-recover%s-%u", when, number);
                (void)snprintf(path, sizeof(path), "%s/%s", work->rescue->config->directory, work->kept);
                if (access(path, F_OK) < 0)
                        return;
        }
}

static int keep_copy(struct work *work)
{
        char error[512];

        name_copy(work);
        return store_keep_copy(work->store, work->kept, error) < 0 ? fail("nothing was changed: %s", error) : EXIT_SUCCESS;
}

static void tell_what_next(const struct work *work)
{
        const struct config *config = work->rescue->config;
        char cluster[ID128_TEXT_BYTES], unit[64];

        if (*work->kept)
                (void)printf("Kept:     the old database, as %s/%s\n", config->directory, work->kept);
        (void)printf("Done:     cluster %s\n", id128_format(work->identity.cluster, cluster));
        (void)printf("Next:     systemctl start %s\n", unit_of(config, unit));
        (void)printf("          on every other node: stop its units, empty its state directory, set [cluster] join to this node, start them\n");
        (void)printf("          every user of dlockctl: dlockctl forget-cluster\n");
}

static int do_it(struct work *work)
{
        char error[512];
        int r = EXIT_SUCCESS;

        tell_what(work);
        if (!work->rescue->backup)
                r = keep_copy(work);
        if (r == EXIT_SUCCESS)
                r = write_anew(work);
        if (r == EXIT_SUCCESS && work->rescue->backup && store_restore_close(TAKE_POINTER(work->store), true, error) < 0)
                r = fail("%s", error);
        if (r == EXIT_SUCCESS)
                tell_what_next(work);
        return r;
}

static int run(struct work *work)
{
        const struct rescue *rescue = work->rescue;
        int r;

        if (rescue->config->witness)
                return fail("node '%s' is a witness, and a cluster needs a node that serves clients: set [node] witness = no for it", rescue->config->name);
        r = rescue->backup ? open_backup(work) : open_survivor(work);
        if (r != EXIT_SUCCESS)
                return r;
        if (!rescue->backup && is_only_voter(work))
                return fail("node '%s' is the only voter of its cluster: nothing is to be recovered, start it", rescue->config->name);
        r = prepare(work);
        if (r != EXIT_SUCCESS)
                return r;
        return rescue->accept_loss ? do_it(work) : refuse_to_go_on(work);
}

static void release(struct work *work)
{
        char error[512];

        if (work->store && work->rescue->backup)
                (void)store_restore_close(work->store, false, error);
        else
                (void)store_close(work->store);
        (void)replica_free(work->replica);
        bytes_done(&work->configuration);
}

int rescue_run(const struct rescue *rescue)
{
        struct work work = { .rescue = rescue };
        int r = run(&work);

        release(&work);
        if (fflush(stdout) != 0 && r == EXIT_SUCCESS)
                return fail("it is done, but that could not be written to standard output: %s", strerror(errno));
        return r;
}
