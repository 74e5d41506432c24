#include "spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

void spawn_leave_files(int count)
{
        int fd = open("/dev/null", O_RDWR | O_CLOEXEC);

        for (int i = 0; i < count && fd >= 0; i++)
                (void)dup3(fd, i, O_CLOEXEC);
        if (fd >= count)
                (void)close(fd);
}

/* Is over also when the other process is. */
static void wait_for(int gate)
{
        char word;

        while (read(gate, &word, 1) < 0 && errno == EINTR) {
        }
}

_Noreturn static void begin(const struct spawn *spawn, pid_t parent, int report, int gate)
{
        int problem;

        (void)setpgid(0, spawn->group);
        if (spawn->output >= 0) {
                int input = open("/dev/null", O_RDONLY | O_CLOEXEC);

                (void)dup2(input, STDIN_FILENO);
                (void)dup2(spawn->output, STDOUT_FILENO);
        }
        if (spawn->ignores_child)
                (void)signal(SIGCHLD, SIG_IGN);
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
        wait_for(gate);
        if (getppid() != parent)
                _exit(127);
        (void)sigprocmask(SIG_SETMASK, spawn->mask, NULL);
        (void)execvp(spawn->argv[0], spawn->argv);
        problem = errno;
        (void)!write(report, &problem, sizeof(problem));
        _exit(127);
}

int spawn(const struct spawn *spawn, pid_t *ret_pid)
{
        pid_t pid, self = getpid();
        int report[2], gate[2], problem = 0;
        ssize_t size;

        if (pipe2(report, O_CLOEXEC) < 0)
                return -errno;
        if (pipe2(gate, O_CLOEXEC) < 0) {
                problem = errno;
                (void)close(report[0]);
                (void)close(report[1]);
                return -problem;
        }
        pid = fork();
        if (pid == 0) {
                (void)close(gate[1]);
                begin(spawn, self, report[1], gate[0]);
        }
        problem = pid < 0 ? errno : 0;
        (void)close(report[1]);
        if (pid > 0 && spawn->before)
                spawn->before(spawn->data, pid);
        (void)close(gate[0]);
        (void)close(gate[1]);
        do
                size = pid < 0 ? 0 : read(report[0], &problem, sizeof(problem));
        while (size < 0 && errno == EINTR);
        (void)close(report[0]);
        if (problem == 0)
                *ret_pid = pid;
        else if (pid > 0)
                (void)waitpid(pid, NULL, 0);
        return -problem;
}
