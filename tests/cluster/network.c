/* network.c - hosts on a network that can be cut, made slow and made lossy.
 *
 * usage: network SEED NUMBER...
 *
 * Makes one network namespace for each number N, with the address 10.77.0.N/24 on a TUN device whose other end is
 * here, and carries packets between them. What a link loses is gone without a trace, as on a cable that was pulled:
 * no reset, no unreachable. So netem and nft are not needed, and neither are ip and a kernel that has them.
 *
 * It prints "N FD" for each number, so that others enter by /proc/PID/fd/FD, then "ready". Then every line on stdin
 *     FROM TO LOSS DELAY_US JITTER_US TWICE
 * sets the link from one host to another, in that direction only: LOSS and TWICE are chances in a thousand that a
 * packet is lost and that it comes twice; jitter puts packets out of order. The answer "ok" says that it holds from
 * now on. The end of stdin ends the program, and with it the network. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#define HOSTS 256
#define MTU 9000
/* What is on its way at once; beyond it packets are lost, as in any queue. */
#define QUEUE 65536

struct link {
        unsigned loss, delay_us, jitter_us, twice;
};

struct packet {
        uint64_t due_us, number;
        int fd;
        size_t size;
        uint8_t *data;
};

static int hosts[HOSTS];                     /* the TUN device, or 0 */
static struct link links[HOSTS][HOSTS];
static struct packet queue[QUEUE];           /* a heap, the first due on top */
static size_t queued;
static uint64_t packets, dice;

static void fail(const char *what)
{
        (void)fprintf(stderr, "network: %s: %s\n", what, strerror(errno));
        exit(1);
}

