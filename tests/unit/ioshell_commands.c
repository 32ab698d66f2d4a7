/* SPDX-License-Identifier: MIT */
/* ioshell_commands.c: commands of the shell say what they do to their sink, wherever that is, and none
 * that came in through a daemon ends it. */
#include "tests/unit/driver_util.h"
#include "ioshell/ioshell.h"

typedef struct Session {
    IoShell *shell;
    GString *out, *err;
    bool in_daemon;
    const char *line;
    int ret;
} Session;

static void print(void *opaque, bool error, const char *text)
{
    Session *s = opaque;

    g_string_append(error ? s->err : s->out, text);
}

static void coroutine_fn start_co(void *opaque)
{
    Session *s = opaque;
    IoShellConfig config = { .print = print, .opaque = s, .in_daemon = s->in_daemon };

    s->shell = ioshell_new(&config);
}

static void coroutine_fn line_co(void *opaque)
{
    Session *s = opaque;

    s->ret = ioshell_co_run(s->shell, s->line);
}

static void coroutine_fn end_co(void *opaque)
{
    ioshell_co_free(((Session *)opaque)->shell);
}

static void coroutine_fn attach_co(void *opaque)
{
    Session *s = opaque;
    BlockDriverState *bs = test_open("{\"driver\":\"null-co\",\"size\":65536,\"read-zeroes\":true}");

    ioshell_co_set_backend(s->shell, blk_new_with_bs(bs, 0, BLK_PERM_ALL, &error_abort));
    bdrv_unref(bs);
}

static Session *session_new(bool in_daemon)
{
    Session *s = g_new0(Session, 1);

    s->out = g_string_new(NULL);
    s->err = g_string_new(NULL);
    s->in_daemon = in_daemon;
    aio_co_run(start_co, s);
    return s;
}

static int run(Session *s, const char *line)
{
    g_string_truncate(s->out, 0);
    g_string_truncate(s->err, 0);
    s->line = line;
    aio_co_run(line_co, s);
    return s->ret;
}

static void session_free(Session *s)
{
    aio_co_run(end_co, s);
    g_string_free(s->out, true);
    g_string_free(s->err, true);
    g_free(s);
}

static void test_without_image(void)
{
    Session *s = session_new(false);

    g_assert_cmpint(run(s, "length"), <, 0);
    g_assert_cmpstr(s->err->str, ==, "no file open, try 'help open'\n");
    g_assert_cmpint(run(s, ""), ==, 0);
    g_assert_cmpint(run(s, "sleep 1"), ==, 0);
    g_assert_cmpint(run(s, "nonsense 1 2"), <, 0);
    g_assert_cmpstr(s->err->str, ==, "command \"nonsense\" not found\n");
    session_free(s);
}

static void test_reads_and_writes(void)
{
    Session *s = session_new(false);

    aio_co_run(attach_co, s);
    g_assert_cmpint(run(s, "length"), ==, 0);
    g_assert_cmpstr(s->out->str, ==, "64 KiB\n");
    g_assert_cmpint(run(s, "read -v -C 0 3"), ==, 0);
    g_assert_true(g_str_has_prefix(s->out->str, "00000000:  00 00 00  ...\n3,1,0:00:00.0"));
    g_assert_cmpint(run(s, "read -q -P 1 1k 1k"), ==, -EINVAL);
    g_assert_cmpstr(s->out->str, ==, "Pattern verification failed at offset 1024, 1024 bytes\n");
    g_assert_cmpint(run(s, "write -q -P 1 1k 1k"), ==, 0);
    g_assert_cmpstr(s->out->str, ==, "");
    g_assert_cmpint(run(s, "write 1M 1k"), ==, -EIO);
    g_assert_cmpstr(s->out->str, ==, "write failed: Input/output error\n");
    /* One that nobody waited for is over when the shell is. */
    g_assert_cmpint(run(s, "aio_write -q 0 4k"), ==, 0);
    g_assert_cmpint(run(s, "aio_read -i 0 4k"), ==, 0);
    g_assert_cmpint(run(s, "aio_flush"), ==, 0);
    g_assert_cmpint(run(s, "aio_read -q 0 4k"), ==, 0);
    session_free(s);
}

static void test_wrong_options(void)
{
    Session *s = session_new(false);

    aio_co_run(attach_co, s);
    g_assert_cmpint(run(s, "discard -Z 0 1"), ==, -EINVAL);
    g_assert_cmpstr(s->err->str, ==, "discard: invalid option -- 'Z'\n");
    g_assert_cmpstr(s->out->str, ==, "discard [-Cq] off len -- discards a number of bytes at a specified offset\n");
    g_assert_cmpint(run(s, "truncate 0 -m"), ==, -EINVAL);
    g_assert_cmpstr(s->err->str, ==, "truncate: option requires an argument -- 'm'\n");
    g_assert_cmpint(run(s, "read 0 512 -q -P 0 -s 12 -- "), ==, 0);
    session_free(s);
}

static void test_daemons_live_on(void)
{
    Session *s = session_new(true);

    g_assert_cmpint(run(s, "abort"), ==, -EPERM);
    g_assert_cmpint(run(s, "sigraise 9"), ==, -EPERM);
    g_assert_cmpstr(s->err->str, ==, "'sigraise' would end this process; use the signals of the host\n");
    session_free(s);
}

int main(int argc, char **argv)
{
    test_begin(&argc, &argv);
    g_test_add_func("/ioshell/without-image", test_without_image);
    g_test_add_func("/ioshell/reads-and-writes", test_reads_and_writes);
    g_test_add_func("/ioshell/wrong-options", test_wrong_options);
    g_test_add_func("/ioshell/daemons-live-on", test_daemons_live_on);
    return test_end();
}
