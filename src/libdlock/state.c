#include "libdlock/state.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <systemd/sd-id128.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/random.h"

/* Random once; mixed with the machine's id, so that the files of several machines can share a home. */
#define STATE_APPLICATION SD_ID128_MAKE(d8,52,ff,c6,97,23,40,09,95,21,1b,76,c5,e7,d6,3d)

struct place {
        char directory[PATH_MAX];
        char path[PATH_MAX + NAME_MAX];
};

static int _printf_(3, 4) fail(int error, char text[STATE_ERROR_BYTES], const char *format, ...)
{
        va_list values;

        va_start(values, format);
        (void)vsnprintf(text, STATE_ERROR_BYTES, format, values);
        va_end(values);
        return error;
}

/* --- where --- */

static bool is_directory(const char *path, struct stat *ret_status)
{
        return path[0] == '/' && strlen(path) < PATH_MAX && stat(path, ret_status) == 0 && S_ISDIR(ret_status->st_mode);
}

/* A home that belongs to somebody else - sudo may leave the caller's - is not the place for this user's id. A home that is not
 * there is not made: many a service's user has /nonexistent on purpose. */
static bool home_of_user(char home[PATH_MAX])
{
        const char *text = secure_getenv("HOME");
        char buffer[4096];
        struct passwd user, *found = NULL;
        struct stat status;

        if (text && is_directory(text, &status) && status.st_uid == geteuid()) {
                (void)strcpy(home, text);
                return true;
        }
        if (getpwuid_r(geteuid(), &user, buffer, sizeof(buffer), &found) != 0 || !found || !is_directory(user.pw_dir, &status))
                return false;
        (void)strcpy(home, user.pw_dir);
        return true;
}

/* A machine without an id - a bare chroot - is told by its name. */
static void machine_name(char name[SD_ID128_STRING_MAX + HOST_NAME_MAX + 8])
{
        char host[HOST_NAME_MAX + 1] = "";
        sd_id128_t id;

        if (sd_id128_get_machine_app_specific(STATE_APPLICATION, &id) >= 0) {
                (void)sd_id128_to_string(id, name);
                return;
        }
        (void)gethostname(host, sizeof(host) - 1);
        for (char *s = host; *s; s++)
                if (*s == '/' || *s <= ' ' || *s > '~')
                        *s = '_';
        (void)sprintf(name, "host-%s", host);
}

/* 0 or -ENOENT. */
static int find_place(enum state_kind kind, struct place *place, char error[STATE_ERROR_BYTES])
{
        const char *state = secure_getenv("XDG_STATE_HOME");
        char home[PATH_MAX], name[SD_ID128_STRING_MAX + HOST_NAME_MAX + 8];
        int size;

        if (state && state[0] == '/')
                size = snprintf(place->directory, sizeof(place->directory), "%s/dlock", state);
        else if (home_of_user(home))
                size = snprintf(place->directory, sizeof(place->directory), "%s/.local/state/dlock", home);
        else
                return fail(-ENOENT, error, "this user has no home directory of its own");
        if (size >= (int)sizeof(place->directory))
                return fail(-ENOENT, error, "the path of this user's home directory is too long");
        machine_name(name);
        (void)snprintf(place->path, sizeof(place->path), "%s/%s-%s", place->directory, kind == STATE_CLIENT ? "client" : "cluster", name);
        return 0;
}

/* --- reading --- */

static int read_file(const char *path, struct id128 *ret_id, char error[STATE_ERROR_BYTES])
{
        _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
        char text[64];
        ssize_t size;
        int r;

        if (fd < 0) {
                r = errno == ENOTDIR ? -ENOENT : -errno;
                return fail(r, error, "%s: %s", path, strerror(-r));
        }
        size = read(fd, text, sizeof(text) - 1);
        if (size < 0) {
                r = -errno;
                return fail(r, error, "%s: %s", path, strerror(-r));
        }
        text[size] = 0;
        if (size > 0 && text[size - 1] == '\n')
                text[size - 1] = 0;
        if (!id128_parse(text, ret_id) || id128_is_null(*ret_id))
                return fail(-EBADMSG, error, "%s: a UUID on one line would be right; remove the file to start anew", path);
        return 0;
}

