#include "base/holder.h"

#include <assert.h>
#include <string.h>

#include "base/name.h"

/* First byte: lets a field be added. */
#define HOLDER_FORMAT 1

static_assert(LIMIT_HOLDER_BYTES == 1 + 1 + LIMIT_NOTE_BYTES + 1 + LIMIT_HOST_BYTES + 1 + LIMIT_UNIT_BYTES + 4, "all fields at their longest");

static void put_text(struct bytes *bytes, const char *text, size_t size_max)
{
        size_t size = strlen(text);

        assert(size <= size_max);
        assert(name_is_clean_utf8(text, size));
        bytes_put_text8(bytes, text, size);
}

void holder_put(struct bytes *bytes, const struct holder *holder)
{
        if (!*holder->note && !*holder->host && !*holder->unit && holder->pid == 0)
                return;
        bytes_put_u8(bytes, HOLDER_FORMAT);
        put_text(bytes, holder->note, LIMIT_NOTE_BYTES);
        put_text(bytes, holder->host, LIMIT_HOST_BYTES);
        put_text(bytes, holder->unit, LIMIT_UNIT_BYTES);
        bytes_put_u32(bytes, holder->pid);
}

/* buffer NULL: only looked at. */
static void get_text(struct bytes_reader *reader, char *buffer, size_t size_max)
{
        size_t size = bytes_get_u8(reader);
        const char *text = (const char *)bytes_get(reader, size);

        if (!text)
                return;
        if (size > size_max || !name_is_clean_utf8(text, size)) {
                reader->bad = true;
                return;
        }
        if (!buffer)
                return;
        memcpy(buffer, text, size);
        buffer[size] = 0;
}

static bool is_well_formed(struct holder_view view, struct holder *holder)
{
        struct bytes_reader reader = bytes_reader_of(view.data, view.size);
        uint32_t pid;

        if (bytes_get_u8(&reader) != HOLDER_FORMAT)
                return false;
        get_text(&reader, holder ? holder->note : NULL, LIMIT_NOTE_BYTES);
        get_text(&reader, holder ? holder->host : NULL, LIMIT_HOST_BYTES);
        get_text(&reader, holder ? holder->unit : NULL, LIMIT_UNIT_BYTES);
        pid = bytes_get_u32(&reader);
        if (holder)
                holder->pid = pid;
        return bytes_reader_finished(&reader);
}

bool holder_get(struct holder_view view, struct holder *ret_holder)
{
        *ret_holder = (struct holder){ .pid = 0 };
        return view.size == 0 || is_well_formed(view, ret_holder);
}

void holder_view_put(struct bytes *bytes, struct holder_view view)
{
        bytes_put_text16(bytes, (const char *)view.data, view.size);
}

void holder_view_get(struct bytes_reader *reader, struct holder_view *ret_view)
{
        struct holder_view view = { .size = bytes_get_u16(reader) };

        view.data = bytes_get(reader, view.size);
        *ret_view = (struct holder_view){ .data = NULL };
        if (reader->bad || view.size == 0)
                return;
        if (is_well_formed(view, NULL))
                *ret_view = view;
        else
                reader->bad = true;
}