static uint64_t now_us(void)
{
        struct timespec now;

        (void)clock_gettime(CLOCK_MONOTONIC, &now);
        return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static uint64_t roll(void)
{
        dice += UINT64_C(0x9e3779b97f4a7c15);
        uint64_t x = (dice ^ (dice >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
        x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
        return x ^ (x >> 31);
}

/* --- hosts --- */

static void configure(int control, struct ifreq *request, unsigned long call, const char *what)
{
        if (ioctl(control, call, request) < 0)
                fail(what);
}

static void bring_up(int control, const char *name)
{
        struct ifreq request = {};

        (void)strcpy(request.ifr_name, name);
        configure(control, &request, SIOCGIFFLAGS, name);
        request.ifr_flags = (short)(request.ifr_flags | IFF_UP);
        configure(control, &request, SIOCSIFFLAGS, name);
}

static void set_address(int control, unsigned long call, const char *address)
{
        struct ifreq request = { .ifr_name = "eth0" };
        struct sockaddr_in internet = { .sin_family = AF_INET };

        (void)inet_pton(AF_INET, address, &internet.sin_addr);
        (void)memcpy(&request.ifr_addr, &internet, sizeof(internet));
        configure(control, &request, call, address);
}

static int make_device(const char *node)
{
        struct ifreq request = { .ifr_name = "eth0", .ifr_flags = IFF_TUN | IFF_NO_PI };
        int fd = open(node, O_RDWR | O_CLOEXEC | O_NONBLOCK);

        if (fd < 0)
                fail(node);
        configure(fd, &request, TUNSETIFF, "a TUN device");
        return fd;
}

static void make_host(unsigned number, const char *node)
{
        struct ifreq request = { .ifr_name = "eth0", .ifr_mtu = MTU };
        char address[32];
        int control, name;

        if (unshare(CLONE_NEWNET) < 0)
                fail("a network namespace");
        name = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
        control = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        if (name < 0 || control < 0)
                fail("the namespace");
        hosts[number] = make_device(node);
        (void)snprintf(address, sizeof(address), "10.77.0.%u", number);
        set_address(control, SIOCSIFADDR, address);
        set_address(control, SIOCSIFNETMASK, "255.255.255.0");
        configure(control, &request, SIOCSIFMTU, "the MTU");
        bring_up(control, "eth0");
        bring_up(control, "lo");
        (void)close(control);
        (void)printf("%u %d\n", number, name);
}

/* In a chroot /dev may lack it; /tmp may be a file system that takes no devices. */
static const char *find_node(char made[])
{
        int fd;

        if (access("/dev/net/tun", R_OK | W_OK) == 0)
                return "/dev/net/tun";
        fd = mkstemp(made);
        if (fd < 0)
                fail(made);
        (void)close(fd);
        (void)unlink(made);
        if (mknod(made, S_IFCHR | 0600, makedev(10, 200)) < 0)
                fail("a device node for TUN");
        return made;
}

static void make_hosts(char *const *numbers)
{
        char made[] = "/tmp/dlock-network-XXXXXX";
        const char *node = find_node(made);

        for (; *numbers; numbers++) {
                unsigned long number = strtoul(*numbers, NULL, 10);

                if (number == 0 || number >= HOSTS - 1)
                        fail(*numbers);
                make_host((unsigned)number, node);
        }
        if (node == made)
                (void)unlink(made);
}

/* --- packets on their way --- */

static bool is_before(const struct packet *a, const struct packet *b)
{
        return a->due_us != b->due_us ? a->due_us < b->due_us : a->number < b->number;
}

static void push(const struct packet *packet)
{
        size_t at = queued++;

        for (; at > 0 && is_before(packet, &queue[(at - 1) / 2]); at = (at - 1) / 2)
                queue[at] = queue[(at - 1) / 2];
        queue[at] = *packet;
}

static struct packet pop(void)
{
        struct packet first = queue[0], last = queue[--queued];
        size_t at = 0;

        for (size_t child; (child = 2 * at + 1) < queued; at = child) {
                if (child + 1 < queued && is_before(&queue[child + 1], &queue[child]))
                        child++;
                if (!is_before(&queue[child], &last))
                        break;
                queue[at] = queue[child];
        }
        queue[at] = last;
        return first;
}

/* A full device queue or one that is gone loses the packet. */
static void deliver(int fd, const uint8_t *data, size_t size)
{
        ssize_t n = write(fd, data, size);

        (void)n;
}

static void deliver_due(void)
{
        uint64_t now = now_us();

        while (queued > 0 && queue[0].due_us <= now) {
                struct packet packet = pop();

                deliver(packet.fd, packet.data, packet.size);
                free(packet.data);
        }
}

static void carry_later(const struct link *link, int fd, const uint8_t *data, size_t size)
{
        struct packet packet = {
                .due_us = now_us() + link->delay_us + (link->jitter_us ? roll() % link->jitter_us : 0),
                .number = ++packets,
                .fd = fd,
                .size = size,
        };

        if (queued == QUEUE)
                return;
        packet.data = malloc(size);
        if (!packet.data)
                fail("memory");
        (void)memcpy(packet.data, data, size);
        push(&packet);
}

static void carry(const struct link *link, int fd, const uint8_t *data, size_t size)
{
        if (link->loss && roll() % 1000 < link->loss)
                return;
        for (int copies = link->twice && roll() % 1000 < link->twice ? 2 : 1; copies > 0; copies--) {
                if (link->delay_us || link->jitter_us)
                        carry_later(link, fd, data, size);
                else
                        deliver(fd, data, size);
        }
}

/* A bounded number, so that lines on stdin are not left waiting. */
static void receive(unsigned from)
{
        uint8_t data[MTU + 64];

        for (int rounds = 0; rounds < 64; rounds++) {
                ssize_t size = read(hosts[from], data, sizeof(data));

                if (size < 20)
                        return;
                /* IPv4 within 10.77.0.0/24; the last byte of the destination is the host. */
                if (data[0] >> 4 == 4 && data[16] == 10 && data[17] == 77 && data[18] == 0 && hosts[data[19]])
                        carry(&links[from][data[19]], hosts[data[19]], data, (size_t)size);
        }
}

/* --- commands --- */

static void obey(const char *line)
{
        unsigned from, to;
        struct link link;

        if (sscanf(line, "%u %u %u %u %u %u", &from, &to, &link.loss, &link.delay_us, &link.jitter_us, &link.twice) != 6 ||
            from >= HOSTS || to >= HOSTS) {
                (void)fprintf(stderr, "network: not understood: %s\n", line);
                exit(1);
        }
        links[from][to] = link;
        (void)puts("ok");
}

static void read_commands(void)
{
        static char lines[65536];
        static size_t size;
        ssize_t n = read(STDIN_FILENO, lines + size, sizeof(lines) - size - 1);
        char *start = lines, *end;

        if (n <= 0)
                exit(0);
        size += (size_t)n;
        lines[size] = 0;
        for (; (end = strchr(start, '\n')); start = end + 1) {
                *end = 0;
                obey(start);
        }
        size -= (size_t)(start - lines);
        (void)memmove(lines, start, size);
        (void)fflush(stdout);
}

static struct timespec time_to_next(void)
{
        uint64_t now = now_us(), left = 1000000;

        if (queued > 0)
                left = queue[0].due_us > now ? queue[0].due_us - now : 0;
        if (left > 1000000)
                left = 1000000;
        return (struct timespec){ .tv_sec = (time_t)(left / 1000000), .tv_nsec = (long)(left % 1000000 * 1000) };
}

static void run(void)
{
        struct pollfd polled[HOSTS] = { { .fd = STDIN_FILENO, .events = POLLIN } };
        unsigned number[HOSTS], count = 1;

        for (unsigned host = 0; host < HOSTS; host++) {
                if (!hosts[host])
                        continue;
                number[count] = host;
                polled[count++] = (struct pollfd){ .fd = hosts[host], .events = POLLIN };
        }
        for (;;) {
                struct timespec left = time_to_next();

                if (ppoll(polled, count, &left, NULL) < 0)
                        fail("poll");
                if (polled[0].revents)
                        read_commands();
                for (unsigned i = 1; i < count; i++)
                        if (polled[i].revents)
                                receive(number[i]);
                deliver_due();
        }
}

int main(int argc, char **argv)
{
        if (argc < 3) {
                (void)fprintf(stderr, "usage: network SEED NUMBER...\n");
                return 2;
        }
        dice = strtoull(argv[1], NULL, 10);
        make_hosts(argv + 2);
        (void)puts("ready");
        (void)fflush(stdout);
        run();
}
