/* SPDX-License-Identifier: MIT */
/* iov.h: plain arrays of iovec, for code below or beside a QEMUIOVector.
 *
 * Ranges stop at the end of the array; the functions return the bytes done. Any
 * thread, never fail, never suspend.
 */
#ifndef LIVEBLK_BASE_IOV_H
#define LIVEBLK_BASE_IOV_H

#include "block/iov.h"

/* Sum of the lengths; aborts if it exceeds SIZE_MAX. */
size_t iov_size(const struct iovec *iov, int niov);

size_t iov_to_buf(const struct iovec *iov, int niov, size_t offset, void *buf, size_t bytes);
size_t iov_from_buf(const struct iovec *iov, int niov, size_t offset,
                    const void *buf, size_t bytes);
size_t iov_memset(const struct iovec *iov, int niov, size_t offset, int byte, size_t bytes);
bool iov_is_zero(const struct iovec *iov, int niov, size_t offset, size_t bytes);

/* Drop @bytes from the front, changing the array: *@iov and *@niov advance to
 * what is left to do after short I/O. */
size_t iov_discard_front(struct iovec **iov, int *niov, size_t bytes);

#endif
