/* SPDX-License-Identifier: MIT */
/* lines.c: see lines.h. */
#include "lines.h"
#include "block/aio.h"
#include <sys/stat.h>

struct InputLines {
    GString *text;              /* read, and not handed out yet */
    bool ready, end, pollable;
};

InputLines *input_lines_new(void)
{
    InputLines *in = g_new0(InputLines, 1);
    struct stat st;

    in->text = g_string_new(NULL);
    /* Files are always ready, and event loops do not take them. */
    in->pollable = fstat(STDIN_FILENO, &st) == 0 && (S_ISFIFO(st.st_mode) || S_ISSOCK(st.st_mode) || isatty(STDIN_FILENO));
    return in;
}

void input_lines_free(InputLines *in)
{
    g_string_free(in->text, true);
    g_free(in);
}

static void input_ready(void *opaque)
{
    InputLines *in = opaque;

    in->ready = true;
    aio_set_fd_handler(qemu_get_aio_context(), STDIN_FILENO, NULL, NULL, NULL);
}

static void input_wait(InputLines *in)
{
    AioContext *ctx = qemu_get_aio_context();

    if (!in->pollable) {
        aio_poll(ctx, false);
        return;
    }
    in->ready = false;
    aio_set_fd_handler(ctx, STDIN_FILENO, input_ready, NULL, in);
    while (!in->ready) {
        aio_poll(ctx, true);
    }
}

char *input_lines_next(InputLines *in)
{
    char *newline;

    while (!(newline = strchr(in->text->str, '\n')) && !in->end) {
        char buf[4096];

        input_wait(in);
        ssize_t n = read(STDIN_FILENO, buf, sizeof(buf));

        if (n <= 0) {
            in->end = n == 0 || (errno != EINTR && errno != EAGAIN);
        } else {
            g_string_append_len(in->text, buf, n);
        }
    }
    if (!newline && !in->text->len) {
        return NULL;
    }
    size_t len = newline ? (size_t)(newline - in->text->str) : in->text->len;
    char *line = g_strndup(in->text->str, len);

    g_string_erase(in->text, 0, len + (newline != NULL));
    return line;
}
