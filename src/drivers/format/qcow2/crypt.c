/* SPDX-License-Identifier: MIT */
/* crypt.c: see crypt.h. Opening and creating: main thread; data: the request's thread. */
#include "block/block.h"
#include "crypto/secret.h"
#include "drivers/format/luks/data.h"
#include "drivers/format/luks/keys.h"
#include "drivers/format/qcow2/crypt.h"

#define HEADER_MAX      (64 * MiB)

/* ---- data ---- */

int coroutine_fn qcow2_co_read_encrypted(BlockDriverState *bs, uint64_t host, uint64_t bytes, QEMUIOVector *qiov,
                                         size_t qiov_offset)
{
    Qcow2State *s = bs->opaque;

    return luks_co_read(s->crypt->cipher, s->data_file, host, host / CRYPTO_SECTOR, bytes, qiov, qiov_offset);
}

int coroutine_fn qcow2_co_read_aes(BlockDriverState *bs, uint64_t host, uint64_t guest, uint64_t bytes, QEMUIOVector *qiov,
                                   size_t qiov_offset)
{
    Qcow2State *s = bs->opaque;

    return luks_co_read(s->crypt->cipher, s->data_file, host, guest / CRYPTO_SECTOR, bytes, qiov, qiov_offset);
}

int coroutine_fn qcow2_co_write_data(BlockDriverState *bs, uint64_t host, uint64_t bytes, QEMUIOVector *qiov,
                                     size_t qiov_offset, BdrvRequestFlags flags)
{
    Qcow2State *s = bs->opaque;

    if (likely(!s->crypt)) {
        return bdrv_co_pwritev_part(s->data_file, host, bytes, qiov, qiov_offset, flags);
    }
    return luks_co_write(s->crypt->cipher, s->data_file, host, host / CRYPTO_SECTOR, bytes, qiov, qiov_offset, flags);
}

/* ---- opening ---- */

