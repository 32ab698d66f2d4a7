/* SPDX-License-Identifier: MIT */
/* file_create.c: blockdev-create for `file`.
 *
 * An existing file is emptied and reused, but never under somebody else's feet: it is
 * locked first as a writer locks it. A file that was made here and could not be given
 * its size is removed again.
 *
 * Runs on: the main thread; suspends.
 */
#include "base/osdep.h"
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include "drivers/protocol/file.h"

#define DEFAULT_EXTENT_SIZE_HINT (1 * MiB)

/* Tell the file system how to lay the file out. Where it has no such setting nothing
 * happens; that a hint that was asked for is refused is said. */
static void file_set_layout(HostFile *file, const BlockdevCreateOptionsFile *o)
{
    int fd = host_ops->file_fd(file);
    struct fsxattr attr;

    if (fd < 0) {
        return;
    }
    if (o->has_nocow && o->nocow) {
        int attrs;

        if (!ioctl(fd, FS_IOC_GETFLAGS, &attrs)) {
            attrs |= FS_NOCOW_FL;
            ioctl(fd, FS_IOC_SETFLAGS, &attrs);
        }
    }
    uint64_t hint = o->has_extent_size_hint ? o->extent_size_hint : DEFAULT_EXTENT_SIZE_HINT;

    if (!hint || ioctl(fd, FS_IOC_FSGETXATTR, &attr)) {
        return;
    }
    attr.fsx_xflags |= FS_XFLAG_EXTSIZE;
    attr.fsx_extsize = hint;
    if (ioctl(fd, FS_IOC_FSSETXATTR, &attr) && o->has_extent_size_hint) {
        /* The image is as good without; who asked for it learns of it. */
        warn_report("Failed to set extent size hint: %s", strerror(errno));
    }
}

static int coroutine_fn file_co_fill(HostFile *file, const BlockdevCreateOptionsFile *o,
                                     PreallocMode prealloc, Error **errp)
{
    int ret = file_co_resize(file, 0, 0, PREALLOC_MODE_OFF, errp);

    if (ret) {
        return ret;
    }
    file_set_layout(file, o);
    return file_co_resize(file, 0, o->size, prealloc, errp);
}

int coroutine_fn file_co_create(BlockdevCreateOptions *opts, Error **errp)
{
    const BlockdevCreateOptionsFile *o = &opts->u.file;
    PreallocMode prealloc = o->has_preallocation ? o->preallocation : PREALLOC_MODE_OFF;
    HostStat stat;
    bool made = true;
    int ret;

    if (o->has_extent_size_hint && o->extent_size_hint > UINT32_MAX) {
        error_setg(errp, "Extent size hint is too large");
        return -EINVAL;
    }
    HostFile *file = host_ops->file_open(o->filename, O_RDWR | O_CREAT | O_EXCL, 0644, &ret);

    if (!file && ret == -EEXIST) {
        made = false;
        file = host_ops->file_open(o->filename, O_RDWR, 0644, &ret);
    }
    if (!file) {
        error_setg_errno(errp, -ret, "Could not create '%s'", o->filename);
        return ret;
    }
    FileState s = { .path = o->filename, .file = file, .lock_file = file, .use_locks = true };

    ret = host_ops->file_stat(file, &stat);
    if (!ret && !stat.is_regular) {
        error_setg(errp, "'file' driver requires '%s' to be a regular file", o->filename);
        ret = -EINVAL;
    } else if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not create '%s'", o->filename);
    } else {
        ret = file_lock_prepare(&s, BLK_PERM_WRITE | BLK_PERM_RESIZE,
                                BLK_PERM_ALL & ~BLK_PERM_RESIZE, errp);
    }
    if (!ret) {
        ret = file_co_fill(file, o, prealloc, errp);
        if (ret < 0 && made) {
            host_ops->file_unlink(o->filename);
        }
    }
    host_ops->file_close(file);
    return ret;
}
