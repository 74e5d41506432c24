#include <inttypes.h>
#include <string.h>

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

/* Voters that the leader is connected to, itself among them; -1: not known, since it is another node that answers. */
static int voters_connected(const struct tool *tool)
{
        struct dlock_answer answer;
        bool leads = false;
        int count = 0;

        if (dlock_members(tool->dlock, &answer) < 0 || answer.outcome != DLOCK_YES)
                return -1;
        for (size_t i = 0; i < answer.count; i++) {
                const struct dlock_member *member = &answer.members[i];

                count += member->voter && member->linked;
                leads = leads || (member->leader && member->match != 0);
        }
        return leads ? count : -1;
}

static void print_majority(bool majority, int voters, int connected)
{
        int spare = connected - (voters / 2 + 1);

        if (!majority)
                (void)printf("%-9snone that this node knows of: changes wait\n", "majority");
        else if (connected < 0)
                (void)printf("%-9syes, the leader has one\n", "majority");
        else
                (void)printf("%-9syes, %d of %d voters connected: %d more may fail\n", "majority", connected, voters, spare > 0 ? spare : 0);
}

static struct json_object *describe(const struct dlock_answer *answer)
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
        return object;
}

int command_status(struct tool *tool, char **operands)
{
        struct json_object *object;
        struct dlock_answer answer;
        int code = tool_open(tool), voters, connected;
        bool majority, leads;

        (void)operands;
        if (code)
                return code;
        if (dlock_status(tool->dlock, &answer) < 0)
                return tool_call_failed(tool);
        code = tool_outcome(&answer);
        if (code)
                return code;
        majority = *answer.status->leader;
        leads = strcmp(answer.status->role, "leader") == 0;
        voters = (int)answer.status->voters;
        object = tool->json ? describe(&answer) : NULL;
        if (!object)
                print_status(&answer);
        /* The next question takes this answer away. */
        connected = leads ? voters_connected(tool) : -1;
        if (object) {
                json_object_object_add(object, "majority", json_object_new_boolean(majority));
                json_object_object_add(object, "voters_connected", connected >= 0 ? json_object_new_int(connected) : NULL);
                tool_put_json(object);
        } else {
                print_majority(majority, voters, connected);
        }
        return EXIT_YES;
}
