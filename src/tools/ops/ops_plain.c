/* SPDX-License-Identifier: MIT */
/* ops_plain.c: copy bytes as they are. */
#include "ops/ops.h"

#define CHUNK   (2 * MiB)

int coroutine_fn ops_copy_plain(BlockBackend *source, int64_t source_offset, BlockBackend *target, int64_t target_offset,
                                int64_t bytes, Error **errp)
{
    uint8_t *buf = qemu_try_blockalign(blk_bs(source), CHUNK);
    int ret = buf ? 0 : -ENOMEM;

    if (ret < 0) {
        error_setg(errp, "No memory for a buffer of %lld bytes", CHUNK);
    }
    for (int64_t done = 0; done < bytes && ret == 0;) {
        int64_t n = MIN(CHUNK, bytes - done);

        ret = blk_co_pread(source, source_offset + done, n, buf, 0);
        if (ret < 0) {
            error_setg_errno(errp, -ret, "error while reading from input image file");
            break;
        }
        ret = blk_co_pwrite(target, target_offset + done, n, buf, 0);
        if (ret < 0) {
            error_setg_errno(errp, -ret, "error while writing to output image file");
        }
        done += n;
    }
    qemu_vfree(buf);
    return ret;
}
