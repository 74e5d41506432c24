/* notify.h - tells systemd how the service is that this process is the main process of.
 *
 * The protocol of sd_notify(3), but a message that systemd does not take at once is dropped: with a systemd that hangs, a lease
 * has to be renewed all the same. */
#pragma once

#include "tool.h"

/* Who is to be told, from $NOTIFY_SOCKET; -1: nobody. Children do not inherit it. */
int notify_open(void);
/* Lines of VARIABLE=VALUE. False: systemd did not take them, or there is nobody to tell. */
bool notify(int socket, const char *format, ...) TOOL_PRINTF(2, 3);
