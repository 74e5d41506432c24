#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "hold.h"

/* False: there is no such directory. */
static bool make_path(char *path, size_t size, const char *name)
{
        const char *directory = getenv("RUNTIME_DIRECTORY");

        return directory && directory[0] == '/' && !strchr(directory, ':') && (size_t)snprintf(path, size, "%s/%s", directory, name) < size;
}

/* A line of its own for each; names of units and cgroups have neither spaces nor line ends. */
static bool write_all(const struct hold *hold, FILE *file)
{
        const struct hold_record *record = &hold->record;

        (void)fprintf(file, "%s\n%s %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", record->lock, record->client, record->token, record->deadline_ms, record->margin_ms, record->session);
        for (size_t i = 0; i < hold->bound.count; i++)
                (void)fprintf(file, "%s %s\n", hold->bound.units[i].name, hold->bound.units[i].cgroup ? hold->bound.units[i].cgroup : "-");
        return !ferror(file);
}

bool hold_write_record(const struct hold *hold)
{
        char path[4096], next[4096];
        bool done = false;
        FILE *file;

        if (!make_path(path, sizeof(path), "hold") || !make_path(next, sizeof(next), "hold.new"))
                return true;
        file = fopen(next, "we");
        if (file) {
                done = write_all(hold, file);
                done = fclose(file) == 0 && done && rename(next, path) == 0;
        }
        if (!done)
                (void)tool_fail(0, "%s: %s", path, strerror(errno));
        return done;
}

static bool read_head(FILE *file, struct hold_record *record)
{
        char line[512];
        size_t length;

        if (!fgets(line, sizeof(line), file))
                return false;
        length = strcspn(line, "\n");
        if (length == 0 || length > DLOCK_NAME_MAX)
                return false;
        memcpy(record->lock, line, length);
        record->lock[length] = 0;
        record->session = 0;                 /* which an older version has not written */
        return fgets(line, sizeof(line), file) && sscanf(line, "%36s %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64, record->client, &record->token, &record->deadline_ms, &record->margin_ms, &record->session) >= 4 &&
               record->margin_ms <= record->deadline_ms;
}

bool hold_read_record(struct hold *hold)
{
        char path[4096], line[8192], name[BOUND_NAME_MAX + 1], cgroup[4096];
        FILE *file = make_path(path, sizeof(path), "hold") ? fopen(path, "re") : NULL;
        bool done;

        if (!file)
                return false;
        done = read_head(file, &hold->record);
        while (done && fgets(line, sizeof(line), file))
                if (sscanf(line, "%255s %4095s", name, cgroup) == 2)
                        (void)bound_add(&hold->bound, name, strcmp(cgroup, "-") == 0 ? "" : cgroup);
        (void)fclose(file);
        if (!done)
                (void)tool_fail(0, "%s is not understood", path);
        return done;
}

void hold_remove_record(void)
{
        char path[4096];

        if (make_path(path, sizeof(path), "hold"))
                (void)unlink(path);
}
