/* SPDX-License-Identifier: MIT */
/* crypt.c: see crypt.h. Opening and creating: main thread; data: the request's thread. */
#include "block/iov.h"
#include "crypto/secret.h"
#include "drivers/format/qcow2/crypt.h"

#define INLINE_MAX      (16 * KiB)      /* more goes to a worker thread */
#define PIECE           (1 * MiB)       /* memory that a request takes, at most */
#define HEADER_MAX      (64 * MiB)

/* ---- data ---- */

typedef struct CryptJob {
    CryptoCipher *cipher;
    bool encrypt;
    uint64_t sector;
    uint8_t *buf;
    size_t bytes;
} CryptJob;

static int crypt_job(void *opaque)
{
    CryptJob *j = opaque;

    return crypto_cipher_run(j->cipher, j->encrypt, j->sector, j->buf, j->bytes);
}

static int coroutine_fn crypt_co_run(Qcow2State *s, bool encrypt, uint64_t host, uint8_t *buf, size_t bytes)
{
    CryptJob job = { s->crypt->cipher, encrypt, host / CRYPTO_SECTOR, buf, bytes };

    return bytes <= INLINE_MAX ? crypt_job(&job) : thread_pool_submit_co(crypt_job, &job);
}

int coroutine_fn qcow2_co_read_encrypted(BlockDriverState *bs, uint64_t host, uint64_t bytes, QEMUIOVector *qiov,
                                         size_t qiov_offset)
{
    Qcow2State *s = bs->opaque;
    uint8_t *buf = qemu_try_blockalign(s->data_file->bs, MIN(bytes, PIECE));
    int ret = buf ? 0 : -ENOMEM;

    g_assert(!((host | bytes) % CRYPTO_SECTOR));
    while (bytes && !ret) {
        uint64_t n = MIN(bytes, PIECE);
        QEMUIOVector part;

        qemu_iovec_init_buf(&part, buf, n);
        ret = qcow2_co_read_child(s->data_file, host, n, &part, 0, 0);
        if (!ret) {
            ret = crypt_co_run(s, false, host, buf, n);
        }
        if (!ret) {
            qemu_iovec_from_buf(qiov, qiov_offset, buf, n);
        }
        host += n;
        bytes -= n;
        qiov_offset += n;
    }
    qemu_vfree(buf);
    return ret;
}

int coroutine_fn qcow2_co_write_data(BlockDriverState *bs, uint64_t host, uint64_t bytes, QEMUIOVector *qiov,
                                     size_t qiov_offset, BdrvRequestFlags flags)
{
    Qcow2State *s = bs->opaque;
    uint8_t *buf;
    int ret = 0;

    if (likely(!s->crypt)) {
        return bdrv_co_pwritev_part(s->data_file, host, bytes, qiov, qiov_offset, flags);
    }
    g_assert(!((host | bytes) % CRYPTO_SECTOR));
    /* The guest's buffer stays as it is. */
    buf = qemu_try_blockalign(s->data_file->bs, MIN(bytes, PIECE));
    if (!buf) {
        return -ENOMEM;
    }
    while (bytes && !ret) {
        uint64_t n = MIN(bytes, PIECE);

        qemu_iovec_to_buf(qiov, qiov_offset, buf, n);
        ret = crypt_co_run(s, true, host, buf, n);
        if (!ret) {
            ret = bdrv_co_pwrite(s->data_file, host, n, buf, flags & ~BDRV_REQ_REGISTERED_BUF);
        }
        host += n;
        bytes -= n;
        qiov_offset += n;
    }
    qemu_vfree(buf);
    return ret;
}

/* ---- opening ---- */

typedef struct OpenJob {
    const Luks *luks;
    unsigned slot;
    uint8_t *material, *key;
    const uint8_t *password;
    size_t password_bytes;
} OpenJob;

static int open_job(void *opaque)
{
    OpenJob *j = opaque;

    return luks_slot_open(j->luks, j->slot, j->material, j->password, j->password_bytes, j->key);
}

