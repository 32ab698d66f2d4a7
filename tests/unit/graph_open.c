/* SPDX-License-Identifier: MIT */
/* Opening by options and by name, through the real drivers: what is inherited, what nodes are
 * called, how the format is guessed, what an error says and that it leaves nothing behind.
 * Reopening: all or none. The texts are the peer's. */
#include "graph_fake.h"
#include "graph/filename.h"
#include "graph/probe.h"
#include "block/block-backend.h"
#include <glib/gstdio.h>

static char *dir;

static QDict *json(const char *fmt, ...) G_GNUC_PRINTF(1, 2);
static QDict *json(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    g_autofree char *text = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    for (char *p = text; *p; p++) {
        *p = *p == '\'' ? '"' : *p;
    }
    return qdict_from_json(text, &error_abort);
}

/* A file of 1 MiB that begins with @head; its path. */
static char *make_file(const char *name, const char *head)
{
    g_autofree char *data = g_malloc0(1 * MiB);
    char *path = g_build_filename(dir, name, NULL);

    memcpy(data, head, strlen(head));
    g_assert_true(g_file_set_contents(path, data, 1 * MiB, NULL));
    return path;
}

static void coroutine_fn create_co(void *opaque)
{
    g_assert_cmpint(bdrv_find_format("qcow2")->co_create(opaque, &error_abort), ==, 0);
}

/* A qcow2 image with that backing file in its header; its path. */
static char *make_qcow2(const char *name, const char *backing, const char *fmt)
{
    char *path = make_file(name, "");
    BlockDriverState *bs = bds_tree_init(json("{'driver':'file','filename':'%s','node-name':'created'}", path), &error_abort);
    QDict *d = json("{'driver':'qcow2','file':'created','size':1048576}");

    if (backing) {
        qdict_put_str(d, "backing-file", backing);
    }
    if (fmt) {
        qdict_put_str(d, "backing-fmt", fmt);
    }
    BlockdevCreateOptions *opts = qapi_from_json(&qapi_type_BlockdevCreateOptions, d, false, &error_abort);

    aio_co_run(create_co, opts);
    qapi_free_BlockdevCreateOptions(opts);
    qdict_unref(d);
    bdrv_unref(bs);
    return path;
}

static void expect_failure(QDict *options, const char *text)
{
    Error *err = NULL;

    g_assert_null(bds_tree_init(options, &err));
    fake_expect_error(&err, text);
}

static void test_errors(void)
{
    BlockDriverState *n0 = bds_tree_init(json("{'driver':'null-co','node-name':'n0'}"), &error_abort);

    expect_failure(json("{'driver':'null-co','node-name':'n0'}"), "Duplicate nodes with node-name='n0'");
    expect_failure(json("{'driver':'null-co','node-name':'bad name!'}"), "Invalid node-name: 'bad name!'");
    expect_failure(json("{'driver':'null-co','node-name':'a23456789012345678901234567890123'}"), "Node name too long");
    expect_failure(json("{'driver':'raw','file':'nope'}"), "Cannot find device='nope' nor node-name='nope'");
    expect_failure(json("{'driver':'raw'}"), "Parameter 'file' is missing");
    expect_failure(json("{'driver':'null-co','nope':1}"), "Parameter 'nope' is unexpected");
    expect_failure(json("{'driver':'null-co','force-share':true}"), "force-share=on can only be used with read-only images");
    expect_failure(json("{'driver':'null-co','detect-zeroes':'unmap'}"),
                   "setting detect-zeroes to unmap is not allowed without setting discard operation to unmap");
    /* A missing file is told before the node's own name and options. */
    expect_failure(json("{'driver':'raw','node-name':'n0','detect-zeroes':'unmap','file':{'driver':'file','filename':'/nonexistent/x'}}"),
                   "Could not open '/nonexistent/x': No such file or directory");
    expect_failure(json("{'driver':'raw','node-name':'n0','file':{'driver':'null-co'}}"), "Duplicate nodes with node-name='n0'");
    g_assert_true(bdrv_next_node(NULL) == n0 && !bdrv_next_node(n0));
    g_assert_cmpint(n0->refcnt, ==, 1);
    bdrv_unref(n0);
    fake_expect_no_nodes();
}

