/* SPDX-License-Identifier: MIT */
/* file_lock.c: byte-range locks that keep two processes off one image.
 *
 * The scheme is QEMU's, so that both kinds of program see each other. For permission
 * number n (consistent-read 0, write 1, write-unchanged 2, resize 3):
 *     byte 100+n is locked by whoever uses the permission,
 *     byte 200+n by whoever does not share it with others.
 * All locks are shared ones of the open file description, so that they can be held by
 * many and taken on a read-only descriptor; whether others are in the way is found by
 * asking if an exclusive lock would be granted. First the own locks are taken, then
 * the others' looked for: of two processes that start at once at least one sees the
 * other.
 */
#include "base/osdep.h"
#include "drivers/protocol/file.h"

#define LOCK_PERM_BASE      100
#define LOCK_UNSHARED_BASE  200
#define LOCK_PERMS          4

static const char *const lock_perm_names[LOCK_PERMS] = {
    "consistent read", "write", "write unchanged", "resize",
};

static int lock_bytes(HostFile *file, uint64_t set, int base, HostLockType type)
{
    for (int n = 0; n < LOCK_PERMS; n++) {
        if (set & (1u << n)) {
            int ret = host_ops->file_lock(file, base + n, 1, type, false);

            if (ret < 0) {
                return ret;
            }
        }
    }
    return 0;
}

static void lock_drop(FileState *s, uint64_t perm, uint64_t unshared)
{
    lock_bytes(s->lock_file, perm, LOCK_PERM_BASE, HOST_UNLOCK);
    lock_bytes(s->lock_file, unshared, LOCK_UNSHARED_BASE, HOST_UNLOCK);
}

/* Does another hold a byte of @set? */
static int lock_test(FileState *s, uint64_t set, int base, const char *kind, Error **errp)
{
    for (int n = 0; n < LOCK_PERMS; n++) {
        if (!(set & (1u << n))) {
            continue;
        }
        int ret = host_ops->file_lock(s->lock_file, base + n, 1, HOST_LOCK_EXCLUSIVE, true);

        if (ret < 0) {
            error_setg(errp, "Failed to get %s\"%s\" lock", kind, lock_perm_names[n]);
            error_append_hint(errp, "Is another process using the image [%s]?\n", s->path);
            return ret;
        }
    }
    return 0;
}

int file_lock_prepare(FileState *s, uint64_t perm, uint64_t shared, Error **errp)
{
    if (!s->use_locks) {
        return 0;
    }
    uint64_t unshared = ~shared & BLK_PERM_ALL;
    uint64_t new_perm = perm & ~s->locked_perm, new_unshared = unshared & ~s->locked_unshared;
    int ret = lock_bytes(s->lock_file, new_perm, LOCK_PERM_BASE, HOST_LOCK_SHARED);

    if (!ret) {
        ret = lock_bytes(s->lock_file, new_unshared, LOCK_UNSHARED_BASE, HOST_LOCK_SHARED);
    }
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Failed to lock '%s'", s->path);
    } else {
        ret = lock_test(s, new_perm, LOCK_UNSHARED_BASE, "", errp);
        if (!ret) {
            ret = lock_test(s, new_unshared, LOCK_PERM_BASE, "shared ", errp);
        }
    }
    if (ret < 0) {
        lock_drop(s, new_perm, new_unshared);
        return ret;
    }
    s->locked_perm |= new_perm;
    s->locked_unshared |= new_unshared;
    return 0;
}

void file_lock_settle(FileState *s, uint64_t perm, uint64_t shared)
{
    uint64_t unshared = ~shared & BLK_PERM_ALL;

    if (!s->use_locks) {
        return;
    }
    lock_drop(s, s->locked_perm & ~perm, s->locked_unshared & ~unshared);
    s->locked_perm &= perm;
    s->locked_unshared &= unshared;
}

int file_lock_copy(FileState *s, HostFile *file)
{
    int ret = lock_bytes(file, s->locked_perm, LOCK_PERM_BASE, HOST_LOCK_SHARED);

    return ret ? ret : lock_bytes(file, s->locked_unshared, LOCK_UNSHARED_BASE, HOST_LOCK_SHARED);
}