static int coroutine_fn co_unlock(BlockDriverState *bs, const uint8_t *password, size_t password_bytes, Error **errp)
{
    Qcow2State *s = bs->opaque;
    Qcow2Crypt *c = s->crypt;
    size_t bytes = luks_material_bytes(&c->luks);
    uint8_t key[CRYPTO_KEY_MAX], *material = qemu_try_blockalign(bs->file->bs, bytes);
    int ret = material ? 0 : -ENOMEM;

    for (unsigned i = 0; i < LUKS_SLOTS && !ret; i++) {
        OpenJob job = { &c->luks, i, material, key, password, password_bytes };
        QEMUIOVector qiov;

        if (!c->luks.slots[i].active) {
            continue;
        }
        qemu_iovec_init_buf(&qiov, material, bytes);
        ret = qcow2_co_read_file(bs, c->offset + luks_material_offset(&c->luks, i), bytes, &qiov, 0, 0);
        if (!ret) {
            ret = thread_pool_submit_co(open_job, &job);
        }
    }
    if (material) {
        crypto_wipe(material, bytes);
        qemu_vfree(material);
    }
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Unable to read key material");
    } else if (!ret) {
        error_setg(errp, "Invalid password, cannot unlock any keyslot");
        ret = -EPERM;
    } else {
        c->cipher = crypto_cipher_new(&c->luks.spec, key, c->luks.key_bytes, errp);
        ret = c->cipher ? 0 : -EINVAL;
    }
    crypto_wipe(key, sizeof(key));
    return ret;
}

/* Where the LUKS header lies. */
static int find_header(Qcow2State *s, Qcow2Crypt *c, Error **errp)
{
    for (guint i = 0; i < s->extensions->len; i++) {
        const Qcow2Ext *e = &g_array_index(s->extensions, Qcow2Ext, i);

        if (e->magic != QCOW2_EXT_CRYPTO) {
            continue;
        }
        if (e->len != 16) {
            error_setg(errp, "CRYPTO header extension size %" PRIu32 ", but expected size 16", e->len);
            return -EINVAL;
        }
        c->offset = be64_at(e->data, 0);
        c->bytes = be64_at(e->data, 1);
        if (qcow2_in_cluster(s, c->offset) || !c->offset || c->offset >> 56) {
            error_setg(errp, "Encryption header offset '%" PRIu64 "' is not a multiple of cluster size '%u'", c->offset,
                       s->cluster_size);
            return -EINVAL;
        }
        if (c->bytes < LUKS_HEADER_BYTES || c->bytes > HEADER_MAX) {
            error_setg(errp, "Encryption header size %" PRIu64 " cannot be", c->bytes);
            return -EINVAL;
        }
        return 0;
    }
    error_setg(errp, "Missing CRYPTO header for crypt method 2");
    return -EINVAL;
}

static int coroutine_fn co_read_header(BlockDriverState *bs, Error **errp)
{
    Qcow2State *s = bs->opaque;
    Qcow2Crypt *c = s->crypt;
    uint8_t header[ROUND_UP(LUKS_HEADER_BYTES, CRYPTO_SECTOR)];
    QEMUIOVector qiov;
    int ret = find_header(s, c, errp);

    if (ret < 0) {
        return ret;
    }
    qemu_iovec_init_buf(&qiov, header, sizeof(header));
    ret = qcow2_co_read_file(bs, c->offset, sizeof(header), &qiov, 0, 0);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Unable to read LUKS header");
        return ret;
    }
    return luks_parse(&c->luks, header, c->bytes, errp);
}

