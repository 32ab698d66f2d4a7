/* SPDX-License-Identifier: MIT */
/* quorum_votes.c: what most children say is read, what enough can write is written, and who lies is put right.
 * The children are files, errors come from blkdebug below them.
 */
#include "tests/unit/driver_util.h"
#include "block/qdict.h"

static uint8_t buf[65536], want[65536];
static unsigned bad_events, failure_events;
static char last_bad[32];

static void event_sink(const char *name, QDict *data)
{
    if (!strcmp(name, "QUORUM_REPORT_BAD")) {
        bad_events++;
        g_strlcpy(last_bad, qdict_get_try_str(data, "node-name"), sizeof(last_bad));
    } else if (!strcmp(name, "QUORUM_FAILURE")) {
        failure_events++;
    }
}

static void reset_events(void)
{
    bad_events = failure_events = 0;
    last_bad[0] = '\0';
}

#define CHILD(n, rules) "{\"driver\":\"blkdebug\",\"node-name\":\"c" n "\"" rules ",\"image\":{\"driver\":\"file\",\"filename\":\"f" n ".raw\"}}"

static BdrvChild *open_quorum(const char *rules, const char *more)
{
    g_autofree char *json = g_strdup_printf("{\"driver\":\"quorum\",\"children\":[" CHILD("0", "%s") "," CHILD("1", "") ","
                                            CHILD("2", "") "]%s}", rules, more);

    for (int i = 0; i < 3; i++) {
        g_autofree char *name = g_strdup_printf("f%d.raw", i);

        test_make_file(name, sizeof(buf));
    }
    reset_events();
    return test_attach(test_open(json));
}

static void spoil(const char *file, int64_t offset)
{
    FILE *f = fopen(file, "r+");

    g_assert_nonnull(f);
    g_assert_cmpint(fseek(f, offset, SEEK_SET), ==, 0);
    g_assert_cmpint(fputc(0xee, f), ==, 0xee);
    fclose(f);
}

static int byte_of(const char *file, int64_t offset)
{
    FILE *f = fopen(file, "r");

    g_assert_nonnull(f);
    g_assert_cmpint(fseek(f, offset, SEEK_SET), ==, 0);
    int c = fgetc(f);

    fclose(f);
    return c;
}

static void test_majority_is_read(void)
{
    BdrvChild *c = open_quorum("", ",\"vote-threshold\":2");

    memset(want, 7, sizeof(want));
    g_assert_cmpint(test_write(c, 0, sizeof(want), want), ==, 0);
    g_assert_cmpint(byte_of("f0.raw", 5), ==, 7);
    g_assert_cmpint(byte_of("f2.raw", 5), ==, 7);
    spoil("f1.raw", 1000);
    g_assert_cmpint(test_read(c, 0, sizeof(buf), buf), ==, 0);
    g_assert_cmpint(memcmp(buf, want, sizeof(buf)), ==, 0);
    g_assert_cmpint(bad_events, ==, 1);
    g_assert_cmpstr(last_bad, ==, "c1");
    g_assert_cmpint(byte_of("f1.raw", 1000), ==, 0xee);         /* left alone */
    /* Two that say otherwise, each in its own way. */
    spoil("f0.raw", 1001);
    reset_events();
    g_assert_cmpint(test_read(c, 0, sizeof(buf), buf), ==, -EIO);
    g_assert_cmpint(failure_events, ==, 1);
    g_assert_cmpint(test_read(c, 4096, 4096, buf), ==, 0);
    bdrv_root_unref_child(c);
}

static void test_liar_is_put_right(void)
{
    BdrvChild *c = open_quorum("", ",\"vote-threshold\":2,\"rewrite-corrupted\":true");

    memset(want, 7, sizeof(want));
    g_assert_cmpint(test_write(c, 0, sizeof(want), want), ==, 0);
    spoil("f2.raw", 1000);
    g_assert_cmpint(test_read(c, 0, sizeof(buf), buf), ==, 0);
    g_assert_cmpint(memcmp(buf, want, sizeof(buf)), ==, 0);
    g_assert_cmpint(bad_events, ==, 1);
    g_assert_cmpint(byte_of("f2.raw", 1000), ==, 7);
    g_assert_cmpint(test_read(c, 0, sizeof(buf), buf), ==, 0);
    g_assert_cmpint(bad_events, ==, 1);
    bdrv_root_unref_child(c);
}

static void test_errors_are_outvoted(void)
{
    BdrvChild *c = open_quorum(",\"inject-error\":[{\"event\":\"none\",\"errno\":28}]", ",\"vote-threshold\":2");

    g_assert_cmpint(test_write(c, 0, 4096, want), ==, 0);
    g_assert_cmpint(test_read(c, 0, 4096, buf), ==, 0);
    g_assert_cmpint(test_flush(c), ==, 0);
    g_assert_cmpint(bad_events, ==, 3);
    g_assert_cmpint(failure_events, ==, 0);
    bdrv_root_unref_child(c);
    c = open_quorum(",\"inject-error\":[{\"event\":\"none\",\"errno\":28}]", ",\"vote-threshold\":3");
    g_assert_cmpint(test_write(c, 0, 4096, want), ==, -ENOSPC);
    g_assert_cmpint(test_read(c, 0, 4096, buf), ==, -ENOSPC);
    g_assert_cmpint(test_flush(c), ==, -ENOSPC);
    g_assert_cmpint(failure_events, ==, 3);
    bdrv_root_unref_child(c);
}

static void test_first_that_can(void)
{
    BdrvChild *c = open_quorum(",\"inject-error\":[{\"event\":\"none\",\"iotype\":\"read\",\"once\":true}]",
                               ",\"vote-threshold\":2,\"read-pattern\":\"fifo\"");

    g_assert_cmpint(test_write(c, 0, 4096, want), ==, 0);
    spoil("f1.raw", 100);
    g_assert_cmpint(test_read(c, 0, 4096, buf), ==, 0);
    g_assert_cmpint(buf[100], ==, 0xee);        /* the second answered */
    g_assert_cmpint(test_read(c, 0, 4096, buf), ==, 0);
    g_assert_cmpint(buf[100], ==, 7);
    g_assert_cmpint(bad_events, ==, 1);
    bdrv_root_unref_child(c);
}

static void test_children_may_be_replaced(void)
{
    BdrvChild *c = open_quorum("", ",\"vote-threshold\":2");

    g_assert_true(bdrv_recurse_can_replace(c->bs, bdrv_find_node("c1")));
    g_assert_true(bdrv_recurse_can_replace(c->bs, c->bs));
    BlockDriverState *other = test_open("{\"driver\":\"null-co\",\"size\":65536}");

    g_assert_false(bdrv_recurse_can_replace(c->bs, other));
    bdrv_unref(other);
    bdrv_root_unref_child(c);
}

int main(int argc, char **argv)
{
    test_begin(&argc, &argv);
    qapi_event_set_sink(event_sink);
    g_test_add_func("/quorum/majority-is-read", test_majority_is_read);
    g_test_add_func("/quorum/liar-is-put-right", test_liar_is_put_right);
    g_test_add_func("/quorum/errors-are-outvoted", test_errors_are_outvoted);
    g_test_add_func("/quorum/first-that-can", test_first_that_can);
    g_test_add_func("/quorum/children-may-be-replaced", test_children_may_be_replaced);
    return test_end();
}
