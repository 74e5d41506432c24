#include "base/diag.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

static diag_sink the_sink;
static _Atomic int the_level = DIAG_INFO;

void diag_set_sink(diag_sink sink)
{
        the_sink = sink;
}

void diag_set_level(enum diag_level level)
{
        the_level = level;
}

enum diag_level diag_get_level(void)
{
        return (enum diag_level)the_level;
}

void diag_fields(enum diag_level level, const struct diag_field *fields, size_t count, const char *format, ...)
{
        char text[1024];
        va_list arguments;

        if ((int)level > the_level)
                return;
        va_start(arguments, format);
        (void)vsnprintf(text, sizeof(text), format, arguments);
        va_end(arguments);
        if (the_sink)
                the_sink(level, text, fields, count);
        else if (getenv("JOURNAL_STREAM"))
                (void)fprintf(stderr, "<%d>%s\n", (int)level, text);
        else
                (void)fprintf(stderr, "%s\n", text);
}
