#include "bound.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <unistd.h>

#include "bus.h"

#define DEPTH_MAX 16
#define PROCESSES_MAX 4096                   /* that are ended in one pass */
#define PASSES_MAX 32

/* --- a set of units --- */

static const struct {
        const char *suffix, *interface;
} kinds[] = {
        { ".service", BUS_SYSTEMD ".Service" },
        { ".scope", BUS_SYSTEMD ".Scope" },
        { ".socket", BUS_SYSTEMD ".Socket" },
        { ".mount", BUS_SYSTEMD ".Mount" },
        { ".swap", BUS_SYSTEMD ".Swap" },
};

/* The interface that units of this kind have their cgroup in; NULL: they have none. */
static const char *interface_of(const char *name)
{
        size_t length = strlen(name);

        for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
                size_t suffix = strlen(kinds[i].suffix);

                if (length > suffix && strcmp(name + length - suffix, kinds[i].suffix) == 0)
                        return kinds[i].interface;
        }
        return NULL;
}

static bool is_name(const char *name)
{
        size_t length = strlen(name);

        return length > 0 && length <= BOUND_NAME_MAX && strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:-_.\\@") == length;
}

static bool is_path(const char *path)
{
        return path[0] == '/' && path[1] && strlen(path) < 4096 && !strstr(path, "/../") && !strstr(path, "//") && !strpbrk(path, "\n") &&
               (strlen(path) < 3 || strcmp(path + strlen(path) - 3, "/..") != 0);
}

static struct bound_unit *find(struct bound_unit *units, size_t count, const char *name)
{
        for (size_t i = 0; i < count; i++)
                if (strcmp(units[i].name, name) == 0)
                        return units + i;
        return NULL;
}

static void units_free(struct bound_unit *units, size_t count)
{
        for (size_t i = 0; i < count; i++)
                free(units[i].cgroup);
        free(units);
}

void bound_begin(struct bound *bound, const char *unit, uint32_t patience_ms)
{
        *bound = (struct bound){ .unit = unit, .patience_ms = patience_ms };
}

void bound_end(struct bound *bound)
{
        units_free(bound->units, bound->count);
        (void)sd_bus_flush_close_unref(bound->bus);
        *bound = (struct bound){ 0 };
}

bool bound_add(struct bound *bound, const char *name, const char *cgroup)
{
        struct bound_unit *units;

        if (bound->count == BOUND_UNITS_MAX || !is_name(name) || (*cgroup && !is_path(cgroup)))
                return false;
        units = reallocarray(bound->units, bound->count + 1, sizeof(*units));
        if (!units)
                return false;
        bound->units = units;
        units[bound->count] = (struct bound_unit){ .active = true, .cgroup = *cgroup ? strdup(cgroup) : NULL };
        (void)snprintf(units[bound->count].name, sizeof(units[bound->count].name), "%s", name);
        bound->count++;
        return true;
}

/* --- systemd --- */

struct look {
        struct bound *bound;
        struct bound_unit *units;            /* found so far */
        size_t count;
        uint64_t end_us;
};

static int fail(struct bound *bound, int r, const char *what)
{
        (void)snprintf(bound->problem, sizeof(bound->problem), "%s: %s", what, strerror(-r));
        return r;
}

static int connect_bus(struct look *look)
{
        struct bound *bound = look->bound;
        int r;

        if (bound->bus && sd_bus_is_open(bound->bus) > 0)
                return 0;
        bound->bus = sd_bus_close_unref(bound->bus);
        r = bus_open(false, look->end_us, &bound->bus);
        return r >= 0 ? 0 : fail(bound, r, "the system bus, which tells who is bound to the lock, cannot be reached");
}

/* *ret_reply is inside the variant. */
static int get(struct look *look, const char *path, const char *interface, const char *property, const char *type, sd_bus_message **ret_reply)
{
        struct bound *bound = look->bound;
        sd_bus_message *call = NULL, *reply = NULL;
        uint64_t now = bus_now_us();
        int r = now >= look->end_us ? -ETIMEDOUT : sd_bus_message_new_method_call(bound->bus, &call, BUS_SYSTEMD, path, "org.freedesktop.DBus.Properties", "Get");

        if (r >= 0)
                r = sd_bus_message_append(call, "ss", interface, property);
        if (r >= 0)
                r = sd_bus_call(bound->bus, call, look->end_us - now, NULL, &reply);
        if (r >= 0)
                r = sd_bus_message_enter_container(reply, 'v', type);
        (void)sd_bus_message_unref(call);
        if (r < 0) {
                (void)sd_bus_message_unref(reply);
                return fail(bound, r, "systemd does not tell who is bound to the lock");
        }
        *ret_reply = reply;
        return 0;
}

static int get_text(struct look *look, const char *path, const char *interface, const char *property, char **ret_text)
{
        sd_bus_message *reply;
        const char *text;
        int r = get(look, path, interface, property, "s", &reply);

        if (r < 0)
                return r;
        r = sd_bus_message_read(reply, "s", &text);
        *ret_text = r >= 0 ? strdup(text) : NULL;
        (void)sd_bus_message_unref(reply);
        return *ret_text ? 0 : fail(look->bound, r < 0 ? r : -ENOMEM, "systemd's answer is not understood");
}

