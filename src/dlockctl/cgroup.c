#include "cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/xattr.h>
#include <systemd/sd-daemon.h>
#include <systemd/sd-login.h>
#include <unistd.h>

#include "bus.h"

#define DEPTH_MAX 16                         /* of directories that are kept open */

/* As systemd marks what it leaves to others. */
#define DELEGATED "user.delegate"

/* --- files --- */

/* The size of what is there, up to size - 1; -1: nothing can be read. */
static ssize_t read_file(const char *directory, const char *name, char *text, size_t size)
{
        char path[CGROUP_PATH_SIZE + 32];
        ssize_t count;
        int fd;

        (void)snprintf(path, sizeof(path), "%s/%s", directory, name);
        fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
                return -1;
        count = read(fd, text, size - 1);
        (void)close(fd);
        if (count >= 0)
                text[count] = 0;
        return count;
}

static bool write_file(const char *directory, const char *name, const char *text)
{
        char path[CGROUP_PATH_SIZE + 32];
        ssize_t count;
        int fd;

        (void)snprintf(path, sizeof(path), "%s/%s", directory, name);
        fd = open(path, O_WRONLY | O_CLOEXEC);
        if (fd < 0)
                return false;
        count = write(fd, text, strlen(text));
        (void)close(fd);
        return count == (ssize_t)strlen(text);
}

/* --- where --- */

/* Of the hierarchy of version 2: the only one, or beside the old ones. NULL: there is none. */
static const char *find_root(void)
{
        static const char *const roots[] = { "/sys/fs/cgroup", "/sys/fs/cgroup/unified" };
        struct statfs info;

        for (size_t i = 0; i < sizeof(roots) / sizeof(roots[0]); i++)
                if (statfs(roots[i], &info) == 0 && info.f_type == CGROUP2_SUPER_MAGIC)
                        return roots[i];
        return NULL;
}

/* Of a name space of cgroups without a mount of its own the path would be another cgroup's. */
static bool has_this_process(const char *path)
{
        char file_path[CGROUP_PATH_SIZE + 16];
        pid_t pid = 0;
        FILE *file;

        (void)snprintf(file_path, sizeof(file_path), "%s/cgroup.procs", path);
        file = fopen(file_path, "re");
        while (file && pid != getpid() && fscanf(file, "%d", &pid) == 1) {
        }
        if (file)
                (void)fclose(file);
        return pid == getpid();
}

/* False: it has none, or one that cannot be seen from here. */
static bool find_own(char path[CGROUP_PATH_SIZE])
{
        const char *root = find_root();
        char *line = NULL;
        size_t room = 0;
        bool found = false;
        FILE *file = root ? fopen("/proc/self/cgroup", "re") : NULL;

        while (file && !found && getline(&line, &room, file) > 0) {
                line[strcspn(line, "\n")] = 0;
                found = strncmp(line, "0::/", 4) == 0 && !strstr(line, "/..") &&
                        snprintf(path, CGROUP_PATH_SIZE, "%s%s", root, strcmp(line + 3, "/") == 0 ? "" : line + 3) < CGROUP_PATH_SIZE;
        }
        free(line);
        if (file)
                (void)fclose(file);
        return found && has_this_process(path);
}

/* The nearest manager's unit that this process is in is the scope of a session or a terminal. */
static bool is_in_session(void)
{
        char *unit = NULL;
        const char *suffix;
        bool is;

        if (sd_pid_get_user_unit(0, &unit) < 0 && sd_pid_get_unit(0, &unit) < 0)
                return false;
        suffix = strrchr(unit, '.');
        is = suffix && strcmp(suffix, ".scope") == 0 && strncmp(unit, "run-", 4) != 0;
        free(unit);
        return is;
}

enum place { PLACE_NONE, PLACE_BELOW, PLACE_SCOPE };

static enum place find_place(const char *own)
{
        if (sd_booted() <= 0 || getxattr(own, DELEGATED, NULL, 0) >= 0)
                return access(own, W_OK) == 0 ? PLACE_BELOW : PLACE_NONE;
        return is_in_session() ? PLACE_SCOPE : PLACE_NONE;
}

bool cgroup_is_possible(void)
{
        char own[CGROUP_PATH_SIZE];

        return find_own(own) && find_place(own) != PLACE_NONE;
}

/* --- a scope --- */

struct scope {
        char unit[256];
        bool over;                           /* systemd has done it, or given up */
};

static int hear_of_job(sd_bus_message *message, void *data, sd_bus_error *error)
{
        struct scope *scope = data;
        const char *job, *unit, *result;
        uint32_t id;

        (void)error;
        if (sd_bus_message_read(message, "uoss", &id, &job, &unit, &result) >= 0 && strcmp(unit, scope->unit) == 0)
                scope->over = true;
        return 0;
}

static int add_properties(sd_bus_message *call, const char *description, pid_t pid)
{
        char *slice = NULL;
        int r;

        if (geteuid() == 0)
                (void)sd_pid_get_slice(0, &slice);
        else
                (void)sd_pid_get_user_slice(0, &slice);
        r = sd_bus_message_append(call, "(sv)(sv)(sv)(sv)", "Description", "s", description, "PIDs", "au", 2, (uint32_t)pid, (uint32_t)getpid(), "Delegate", "b", 1,
                                  "CollectMode", "s", "inactive-or-failed");
        if (r >= 0 && slice)
                r = sd_bus_message_append(call, "(sv)", "Slice", "s", slice);
        free(slice);
        return r;
}

