/* SPDX-License-Identifier: MIT */
/* compressed.c: reading compressed clusters.
 *
 * A compressed cluster is one stream, raw deflate or a zstd frame, somewhere in the file;
 * its entry says where, and in how many sectors it lies at most. It is unpacked on a
 * worker thread. A stream that is damaged, or gives less than a cluster, is -EIO.
 */
#include "drivers/format/qcow2/qcow2.h"
#include <zlib.h>
#include <zstd.h>

typedef struct Unpack {
    uint8_t *in, *out;
    size_t in_bytes, out_bytes;
} Unpack;

static int unpack_zlib(void *opaque)
{
    Unpack *u = opaque;
    z_stream z = {
        .next_in = u->in, .avail_in = u->in_bytes,
        .next_out = u->out, .avail_out = u->out_bytes,
    };

    if (inflateInit2(&z, -15) != Z_OK) {
        return -EIO;
    }
    int ret = inflate(&z, Z_FINISH);

    inflateEnd(&z);
    /* The stream may be followed by others', and end in a buffer that is just full. */
    return (ret == Z_STREAM_END || ret == Z_BUF_ERROR) && !z.avail_out ? 0 : -EIO;
}

static int unpack_zstd(void *opaque)
{
    Unpack *u = opaque;
    ZSTD_DStream *d = ZSTD_createDStream();
    ZSTD_inBuffer in = { u->in, u->in_bytes, 0 };
    ZSTD_outBuffer out = { u->out, u->out_bytes, 0 };
    size_t ret = 1;

    if (!d) {
        return -EIO;
    }
    /* Beyond the frame there is padding, so the frame is fed until the cluster is full. */
    while (out.pos < out.size && !ZSTD_isError(ret)) {
        size_t in_before = in.pos, out_before = out.pos;

        ret = ZSTD_decompressStream(d, &out, &in);
        if (in.pos == in_before && out.pos == out_before) {
            break;
        }
    }
    ZSTD_freeDStream(d);
    return !ZSTD_isError(ret) && out.pos == out.size ? 0 : -EIO;
}

int coroutine_fn qcow2_co_read_packed(BlockDriverState *bs, uint64_t host, uint32_t packed_bytes,
                                      void *buf)
{
    Qcow2State *s = bs->opaque;
    Unpack u = {
        .in = qemu_try_blockalign(bs->file->bs, packed_bytes), .in_bytes = packed_bytes,
        .out = buf, .out_bytes = s->cluster_size,
    };
    QEMUIOVector qiov;

    if (!u.in) {
        return -ENOMEM;
    }
    qemu_iovec_init_buf(&qiov, u.in, packed_bytes);
    int ret = qcow2_co_read_file(bs, host, packed_bytes, &qiov, 0, 0);

    if (!ret) {
        ret = thread_pool_submit_co(s->compression_type ? unpack_zstd : unpack_zlib, &u);
    }
    qemu_vfree(u.in);
    return ret;
}
