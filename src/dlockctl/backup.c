#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tool.h"

/* A node copies its whole database before it answers. */
#define BACKUP_TIMEOUT_MS 600000

const char backup_details[] =
        "\nOf the node that answers: its whole database, as of one moment, in an SQLite file that only you may read. FILE is written\n"
        "beside and renamed when it is complete. Only root and the user that the node runs as may, on the node's host. How a new\n"
        "cluster is made of it tells dlockd(8), section Disaster.\n"
        "  --force                      replace FILE if it is there\n"
        "--json: file, index, bytes, leader_age_ms, server.\n";

/* The file being written. */
struct target {
        const char *path;
        char *unfinished;                    /* PATH.tmp */
        int fd;
        bool locked;                         /* so that no two write it, or remove it */
        uint64_t written;
};

static int file_failed(const char *path, const char *what)
{
        return tool_fail(EXIT_USAGE, "%s cannot be %s: %s", path, what, strerror(errno));
}

/* An earlier one that was interrupted is written anew; somebody else's, or one that is being written, is left alone. */
static int open_target(struct target *target)
{
        struct stat opened, named;

        target->fd = open(target->unfinished, O_WRONLY | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600);
        if (target->fd < 0)
                return file_failed(target->unfinished, "made");
        if (fstat(target->fd, &opened) < 0 || !S_ISREG(opened.st_mode) || opened.st_uid != geteuid() || opened.st_nlink > 1)
                return tool_fail(EXIT_USAGE, "%s is there, and not a file of yours: another FILE would be right", target->unfinished);
        if (flock(target->fd, LOCK_EX | LOCK_NB) < 0 || lstat(target->unfinished, &named) < 0 || named.st_ino != opened.st_ino)
                return tool_fail(EXIT_USAGE, "%s is being written by another dlockctl", target->unfinished);
        target->locked = true;
        if (fchmod(target->fd, 0600) < 0 || ftruncate(target->fd, 0) < 0)
                return file_failed(target->unfinished, "written");
        return EXIT_YES;
}

static int begin_target(const struct tool *tool, struct target *target, const char *path)
{
        struct stat status;

        target->path = path;
        if (!*path || path[strlen(path) - 1] == '/')
                return tool_fail(EXIT_USAGE, "'%s' names no file; the path of one would be right", path);
        if (lstat(path, &status) == 0 && !S_ISREG(status.st_mode))
                return tool_fail(EXIT_USAGE, "%s is not a file; another path would be right", path);
        if (lstat(path, &status) == 0 && !tool->force)
                return tool_fail(EXIT_USAGE, "%s is there already; another FILE, or --force, would be right", path);
        if (asprintf(&target->unfinished, "%s.tmp", path) < 0)
                return tool_fail(EXIT_USAGE, "out of memory");
        return open_target(target);
}

static int write_piece(struct target *target, const char *data, size_t size)
{
        while (size > 0) {
                ssize_t n = write(target->fd, data, size);

                if (n < 0 && errno != EINTR)
                        return file_failed(target->unfinished, "written");
                if (n > 0) {
                        data += n;
                        size -= (size_t)n;
                        target->written += (uint64_t)n;
                }
        }
        return EXIT_YES;
}

static int rename_target(const struct tool *tool, const struct target *target)
{
        if (!tool->force) {
                if (renameat2(AT_FDCWD, target->unfinished, AT_FDCWD, target->path, RENAME_NOREPLACE) == 0)
                        return 0;
                /* A file system that cannot say no to a replacement. */
                if (errno != EINVAL && errno != ENOSYS)
                        return -1;
        }
        return rename(target->unfinished, target->path);
}

static int sync_directory(const char *path)
{
        const char *slash = strrchr(path, '/');
        char *directory = !slash ? strdup(".") : slash == path ? strdup("/") : strndup(path, (size_t)(slash - path));
        int fd = directory ? open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1, r = fd < 0 ? -1 : fsync(fd);

        /* Some file systems have nothing to sync there. */
        if (r < 0 && errno == EINVAL)
                r = 0;
        if (fd >= 0)
                (void)close(fd);
        free(directory);
        return r;
}

static int finish_target(const struct tool *tool, struct target *target)
{
        if (fsync(target->fd) < 0)
                return file_failed(target->unfinished, "written");
        if (rename_target(tool, target) < 0 || sync_directory(target->path) < 0)
                return file_failed(target->path, "put in place");
        free(target->unfinished);
        target->unfinished = NULL;
        return EXIT_YES;
}

static void end_target(struct target *target)
{
        if (target->unfinished && target->locked)
                (void)unlink(target->unfinished);
        if (target->fd >= 0)
                (void)close(target->fd);
        free(target->unfinished);
}

/* Until the whole is there. *made is the answer of the node when it had made it, without what goes with the next answer. */
static int take_pieces(struct tool *tool, struct target *target, const struct dlock_answer *made)
{
        struct dlock_answer answer;
        int code = EXIT_YES;

        while (code == EXIT_YES && target->written < made->total) {
                if (dlock_backup(tool->dlock, made->backup, target->written, &answer) < 0)
                        return tool_call_failed(tool);
                code = tool_outcome(&answer);
                if (code == EXIT_YES)
                        code = write_piece(target, answer.data, answer.size);
        }
        return code;
}

static void show(const struct tool *tool, const struct dlock_answer *made, const char *server, const char *path)
{
        struct json_object *object;
        char age[64];

        if (!tool->json) {
                (void)printf("%s: %" PRIu64 " bytes, up to entry %" PRIu64 " of the log at %s (%s)\n", path, made->total, made->index, server,
                             tool_age(made->leader_age_ms, age));
                return;
        }
        object = json_object_new_object();
        json_object_object_add(object, "file", tool_json_text(path));
        json_object_object_add(object, "index", json_object_new_uint64(made->index));
        json_object_object_add(object, "bytes", json_object_new_uint64(made->total));
        json_object_object_add(object, "leader_age_ms", tool_json_age(made->leader_age_ms));
        json_object_object_add(object, "server", tool_json_text(server));
        tool_put_json(object);
}

static int back_up(struct tool *tool, struct target *target)
{
        struct dlock_answer made;
        char *server;
        int code;

        if (dlock_backup(tool->dlock, 0, 0, &made) < 0)
                return tool_call_failed(tool);
        code = tool_outcome(&made);
        if (code)
                return code;
        server = strdup(made.server);
        if (!server)
                return tool_fail(EXIT_USAGE, "out of memory");
        code = take_pieces(tool, target, &made);
        if (code == EXIT_YES)
                code = finish_target(tool, target);
        if (code == EXIT_YES)
                show(tool, &made, server, target->path);
        free(server);
        return code;
}

int command_backup(struct tool *tool, char **operands)
{
        struct target target = { .fd = -1 };
        int code;

        if (tool->timeout_ms == 0)
                tool->timeout_ms = BACKUP_TIMEOUT_MS;
        code = tool_open(tool);
        if (code)
                return code;
        code = begin_target(tool, &target, operands[0]);
        if (code == EXIT_YES)
                code = back_up(tool, &target);
        end_target(&target);
        return code;
}
