#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "target.h"
#include "tool.h"

/* A node copies its whole database before it answers. */
#define BACKUP_TIMEOUT_MS 600000

const char backup_details[] =
        "\nOf the node that answers: its whole database, as of one moment, in an SQLite file that only you may read. FILE is written\n"
        "beside and renamed when it is complete. Only root and the user that the node runs as may, on the node's host. How a new\n"
        "cluster is made of it tells dlockd(8), section Disaster.\n"
        "  --force                      replace FILE if it is there\n"
        "--json: file, index, bytes, leader_age_ms, server.\n";

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
                        code = target_write(target, answer.data, answer.size);
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
                code = target_finish(target);
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
        code = target_begin(&target, operands[0], tool->force ? TARGET_REPLACE : TARGET_NEW);
        if (code == EXIT_YES)
                code = back_up(tool, &target);
        target_end(&target);
        return code;
}