static void test_names_of_files(void)
{
    Error *err = NULL;

    g_assert_null(bdrv_open("foo:bar", NULL, NULL, 0, &err));
    fake_expect_error(&err, "Unknown protocol 'foo'");
    g_assert_null(bdrv_open("", NULL, NULL, 0, &err));
    fake_expect_error(&err, "The 'file' block driver requires a file name");
    g_assert_null(bdrv_open("json:{\"driver\":\"raw\",", NULL, NULL, 0, &err));
    fake_expect_error(&err, "Could not parse the JSON options: JSON parse error, premature EOI");
    g_assert_null(bdrv_open(NULL, "nope", NULL, 0, &err));
    fake_expect_error(&err, "Cannot find device='nope' nor node-name='nope'");

    static const struct { const char *base, *name, *want; } paths[] = {
        { "/a/b", "c", "/a/c" }, { "b", "c", "c" }, { "/a/b", "/c", "/c" }, { "x/y/z", "../q", "x/y/../q" },
        { "/a/b", "nbd:x", "nbd:x" }, { "/a/b", "./a:b", "/a/./a:b" },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(paths); i++) {
        g_autofree char *got = path_combine(paths[i].base, paths[i].name);

        g_assert_cmpstr(got, ==, paths[i].want);
    }
    fake_expect_no_nodes();
}

static void expect_name(const char *options, const char *want)
{
    BlockDriverState *bs = bds_tree_init(json("%s", options), &error_abort);

    g_assert_cmpstr(bs->filename, ==, want);
    bdrv_unref(bs);
}

static void test_shown_names(void)
{
    expect_name("{'driver':'null-co'}", "null-co://");
    expect_name("{'driver':'null-co','latency-ns':5}", "null-co://");
    expect_name("{'driver':'null-co','size':1048576}", "json:{\"driver\": \"null-co\", \"size\": 1048576}");
    expect_name("{'driver':'raw','file':{'driver':'null-co'},'read-only':true}", "null-co://");
    expect_name("{'driver':'raw','file':{'driver':'raw','file':{'driver':'null-co','node-name':'x'}}}",
                "json:{\"driver\": \"raw\", \"file\": {\"driver\": \"raw\", \"file\": {\"driver\": \"null-co\"}}}");
    expect_name("{'driver':'raw','offset':512,'file':{'driver':'null-co'}}",
                "json:{\"offset\": 512, \"driver\": \"raw\", \"file\": {\"driver\": \"null-co\"}}");
    fake_expect_no_nodes();
}

static void test_probing(void)
{
    g_autofree char *raw = make_file("raw.img", "hello"), *q = make_qcow2("q.qcow2", NULL, NULL);
    g_autofree char *empty = g_build_filename(dir, "empty", NULL);
    BlockDriverState *bs;

    g_assert_cmpstr(graph_probe_buffer((const uint8_t *)"QFI\xfb\0\0\0\3", 8, "x")->format_name, ==, "qcow2");
    g_assert_cmpstr(graph_probe_buffer((const uint8_t *)"", 0, "x")->format_name, ==, "raw");
    bs = bdrv_open(raw, NULL, NULL, 0, &error_abort);
    g_assert_cmpstr(bs->drv->format_name, ==, "raw");
    g_assert_true(bs->probed);
    g_assert_cmpstr(bs->filename, ==, raw);
    g_assert_cmpint(bs->file->bs->refcnt, ==, 1);
    bdrv_unref(bs);
    bs = bdrv_open(raw, NULL, json("{'driver':'raw'}"), BDRV_O_RDWR, &error_abort);
    g_assert_false(bs->probed);
    bdrv_unref(bs);
    bs = bdrv_open(q, NULL, NULL, BDRV_O_RDWR, &error_abort);
    g_assert_cmpstr(bs->drv->format_name, ==, "qcow2");
    bdrv_unref(bs);
    g_assert_true(g_file_set_contents(empty, "", 0, NULL));
    bs = bdrv_open(empty, NULL, json("{'read-only':true}"), BDRV_O_RDWR, &error_abort);
    g_assert_cmpstr(bs->drv->format_name, ==, "raw");
    g_assert_true(bs->read_only && bs->file->bs->read_only);
    bdrv_unref(bs);
    fake_expect_no_nodes();
}

