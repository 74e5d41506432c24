#include <inttypes.h>

#include "tool.h"

static void print_text(const char *label, const char *text, const char *otherwise)
{
        (void)printf("%-9s", label);
        tool_print(stdout, *text ? text : otherwise);
        (void)printf("\n");
}

static void print_status(const struct dlock_answer *answer)
{
        const struct dlock_status *status = answer->status;
        char age[64];

        print_text("node", status->node, "-");
        print_text("role", status->role, "-");
        print_text("leader", status->leader, "none known with a majority");
        if (status->leader_age_ms != 0)
                print_text("", tool_age(status->leader_age_ms, age), "");
        print_text("cluster", status->cluster, "not a member yet");
        (void)printf("%-9s%" PRIu64 "\n", "term", status->term);
        (void)printf("%-9s%" PRIu64 "\n", "commit", status->commit);
        (void)printf("%-9s%" PRIu64 "\n", "applied", status->applied);
        (void)printf("%-9s%" PRIu64 " to %" PRIu64 "\n", "log", status->log_first, status->log_last);
        (void)printf("%-9s%" PRIu64 "\n", "locks", status->locks);
        (void)printf("%-9s%" PRIu64 ", of them %" PRIu64 " vote\n", "members", status->members, status->voters);
        print_text("version", status->version, "-");
        print_text("server", answer->server, "-");
}

static void put_status(const struct dlock_answer *answer)
{
        const struct dlock_status *status = answer->status;
        struct json_object *object = json_object_new_object();

        json_object_object_add(object, "node", tool_json_text(status->node));
        json_object_object_add(object, "role", tool_json_text(status->role));
        json_object_object_add(object, "term", json_object_new_uint64(status->term));
        json_object_object_add(object, "commit", json_object_new_uint64(status->commit));
        json_object_object_add(object, "applied", json_object_new_uint64(status->applied));
        json_object_object_add(object, "leader", tool_json_text(status->leader));
        json_object_object_add(object, "leader_age_ms", tool_json_age(status->leader_age_ms));
        json_object_object_add(object, "cluster", tool_json_text(status->cluster));
        json_object_object_add(object, "log_first", json_object_new_uint64(status->log_first));
        json_object_object_add(object, "log_last", json_object_new_uint64(status->log_last));
        json_object_object_add(object, "locks", json_object_new_uint64(status->locks));
        json_object_object_add(object, "voters", json_object_new_uint64(status->voters));
        json_object_object_add(object, "members", json_object_new_uint64(status->members));
        json_object_object_add(object, "version", tool_json_text(status->version));
        json_object_object_add(object, "server", tool_json_text(answer->server));
        tool_put_json(object);
}

int command_status(struct tool *tool, char **operands)
{
        struct dlock_answer answer;
        int code = tool_open(tool);

        (void)operands;
        if (code)
                return code;
        if (dlock_status(tool->dlock, &answer) < 0)
                return tool_call_failed(tool);
        code = tool_outcome(&answer);
        if (code)
                return code;
        if (tool->json)
                put_status(&answer);
        else
                print_status(&answer);
        return EXIT_YES;
}
