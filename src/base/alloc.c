#include "base/alloc.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static _Noreturn void out_of_memory(void)
{
        static const char message[] = "dlock: out of memory: stopping; nothing acknowledged is lost\n";

        (void)fwrite(message, 1, sizeof(message) - 1, stderr);
        abort();
}

void *alloc_zeroed(size_t count, size_t size)
{
        void *memory = calloc(count ? count : 1, size ? size : 1);

        if (!memory)
                out_of_memory();
        return memory;
}

void *alloc_resized(void *old, size_t count, size_t size)
{
        void *memory = reallocarray(old, count ? count : 1, size ? size : 1);

        if (!memory)
                out_of_memory();
        return memory;
}

char *alloc_text(const char *text, size_t size)
{
        char *copy = alloc_zeroed(size + 1, 1);

        if (size)
                memcpy(copy, text, size);
        return copy;
}