int coroutine_fn qcow2_co_crypt_open(BlockDriverState *bs, const BlockdevQcow2Encryption *opts, int flags, Error **errp)
{
    Qcow2State *s = bs->opaque;
    uint8_t *password;
    size_t n;
    int ret;

    if (!s->crypt_method) {
        if (opts) {
            error_setg(errp, "No encryption in image header, but options specified format 'luks'");
            return -EINVAL;
        }
        return 0;
    }
    s->crypt = g_new0(Qcow2Crypt, 1);
    ret = co_read_header(bs, errp);
    if (ret < 0 || (flags & (BDRV_O_NO_IO | BDRV_O_CHECK))) {
        return ret;
    }
    if (!opts || !opts->u.luks.key_secret) {
        error_setg(errp, "Parameter 'encrypt.key-secret' is required for cipher");
        return -EINVAL;
    }
    password = secret_get_text(opts->u.luks.key_secret, &n, errp);
    if (!password) {
        return -EINVAL;
    }
    ret = co_unlock(bs, password, n, errp);
    secret_free(password, n);
    return ret;
}

void qcow2_crypt_free(Qcow2State *s)
{
    if (s->crypt) {
        crypto_cipher_free(s->crypt->cipher);
        g_clear_pointer(&s->crypt, g_free);
    }
}

/* ---- what it says of itself ---- */

ImageInfoSpecificQCow2Encryption *qcow2_crypt_info(Qcow2State *s)
{
    ImageInfoSpecificQCow2Encryption *info = g_new0(ImageInfoSpecificQCow2Encryption, 1);
    QCryptoBlockInfoLUKS *l = &info->u.luks;
    const Luks *luks = &s->crypt->luks;
    QCryptoBlockInfoLUKSSlotList **tail = &l->slots;

    info->format = BLOCKDEV_QCOW2_ENCRYPTION_FORMAT_LUKS;
    l->cipher_alg = luks->spec.cipher;
    l->cipher_mode = luks->spec.mode;
    l->ivgen_alg = luks->spec.ivgen;
    l->has_ivgen_hash_alg = luks->spec.ivgen == Q_CRYPTO_IV_GEN_ALGORITHM_ESSIV;
    l->ivgen_hash_alg = luks->spec.ivgen_hash;
    l->hash_alg = luks->hash;
    l->payload_offset = (int64_t)luks->payload_sector * CRYPTO_SECTOR;
    l->master_key_iters = luks->digest_iterations;
    l->uuid = g_strdup(luks->uuid);
    for (unsigned i = 0; i < LUKS_SLOTS; i++) {
        QCryptoBlockInfoLUKSSlot *slot = g_new0(QCryptoBlockInfoLUKSSlot, 1);

        slot->active = slot->has_iters = slot->has_stripes = luks->slots[i].active;
        slot->iters = luks->slots[i].iterations;
        slot->stripes = luks->slots[i].stripes;
        slot->key_offset = luks_material_offset(luks, i);
        *tail = g_new0(QCryptoBlockInfoLUKSSlotList, 1);
        (*tail)->value = slot;
        tail = &(*tail)->next;
    }
    return info;
}

/* ---- creating ---- */

typedef struct CreateJob {
    Luks luks;
    uint8_t key[CRYPTO_KEY_MAX], *material, *password;
    size_t password_bytes;
    uint64_t ms;
    Error *err;
} CreateJob;

static int create_job(void *opaque)
{
    CreateJob *j = opaque;
    int ret = luks_new(&j->luks, j->ms, j->key, &j->err);

    if (!ret) {
        j->material = g_malloc(luks_material_bytes(&j->luks));
        ret = luks_slot_fill(&j->luks, 0, j->key, j->password, j->password_bytes, j->ms, j->material, &j->err);
    }
    return ret;
}

