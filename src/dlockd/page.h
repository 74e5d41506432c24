/* page.h - answers to reads, from the tables to the wire. */
#pragma once

#include "dlockd/daemon.h"
#include "wire/wire.h"

/* CHECK or LIST, from the table as it is now; fresh false: min_index was not reached in time. */
void page_write_read(const struct daemon *daemon, struct bytes *out, const struct wire_request *request, bool fresh);
/* event NULL: the log could not be read. */
void page_write_history(const struct daemon *daemon, struct bytes *out, const struct wire_request *request, const struct store_event *event);
void page_write_members(const struct daemon *daemon, struct bytes *out, uint64_t tag);
void page_write_status(const struct daemon *daemon, struct bytes *out, uint64_t tag);
/* Why a read at some index could not be served in time. */
const char *page_why_not(const struct daemon *daemon, bool consistent);
