/* script.c - scenarios: a file is read line by line, and each line is a sentence (sentence.c). When the last is said, all
 * faults end, and the cluster must be well soon: whatever a scenario did, it has lost nothing. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/parse.h"
#include "raft/internal.h"
#include "sim.h"

/* After the last line: in so many election timeouts somebody leads, and all is well. */
#define RECOVERY_TIMEOUTS 30

struct script {
        const char *path;
        unsigned line;
        char title[160];
        const char *word;
        bool verbose;
        unsigned played;
        struct sim *sim;                     /* NULL: outside a scenario, or in one that is left out */
};

const char *script_file(const struct script *script)
{
        return script->path;
}

unsigned script_line(const struct script *script)
{
        return script->line;
}

const char *script_title(const struct script *script)
{
        return script->title;
}

void script_mind_timer(struct sim_node *node)
{
        struct raft *raft = replica_raft(node->replica);

        if (raft_role(raft) == RAFT_LEADER)
                node->awake = false;
        if (!node->awake)
                raft->election_deadline = UINT64_MAX;
        else if (raft->election_deadline == UINT64_MAX)
                raft->election_deadline = raft->now + (2 + node->number) * TIMEOUT_MS / 2;
}

static void finish(struct script *script)
{
        struct sim *sim = script->sim;
        uint64_t until;

        if (!sim)
                return;
        sim_trace(sim, "--- the faults stop ---");
        for (unsigned from = 0; from < sim->node_count; from++)
                for (unsigned to = 0; to < sim->node_count; to++)
                        net_release(sim, from, to, NET_RELEASE);
        sim->keep_writes = 0;
        fault_end(sim);
        for (unsigned i = 0; i < sim->node_count; i++) {
                sim->nodes[i].awake = true;
                disk_hold(sim, &sim->nodes[i], false);
        }
        until = sim->now + RECOVERY_TIMEOUTS * TIMEOUT_MS * MS;
        while (run_what_is_wrong(sim)) {
                if (!run_step(sim) || sim->now > until) {
                        node_tell_all(sim);
                        sim_fail(sim, "%u election timeouts after the end %s", RECOVERY_TIMEOUTS, run_what_is_wrong(sim));
                }
                for (unsigned i = 0; i < sim->node_count; i++)
                        sim->nodes[i].awake = true;
        }
        script->played++;
        run_free(sim);
        script->sim = NULL;
}

/* "nodes 3": that many voters, which have a history; "nodes 3 of 5": and two machines that are no members yet. */
static bool begin_nodes(struct script *script, const char *text)
{
        unsigned voters, all, got = (unsigned)sscanf(text, "nodes %u of %u", &voters, &all);
        struct sim *sim = script->sim;

        if (got < 1 || sim->node_count != 0)
                return false;
        if (got == 1)
                all = voters;
        if (voters == 0 || voters > all || all > SIM_NODES)
                return false;
        run_set_up(sim, all);
        for (unsigned i = 0; i < all; i++)
                sim->nodes[i].keep_entries = 1000;
        for (unsigned i = 0; i < voters; i++)
                disk_bootstrap(sim, &sim->nodes[i]);
        disk_grow_cluster(sim, voters);
        for (unsigned i = 0; i < voters; i++)
                node_start(sim, &sim->nodes[i]);
        return true;
}

static void begin(struct script *script, const char *title)
{
        finish(script);
        (void)snprintf(script->title, sizeof(script->title), "%s", title);
        if (!strstr(title, script->word))
                return;
        if (script->verbose)
                (void)printf("scenario: %s\n", title);
        script->sim = run_new(1, script->verbose);
        script->sim->script = script;
        script->sim->ordered = true;
        script->sim->drift_per_1000 = 10;
        script->sim->now = 0;
}

/* "at 450 node 2 leads" */
static const char *after_time(struct script *script, char *text)
{
        struct sim *sim = script->sim;
        unsigned long ms;
        int size = 0;

        if (sscanf(text, "at %lu %n", &ms, &size) != 1 || size == 0)
                return text;
        if (sim->now > ms * MS)
                sim_fail(sim, "it is later than %lu", ms);
        while (sim->now < ms * MS && run_step(sim))
                ;
        return text + size;
}

static void take_line(struct script *script, char *text)
{
        static const char head[] = "scenario: ";
        char *note;

        text += strspn(text, " ");
        text[strcspn(text, "\n")] = 0;
        if (strncmp(text, head, sizeof(head) - 1) == 0) {
                begin(script, text + sizeof(head) - 1);
                return;
        }
        note = strstr(text, "   ");
        if (note)
                *note = 0;                   /* the right column is for the reader */
        if (text[0] == 0 || text[0] == '#' || !script->sim)
                return;
        if (begin_nodes(script, text))
                return;
        sim_trace(script->sim, "%s:", text);
        if (!sentence_do(script->sim, after_time(script, text)))
                sim_fail(script->sim, "nobody understands \"%s\": tests/sim/sentence.c has the sentences", text);
}

unsigned script_play(const char *path, const char *word, bool verbose)
{
        struct script script = { .path = path, .word = word, .verbose = verbose };
        FILE *file = fopen(path, "re");
        char line[512];

        if (!file) {
                (void)fprintf(stderr, "sim: %s cannot be opened: %s\n", path, strerror(errno));
                exit(EXIT_FAILURE);
        }
        while (fgets(line, sizeof(line), file)) {
                script.line++;
                take_line(&script, line);
        }
        (void)fclose(file);
        finish(&script);
        return script.played;
}