static void test_backing(void)
{
    g_autofree char *base = make_qcow2("base.qcow2", NULL, NULL), *mid = make_qcow2("mid.qcow2", "base.qcow2", "qcow2");
    g_autofree char *top = make_qcow2("top.qcow2", "mid.qcow2", NULL), *loop = make_qcow2("loop.qcow2", "loop.qcow2", "qcow2");
    g_autofree char *lost G_GNUC_UNUSED = make_qcow2("lost.qcow2", "gone.qcow2", "qcow2"), *lost2 = make_qcow2("lost2.qcow2", "lost.qcow2", "qcow2");
    g_autofree char *text = g_strdup_printf("Could not open backing file: Could not open backing file: Could not open '%s/gone.qcow2': "
                                            "No such file or directory", dir);
    g_autofree char *text2 = g_strdup_printf("Could not open backing file: Backing file '%s' creates an infinite loop.", loop);
    g_autofree char *want = NULL;
    BlockDriverState *bs = bdrv_open(top, NULL, json("{'cache.direct':false}"), BDRV_O_RDWR, &error_abort);
    Error *err = NULL;

    g_assert_cmpstr(bs->filename, ==, top);
    g_assert_cmpstr(bs->auto_backing_file, ==, mid);
    g_assert_cmpstr(bs->backing->bs->filename, ==, mid);
    g_assert_cmpstr(bs->backing->bs->backing->bs->filename, ==, base);
    g_assert_true(bs->backing->bs->read_only && bs->backing->bs->file->bs->read_only && !bs->file->bs->read_only);
    g_assert_true(bdrv_chain_contains(bs, bs->backing->bs->backing->bs));
    bdrv_unref(bs);

    bs = bdrv_open(top, NULL, json("{'driver':'qcow2','backing':null}"), BDRV_O_RDWR, &error_abort);
    want = g_strdup_printf("json:{\"backing\": null, \"driver\": \"qcow2\", \"file\": {\"driver\": \"file\", \"filename\": \"%s\"}}", top);
    g_assert_cmpstr(bs->filename, ==, want);
    g_assert_null(bs->backing);
    bdrv_unref(bs);
    bs = bdrv_open(top, NULL, NULL, BDRV_O_NO_BACKING, &error_abort);
    g_assert_null(bs->backing);
    g_assert_cmpstr(bs->filename, ==, top);
    bdrv_unref(bs);

    g_assert_null(bdrv_open(lost2, NULL, NULL, 0, &err));
    fake_expect_error(&err, text);
    g_assert_null(bdrv_open(loop, NULL, NULL, 0, &err));
    fake_expect_error(&err, text2);
    expect_failure(json("{'driver':'qcow2','backing':'nope','file':{'driver':'file','filename':'%s'}}", top),
                   "Could not open backing file: Cannot find device='nope' nor node-name='nope'");
    fake_expect_no_nodes();
}

/* As many layers as may be in one chain, opened, drained and closed on one small stack. */
static void test_long_chain(void)
{
    enum { LAYERS = 300 };
    BlockDriverState *bs, *top;
    int depth = 0;

    g_autofree char *last = NULL;
    for (int i = 0; i < LAYERS; i++) {
        g_autofree char *name = g_strdup_printf("c%d.qcow2", i), *below = g_strdup_printf("c%d.qcow2", i - 1);

        g_free(last);
        last = make_qcow2(name, i ? below : NULL, i ? "qcow2" : NULL);
    }
    top = bdrv_open(last, NULL, NULL, BDRV_O_RDWR, &error_abort);
    for (bs = top; bs; bs = bdrv_backing_chain_next(bs)) {
        depth++;
    }
    g_assert_cmpint(depth, ==, LAYERS);
    bdrv_drain_all();
    bdrv_unref(top);
    fake_expect_no_nodes();
}

static void test_inherited(void)
{
    BlockDriverState *bs = bds_tree_init(json("{'driver':'raw','read-only':true,'cache':{'direct':true},'file':"
                                              "{'driver':'raw','file':{'driver':'null-co','cache':{'no-flush':true}}}}"), &error_abort);
    BlockDriverState *mid = bs->file->bs, *low = mid->file->bs;

    g_assert_true(bs->read_only && mid->read_only && low->read_only);
    g_assert_true((mid->open_flags & BDRV_O_NOCACHE) && (low->open_flags & BDRV_O_NOCACHE));
    g_assert_true(!(mid->open_flags & BDRV_O_NO_FLUSH) && (low->open_flags & BDRV_O_NO_FLUSH));
    bdrv_unref(bs);
    bs = bds_tree_init(json("{'driver':'raw','read-only':true,'file':{'driver':'null-co','read-only':false}}"), &error_abort);
    g_assert_true(bs->read_only && !bs->file->bs->read_only);
    bdrv_unref(bs);
    fake_expect_no_nodes();
}

/* ---- reopen ---- */

static int reopen(Error **errp, int n, ...)
{
    BdrvReopenItem items[4];
    va_list ap;

    va_start(ap, n);
    for (int i = 0; i < n; i++) {
        const char *options = va_arg(ap, const char *);

        items[i].options = json("%s", options);
        items[i].bs = bdrv_find_node(qdict_get_try_str(items[i].options, "node-name"));
    }
    va_end(ap);
    return bdrv_reopen_multiple(items, n, errp);
}

