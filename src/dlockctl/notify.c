#include "notify.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

int notify_open(void)
{
        const char *path = getenv("NOTIFY_SOCKET");
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        size_t length = path ? strlen(path) : 0;
        int fd;

        if (length < 2 || length >= sizeof(address.sun_path) || (path[0] != '/' && path[0] != '@'))
                return -1;
        memcpy(address.sun_path, path, length);
        if (path[0] == '@')
                address.sun_path[0] = 0;             /* of the abstract name space */
        fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd >= 0 && connect(fd, (struct sockaddr *)&address, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length)) < 0) {
                (void)close(fd);
                return -1;
        }
        return fd;
}

bool notify(int fd, const char *format, ...)
{
        char text[2048];
        va_list values;
        int length;

        if (fd < 0)
                return false;
        va_start(values, format);
        length = vsnprintf(text, sizeof(text), format, values);
        va_end(values);
        if (length < 0 || (size_t)length >= sizeof(text))
                return false;
        return send(fd, text, (size_t)length, MSG_NOSIGNAL | MSG_DONTWAIT) == length;
}