LuksFile qcow2_crypt_place(BlockDriverState *bs)
{
    Qcow2State *s = bs->opaque;

    return (LuksFile) { bs->file, s->crypt->offset, s->crypt->bytes };
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

/* The kind of encryption that the options are for has to be the image's. */
static int check_format(Qcow2State *s, const BlockdevQcow2Encryption *opts, Error **errp)
{
    BlockdevQcow2EncryptionFormat format = s->crypt_method == QCOW2_CRYPT_AES ? BLOCKDEV_QCOW2_ENCRYPTION_FORMAT_AES
                                                                              : BLOCKDEV_QCOW2_ENCRYPTION_FORMAT_LUKS;

    if (opts && !s->crypt_method) {
        error_setg(errp, "No encryption in image header, but options specified format '%s'",
                   BlockdevQcow2EncryptionFormat_str(opts->format));
        return -EINVAL;
    }
    if (opts && opts->format != format) {
        error_setg(errp, "Header reported '%s' encryption format but options specify '%s'",
                   BlockdevQcow2EncryptionFormat_str(format), BlockdevQcow2EncryptionFormat_str(opts->format));
        return -EINVAL;
    }
    return 0;
}

static int open_aes(Qcow2State *s, const char *secret, Error **errp)
{
    static const CryptoSpec spec = {
        .cipher = Q_CRYPTO_CIPHER_ALGORITHM_AES_128, .mode = Q_CRYPTO_CIPHER_MODE_CBC, .has_ivgen = true,
        .ivgen = Q_CRYPTO_IV_GEN_ALGORITHM_PLAIN64,
    };
    uint8_t key[16] = { 0 }, *password;
    size_t n;

    if (!secret) {
        error_setg(errp, "Parameter 'encrypt.key-secret' is required for cipher");
        return -EINVAL;
    }
    password = secret_get_text(secret, &n, errp);
    if (!password) {
        return -EINVAL;
    }
    memcpy(key, password, MIN(n, sizeof(key)));
    s->crypt->cipher = crypto_cipher_new(&spec, key, sizeof(key), errp);
    crypto_wipe(key, sizeof(key));
    secret_free(password, n);
    return s->crypt->cipher ? 0 : -EINVAL;
}

int coroutine_fn qcow2_co_crypt_open(BlockDriverState *bs, const BlockdevQcow2Encryption *opts, int flags, Error **errp)
{
    Qcow2State *s = bs->opaque;
    uint8_t key[CRYPTO_KEY_MAX];
    int ret = check_format(s, opts, errp);

    if (ret < 0 || !s->crypt_method) {
        return ret;
    }
    s->crypt = g_new0(Qcow2Crypt, 1);
    if (s->crypt_method == QCOW2_CRYPT_AES) {
        return flags & (BDRV_O_NO_IO | BDRV_O_CHECK) ? 0 : open_aes(s, opts ? opts->u.aes.key_secret : NULL, errp);
    }
    s->crypt->secret = opts ? g_strdup(opts->u.luks.key_secret) : NULL;
    ret = find_header(s, s->crypt, errp);
    LuksFile place = qcow2_crypt_place(bs);

    if (!ret) {
        ret = luks_co_load(&place, &s->crypt->luks, errp);
    }
    if (ret < 0 || (flags & (BDRV_O_NO_IO | BDRV_O_CHECK))) {
        return ret;
    }
    ret = luks_co_unlock(&place, &s->crypt->luks, opts ? opts->u.luks.key_secret : NULL, "encrypt.", key, errp);
    if (!ret) {
        s->crypt->cipher = crypto_cipher_new(&s->crypt->luks.spec, key, s->crypt->luks.key_bytes, errp);
        ret = s->crypt->cipher ? 0 : -EINVAL;
    }
    crypto_wipe(key, sizeof(key));
    return ret;
}

void qcow2_crypt_free(Qcow2State *s)
{
    if (s->crypt) {
        crypto_cipher_free(s->crypt->cipher);
        g_free(s->crypt->secret);
        g_clear_pointer(&s->crypt, g_free);
    }
}

/* ---- what it says of itself ---- */

ImageInfoSpecificQCow2Encryption *qcow2_crypt_info(Qcow2State *s)
{
    ImageInfoSpecificQCow2Encryption *info = g_new0(ImageInfoSpecificQCow2Encryption, 1);

    if (s->crypt_method == QCOW2_CRYPT_AES) {
        info->format = BLOCKDEV_QCOW2_ENCRYPTION_FORMAT_AES;
        return info;
    }
    info->format = BLOCKDEV_QCOW2_ENCRYPTION_FORMAT_LUKS;
    luks_describe(&s->crypt->luks, false, &info->u.luks);
    return info;
}

/* ---- changing passwords ---- */

int coroutine_fn qcow2_co_amend_keys(BlockDriverState *bs, QDict *options, bool force, Error **errp)
{
    Qcow2State *s = bs->opaque;
    int ret;

    if (!s->crypt) {
        error_setg(errp, "Can't amend encryption options - encryption not present");
        return -EINVAL;
    }
    if (s->crypt_method != QCOW2_CRYPT_LUKS) {
        error_setg(errp, "Only LUKS encryption options can be amended");
        return -ENOTSUP;
    }
    if (s->crypt->amending) {
        error_setg(errp, "The keys of '%s' are being changed", bdrv_get_device_or_node_name(bs));
        return -EBUSY;
    }
    LuksFile place = qcow2_crypt_place(bs);

    s->crypt->amending = true;
    ret = luks_co_amend(&place, &s->crypt->luks, s->crypt->secret, options, force, errp);
    s->crypt->amending = false;
    return ret;
}

/* ---- creating ---- */

/* Write the header into clusters of its own, and let the header of the image name it. */
static int coroutine_fn co_place_header(BlockDriverState *bs, const LuksNew *n, Error **errp)
{
    Qcow2State *s = bs->opaque;
    uint64_t bytes = (uint64_t)n->luks.payload_sector * CRYPTO_SECTOR, cluster;
    uint64_t words[2];
    int ret = qcow2_co_alloc_at_end(bs, DIV_ROUND_UP(bytes, s->cluster_size), &cluster);
    LuksFile place = { bs->file, cluster << s->cluster_bits, bytes };

    if (!ret) {
        ret = bdrv_co_pwrite_zeroes(bs->file, place.offset, ROUND_UP(bytes, s->cluster_size), 0);
    }
    if (!ret) {
        ret = luks_co_put(&place, n);
    }
    if (!ret) {
        ret = qcow2_co_commit(bs, true);
    }
    if (!ret) {
        ret = qcow2_co_flush_files(bs);
    }
    if (!ret) {
        words[0] = GUINT64_TO_BE(place.offset);
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
    Qcow2State *s = bs->opaque;
    LuksNew n;

    if (opts->format != Q_CRYPTO_BLOCK_FORMAT_LUKS) {
        error_setg(errp, "New images are not encrypted with AES-CBC, which is broken");
        error_append_hint(errp, "Use encrypt.format=luks. Old images of that kind can be read.\n");
        return -ENOTSUP;
    }
    int ret = luks_co_make(&n, &opts->u.luks, "encrypt.", errp);

    if (!ret) {
        ret = co_place_header(bs, &n, errp);
    }
    if (!ret) {
        /* It may get clusters before it is opened anew. */
        s->crypt = g_new0(Qcow2Crypt, 1);
        s->crypt->luks = n.luks;
        s->crypt->cipher = crypto_cipher_new(&n.luks.spec, n.key, n.luks.key_bytes, errp);
        ret = s->crypt->cipher ? 0 : -EINVAL;
    }
    luks_new_clear(&n);
    return ret;
}
