/* SPDX-License-Identifier: MIT */
/* codec.c: one cluster to a stream and back: raw deflate, or a zstd frame.
 *
 * Deflate is libdeflate's: several times faster than zlib, with smaller streams. Its
 * distances use the whole window of the format (RFC 1951), of which a cluster inflated in one
 * call needs no copy; that is how the peers read them, whatever window they name. A stream that
 * libdeflate does not take (one that does not end, but fills the cluster) is left to zlib.
 *
 * Runs on: worker threads; blocks for the time of the work. Compressors are kept for each thread.
 */
#include "drivers/format/qcow2/codec.h"
#include <libdeflate.h>
#include <zlib.h>
#include <zstd.h>

/* What is as small as the peers' streams, no slower than that needs; small clusters need more. */
#define DEFLATE_LEVEL 2
#define DEFLATE_LEVEL_SMALL 6
#define DEFLATE_SMALL (16 * KiB)
#define ZSTD_LEVEL    3
/* Of frames that cannot be unpacked at one go; four times the largest cluster. */
#define ZSTD_WINDOW_BITS_MAX 23

typedef struct Coders {
    struct libdeflate_compressor *deflate, *deflate_small;
    struct libdeflate_decompressor *inflate;
    ZSTD_CCtx *zstd_pack;
    ZSTD_DCtx *zstd_unpack;
} Coders;

static void coders_free(gpointer p)
{
    Coders *c = p;

    if (c->deflate) {
        libdeflate_free_compressor(c->deflate);
    }
    if (c->deflate_small) {
        libdeflate_free_compressor(c->deflate_small);
    }
    if (c->inflate) {
        libdeflate_free_decompressor(c->inflate);
    }
    ZSTD_freeCCtx(c->zstd_pack);
    ZSTD_freeDCtx(c->zstd_unpack);
    g_free(c);
}

static GPrivate coders_key = G_PRIVATE_INIT(coders_free);

static Coders *coders(void)
{
    Coders *c = g_private_get(&coders_key);

    if (!c) {
        c = g_new0(Coders, 1);
        g_private_set(&coders_key, c);
    }
    return c;
}

static int unpack_zlib(const Qcow2Codec *u)
{
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

static int unpack_deflate(const Qcow2Codec *u)
{
    Coders *c = coders();
    size_t used, got;

    c->inflate = c->inflate ? c->inflate : libdeflate_alloc_decompressor();
    if (c->inflate && libdeflate_deflate_decompress_ex(c->inflate, u->in, u->in_bytes, u->out, u->out_bytes, &used,
                                                       &got) == LIBDEFLATE_SUCCESS) {
        return got == u->out_bytes ? 0 : -EIO;
    }
    return unpack_zlib(u);
}

/* Piece by piece, through a window of its own: for what is not simply one whole frame. */
static int unpack_zstd_pieces(ZSTD_DCtx *d, const Qcow2Codec *u)
{
    ZSTD_inBuffer in = { u->in, u->in_bytes, 0 };
    ZSTD_outBuffer out = { u->out, u->out_bytes, 0 };
    size_t ret = 1;

    ZSTD_DCtx_reset(d, ZSTD_reset_session_only);
    ZSTD_DCtx_setParameter(d, ZSTD_d_windowLogMax, ZSTD_WINDOW_BITS_MAX);
    /* Beyond the frame there is padding, so the frame is fed until the cluster is full. */
    while (out.pos < out.size && !ZSTD_isError(ret)) {
        size_t in_before = in.pos, out_before = out.pos;

        ret = ZSTD_decompressStream(d, &out, &in);
        if (in.pos == in_before && out.pos == out_before) {
            break;
        }
    }
    return !ZSTD_isError(ret) && out.pos == out.size ? 0 : -EIO;
}

/* At one go the cluster is all the memory that it takes, whatever window the frame names. */
static int unpack_zstd(const Qcow2Codec *u)
{
    Coders *c = coders();
    size_t frame = ZSTD_findFrameCompressedSize(u->in, u->in_bytes), got;

    c->zstd_unpack = c->zstd_unpack ? c->zstd_unpack : ZSTD_createDCtx();
    if (!c->zstd_unpack) {
        return -EIO;
    }
    if (!ZSTD_isError(frame)) {
        got = ZSTD_decompressDCtx(c->zstd_unpack, u->out, u->out_bytes, u->in, frame);
        if (got == u->out_bytes) {
            return 0;
        }
    }
    return unpack_zstd_pieces(c->zstd_unpack, u);
}

int qcow2_codec_unpack(void *opaque)
{
    Qcow2Codec *u = opaque;

    return u->zstd ? unpack_zstd(u) : unpack_deflate(u);
}

static int pack_deflate(Qcow2Codec *p)
{
    bool small = p->in_bytes <= DEFLATE_SMALL;
    struct libdeflate_compressor **one = small ? &coders()->deflate_small : &coders()->deflate;

    if (!*one) {
        *one = libdeflate_alloc_compressor(small ? DEFLATE_LEVEL_SMALL : DEFLATE_LEVEL);
    }
    if (!*one) {
        return -ENOMEM;
    }
    p->packed_bytes = libdeflate_deflate_compress(*one, p->in, p->in_bytes, p->out, p->out_bytes);
    return 0;
}

static int pack_zstd(Qcow2Codec *p)
{
    Coders *c = coders();

    c->zstd_pack = c->zstd_pack ? c->zstd_pack : ZSTD_createCCtx();
    if (!c->zstd_pack) {
        return -ENOMEM;
    }
    size_t n = ZSTD_compressCCtx(c->zstd_pack, p->out, p->out_bytes, p->in, p->in_bytes, ZSTD_LEVEL);

    p->packed_bytes = ZSTD_isError(n) ? 0 : n;
    return 0;
}

int qcow2_codec_pack(void *opaque)
{
    Qcow2Codec *p = opaque;

    return p->zstd ? pack_zstd(p) : pack_deflate(p);
}