static int add_found(struct look *look, const char *name)
{
        struct bound_unit *units;

        if (strcmp(name, look->bound->unit) == 0 || find(look->units, look->count, name))
                return 0;
        if (!is_name(name) || look->count == BOUND_UNITS_MAX)
                return fail(look->bound, -E2BIG, name);
        units = reallocarray(look->units, look->count + 1, sizeof(*units));
        if (!units)
                return fail(look->bound, -ENOMEM, name);
        look->units = units;
        units[look->count] = (struct bound_unit){ 0 };
        (void)snprintf(units[look->count].name, sizeof(units[look->count].name), "%s", name);
        look->count++;
        return 0;
}

/* All that are stopped with the unit of this path. */
static int find_bound_to(struct look *look, const char *path)
{
        static const char *const properties[] = { "BoundBy", "RequiredBy", "RequisiteOf", "ConsistsOf", "PropagatesStopTo" };

        for (size_t i = 0; i < sizeof(properties) / sizeof(properties[0]); i++) {
                sd_bus_message *reply;
                const char *name;
                int r = get(look, path, BUS_SYSTEMD ".Unit", properties[i], "as", &reply);

                if (r < 0)
                        return r;
                r = sd_bus_message_enter_container(reply, 'a', "s");
                while (r >= 0 && (r = sd_bus_message_read(reply, "s", &name)) > 0)
                        r = add_found(look, name);
                (void)sd_bus_message_unref(reply);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* "a-b.slice" is below "a.slice". */
static char *path_of_slice(const char *slice)
{
        size_t length = strlen(slice), at = 0;
        char *path = calloc(length * (length + 2) + 2, 1);

        if (!path || strcmp(slice, "-.slice") == 0 || length < 7)
                return path;
        for (size_t i = 0; i <= length - 6; i++)
                if (slice[i] == '-' || i == length - 6)
                        at += (size_t)sprintf(path + at, "/%.*s.slice", (int)i, slice);
        return path;
}

/* Of a unit that does not run the cgroup is where it will be when it is started. */
static int find_cgroup(struct look *look, const char *path, const char *interface, struct bound_unit *unit)
{
        char *slice, *parent;
        int r = get_text(look, path, interface, "ControlGroup", &unit->cgroup);

        if (r < 0 || *unit->cgroup) {
                if (r >= 0 && !is_path(unit->cgroup))
                        r = fail(look->bound, -EINVAL, unit->name);
                return r;
        }
        free(unit->cgroup);
        unit->cgroup = NULL;
        r = get_text(look, path, interface, "Slice", &slice);
        if (r < 0)
                return r;
        parent = path_of_slice(slice);
        if (!parent || asprintf(&unit->cgroup, "%s/%s", parent, unit->name) < 0) {
                unit->cgroup = NULL;
                r = fail(look->bound, -ENOMEM, unit->name);
        }
        free(parent);
        free(slice);
        return r;
}

static int look_at_state(struct look *look, const char *path, bool *ret_active, bool *ret_stopping)
{
        char *state;
        int r = get_text(look, path, BUS_SYSTEMD ".Unit", "ActiveState", &state);

        if (r < 0)
                return r;
        *ret_active = strcmp(state, "inactive") != 0 && strcmp(state, "failed") != 0;
        *ret_stopping = !*ret_active || strcmp(state, "deactivating") == 0;
        free(state);
        return 0;
}

static int look_at_unit(struct look *look, const char *path, struct bound_unit *unit)
{
        const char *interface = interface_of(unit->name);
        sd_bus_message *reply;
        bool stopping;
        int r = look_at_state(look, path, &unit->active, &stopping);

        if (r >= 0 && interface)
                r = find_cgroup(look, path, interface, unit);
        if (r < 0 || !interface)
                return r;
        r = get(look, path, interface, strcmp(interface, BUS_SYSTEMD ".Service") == 0 || strcmp(interface, BUS_SYSTEMD ".Scope") == 0 ? "TimeoutStopUSec" : "TimeoutUSec", "t", &reply);
        if (r < 0)
                return r;
        r = sd_bus_message_read(reply, "t", &unit->stop_us);
        (void)sd_bus_message_unref(reply);
        return r;
}

/* index: of a unit that was found; SIZE_MAX: the one that all are bound to. */
static int look_from(struct look *look, size_t index)
{
        char *path = NULL;
        bool active;
        int r = sd_bus_path_encode("/org/freedesktop/systemd1/unit", index == SIZE_MAX ? look->bound->unit : look->units[index].name, &path);

        if (r < 0)
                return fail(look->bound, r, "a unit's name");
        if (index != SIZE_MAX)
                r = look_at_unit(look, path, &look->units[index]);
        else
                r = look_at_state(look, path, &active, &look->bound->stopping);
        if (r >= 0)
                r = find_bound_to(look, path);
        free(path);
        return r;
}

bool bound_look(struct bound *bound)
{
        struct look look = { .bound = bound, .end_us = bus_now_us() + (uint64_t)bound->patience_ms * 1000 };
        int r;

        if (!bound->unit)
                return true;
        r = connect_bus(&look);
        if (r >= 0)
                r = look_from(&look, SIZE_MAX);
        for (size_t i = 0; r >= 0 && i < look.count; i++)
                r = look_from(&look, i);
        if (r >= 0) {
                units_free(bound->units, bound->count);
                bound->units = look.units;
                bound->count = look.count;
                return true;
        }
        units_free(look.units, look.count);
        return false;
}

/* --- cgroups --- */

/* The hierarchy that systemd keeps: the only one, or, with the old ones, one that is its own. -1: there is no such cgroup. */
static int open_cgroup(const char *cgroup)
{
        static const char *const roots[] = { "/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd" };
        char path[4096 + 64];
        int fd = -1;

        for (size_t i = 0; fd < 0 && i < sizeof(roots) / sizeof(roots[0]); i++) {
                (void)snprintf(path, sizeof(path), "%s%s/cgroup.procs", roots[i], cgroup);
                if (access(path, F_OK) < 0)
                        continue;
                (void)snprintf(path, sizeof(path), "%s%s", roots[i], cgroup);
                fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        }
        return fd;
}

static int compare(const void *one, const void *two)
{
        const pid_t *a = one, *b = two;

        return (*a > *b) - (*a < *b);
}

/* Sorted. */
static size_t list_processes(int directory, pid_t *pids, size_t room)
{
        int fd = openat(directory, "cgroup.procs", O_RDONLY | O_CLOEXEC);
        FILE *file = fd >= 0 ? fdopen(fd, "r") : NULL;
        size_t count = 0;

        while (file && count < room && fscanf(file, "%d", &pids[count]) == 1)
                if (pids[count] > 1)                         /* 0: of another name space of processes */
                        count++;
        if (file)
                (void)fclose(file);
        else if (fd >= 0)
                (void)close(fd);
        qsort(pids, count, sizeof(*pids), compare);
        return count;
}

/* Of a process that is here before and after its descriptor was opened, the number is not somebody else's. How many were found. */
static size_t kill_here(int directory)
{
        pid_t pids[256], again[PROCESSES_MAX];
        size_t count = list_processes(directory, pids, sizeof(pids) / sizeof(pids[0])), found;
        int fds[256];

        for (size_t i = 0; i < count; i++)
                fds[i] = pidfd_open(pids[i], 0);
        found = list_processes(directory, again, PROCESSES_MAX);
        for (size_t i = 0; i < count; i++) {
                if (fds[i] < 0)
                        continue;
                if (bsearch(&pids[i], again, found, sizeof(*again), compare))
                        (void)pidfd_send_signal(fds[i], SIGKILL, NULL, 0);
                (void)close(fds[i]);
        }
        return count;
}

static size_t count_here(int directory)
{
        pid_t pid;

        return list_processes(directory, &pid, 1);
}

/* The sum of what visit returns, of the cgroup and all below it. Takes over the descriptor. */
static size_t visit_all(int directory, size_t (*visit)(int directory), int depth)
{
        DIR *entries = fdopendir(directory);
        size_t count = visit(directory);

        if (!entries) {
                (void)close(directory);
                return count;
        }
        for (struct dirent *entry; (entry = readdir(entries));) {
                int below;

                if (entry->d_name[0] == '.' || depth == DEPTH_MAX || (entry->d_type != DT_DIR && entry->d_type != DT_UNKNOWN))
                        continue;
                below = openat(directory, entry->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
                if (below >= 0)
                        count += visit_all(below, visit, depth + 1);
        }
        (void)closedir(entries);
        return count;
}

static size_t visit_unit(const struct bound_unit *unit, size_t (*visit)(int directory))
{
        int directory = unit->cgroup ? open_cgroup(unit->cgroup) : -1;

        return directory < 0 ? 0 : visit_all(directory, visit, 0);
}

static bool lasts_without_processes(const char *name)
{
        const char *suffix = strrchr(name, '.');

        return suffix && (strcmp(suffix, ".mount") == 0 || strcmp(suffix, ".swap") == 0);
}

const struct bound_unit *bound_first_alive(const struct bound *bound, bool looked)
{
        for (size_t i = 0; i < bound->count; i++) {
                const struct bound_unit *unit = bound->units + i;

                if (visit_unit(unit, count_here) > 0 || (unit->active && (looked || lasts_without_processes(unit->name))))
                        return unit;
        }
        return NULL;
}

void bound_kill(const struct bound *bound, bool all)
{
        for (size_t i = 0; i < bound->count; i++)
                if (all || !bound->units[i].active)
                        for (int pass = 0; pass < PASSES_MAX && visit_unit(bound->units + i, kill_here) > 0;)
                                pass++;
}
