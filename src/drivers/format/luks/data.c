/* SPDX-License-Identifier: MIT */
/* data.c: see data.h. */
#include "base/osdep.h"
#include "block/block.h"
#include "drivers/format/luks/data.h"

#define INLINE_MAX      (16 * KiB)      /* more goes to a worker thread: that costs as much as this */
#define PIECE           (1 * MiB)       /* memory that a write takes, at most */

/* What a worker does: encrypts from a vector into a buffer, or decrypts in place, in a vector. */
typedef struct DataJob {
    CryptoCipher *cipher;
    bool encrypt;
    uint64_t sector;
    QEMUIOVector *qiov;
    size_t qiov_offset, bytes;
    uint8_t *to;                        /* of what is encrypted */
} DataJob;

static int data_job(void *opaque)
{
    DataJob *j = opaque;
    size_t head, tail, done = 0;
    int niov, ret = 0;
    struct iovec *iov = qemu_iovec_slice(j->qiov, j->qiov_offset, j->bytes, &head, &tail, &niov);

    for (int i = 0; i < niov && !ret; i++) {
        size_t skip = i ? 0 : head, n = iov[i].iov_len - skip - (i == niov - 1 ? tail : 0);
        uint8_t *buf = (uint8_t *)iov[i].iov_base + skip;

        ret = crypto_cipher_run_to(j->cipher, j->encrypt, j->sector + done / CRYPTO_SECTOR, j->encrypt ? j->to + done : buf,
                                   buf, n);
        done += n;
    }
    return ret;
}

static int coroutine_fn co_run(DataJob *j)
{
    return j->bytes <= INLINE_MAX ? data_job(j) : thread_pool_submit_co(data_job, j);
}

/* Does each buffer hold whole sectors? */
static bool in_sectors(QEMUIOVector *qiov, size_t offset, size_t bytes)
{
    size_t head, tail;
    int niov;
    struct iovec *iov = qemu_iovec_slice(qiov, offset, bytes, &head, &tail, &niov);

    for (int i = 0; i < niov; i++) {
        if ((iov[i].iov_len - (i ? 0 : head) - (i == niov - 1 ? tail : 0)) % CRYPTO_SECTOR) {
            return false;
        }
    }
    return true;
}

static int coroutine_fn co_read_child(BdrvChild *c, uint64_t offset, uint64_t bytes, QEMUIOVector *qiov,
                                      size_t qiov_offset)
{
    uint64_t end = bdrv_getlength_cached(c->bs), n = offset < end ? MIN(bytes, end - offset) : 0;

    if (n < bytes) {
        qemu_iovec_memset(qiov, qiov_offset + n, 0, bytes - n);
    }
    return n ? bdrv_co_preadv_part(c, offset, n, qiov, qiov_offset, 0) : 0;
}

/* Through a buffer: where sectors are spread over the caller's. */
static int coroutine_fn co_read_bounced(CryptoCipher *cipher, BdrvChild *c, uint64_t offset, uint64_t sector,
                                        uint64_t bytes, QEMUIOVector *qiov, size_t qiov_offset)
{
    uint8_t *buf = qemu_try_blockalign(c->bs, MIN(bytes, PIECE));
    int ret = buf ? 0 : -ENOMEM;

    for (uint64_t at = 0; at < bytes && !ret; at += PIECE) {
        uint64_t n = MIN(bytes - at, PIECE);
        QEMUIOVector part;
        DataJob job = { cipher, false, sector + at / CRYPTO_SECTOR, &part, 0, n, NULL };

        qemu_iovec_init_buf(&part, buf, n);
        ret = co_read_child(c, offset + at, n, &part, 0);
        if (!ret) {
            ret = co_run(&job);
        }
        if (!ret) {
            qemu_iovec_from_buf(qiov, qiov_offset + at, buf, n);
        }
    }
    qemu_vfree(buf);
    return ret;
}

int coroutine_fn luks_co_read(CryptoCipher *cipher, BdrvChild *c, uint64_t offset, uint64_t sector, uint64_t bytes,
                              QEMUIOVector *qiov, size_t qiov_offset)
{
    g_assert(!((offset | bytes) % CRYPTO_SECTOR));
    if (!in_sectors(qiov, qiov_offset, bytes)) {
        return co_read_bounced(cipher, c, offset, sector, bytes, qiov, qiov_offset);
    }
    DataJob job = { cipher, false, sector, qiov, qiov_offset, bytes, NULL };
    int ret = co_read_child(c, offset, bytes, qiov, qiov_offset);

    return ret ? ret : co_run(&job);
}

int coroutine_fn luks_co_write(CryptoCipher *cipher, BdrvChild *c, uint64_t offset, uint64_t sector, uint64_t bytes,
                               QEMUIOVector *qiov, size_t qiov_offset, BdrvRequestFlags flags)
{
    bool direct = in_sectors(qiov, qiov_offset, bytes);
    uint8_t *buf = qemu_try_blockalign(c->bs, MIN(bytes, PIECE));
    int ret = buf ? 0 : -ENOMEM;

    g_assert(!((offset | bytes) % CRYPTO_SECTOR));
    for (uint64_t at = 0; at < bytes && !ret; at += PIECE) {
        uint64_t n = MIN(bytes - at, PIECE);
        DataJob job = { cipher, true, sector + at / CRYPTO_SECTOR, qiov, qiov_offset + at, n, buf };
        QEMUIOVector copy;

        if (!direct) {
            qemu_iovec_to_buf(qiov, qiov_offset + at, buf, n);
            qemu_iovec_init_buf(&copy, buf, n);
            job.qiov = &copy;
            job.qiov_offset = 0;
        }
        ret = co_run(&job);
        if (!ret) {
            ret = bdrv_co_pwrite(c, offset + at, n, buf, flags & ~BDRV_REQ_REGISTERED_BUF);
        }
    }
    qemu_vfree(buf);
    return ret;
}
