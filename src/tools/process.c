/* SPDX-License-Identifier: MIT */
/* process.c: the life of a long-running program; see process.h. */
#include "process.h"
#include "base/osdep.h"
#include "ending.h"
#include "block/block_int-global-state.h"
#include "block/blockjob.h"
#include "block/export.h"
#include "qmp/chardev.h"
#include "qmp/monitor.h"
#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/signalfd.h>

static int daemon_pipe = -1;

void process_daemonize(void)
{
    int fds[2];
    char status = 1;

    if (pipe(fds) < 0) {
        error_report("cannot daemonize: %s", strerror(errno));
        exit(EXIT_FAILURE);
    }
    pid_t pid = fork();

    if (pid < 0) {
        error_report("cannot daemonize: %s", strerror(errno));
        exit(EXIT_FAILURE);
    }
    if (pid > 0) {
        close(fds[1]);
        while (read(fds[0], &status, 1) < 0 && errno == EINTR) {
        }
        exit(status ? EXIT_FAILURE : EXIT_SUCCESS);
    }
    close(fds[0]);
    fcntl(fds[1], F_SETFD, FD_CLOEXEC);
    daemon_pipe = fds[1];
    setsid();
}

static void daemon_started(void)
{
    char ok = 0;
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);

    if (daemon_pipe < 0) {
        if (null >= 0) {
            close(null);
        }
        return;
    }
    fflush(stdout);
    if (null >= 0) {
        dup2(null, 0);
        dup2(null, 1);
        dup2(null, 2);
        close(null);
    }
    ssize_t n = write(daemon_pipe, &ok, 1);

    (void)n;
    close(daemon_pipe);
}

static void pid_file_write(const char *pid_file)
{
    char text[32];
    int fd = open(pid_file, O_RDWR | O_CREAT | O_CLOEXEC, 0644);

    if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) < 0) {
        error_report("cannot create PID file: Could not create '%s': %s", pid_file, strerror(errno));
        exit(EXIT_FAILURE);
    }
    snprintf(text, sizeof(text), "%ld\n", (long)getpid());
    if (ftruncate(fd, 0) < 0 || write(fd, text, strlen(text)) < 0) {
        error_report("cannot create PID file: Failed to write pid file: %s", strerror(errno));
        exit(EXIT_FAILURE);
    }
    /* kept open: the lock says that we live */
}

static void signal_ready(void *opaque)
{
    struct signalfd_siginfo si;

    if (read(GPOINTER_TO_INT(opaque), &si, sizeof(si)) > 0) {
        monitor_request_quit();
    }
}

static void signals_init(void)
{
    sigset_t set;
    int fd;

    signal(SIGPIPE, SIG_IGN);
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    sigprocmask(SIG_BLOCK, &set, NULL);
    fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    aio_set_fd_handler(qemu_get_aio_context(), fd, signal_ready, NULL, GINT_TO_POINTER(fd));
}

void process_start(void)
{
    aio_init_main(NULL, &error_fatal);
    bdrv_init();
    signals_init();
}

static void iothreads_destroy(void)
{
    IOThread *t;

    while ((t = iothread_next(NULL))) {
        iothread_destroy(t, &error_abort);
    }
}

static const char *pid_file_path;
static void (*before_end)(void);

void process_before_end(void (*fn)(void))
{
    before_end = fn;
}

/* Nobody waits for us any longer, and nothing of ours is left lying. */
static void last_words(void)
{
    nbd_server_unlink();
    monitor_answer_quit();
    chardev_cleanup();
    if (pid_file_path) {
        unlink(pid_file_path);
    }
}

void process_end(void)
{
    if (before_end) {
        before_end();
    }
    human_monitor_end();
    bool clean = ending_run(last_words);

    if (!clean) {
        /* Threads may still be busy with what was given up: nothing is taken away under them. */
        last_words();
        _exit(EXIT_FAILURE);
    }
    iothreads_destroy();
    last_words();
}

int process_run(const char *pid_file)
{
    if (pid_file) {
        pid_file_write(pid_file);
    }
    pid_file_path = pid_file;
    daemon_started();
    while (!monitor_quit_requested()) {
        aio_poll(qemu_get_aio_context(), true);
    }
    process_end();
    return EXIT_SUCCESS;
}