static int create_spec(const QCryptoBlockCreateOptionsLUKS *o, CreateJob *j, Error **errp)
{
    CryptoSpec *spec = &j->luks.spec;

    spec->cipher = o->has_cipher_alg ? o->cipher_alg : Q_CRYPTO_CIPHER_ALGORITHM_AES_256;
    spec->mode = o->has_cipher_mode ? o->cipher_mode : Q_CRYPTO_CIPHER_MODE_XTS;
    spec->has_ivgen = true;     /* the header names one, also where the mode has no use for it */
    spec->ivgen = o->has_ivgen_alg ? o->ivgen_alg : Q_CRYPTO_IV_GEN_ALGORITHM_PLAIN64;
    spec->ivgen_hash = o->has_ivgen_hash_alg ? o->ivgen_hash_alg : Q_CRYPTO_HASH_ALGORITHM_SHA256;
    j->luks.hash = o->has_hash_alg ? o->hash_alg : Q_CRYPTO_HASH_ALGORITHM_SHA256;
    if (o->has_ivgen_hash_alg && spec->ivgen != Q_CRYPTO_IV_GEN_ALGORITHM_ESSIV) {
        error_setg(errp, "ivgen-hash-alg is for the generator essiv");
        return -EINVAL;
    }
    if (o->has_iter_time && (o->iter_time <= 0 || o->iter_time > 1000 * 1000)) {
        error_setg(errp, o->iter_time ? "iter-time is out of range" : "iter-time must be non-zero");
        return -EINVAL;
    }
    j->ms = o->has_iter_time ? o->iter_time : 2000;
    return 0;
}

/* Write the header into clusters of its own, and let the header of the image name it. */
static int coroutine_fn co_place_header(BlockDriverState *bs, const CreateJob *j, Error **errp)
{
    Qcow2State *s = bs->opaque;
    uint64_t bytes = (uint64_t)j->luks.payload_sector * CRYPTO_SECTOR, cluster;
    uint64_t words[2];
    uint8_t header[LUKS_HEADER_BYTES];
    int ret = qcow2_co_alloc_at_end(bs, DIV_ROUND_UP(bytes, s->cluster_size), &cluster);

    if (!ret) {
        ret = bdrv_co_pwrite_zeroes(bs->file, cluster << s->cluster_bits, ROUND_UP(bytes, s->cluster_size), 0);
    }
    luks_build(&j->luks, header);
    if (!ret) {
        ret = bdrv_co_pwrite(bs->file, cluster << s->cluster_bits, sizeof(header), header, 0);
    }
    if (!ret) {
        ret = bdrv_co_pwrite(bs->file, (cluster << s->cluster_bits) + luks_material_offset(&j->luks, 0),
                             luks_material_bytes(&j->luks), j->material, 0);
    }
    if (!ret) {
        ret = qcow2_co_commit(bs, true);
    }
    if (!ret) {
        words[0] = GUINT64_TO_BE(cluster << s->cluster_bits);
        words[1] = GUINT64_TO_BE(bytes);
        Qcow2Ext ext = { QCOW2_EXT_CRYPTO, sizeof(words), g_memdup2(words, sizeof(words)) };

        qemu_co_mutex_lock(&s->l1_lock);
        g_array_append_val(s->extensions, ext);
        s->crypt_method = QCOW2_CRYPT_LUKS;
        ret = qcow2_co_write_header(bs);
        qemu_co_mutex_unlock(&s->l1_lock);
    }
    if (!ret) {
        ret = bdrv_co_flush(bs->file->bs);
    }
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not write the encryption header");
    }
    return ret;
}

int coroutine_fn qcow2_co_crypt_create(BlockDriverState *bs, const QCryptoBlockCreateOptions *opts, Error **errp)
{
    const QCryptoBlockCreateOptionsLUKS *o = &opts->u.luks;
    CreateJob job = { .ms = 0 };
    int ret = create_spec(o, &job, errp);

    if (ret < 0) {
        return ret;
    }
    if (!o->key_secret) {
        error_setg(errp, "Parameter 'encrypt.key-secret' is required for cipher");
        return -EINVAL;
    }
    job.password = secret_get_text(o->key_secret, &job.password_bytes, errp);
    if (!job.password) {
        return -EINVAL;
    }
    ret = thread_pool_submit_co(create_job, &job);
    secret_free(job.password, job.password_bytes);
    crypto_wipe(job.key, sizeof(job.key));
    if (ret < 0) {
        error_propagate(errp, job.err);
    } else {
        ret = co_place_header(bs, &job, errp);
    }
    g_free(job.material);
    return ret;
}
