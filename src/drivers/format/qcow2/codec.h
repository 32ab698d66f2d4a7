/* SPDX-License-Identifier: MIT */
/* codec.h: compress and decompress one cluster. For worker threads. */
#ifndef LIVEBLK_DRIVERS_QCOW2_CODEC_H
#define LIVEBLK_DRIVERS_QCOW2_CODEC_H

#include "base/osdep.h"

typedef struct Qcow2Codec {
    bool zstd;
    uint8_t *in, *out;
    size_t in_bytes, out_bytes;
    size_t packed_bytes;        /* of pack: length of the stream; 0: it does not fit into out_bytes */
} Qcow2Codec;

/* @opaque: a Qcow2Codec. unpack fills all of `out`, or fails with -EIO; what follows the stream is
 * left alone. pack: 0, see packed_bytes, or -ENOMEM. */
int qcow2_codec_unpack(void *opaque);
int qcow2_codec_pack(void *opaque);

#endif