static void expect_reopen_failure(const char *options, const char *text)
{
    Error *err = NULL;

    g_assert_cmpint(reopen(&err, 1, options), <, 0);
    fake_expect_error(&err, text);
}

static void test_reopen(void)
{
    BlockDriverState *n0 = bds_tree_init(json("{'driver':'null-co','node-name':'n0','size':1048576}"), &error_abort);
    BlockDriverState *n1 = bds_tree_init(json("{'driver':'null-co','node-name':'n1','size':1048576,'read-only':true}"), &error_abort);
    BlockDriverState *r = bds_tree_init(json("{'driver':'raw','node-name':'r','file':'n0'}"), &error_abort);
    FakeParent p = { "p" };
    Error *err = NULL;

    g_assert_cmpint(reopen(&error_abort, 1, "{'driver':'raw','node-name':'r','file':'n1'}"), ==, 0);
    g_assert_true(r->file->bs == n1 && n0->refcnt == 1 && n1->refcnt == 2);
    g_assert_cmpint(reopen(&error_abort, 1, "{'driver':'raw','node-name':'r','file':'n0'}"), ==, 0);
    expect_reopen_failure("{'driver':'raw','node-name':'r'}", "Parameter 'file' is missing");
    expect_reopen_failure("{'driver':'raw','node-name':'r','file':'none'}", "Cannot find device='' nor node-name='none'");
    expect_reopen_failure("{'driver':'raw','node-name':'r','file':{'driver':'null-co'}}", "Cannot change the option 'file.driver'");
    expect_reopen_failure("{'driver':'raw','node-name':'r','file':'r'}", "Making 'r' a file child of 'r' would create a cycle");
    expect_reopen_failure("{'driver':'qcow2','node-name':'r','file':'n0'}", "Cannot change the option 'driver'");
    expect_reopen_failure("{'driver':'null-co','node-name':'n0','size':4096}", "Cannot change the option 'size'");
    expect_reopen_failure("{'driver':'null-co','node-name':'n0','size':1048576,'latency-ns':1}", "Cannot change the option 'latency-ns'");
    expect_reopen_failure("{'driver':'null-co','node-name':'n0'}", "Cannot change the option 'size'");
    expect_reopen_failure("{'driver':'null-co','node-name':'n0','size':1048576,'force-share':true,'read-only':true}",
                          "Cannot change the option 'force-share'");

    fake_root(&p, r, BLK_PERM_WRITE, BLK_PERM_ALL, &error_abort);
    expect_reopen_failure("{'driver':'raw','node-name':'r','file':'n0','read-only':true}",
                          "Read-only block node 'r' cannot support read-write users");
    expect_reopen_failure("{'driver':'raw','node-name':'r','file':'n1'}", "Block node is read-only");
    g_assert_true(r->file->bs == n0 && !r->read_only && !(r->file->shared_perm & BLK_PERM_RESIZE) == !(BLK_PERM_RESIZE & r->file->shared_perm));
    /* The last of several fails: the first is undone. */
    g_assert_cmpint(reopen(&err, 3, "{'driver':'null-co','node-name':'n1','size':1048576}",
                           "{'driver':'raw','node-name':'r','file':'n1'}", "{'driver':'null-co','node-name':'n0','size':1}"), <, 0);
    fake_expect_error(&err, "Cannot change the option 'size'");
    g_assert_true(n1->read_only && r->file->bs == n0);
    /* Together they fit. */
    g_assert_cmpint(reopen(&error_abort, 2, "{'driver':'raw','node-name':'r','file':'n1'}",
                           "{'driver':'null-co','node-name':'n1','size':1048576}"), ==, 0);
    g_assert_true(!n1->read_only && r->file->bs == n1);
    fake_unroot(&p);
    g_assert_cmpint(bdrv_reopen_set_read_only(n1, true, &error_abort), ==, 0);
    g_assert_true(n1->read_only && !r->read_only);
    g_assert_cmpint(reopen(&error_abort, 1, "{'driver':'null-co','node-name':'n0','size':1048576,'discard':'unmap','detect-zeroes':'unmap'}"), ==, 0);
    g_assert_cmpint(n0->detect_zeroes, ==, BLOCKDEV_DETECT_ZEROES_OPTIONS_UNMAP);
    g_assert_cmpint(n0->quiesce_counter + n1->quiesce_counter + r->quiesce_counter, ==, 0);
    bdrv_unref(r);
    bdrv_unref(n0);
    bdrv_unref(n1);
    fake_expect_no_nodes();
}

