/* Replays a corpus: runs the fuzzer's entry point once for every file of the
 * directories named on the command line, in any build, with any compiler. */
#include <dirent.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int replay_file(const char *directory, const char *name)
{
        static uint8_t data[4 * 1024 * 1024];
        char path[4096];
        _cleanup_fclose_ FILE *file = NULL;
        size_t size;

        (void)snprintf(path, sizeof(path), "%s/%s", directory, name);
        file = fopen(path, "re");
        if (!file) {
                perror(path);
                return 1;
        }
        size = fread(data, 1, sizeof(data), file);
        (void)LLVMFuzzerTestOneInput(data, size);
        return 0;
}

int main(int argc, char **argv)
{
        unsigned count = 0;

        for (int i = 1; i < argc; i++) {
                DIR *directory = opendir(argv[i]);
                const struct dirent *item;

                if (!directory) {
                        perror(argv[i]);
                        return 1;
                }
                while ((item = readdir(directory))) {
                        if (item->d_name[0] == '.')
                                continue;
                        if (replay_file(argv[i], item->d_name))
                                return 1;
                        count++;
                }
                (void)closedir(directory);
        }
        printf("%s: %u inputs replayed\n", argv[0], count);
        return count == 0;
}
