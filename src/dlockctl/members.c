#include <inttypes.h>

#include "tool.h"

/* The leader answered: how far the others are only it knows. */
static bool leader_answered(const struct dlock_answer *answer)
{
        for (size_t i = 0; i < answer->count; i++)
                if (answer->members[i].leader)
                        return answer->members[i].match != 0;
        return false;
}

static const char *role_of(const struct dlock_member *member)
{
        return member->leader ? "leader" : member->voter ? "voter" : "learner";
}

static const char *state_of(const struct dlock_member *member)
{
        return member->linked ? "connected" : member->away ? "stopped" : "not connected";
}

/* In log entries, of those that are decided; false: not known. */
static bool behind(const struct dlock_answer *answer, const struct dlock_member *member, uint64_t *ret_behind)
{
        *ret_behind = answer->index > member->match ? answer->index - member->match : 0;
        return member->match != 0 && leader_answered(answer);
}

static void print_member(const struct dlock_answer *answer, const struct dlock_member *member)
{
        char number[24] = "-";
        uint64_t entries;

        if (behind(answer, member, &entries))
                (void)snprintf(number, sizeof(number), "%" PRIu64, entries);
        tool_print_column(member->name, 24);
        (void)printf("  %4" PRIu64 "  %-7s  %-13s  %7s  ", member->id, role_of(member), state_of(member), number);
        tool_print_column(*member->address ? member->address : "-", member->preferred || member->witness ? 21 : 0);
        (void)printf("%s%s\n", member->preferred ? "  preferred" : "", member->witness ? "  witness" : "");
}

static void put_member(const struct dlock_answer *answer, const struct dlock_member *member)
{
        struct json_object *object = json_object_new_object();
        uint64_t entries;
        bool known = behind(answer, member, &entries);

        json_object_object_add(object, "name", json_object_new_string(member->name));
        json_object_object_add(object, "id", json_object_new_uint64(member->id));
        json_object_object_add(object, "role", json_object_new_string(role_of(member)));
        json_object_object_add(object, "witness", json_object_new_boolean(member->witness));
        json_object_object_add(object, "preferred", json_object_new_boolean(member->preferred));
        json_object_object_add(object, "state", json_object_new_string(state_of(member)));
        json_object_object_add(object, "behind", known ? json_object_new_uint64(entries) : NULL);
        json_object_object_add(object, "address", tool_json_text(member->address));
        json_object_object_add(object, "level", member->level ? json_object_new_uint64(member->level) : NULL);
        tool_put_json(object);
}

int command_members(struct tool *tool, char **operands)
{
        struct dlock_answer answer;
        int code = tool_open(tool);

        (void)operands;
        if (code)
                return code;
        if (dlock_members(tool->dlock, &answer) < 0)
                return tool_call_failed(tool);
        code = tool_outcome(&answer);
        if (code)
                return code;
        if (answer.count > 0 && !tool->json)
                (void)printf("%-24s  %4s  %-7s  %-13s  %7s  %s\n", "NAME", "ID", "ROLE", "STATE", "BEHIND", "ADDRESS");
        for (size_t i = 0; i < answer.count; i++)
                if (tool->json)
                        put_member(&answer, &answer.members[i]);
                else
                        print_member(&answer, &answer.members[i]);
        if (!tool->json && answer.count == 0)
                (void)printf("the node at %s is not a member of a cluster yet\n", answer.server);
        else if (!tool->json && !leader_answered(&answer))
                (void)printf("(as %s sees it, which does not lead: how far the others are behind is not known there)\n", answer.server);
        return EXIT_YES;
}
