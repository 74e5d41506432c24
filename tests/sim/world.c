/* world.c - time, chance, and the timeline. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "sim.h"

#define TRACE_LINES 4096
#define TRACE_SHOWN 70

/* splitmix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014). */
uint64_t sim_random(struct sim *sim, uint64_t below)
{
        uint64_t z = sim->random += UINT64_C(0x9e3779b97f4a7c15);

        z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
        z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
        z ^= z >> 31;
        if (sim->script && below)
                return 0;
        return below ? z % below : z;
}

bool sim_chance(struct sim *sim, unsigned per_1000)
{
        return !sim->script && sim_random(sim, 1000) < per_1000;
}

uint64_t sim_between(struct sim *sim, uint64_t low, uint64_t high)
{
        return low + sim_random(sim, high - low + 1);
}

/* --- events: a binary heap by time, then by the order they were made --- */

static bool is_before(const struct sim_event *a, const struct sim_event *b)
{
        return a->at != b->at ? a->at < b->at : a->order < b->order;
}

void sim_at(struct sim *sim, uint64_t at, enum event_kind kind, unsigned node, unsigned other, uint64_t life, void *what)
{
        struct sim_event event = { .at = at, .order = sim->event_order++, .kind = kind, .node = node, .other = other, .life = life, .what = what };
        size_t place = sim->event_count++;

        if (place == sim->event_capacity) {
                sim->event_capacity = place ? place * 2 : 256;
                sim->events = alloc_resized(sim->events, sim->event_capacity, sizeof(sim->events[0]));
        }
        for (; place > 0 && is_before(&event, &sim->events[(place - 1) / 2]); place = (place - 1) / 2)
                sim->events[place] = sim->events[(place - 1) / 2];
        sim->events[place] = event;
}

bool sim_next(struct sim *sim, struct sim_event *ret_event)
{
        struct sim_event last;
        size_t place = 0;

        if (sim->event_count == 0)
                return false;
        *ret_event = sim->events[0];
        last = sim->events[--sim->event_count];
        for (;;) {
                size_t child = place * 2 + 1;

                if (child >= sim->event_count)
                        break;
                if (child + 1 < sim->event_count && is_before(&sim->events[child + 1], &sim->events[child]))
                        child++;
                if (!is_before(&sim->events[child], &last))
                        break;
                sim->events[place] = sim->events[child];
                place = child;
        }
        sim->events[place] = last;
        sim->now = ret_event->at;
        sim->counts[COUNT_EVENTS]++;
        return true;
}

/* --- the timeline --- */

void sim_trace(struct sim *sim, const char *format, ...)
{
        char *line;
        int size;
        va_list values;

        if (!sim->trace)
                sim->trace = alloc_zeroed(TRACE_LINES, sizeof(sim->trace[0]));
        line = sim->trace[sim->trace_next++ % TRACE_LINES];
        size = snprintf(line, sizeof(sim->trace[0]), "%6" PRIu64 ".%03" PRIu64 "  ", sim->now / MS, sim->now % MS);
        va_start(values, format);
        (void)vsnprintf(line + size, sizeof(sim->trace[0]) - (size_t)size, format, values);
        va_end(values);
        if (sim->verbose)
                (void)puts(line);
}

void sim_print_trace(const struct sim *sim)
{
        size_t first = sim->trace_next > TRACE_SHOWN ? sim->trace_next - TRACE_SHOWN : 0;

        for (size_t i = first; i < sim->trace_next && !sim->verbose; i++)
                (void)fprintf(stderr, "%s\n", sim->trace[i % TRACE_LINES]);
}

void sim_print_place(const struct sim *sim)
{
        if (sim->script)
                (void)fprintf(stderr, "sim: %s:%u, scenario \"%s\", at %" PRIu64 " ms: ", script_file(sim->script), script_line(sim->script),
                              script_title(sim->script), sim->now / MS);
        else
                (void)fprintf(stderr, "sim: seed %" PRIu64 " at %" PRIu64 " ms: ", sim->seed, sim->now / MS);
}

void sim_fail(struct sim *sim, const char *format, ...)
{
        va_list values;

        (void)fflush(stdout);
        sim_print_trace(sim);
        sim_print_place(sim);
        va_start(values, format);
        (void)vfprintf(stderr, format, values);
        va_end(values);
        (void)fputc('\n', stderr);
        if (!sim->script)
                (void)fprintf(stderr, "sim: make sim SEED=%" PRIu64 " replays it with its whole timeline\n", sim->seed);
        _Exit(EXIT_FAILURE);
}
