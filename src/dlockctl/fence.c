#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "target.h"
#include "tool.h"

#define TIMEOUT_MS 10000
#define LOOK_MS 20
#define PIECE_BYTES 65536
/* Beside a command's own statuses: this plus the usual one; and the shell's two. */
#define EXIT_BESIDE 120
#define EXIT_NOT_RUN 126
#define EXIT_NOT_FOUND 127

const char fence_details[] =
        "\nFor whoever uses a resource under a lock, and may be late: FILE, beside the resource, remembers the highest token that was\n"
        "accepted. A lower one is refused; nothing is asked of a server. While a COMMAND runs, or input is put into place, nobody else is\n"
        "accepted.\n"
        "  --token TOKEN                that of the grant; else $DLOCK_TOKEN\n"
        "  --into PATH                  read input to its end, and when the token is accepted then, put it into place as PATH\n"
        "  COMMAND [ARG...]             run when the token is accepted; then its status is that of dlockctl, which adds 120 to its own,\n"
        "                               so that 121 is refused; 126 and 127: it cannot be run, or there is none\n"
        "--json: accepted, token, highest.\n";

struct fence {
        const char *file;
        uint64_t token, highest;
        char **command;                      /* NULL: none */
        int fd;                              /* whoever has it keeps others out */
};

static int status_of(const struct fence *fence, int code)
{
        return fence->command && code != EXIT_YES ? EXIT_BESIDE + code : code;
}

static int find_token(const struct tool *tool, uint64_t *ret_token)
{
        const char *given = getenv("DLOCK_TOKEN");

        *ret_token = tool->token;
        if (tool->token)
                return EXIT_YES;
        if (!given || !*given)
                return tool_fail(EXIT_USAGE, "no token: --token with that of the grant, or DLOCK_TOKEN, would be right");
        if (!tool_parse_token(given, ret_token))
                return tool_fail(EXIT_USAGE, "DLOCK_TOKEN=%s: a number from 1 to 2^53 - 1, as preempt tells it, would be right", given);
        return EXIT_YES;
}

