/* internal.h - what the files of wire/ share. */
#pragma once

#include "wire/wire.h"

/* The fixed part of "length of what follows": type and tag. */
#define WIRE_FRAME_REST_BYTES (WIRE_HEADER_BYTES - 4)

/* Starts a frame whose length is not known yet; returns its offset for wire_frame_end. */
size_t wire_frame_begin(struct bytes *out, enum wire_type type, uint64_t tag);
void wire_frame_end(struct bytes *out, size_t frame_offset, size_t frame_max);

/* Text for people, for a terminal: what is not clean becomes '?', what is too long is cut. */
void wire_put_people_text(struct bytes *out, const char *text, size_t size_max);
void wire_get_people_text(struct bytes_reader *reader, char *buffer, size_t capacity);
/* A word: printable ASCII without spaces. */
void wire_put_word(struct bytes *out, const char *text, size_t size_max);
void wire_get_word(struct bytes_reader *reader, bool may_be_empty, char *buffer, size_t capacity);
void wire_get_node_name(struct bytes_reader *reader, bool may_be_empty, char buffer[LIMIT_NODE_NAME_BYTES + 1]);
/* 0 or 1, nothing else. */
bool wire_get_bool(struct bytes_reader *reader);