static int ask_for(sd_bus *bus, const struct scope *scope, const char *description, pid_t pid, uint64_t end_us)
{
        sd_bus_message *call = NULL;
        uint64_t now = bus_now_us();
        int r = sd_bus_message_new_method_call(bus, &call, BUS_SYSTEMD, "/org/freedesktop/systemd1", BUS_SYSTEMD ".Manager", "StartTransientUnit");

        if (r >= 0)
                r = sd_bus_message_append(call, "ss", scope->unit, "fail");
        if (r >= 0)
                r = sd_bus_message_open_container(call, 'a', "(sv)");
        if (r >= 0)
                r = add_properties(call, description, pid);
        if (r >= 0)
                r = sd_bus_message_close_container(call);
        if (r >= 0)
                r = sd_bus_message_append(call, "a(sa(sv))", 0);
        if (r >= 0)
                r = now < end_us ? sd_bus_call(bus, call, end_us - now, NULL, NULL) : -ETIMEDOUT;
        (void)sd_bus_message_unref(call);
        return r;
}

/* It numbers processes as this one does: whoever listens there has a number here. */
static bool has_our_numbers(sd_bus *bus)
{
        struct ucred other;
        socklen_t size = sizeof(other);

        return getsockopt(sd_bus_get_fd(bus), SOL_SOCKET, SO_PEERCRED, &other, &size) == 0 && other.pid > 0;
}

/* Whether it has come to be is seen by where this process is then. */
static void make_scope(const char *name, const char *description, pid_t pid, uint64_t end_us)
{
        struct scope scope = { 0 };
        sd_bus *bus;
        int r = bus_open(geteuid() != 0, end_us, &bus);

        if (r < 0)
                return;
        (void)snprintf(scope.unit, sizeof(scope.unit), "%s.scope", name);
        r = has_our_numbers(bus) ? sd_bus_match_signal_async(bus, NULL, BUS_SYSTEMD, "/org/freedesktop/systemd1", BUS_SYSTEMD ".Manager", "JobRemoved", hear_of_job, NULL, &scope) : -EPERM;
        if (r >= 0)
                r = ask_for(bus, &scope, description, pid, end_us);
        while (r >= 0 && !scope.over) {
                uint64_t now = bus_now_us();

                r = sd_bus_process(bus, NULL);
                if (r == 0)
                        r = now < end_us ? sd_bus_wait(bus, end_us - now) : -ETIMEDOUT;
        }
        (void)sd_bus_close_unref(bus);
}

static bool is_in_scope(const char *own, const char *name)
{
        const char *last = strrchr(own, '/');
        size_t length = strlen(name);

        return strncmp(last + 1, name, length) == 0 && strcmp(last + 1 + length, ".scope") == 0;
}

/* --- the cgroup --- */

static bool make_below(const char *own, const char *name, pid_t pid, char ret_path[CGROUP_PATH_SIZE])
{
        char path[CGROUP_PATH_SIZE], number[16], kill[CGROUP_PATH_SIZE + 16];

        if (snprintf(path, sizeof(path), "%s/%s", own, name) >= (int)sizeof(path) || mkdir(path, 0755) < 0)
                return false;
        (void)setxattr(path, DELEGATED, "1", 1, 0);
        (void)snprintf(number, sizeof(number), "%d", pid);
        (void)snprintf(kill, sizeof(kill), "%s/cgroup.kill", path);
        if (access(kill, W_OK) < 0 || !write_file(path, "cgroup.procs", number)) {
                (void)rmdir(path);
                return false;
        }
        (void)memcpy(ret_path, path, sizeof(path));
        return true;
}

bool cgroup_make(const char *name, const char *description, pid_t pid, uint32_t patience_ms, char ret_path[CGROUP_PATH_SIZE])
{
        char own[CGROUP_PATH_SIZE];

        if (!find_own(own))
                return false;
        switch (find_place(own)) {
        case PLACE_NONE:
                return false;
        case PLACE_SCOPE:
                make_scope(name, description, pid, bus_now_us() + (uint64_t)patience_ms * 1000);
                if (!find_own(own) || !is_in_scope(own, name))
                        return false;
                break;
        case PLACE_BELOW:
                break;
        }
        return make_below(own, name, pid, ret_path);
}

bool cgroup_is_empty(const char *path)
{
        char events[256];
        const char *populated;

        if (!*path)
                return true;
        if (read_file(path, "cgroup.events", events, sizeof(events)) < 0)
                return errno == ENOENT || errno == ENODEV;
        populated = strstr(events, "populated ");
        return populated && populated[strlen("populated ")] == '0';
}

void cgroup_kill(const char *path)
{
        if (*path)
                (void)write_file(path, "cgroup.kill", "1");
}

static int remove_one(const char *path, const struct stat *info, int type, struct FTW *place)
{
        (void)info;
        (void)place;
        if (type == FTW_DP)
                (void)rmdir(path);
        return 0;
}

void cgroup_remove(const char *path)
{
        if (*path)
                (void)nftw(path, remove_one, DEPTH_MAX, FTW_DEPTH | FTW_PHYS);
}