static uint64_t now_ms(void)
{
        struct timespec now;

        (void)clock_gettime(CLOCK_MONOTONIC, &now);
        return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* Waits for whoever is at it. */
static int try_fence(const struct tool *tool, struct fence *fence)
{
        uint64_t until = now_ms() + (tool->timeout_ms ? tool->timeout_ms : TIMEOUT_MS);
        const struct timespec moment = { .tv_nsec = LOOK_MS * 1000000L };

        for (;;) {
                fence->fd = dlock_fence(fence->file, fence->token, 0, &fence->highest);
                if (fence->fd != -EWOULDBLOCK)
                        return fence->fd;
                if (now_ms() >= until)
                        return -ETIMEDOUT;
                (void)nanosleep(&moment, NULL);
        }
}

static int ask_fence(const struct tool *tool, struct fence *fence)
{
        int r = try_fence(tool, fence);

        switch (r) {
        case -ESTALE:
                return EXIT_NO;
        case -ETIMEDOUT:
                return tool_fail(EXIT_UNREACHABLE, "%s: somebody who was accepted has not finished yet; nothing has happened", fence->file);
        case -EBADMSG:
                return tool_fail(EXIT_USAGE, "%s is something else than the memory of a fence; a file of its own would be right", fence->file);
        default:
                if (r < 0)
                        return tool_fail(EXIT_USAGE, "%s cannot be used: %s", fence->file, strerror(-r));
                return EXIT_YES;
        }
}

/* In words on standard output when that is all there is to do; else only a refusal is told, beside it. */
static void show(const struct tool *tool, const struct fence *fence, bool accepted, bool alone)
{
        struct json_object *object;

        if (!alone && accepted)
                return;
        if (!alone) {
                (void)tool_fail(0, "%s: token %" PRIu64 " is refused, %" PRIu64 " was accepted before", fence->file, fence->token, fence->highest);
                return;
        }
        if (tool->json) {
                object = json_object_new_object();
                json_object_object_add(object, "accepted", json_object_new_boolean(accepted));
                json_object_object_add(object, "token", tool_json_token(fence->token));
                json_object_object_add(object, "highest", tool_json_token(accepted ? fence->token : fence->highest));
                tool_put_json(object);
                return;
        }
        tool_print(stdout, fence->file);
        if (accepted)
                (void)printf(": token %" PRIu64 " accepted\n", fence->token);
        else
                (void)printf(": token %" PRIu64 " refused, %" PRIu64 " was accepted before\n", fence->token, fence->highest);
}

/* Does not return when it can be run: it and all that it leaves behind keep the fence. */
static int run(const struct fence *fence)
{
        int problem;

        (void)fcntl(fence->fd, F_SETFD, 0);
        (void)signal(SIGPIPE, SIG_DFL);
        (void)execvp(fence->command[0], fence->command);
        problem = errno;
        return tool_fail(problem == ENOENT ? EXIT_NOT_FOUND : EXIT_NOT_RUN, "%s cannot be run: %s", fence->command[0], strerror(problem));
}

static int check(const struct tool *tool, struct fence *fence)
{
        int code = ask_fence(tool, fence);

        if (code <= EXIT_NO)
                show(tool, fence, code == EXIT_YES, !fence->command);
        if (code != EXIT_YES)
                return status_of(fence, code);
        return fence->command ? run(fence) : EXIT_YES;
}

static int take_input(struct target *target)
{
        char data[PIECE_BYTES];

        for (;;) {
                ssize_t size = read(STDIN_FILENO, data, sizeof(data));

                if (size == 0)
                        return target_sync(target);
                if (size < 0 && errno != EINTR)
                        return tool_fail(EXIT_USAGE, "standard input fails: %s", strerror(errno));
                if (size > 0 && target_write(target, data, (size_t)size) != 0)
                        return EXIT_USAGE;
        }
}

/* The memory of the fence would be replaced by the input, and whoever is late accepted. */
static int check_apart(const char *file, const char *path)
{
        struct stat memory, resource;

        if (strcmp(file, path) == 0 || (stat(file, &memory) == 0 && stat(path, &resource) == 0 && memory.st_dev == resource.st_dev && memory.st_ino == resource.st_ino))
                return tool_fail(EXIT_USAGE, "--into %s: that is FILE, which remembers the token; a file of its own, like %s.fence, would be right", path, path);
        return EXIT_YES;
}

/* The check comes last: whoever was slow is found out. */
static int put_into_place(const struct tool *tool, struct fence *fence)
{
        struct target target = { .fd = -1 };
        int code = check_apart(fence->file, tool->into);

        if (code == EXIT_YES)
                code = target_begin(&target, tool->into, TARGET_SHARED);
        if (code == EXIT_YES)
                code = take_input(&target);
        if (code == EXIT_YES)
                code = ask_fence(tool, fence);
        /* Neither was there before. */
        if (code == EXIT_YES)
                code = check_apart(fence->file, tool->into);
        if (code == EXIT_YES)
                code = target_finish(&target);
        if (code <= EXIT_NO)
                show(tool, fence, code == EXIT_YES, tool->json);
        target_end(&target);
        return code;
}

int command_fence(struct tool *tool, char **operands)
{
        struct fence fence = { .file = operands[0], .command = operands[1] ? operands + 1 : NULL, .fd = -1 };
        int code;

        if (fence.command && strcmp(fence.command[0], "--") == 0)
                fence.command = fence.command[1] ? fence.command + 1 : NULL;
        if (fence.command && (tool->into || tool->json))
                return tool_fail(EXIT_USAGE, "%s and a command: one of them would be right", tool->into ? "--into" : "--json");
        code = find_token(tool, &fence.token);
        if (code != EXIT_YES)
                return status_of(&fence, code);
        code = tool->into ? put_into_place(tool, &fence) : check(tool, &fence);
        if (fence.fd >= 0)
                (void)close(fence.fd);
        return code;
}
