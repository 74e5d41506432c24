#include "tree.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

/* --- lists --- */

/* False: no memory. */
static bool list_add(struct tree_list *list, const struct tree_process *process)
{
        if (list->count == list->room) {
                size_t room = list->room ? 2 * list->room : 32;
                struct tree_process *items = reallocarray(list->items, room, sizeof(*items));

                if (!items)
                        return false;
                list->items = items;
                list->room = room;
        }
        list->items[list->count++] = *process;
        return true;
}

static void list_done(struct tree_list *list)
{
        free(list->items);
        *list = (struct tree_list){ 0 };
}

static bool list_has(const struct tree_list *list, const struct tree_process *process)
{
        for (size_t i = 0; i < list->count; i++)
                if (list->items[i].pid == process->pid && list->items[i].started == process->started)
                        return true;
        return false;
}

/* --- /proc --- */

static bool look(pid_t pid, struct tree_process *ret)
{
        char text[1024], path[32], state;
        const char *rest;
        ssize_t size;
        int threads, fd;

        (void)snprintf(path, sizeof(path), "/proc/%d/stat", pid);
        fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
                return false;
        size = read(fd, text, sizeof(text) - 1);
        (void)close(fd);
        if (size <= 0)
                return false;
        text[size] = 0;
        /* Before it is the name, which may be anything. */
        rest = strrchr(text, ')');
        if (!rest || sscanf(rest + 1, " %c %d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %d %*d %" SCNu64, &state, &ret->parent,
                            &threads, &ret->started) != 4)
                return false;
        ret->pid = pid;
        /* Its first thread may have ended alone. */
        ret->threads = threads > 1;
        ret->stopped = state == 'T';
        ret->alive = (state != 'Z' && state != 'X') || threads > 1;
        return true;
}

bool tree_is_stopped(pid_t pid)
{
        struct tree_process process;

        return look(pid, &process) && process.stopped;
}

/* Children of a thread, as it tells them: some may be left out while others end. */
static void list_children_of_thread(pid_t parent, const char *thread, struct tree_list *list)
{
        char path[64];
        FILE *file;
        pid_t pid;

        (void)snprintf(path, sizeof(path), "/proc/%d/task/%.16s/children", parent, thread);
        file = fopen(path, "re");
        if (!file)
                return;
        while (fscanf(file, "%d", &pid) == 1)
                (void)list_add(list, &(struct tree_process){ .pid = pid, .parent = parent });
        (void)fclose(file);
}

static void list_children(const struct tree_process *parent, struct tree_list *list)
{
        char path[32], only[16];
        DIR *threads;

        if (!parent->threads) {
                (void)snprintf(only, sizeof(only), "%d", parent->pid);
                list_children_of_thread(parent->pid, only, list);
                return;
        }
        (void)snprintf(path, sizeof(path), "/proc/%d/task", parent->pid);
        threads = opendir(path);
        for (struct dirent *entry; threads && (entry = readdir(threads));)
                if (isdigit((unsigned char)entry->d_name[0]))
                        list_children_of_thread(parent->pid, entry->d_name, list);
        if (threads)
                (void)closedir(threads);
}

static void list_everybody(struct tree_list *list)
{
        DIR *all = opendir("/proc");
        struct tree_process process;

        for (struct dirent *entry; all && (entry = readdir(all));)
                if (isdigit((unsigned char)entry->d_name[0]) && look((pid_t)atoi(entry->d_name), &process))
                        (void)list_add(list, &process);
        if (all)
                (void)closedir(all);
}

static void list_children_among(const struct tree_list *everybody, pid_t parent, struct tree_list *list)
{
        for (size_t i = 0; i < everybody->count; i++)
                if (everybody->items[i].parent == parent)
                        (void)list_add(list, &everybody->items[i]);
}

/* --- signals --- */

static bool ends_forks(int number)
{
        return number == SIGKILL || number == SIGSTOP;
}

static bool is_child(const struct tree_process *process)
{
        return process->parent == getpid();
}

/* A child keeps its number until this process has asked how it ended; of all others a descriptor is opened, and then
 * looked whether it is the one. -1: it is a child, or the kernel has no such descriptors. */
static int open_process(const struct tree_process *process)
{
        return is_child(process) ? -1 : pidfd_open(process->pid, 0);
}

static void send(int fd, const struct tree_process *process, int number)
{
        if (fd >= 0)
                (void)pidfd_send_signal(fd, number, NULL, 0);
        else
                (void)kill(process->pid, number);
}

/* False: it had that one already. */
static bool tell(struct tree *tree, int fd, const struct tree_process *process, int number)
{
        if (number != SIGKILL && list_has(&tree->told, process))
                return false;
        if (number != SIGKILL)
                (void)list_add(&tree->told, process);
        send(fd, process, number);
        if (!ends_forks(number))
                send(fd, process, SIGCONT);
        return true;
}

/* The number may be somebody else's by now; then its children are, too. */
static bool is_below(const struct tree *tree, const struct tree_process *listed, const struct tree_process *now)
{
        return now->parent == listed->parent ? !is_child(now) || !list_has(&tree->spared, now) : is_child(now);
}

