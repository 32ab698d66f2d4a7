/* SPDX-License-Identifier: MIT */
/* embed.c: the library in a program of one's own: open an image, mirror it to a raw file, tell how
 * far it is. Uses what `pkg-config liveblk` installs, and nothing else:
 *
 *     cc embed.c $(pkg-config --cflags --libs liveblk) -o embed && ./embed disk.qcow2 copy.raw
 */
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>
#include "block/block.h"
#include "block/block_int-global-state.h"
#include "block/blockjob.h"

static QEMUTimer timer;     /* five times a second, from the event loop: */

static void show_progress(void *opaque)
{
    BlockJobInfo *info = block_job_query(opaque, NULL);

    printf("%5.1f%%\n", info->len ? 100.0 * info->offset / info->len : 100.0);
    qapi_free_BlockJobInfo(info);
    timer_mod_ns(&timer, qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL) + 200 * 1000 * 1000);
}

/* Run until both sides agree, and end there. 0, or a negative errno. */
static int mirror(BlockDriverState *source, BlockDriverState *target, Error **errp)
{
    JobStatus status;
    BlockJob *job;

    mirror_start("copy", source, target, NULL, BLOCK_JOB_MANUAL_DISMISS, 0, 0, 0, MIRROR_SYNC_MODE_FULL,
                 MIRROR_LEAVE_BACKING_CHAIN, false, BLOCKDEV_ON_ERROR_REPORT, BLOCKDEV_ON_ERROR_REPORT, true, NULL,
                 MIRROR_COPY_MODE_BACKGROUND, errp);
    if (!(job = block_job_get("copy"))) {
        return -1;
    }
    timer_init_ns(&timer, qemu_get_aio_context(), show_progress, job);
    show_progress(job);
    do {
        aio_poll(qemu_get_aio_context(), true);
        BlockJobInfo *info = block_job_query(job, NULL);
        status = info->status;
        qapi_free_BlockJobInfo(info);
    } while (status != JOB_STATUS_READY && status != JOB_STATUS_CONCLUDED);
    timer_del(&timer);
    int ret = status == JOB_STATUS_READY ? block_job_complete_sync(job, errp) : block_job_cancel_sync(job);
    block_job_dismiss(&job, NULL);
    return ret;
}

int main(int argc, char **argv)
{
    BlockDriverState *source = NULL, *target = NULL;
    Error *err = NULL;
    int ret = -1, fd = argc == 3 ? open(argv[2], O_RDWR | O_CREAT | O_EXCL, 0644) : -1;

    if (fd < 0) {
        fprintf(stderr, "usage: embed IMAGE NEW-FILE\n");
        return 2;
    }
    if (aio_init_main(NULL, &err) == 0) {
        bdrv_init();
        source = bdrv_open(argv[1], NULL, NULL, 0, &err);
        if (source && ftruncate(fd, bdrv_getlength_cached(source)) == 0) {
            QDict *options = qdict_new();
            qdict_put_str(options, "driver", "raw");
            target = bdrv_open(argv[2], NULL, options, BDRV_O_RDWR | BDRV_O_UNMAP, &err);
        }
        ret = target ? mirror(source, target, &err) : -1;
        bdrv_unref(target);
        bdrv_unref(source);
        aio_cleanup_main();
    }
    if (err) {
        error_report_err(err);
    }
    printf("%s: %s\n", argv[2], ret ? "failed" : "done");
    return ret ? 1 : 0;
}