/* Children that were opened inline follow; backing may be exchanged, taken off, put on. */
static void test_reopen_image(void)
{
    g_autofree char *base G_GNUC_UNUSED = make_qcow2("rbase.qcow2", NULL, NULL), *top = make_qcow2("rtop.qcow2", "rbase.qcow2", "qcow2");
    BlockDriverState *q = bds_tree_init(json("{'driver':'qcow2','node-name':'q','file':{'driver':'file','node-name':'qf','filename':'%s'}}", top), &error_abort);
    BlockDriverState *n = bds_tree_init(json("{'driver':'null-co','node-name':'n','size':1048576}"), &error_abort);
    FakeParent p = { "p" };
    Error *err = NULL;

    expect_reopen_failure("{'driver':'qcow2','node-name':'q','file':'qf'}", "backing is missing for 'q'");
    expect_reopen_failure("{'driver':'qcow2','node-name':'q','file':'qf','backing':'q'}", "Making 'q' a backing child of 'q' would create a cycle");
    expect_reopen_failure("{'driver':'qcow2','node-name':'q','file':'qf','backing':'xx'}", "Cannot find device='' nor node-name='xx'");
    expect_reopen_failure("{'driver':'qcow2','node-name':'q','backing':'n','file':{'driver':'file','filename':'x'}}", "Cannot change the option 'filename'");
    g_assert_nonnull(q->backing);
    g_assert_cmpint(reopen(&error_abort, 1, "{'driver':'qcow2','node-name':'q','file':'qf','backing':'n'}"), ==, 0);
    g_assert_true(q->backing->bs == n && n->refcnt == 2);
    g_assert_true(g_str_has_prefix(q->filename, "json:{\"backing\": {\"driver\": \"null-co\""));
    g_assert_cmpint(reopen(&error_abort, 1, "{'driver':'qcow2','node-name':'q','file':'qf','backing':null}"), ==, 0);
    g_assert_true(!q->backing && n->refcnt == 1);
    g_assert_cmpint(reopen(&error_abort, 1, "{'driver':'qcow2','node-name':'q','file':'qf','backing':'n','read-only':true}"), ==, 0);
    g_assert_true(q->read_only && q->file->bs->read_only && !n->read_only);
    g_assert_false(fake_root(&p, q, BLK_PERM_WRITE, BLK_PERM_ALL, &err));
    fake_expect_error(&err, "Block node is read-only");
    g_assert_cmpint(bdrv_reopen_set_read_only(q, false, &error_abort), ==, 0);
    g_assert_true(!q->read_only && !q->file->bs->read_only && q->backing->bs == n);
    fake_root(&p, q, BLK_PERM_WRITE, BLK_PERM_ALL, &error_abort);
    g_assert_cmpint(bdrv_reopen_set_read_only(q, true, &err), <, 0);
    fake_expect_error(&err, "Read-only block node 'q' cannot support read-write users");
    g_assert_true(!q->read_only && !q->file->bs->read_only);
    fake_unroot(&p);
    bdrv_unref(q);
    bdrv_unref(n);
    fake_expect_no_nodes();
}

/* What a command in a coroutine does must also work there. */
static void coroutine_fn in_coroutine(void *opaque)
{
    control_co_lock();
    test_reopen();
    test_errors();
    control_co_unlock();
    *(bool *)opaque = true;
}

static void test_in_coroutine(void)
{
    bool done = false;

    aio_co_run(in_coroutine, &done);
    g_assert_true(done);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    aio_init_main(NULL, &error_abort);
    bdrv_init();
    dir = g_dir_make_tmp("graph-XXXXXX", NULL);
    g_test_add_func("/graph/open/errors", test_errors);
    g_test_add_func("/graph/open/names", test_names_of_files);
    g_test_add_func("/graph/open/shown-names", test_shown_names);
    g_test_add_func("/graph/open/inherited", test_inherited);
    g_test_add_func("/graph/open/probing", test_probing);
    g_test_add_func("/graph/open/backing", test_backing);
    g_test_add_func("/graph/open/long-chain", test_long_chain);
    g_test_add_func("/graph/reopen/options", test_reopen);
    g_test_add_func("/graph/reopen/image", test_reopen_image);
    g_test_add_func("/graph/open/in-coroutine", test_in_coroutine);
    int ret = g_test_run();

    g_autofree char *rm = g_strdup_printf("rm -rf '%s'", dir);
    g_assert_cmpint(system(rm), ==, 0);
    g_free(dir);
    aio_cleanup_main();
    return ret;
}
