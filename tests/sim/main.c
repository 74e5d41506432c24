/* main.c - sim [--seed N] [--seeds N] [--first N]: random runs; one seed alone prints its whole timeline.
 * sim [--verbose] [--word WORD] --scenario FILE...: what they say. --mutation NAME: with a bug, see base/mutation.h. */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mutation.h"
#include "base/parse.h"
#include "sim.h"

static struct sim *running;

static void on_abort(int number)
{
        (void)number;
        (void)fflush(stdout);
        sim_print_trace(running);
        sim_print_place(running);
        (void)fprintf(stderr, "an assertion failed\n");
        _Exit(EXIT_FAILURE);
}

void main_watch(struct sim *sim)
{
        running = sim;
}

#ifdef DLOCK_MUTATIONS
enum mutation mutation_active;

#define MUTATION_NAME(name, what) #name,
#define MUTATION_LINE(name, what) #name "\t" what "\n"
static const char *const mutation_names[] = { "", MUTATIONS(MUTATION_NAME) };

static bool mutate(const char *name)
{
        for (size_t i = 1; i < MUTATION_COUNT; i++)
                if (strcmp(mutation_names[i], name) == 0)
                        mutation_active = (enum mutation)i;
        return mutation_active != MUTATION_NONE;
}

static void list_mutations(void)
{
        (void)fputs(MUTATIONS(MUTATION_LINE), stdout);
}
#else
static bool mutate(const char *name)
{
        (void)name;
        return false;
}

static void list_mutations(void)
{
}
#endif

static int usage(void)
{
        (void)fprintf(stderr, "usage: sim [--mutation NAME] [--seed N | --seeds N [--first N] | [--verbose] [--word WORD] --scenario FILE...] | --mutations\n");
        return 2;
}

static int play(char **files, int count, const char *word, bool verbose)
{
        unsigned played = 0;

        for (int i = 0; i < count; i++)
                played += script_play(files[i], word, verbose);
        if (played == 0)
                (void)fprintf(stderr, "sim: no scenario has \"%s\" in its title\n", word);
        else
                (void)printf("scenarios: %u passed, 0 failed\n", played);
        return played == 0;
}

static void run_one(uint64_t seed, bool verbose, uint64_t counts[8])
{
        struct sim *sim = run_new(seed, verbose);

        run_seed(sim);
        for (size_t i = 0; i < 8; i++)
                counts[i] += sim->counts[i];
        run_free(sim);
}

static int run_seeds(uint64_t first, uint64_t seeds, bool verbose)
{
        uint64_t counts[8] = { 0 };

        for (uint64_t seed = first; seed - first < seeds; seed++) {
                run_one(seed, verbose, counts);
                if (seeds == UINT64_MAX && (seed - first) % 1000 == 999)
                        (void)printf("sim: %" PRIu64 " seeds passed\n", seed - first + 1);
                (void)fflush(stdout);
        }
        (void)printf("sim: %" PRIu64 " seeds passed: %" PRIu64 " events, %" PRIu64 " entries, %" PRIu64 " yes, %" PRIu64 " no, %" PRIu64 " unknown, %" PRIu64
                     " crashes, %" PRIu64 " snapshots, %" PRIu64 " terms\n", seeds, counts[COUNT_EVENTS], counts[COUNT_COMMITTED],
                     counts[COUNT_YES], counts[COUNT_NO], counts[COUNT_UNKNOWN], counts[COUNT_CRASHES], counts[COUNT_SNAPSHOTS], counts[COUNT_TERMS]);
        return EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
        uint64_t seeds = 300, first = 1;
        bool verbose = false;
        const char *word = "";

        (void)signal(SIGABRT, on_abort);
        for (int i = 1; i < argc; i++) {
                const char *option = argv[i], *value = i + 1 < argc ? argv[i + 1] : "";
                bool good = true;

                if (strcmp(option, "--mutations") == 0) {
                        list_mutations();
                        return EXIT_SUCCESS;
                }
                if (strcmp(option, "--scenario") == 0)
                        return play(argv + i + 1, argc - i - 1, word, verbose);
                if (strcmp(option, "--verbose") == 0) {
                        verbose = true;
                        continue;
                }
                i++;
                if (strcmp(option, "--seed") == 0)
                        seeds = 1, verbose = true, good = parse_u64(value, &first);
                else if (strcmp(option, "--seeds") == 0)
                        good = parse_u64(value, &seeds);
                else if (strcmp(option, "--first") == 0)
                        good = parse_u64(value, &first);
                else if (strcmp(option, "--word") == 0)
                        word = value;
                else if (strcmp(option, "--mutation") != 0 || !mutate(value))
                        return usage();
                if (!good)
                        return usage();
        }
        return run_seeds(first, seeds, verbose);
}
