/* SPDX-License-Identifier: MIT */
/* file_lock.c: two programs do not get at one image, whichever of them came first.
 *
 * Method: our own nodes against each other, and against qemu-io where it is installed, both ways.
 */
#include "tests/unit/driver_util.h"

#define EXCLUSIVE (BLK_PERM_ALL & ~(BLK_PERM_WRITE | BLK_PERM_RESIZE))

static const char *plain = "{\"driver\":\"file\",\"filename\":\"l.raw\"}";

static BdrvChild *attach_new(const char *json, uint64_t perm, uint64_t shared, Error **errp)
{
    return test_attach_perm(test_open(json), perm, shared, errp);
}

static void assert_locked_out(const char *json, uint64_t perm, uint64_t shared, const char *text)
{
    Error *err = NULL;

    g_assert_null(attach_new(json, perm, shared, &err));
    g_assert_cmpstr(error_get_pretty(err), ==, text);
    g_assert_cmpstr(error_get_hint(err), ==, "Is another process using the image [l.raw]?\n");
    error_free(err);
}

static void test_between_nodes(void)
{
    test_make_file("l.raw", 4096);
    BdrvChild *c = attach_new(plain, BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE, EXCLUSIVE, &error_abort);

    assert_locked_out(plain, BLK_PERM_WRITE, BLK_PERM_ALL, "Failed to get \"write\" lock");
    assert_locked_out(plain, BLK_PERM_CONSISTENT_READ, EXCLUSIVE, "Failed to get shared \"write\" lock");
    assert_locked_out(plain, BLK_PERM_RESIZE, BLK_PERM_ALL, "Failed to get \"resize\" lock");
    assert_locked_out(plain, 0, BLK_PERM_ALL & ~BLK_PERM_CONSISTENT_READ,
                      "Failed to get shared \"consistent read\" lock");

    BdrvChild *reader = attach_new(plain, BLK_PERM_CONSISTENT_READ, BLK_PERM_ALL, &error_abort);
    BdrvChild *unlocked = attach_new("{\"driver\":\"file\",\"filename\":\"l.raw\",\"locking\":\"off\"}",
                                     BLK_PERM_ALL, 0, &error_abort);
    BlockDriverState *shares = test_open_flags(
        "{\"driver\":\"file\",\"filename\":\"l.raw\",\"read-only\":true,\"force-share\":true}", 0, &error_abort);

    bdrv_unref(shares);
    bdrv_root_unref_child(unlocked);
    bdrv_root_unref_child(reader);
    bdrv_root_unref_child(c);
    /* All of it was let go. */
    c = attach_new(plain, BLK_PERM_ALL, 0, &error_abort);
    bdrv_root_unref_child(c);
}

/* A refused change of permissions leaves the locks as they were. */
static void test_refusal_changes_nothing(void)
{
    Error *err = NULL;

    test_make_file("l.raw", 4096);
    BdrvChild *a = attach_new(plain, BLK_PERM_CONSISTENT_READ, BLK_PERM_ALL, &error_abort);
    BdrvChild *b = attach_new(plain, BLK_PERM_WRITE, BLK_PERM_ALL, &error_abort);

    g_assert_cmpint(bdrv_child_try_set_perm(a, BLK_PERM_CONSISTENT_READ, EXCLUSIVE, &err), <, 0);
    error_free(err);
    BdrvChild *c = attach_new(plain, BLK_PERM_WRITE, BLK_PERM_ALL, &error_abort);

    bdrv_root_unref_child(c);
    bdrv_root_unref_child(b);
    g_assert_cmpint(bdrv_child_try_set_perm(a, BLK_PERM_CONSISTENT_READ, EXCLUSIVE, &error_abort), ==, 0);
    assert_locked_out(plain, BLK_PERM_WRITE, BLK_PERM_ALL, "Failed to get \"write\" lock");
    bdrv_root_unref_child(a);
}

static void test_peer_is_kept_out(void)
{
    if (!test_have("qemu-io")) {
        g_test_skip("qemu-io is not installed");
        return;
    }
    test_make_file("l.raw", 4096);
    BdrvChild *c = attach_new(plain, BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE, EXCLUSIVE, &error_abort);

    g_assert_cmpint(test_shell("qemu-io -f raw -c 'read 0 512' l.raw 2>&1 | "
                               "grep -q 'Failed to get \"write\" lock'"), ==, 0);
    g_assert_cmpint(test_shell("qemu-img info l.raw 2>&1 | grep -q 'file format: raw'"), ==, 0);
    bdrv_root_unref_child(c);
    g_assert_cmpint(test_shell("qemu-io -f raw -c 'write 0 512' l.raw"), ==, 0);
}

static void test_peer_keeps_us_out(void)
{
    if (!test_have("qemu-io") || !test_have("qemu-img")) {
        g_test_skip("qemu-io is not installed");
        return;
    }
    /* A qcow2 image open for writing shares neither writing nor resizing. */
    g_assert_cmpint(test_shell("qemu-img create -q -f qcow2 l.raw 1M"), ==, 0);
    /* Looking takes the lock for an instant too, so that qemu-io may be the one refused: again. */
    g_assert_cmpint(test_shell("for i in $(seq 20); do "
                               "(qemu-io -f qcow2 -c 'write 0 512' -c 'sleep 1500' l.raw >out 2>&1 &) ; "
                               "sleep 0.3; qemu-img info l.raw || exit 0; done; exit 1"), ==, 0);
    assert_locked_out(plain, BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE, BLK_PERM_ALL,
                      "Failed to get \"write\" lock");
    assert_locked_out(plain, BLK_PERM_CONSISTENT_READ, EXCLUSIVE, "Failed to get shared \"write\" lock");
    BdrvChild *c = attach_new(plain, BLK_PERM_CONSISTENT_READ, BLK_PERM_ALL, &error_abort);

    bdrv_root_unref_child(c);
    g_assert_cmpint(test_shell("for i in $(seq 100); do qemu-img info l.raw && exit 0; sleep 0.05; done; "
                               "exit 1"), ==, 0);
}

static void test_create_respects_locks(void)
{
    Error *err = NULL;

    test_make_file("l.raw", 4096);
    BdrvChild *c = attach_new(plain, BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE, EXCLUSIVE, &error_abort);

    g_assert_cmpint(test_create("{\"driver\":\"file\",\"filename\":\"l.raw\",\"size\":512}", &err), <, 0);
    g_assert_cmpstr(error_get_pretty(err), ==, "Failed to get \"write\" lock");
    error_free(err);
    g_assert_cmpint(bdrv_getlength_cached(c->bs), ==, 4096);
    bdrv_root_unref_child(c);
}

int main(int argc, char **argv)
{
    test_begin(&argc, &argv);
    g_test_add_func("/file/lock/between-nodes", test_between_nodes);
    g_test_add_func("/file/lock/refusal-changes-nothing", test_refusal_changes_nothing);
    g_test_add_func("/file/lock/peer-is-kept-out", test_peer_is_kept_out);
    g_test_add_func("/file/lock/peer-keeps-us-out", test_peer_keeps_us_out);
    g_test_add_func("/file/lock/create", test_create_respects_locks);
    return test_end();
}
