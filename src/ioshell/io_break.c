/* SPDX-License-Identifier: MIT */
/* io_break.c: stop requests at events of the engine, and let them go on; see blkdebug. */
#include "ioshell/ioshell_private.h"

static int break_result(IoShell *s, int ret, const char *fmt, const char *tag)
{
    if (ret < 0) {
        g_autofree char *what = g_strdup_printf(fmt, tag);

        ioshell_print(s, "%s: %s\n", what, g_strerror(-ret));
    }
    return ret;
}

static int coroutine_fn break_run(IoShell *s, const IoCommand *cmd, int argc, char **argv)
{
    int ret = bdrv_debug_breakpoint(blk_bs(s->blk), argv[1], argv[2]);

    return break_result(s, ret, "Could not set breakpoint%s", "");
}

static int coroutine_fn remove_break_run(IoShell *s, const IoCommand *cmd, int argc, char **argv)
{
    int ret = bdrv_debug_remove_breakpoint(blk_bs(s->blk), argv[1]);

    return break_result(s, ret, "Could not remove breakpoint %s", argv[1]);
}

static int coroutine_fn resume_run(IoShell *s, const IoCommand *cmd, int argc, char **argv)
{
    int ret = bdrv_debug_resume(blk_bs(s->blk), argv[1]);

    return break_result(s, ret, "Could not resume request%s", "");
}

typedef struct BreakWait {
    IoShell *s;
    BlockDriverState *bs;
    const char *tag;
} BreakWait;

static bool not_suspended(void *opaque)
{
    BreakWait *w = opaque;

    return !w->s->given_up && !bdrv_debug_is_suspended(w->bs, w->tag);
}

static int coroutine_fn wait_break_run(IoShell *s, const IoCommand *cmd, int argc, char **argv)
{
    BreakWait w = { s, blk_bs(s->blk), argv[1] };

    aio_wait_while(not_suspended, &w);
    return s->given_up ? -ECANCELED : 0;
}

const IoCommand io_break_commands[] = {
    { .name = "break", .run = break_run, .args_min = 2, .args_max = 2, .args = "event tag",
      .oneline = "sets a breakpoint on event and tags the stopped request as tag" },
    { .name = "remove_break", .run = remove_break_run, .args_min = 1, .args_max = 1, .args = "tag",
      .oneline = "remove a breakpoint by tag" },
    { .name = "resume", .run = resume_run, .args_min = 1, .args_max = 1, .args = "tag",
      .oneline = "resumes the request tagged as tag" },
    { .name = "wait_break", .run = wait_break_run, .args_min = 1, .args_max = 1, .args = "tag",
      .oneline = "waits for the suspension of a request" },
    { 0 },
};