/* Looks what it is now, and sends what nobody answers at once: parents first, so that who is told has no more children when
 * those are listed. Its count, and *ret_below: whether it is below. */
static size_t find(struct tree *tree, struct tree_process *process, int number, bool *ret_below)
{
        struct tree_process now;
        int fd = open_process(process);
        size_t count = 0;

        /* A child that forks and ends at once would be gone after a look. */
        if (is_child(process) && ends_forks(number) && tree->spared.count == 0)
                send(-1, process, number);
        *ret_below = look(process->pid, &now) && is_below(tree, process, &now);
        if (*ret_below && now.alive && ends_forks(number))
                count = tell(tree, fd, &now, number);
        if (*ret_below)
                *process = now;
        else
                process->alive = false;
        if (fd >= 0)
                (void)close(fd);
        return count;
}

/* For a signal that may be answered by forks, when all are known. */
static size_t tell_later(struct tree *tree, const struct tree_process *process, int number)
{
        struct tree_process now;
        int fd = open_process(process);
        size_t count = 0;

        if (look(process->pid, &now) && now.started == process->started)
                count = tell(tree, fd, process, number);
        if (fd >= 0)
                (void)close(fd);
        return count;
}

size_t tree_signal(struct tree *tree, int number)
{
        struct tree_list below = { 0 }, everybody = { 0 };
        bool is_one = true;
        size_t count = 0;

        if (number != tree->told_number)
                tree->told.count = 0;
        tree->told_number = number;
        if (tree->scan)
                list_everybody(&everybody);
        (void)list_add(&below, &(struct tree_process){ .pid = getpid() });
        for (size_t i = 0; i < below.count; i++) {
                /* A copy: lists move as they grow. */
                struct tree_process process = below.items[i];

                if (i > 0)
                        count += find(tree, &process, number, &is_one);
                below.items[i] = process;
                if (is_one && tree->scan)
                        list_children_among(&everybody, process.pid, &below);
                else if (is_one)
                        list_children(&process, &below);
        }
        for (size_t i = 1; i < below.count && !ends_forks(number); i++)
                if (below.items[i].alive)
                        count += tell_later(tree, &below.items[i], number);
        list_done(&below);
        list_done(&everybody);
        return count;
}

void tree_kill(struct tree *tree)
{
        /* Many that are busy must not keep this process from its turn, if it may do that. */
        (void)setpriority(PRIO_PROCESS, 0, -20);
        /* A bound, since some may be beyond reach. */
        for (int i = 0; i < 32 && tree_signal(tree, SIGSTOP) > 0;)
                i++;
        (void)tree_signal(tree, SIGKILL);
}

/* --- beginning and end --- */

static void spare_children(struct tree *tree)
{
        struct tree_list children = { 0 }, everybody = { 0 };
        struct tree_process process;

        if (tree->scan)
                list_everybody(&everybody);
        if (tree->scan)
                list_children_among(&everybody, getpid(), &children);
        else
                list_children(&(struct tree_process){ .pid = getpid() }, &children);
        for (size_t i = 0; i < children.count; i++)
                if (look(children.items[i].pid, &process) && process.parent == getpid())
                        (void)list_add(&tree->spared, &process);
        list_done(&children);
        list_done(&everybody);
}

/* And it is that of the name space in which this process has its number. */
static bool has_proc(void)
{
        char text[16] = "";

        return readlink("/proc/self", text, sizeof(text) - 1) > 0 && atoi(text) == getpid();
}

int tree_begin(struct tree *tree)
{
        char path[64];

        *tree = (struct tree){ 0 };
        if (!has_proc())
                return -ENOSYS;
        (void)snprintf(path, sizeof(path), "/proc/self/task/%d/children", getpid());
        tree->scan = access(path, R_OK) < 0;
        spare_children(tree);
        return prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) < 0 ? -errno : 0;
}

void tree_end(struct tree *tree)
{
        list_done(&tree->spared);
        list_done(&tree->told);
}

static void forget(struct tree_list *list, pid_t pid)
{
        for (size_t i = 0; i < list->count; i++)
                if (list->items[i].pid == pid)
                        list->items[i--] = list->items[--list->count];
}

bool tree_reap(struct tree *tree, pid_t pid, int *ret_status)
{
        bool found = false;
        int status;

        for (;;) {
                pid_t ended = waitpid(-1, &status, WNOHANG | __WALL);

                if (ended < 0 && errno == EINTR)
                        continue;
                if (ended <= 0)
                        return found;
                forget(&tree->spared, ended);
                if (ended == pid) {
                        *ret_status = status;
                        found = true;
                }
        }
}

bool tree_is_empty(struct tree *tree)
{
        struct tree_list children = { 0 };
        siginfo_t info;
        size_t count;

        if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT | __WALL) < 0 && errno == ECHILD)
                return true;
        if (tree->spared.count == 0)
                return false;
        if (tree->scan)
                list_everybody(&children);
        else
                list_children(&(struct tree_process){ .pid = getpid() }, &children);
        count = 0;
        for (size_t i = 0; i < children.count; i++)
                count += children.items[i].parent == getpid();
        list_done(&children);
        return count <= tree->spared.count;
}
