#include "tool.h"

int command_whoami(struct tool *tool, char **operands)
{
        char cluster[37] = "";
        const char *client;
        int code = tool_open(tool);

        (void)operands;
        if (code)
                return code;
        if (tool->client && !*tool->client)
                return tool_fail(EXIT_USAGE, "an id that the leader assigns is known after the first request; an id for --client, or no --client, would be right");
        if (!tool->client && dlock_set_client(tool->dlock, NULL) < 0)
                return tool_call_failed(tool);
        client = dlock_get_client(tool->dlock);
        if (tool->json) {
                struct json_object *object = json_object_new_object();

                (void)dlock_get_cluster(tool->dlock, cluster, sizeof(cluster));
                json_object_object_add(object, "client", tool_json_text(client));
                json_object_object_add(object, "cluster", tool_json_text(cluster));
                tool_put_json(object);
        } else {
                tool_print(stdout, client);
                (void)printf("\n");
        }
        return EXIT_YES;
}
