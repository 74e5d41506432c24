#include "tool.h"

int command_forget_cluster(struct tool *tool, char **operands)
{
        char cluster[37] = "";
        int code = tool_open(tool);

        (void)operands;
        if (code)
                return code;
        /* Whatever the file holds, it is to go. */
        (void)dlock_get_cluster(tool->dlock, cluster, sizeof(cluster));
        if (dlock_forget_cluster(tool->dlock) < 0)
                return tool_call_failed(tool);
        if (tool->json) {
                struct json_object *object = json_object_new_object();

                json_object_object_add(object, "forgotten", tool_json_text(cluster));
                tool_put_json(object);
        } else if (*cluster) {
                (void)printf("cluster %s is forgotten\n", cluster);
        } else {
                (void)printf("no cluster was known\n");
        }
        return EXIT_YES;
}
