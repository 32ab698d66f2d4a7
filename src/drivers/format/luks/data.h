/* SPDX-License-Identifier: MIT */
/* data.h: reading and writing what is encrypted.
 *
 * Sectors of 512 bytes, each encrypted by itself and numbered by the caller. Small requests are encrypted at once,
 * larger ones on worker threads. Reads are decrypted in the caller's buffers, where these consist of whole sectors;
 * writes go through a buffer, in pieces: what the caller has stays as it is.
 *
 * Runs on: the request's thread; suspends.
 */
#ifndef LIVEBLK_DRIVERS_LUKS_DATA_H
#define LIVEBLK_DRIVERS_LUKS_DATA_H

#include "block/block_int-common.h"
#include "crypto/cipher.h"

/* @bytes at @offset of @c, whole sectors; the first has number @sector. Behind the end of @c are zeroes, encrypted. 0 or -errno. */
int coroutine_fn luks_co_read(CryptoCipher *cipher, BdrvChild *c, uint64_t offset, uint64_t sector, uint64_t bytes,
                              QEMUIOVector *qiov, size_t qiov_offset);
int coroutine_fn luks_co_write(CryptoCipher *cipher, BdrvChild *c, uint64_t offset, uint64_t sector, uint64_t bytes,
                               QEMUIOVector *qiov, size_t qiov_offset, BdrvRequestFlags flags);

#endif