int state_read(enum state_kind kind, struct id128 *ret_id, char error[STATE_ERROR_BYTES])
{
        struct place place;
        int r = find_place(kind, &place, error);

        return r < 0 ? r : read_file(place.path, ret_id, error);
}

/* --- writing --- */

static void sync_directory(const char *path)
{
        _cleanup_close_ int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

        if (fd >= 0)
                (void)fsync(fd);
}

static int make_one_directory(const char *path)
{
        char parent[PATH_MAX];
        struct stat status;
        int r;

        if (mkdir(path, 0700) < 0) {
                r = -errno;
                /* Read-only file systems say so also of what is there. */
                return r == -EEXIST || (stat(path, &status) == 0 && S_ISDIR(status.st_mode)) ? 0 : r;
        }
        (void)snprintf(parent, sizeof(parent), "%.*s", (int)(strrchr(path, '/') - path), path);
        sync_directory(*parent ? parent : "/");
        return 0;
}

/* As mkdir -p; the XDG rules want 0700 for what is new. */
static int make_directory(const char *directory)
{
        char path[PATH_MAX];
        int r = 0;

        (void)strcpy(path, directory);
        for (char *slash = strchr(path + 1, '/'); r == 0 && slash; slash = strchr(slash + 1, '/')) {
                *slash = 0;
                r = make_one_directory(path);
                *slash = '/';
        }
        return r < 0 ? r : make_one_directory(path);
}

static int write_whole(int fd, const char *text, size_t size)
{
        while (size > 0) {
                ssize_t n = write(fd, text, size);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                text += n;
                size -= (size_t)n;
        }
        return fsync(fd) < 0 ? -errno : 0;
}

/* Names the finished file; -EEXIST: somebody else's was there first. */
static int publish(const char *temporary, const char *path)
{
        if (renameat2(AT_FDCWD, temporary, AT_FDCWD, path, RENAME_NOREPLACE) == 0)
                return 0;
        if (errno != EINVAL && errno != ENOSYS)
                return -errno;
        /* Network file systems know no such rename, but links. */
        if (link(temporary, path) < 0)
                return -errno;
        (void)unlink(temporary);
        return 0;
}

static int write_file(const struct place *place, struct id128 id)
{
        char temporary[PATH_MAX + 64], text[ID128_TEXT_BYTES + 1], random[ID128_TEXT_BYTES];
        _cleanup_close_ int fd = -1;
        int r;

        (void)snprintf(temporary, sizeof(temporary), "%s/.new-%s", place->directory, id128_format(id128_random(), random));
        (void)id128_format(id, text);
        text[ID128_TEXT_BYTES - 1] = '\n';
        fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOCTTY, 0600);
        if (fd < 0)
                return -errno;
        r = write_whole(fd, text, ID128_TEXT_BYTES);
        if (r == 0)
                r = publish(temporary, place->path);
        if (r < 0)
                (void)unlink(temporary);
        return r;
}

int state_keep(enum state_kind kind, struct id128 id, struct id128 *ret_id, char error[STATE_ERROR_BYTES])
{
        struct place place;
        int r;

        r = find_place(kind, &place, error);
        if (r < 0)
                return r;
        r = make_directory(place.directory);
        if (r == 0)
                r = write_file(&place, id);
        if (r < 0 && r != -EEXIST)
                return fail(r, error, "%s cannot be written: %s", place.path, strerror(-r));
        /* Whoever was first: nobody uses an id that a power cut could take away. */
        sync_directory(place.directory);
        return read_file(place.path, ret_id, error);
}

int state_forget(enum state_kind kind, char error[STATE_ERROR_BYTES])
{
        struct place place;
        int r = find_place(kind, &place, error);

        if (r == -ENOENT)
                return 0;
        if (unlink(place.path) < 0 && errno != ENOENT && errno != ENOTDIR) {
                r = -errno;
                return fail(r, error, "%s cannot be removed: %s", place.path, strerror(-r));
        }
        sync_directory(place.directory);
        return 0;
}
