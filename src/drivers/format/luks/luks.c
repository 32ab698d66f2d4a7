/* SPDX-License-Identifier: MIT */
/* luks.c: the driver "luks": a disk that is encrypted as a whole, sector by sector, behind a LUKS header of version 1
 * or with that header in a file of its own.
 *
 * All of the disk is data: what is not written there reads as whatever the cipher makes of the bytes that are. So
 * there is no block status, no discard and no way to write zeroes but to encrypt them.
 *
 * Runs on: data in the request's thread, the rest in the main thread.
 */
#include "block/block.h"
#include "block/block_int-global-state.h"
#include "drivers/drivers.h"
#include "drivers/format/creator.h"
#include "drivers/format/luks/data.h"
#include "drivers/format/luks/keys.h"

typedef struct LuksState {
    Luks luks;
    LuksFile place;             /* of the header */
    bool detached;              /* the header lies in a file of its own */
    CryptoCipher *cipher;       /* NULL: opened without a password, to be described only */
    uint64_t payload_offset;    /* of the disk, in bs->file, bytes */
    char *secret;               /* what it was opened with, or NULL */
    bool amending;
} LuksState;

/* ---- opening ---- */

static int coroutine_fn open_co_children(BlockDriverState *bs, const BlockdevOptionsLUKS *o, Error **errp)
{
    LuksState *s = bs->opaque;
    BdrvChildRole role = BDRV_CHILD_DATA | BDRV_CHILD_PRIMARY | (o->header ? 0 : BDRV_CHILD_METADATA);

    if (!bdrv_co_open_child(bs, o->file, "file", role, errp)) {
        return -EINVAL;
    }
    s->place.child = bs->file;
    if (o->header) {
        s->detached = true;
        s->place.child = bdrv_co_open_child(bs, o->header, "header", BDRV_CHILD_METADATA, errp);
        if (!s->place.child) {
            return -EINVAL;
        }
        s->place.room = MAX(bdrv_getlength_cached(s->place.child->bs), 1);
    }
    return 0;
}

static int coroutine_fn luks_co_open(BlockDriverState *bs, const BlockdevOptions *opts, int flags, Error **errp)
{
    const BlockdevOptionsLUKS *o = &opts->u.luks;
    LuksState *s = bs->opaque;
    uint8_t key[CRYPTO_KEY_MAX];
    int ret = open_co_children(bs, o, errp);

    if (!ret) {
        ret = luks_co_load(&s->place, &s->luks, errp);
    }
    if (ret < 0) {
        return ret;     /* nothing is owned yet */
    }
    s->payload_offset = (uint64_t)s->luks.payload_sector * CRYPTO_SECTOR;
    s->secret = g_strdup(o->key_secret);
    bs->supported_write_flags = BDRV_REQ_FUA & bs->file->bs->supported_write_flags;
    if (flags & BDRV_O_NO_IO) {
        return 0;
    }
    ret = luks_co_unlock(&s->place, &s->luks, o->key_secret, "", key, errp);
    if (!ret) {
        s->cipher = crypto_cipher_new(&s->luks.spec, key, s->luks.key_bytes, errp);
        ret = s->cipher ? 0 : -EINVAL;
    }
    crypto_wipe(key, sizeof(key));
    if (ret < 0) {
        g_free(s->secret);
    }
    return ret;
}

static void coroutine_fn luks_co_close(BlockDriverState *bs)
{
    LuksState *s = bs->opaque;

    crypto_cipher_free(s->cipher);
    g_free(s->secret);
}

static int coroutine_fn luks_co_amend_keys(BlockDriverState *bs, QDict *options, bool force, Error **errp)
{
    LuksState *s = bs->opaque;
    int ret;

    if (s->amending) {
        error_setg(errp, "The keys of '%s' are being changed", bdrv_get_device_or_node_name(bs));
        return -EBUSY;
    }
    s->amending = true;
    ret = luks_co_amend(&s->place, &s->luks, s->secret, options, force, errp);
    s->amending = false;
    return ret;
}

static void luks_refresh_limits(BlockDriverState *bs, BlockLimits *bl)
{
    bl->request_alignment = MAX(bl->request_alignment, CRYPTO_SECTOR);
}

/* The second version of LUKS is another format. */
static int luks_probe(const uint8_t *buf, size_t len, const char *filename)
{
    static const uint8_t magic[8] = { 'L', 'U', 'K', 'S', 0xba, 0xbe, 0, 1 };

    return len >= sizeof(magic) && !memcmp(buf, magic, sizeof(magic)) ? 100 : 0;
}

/* ---- telling ---- */

static int luks_get_info(BlockDriverState *bs, BlockDriverInfo *info)
{
    info->encrypted = true;
    return 0;
}

static ImageInfoSpecific *luks_get_specific_info(BlockDriverState *bs, Error **errp)
{
    LuksState *s = bs->opaque;
    ImageInfoSpecific *info = g_new0(ImageInfoSpecific, 1);

    info->type = IMAGE_INFO_SPECIFIC_KIND_LUKS;
    info->u.luks.data = g_new0(QCryptoBlockInfoLUKS, 1);
    luks_describe(&s->luks, s->detached, info->u.luks.data);
    return info;
}

/* ---- requests ---- */

static int64_t coroutine_fn luks_co_getlength(BlockDriverState *bs)
{
    LuksState *s = bs->opaque;
    int64_t length = bdrv_co_getlength(bs->file->bs);

    if (length < 0) {
        return length;
    }
    /* A file that ends before its disk begins was cut off. */
    return (uint64_t)length < s->payload_offset ? -EIO : length - (int64_t)s->payload_offset;
}

static int coroutine_fn luks_co_preadv(BlockDriverState *bs, int64_t offset, int64_t bytes, QEMUIOVector *qiov,
                                       size_t qiov_offset, BdrvRequestFlags flags)
{
    LuksState *s = bs->opaque;

    return s->cipher ? luks_co_read(s->cipher, bs->file, s->payload_offset + offset, offset / CRYPTO_SECTOR, bytes, qiov,
                                    qiov_offset) : -EIO;
}

static int coroutine_fn luks_co_pwritev(BlockDriverState *bs, int64_t offset, int64_t bytes, QEMUIOVector *qiov,
                                        size_t qiov_offset, BdrvRequestFlags flags)
{
    LuksState *s = bs->opaque;

    return s->cipher ? luks_co_write(s->cipher, bs->file, s->payload_offset + offset, offset / CRYPTO_SECTOR, bytes, qiov,
                                     qiov_offset, flags) : -EIO;
}

static int coroutine_fn luks_co_truncate(BlockDriverState *bs, int64_t offset, bool exact, PreallocMode prealloc,
                                         BdrvRequestFlags flags, Error **errp)
{
    LuksState *s = bs->opaque;

    if (offset > BDRV_MAX_LENGTH - (int64_t)s->payload_offset) {
        error_setg(errp, "The requested file size is too large");
        return -EFBIG;
    }
    return bdrv_co_truncate(bs->file, offset + s->payload_offset, exact, prealloc, 0, errp);
}

/* ---- creating ---- */

static QCryptoBlockCreateOptionsLUKS header_options(const BlockdevCreateOptionsLUKS *o)
{
    return (QCryptoBlockCreateOptionsLUKS) {
        .key_secret = o->key_secret,
        .has_cipher_alg = o->has_cipher_alg, .cipher_alg = o->cipher_alg,
        .has_cipher_mode = o->has_cipher_mode, .cipher_mode = o->cipher_mode,
        .has_ivgen_alg = o->has_ivgen_alg, .ivgen_alg = o->ivgen_alg,
        .has_ivgen_hash_alg = o->has_ivgen_hash_alg, .ivgen_hash_alg = o->ivgen_hash_alg,
        .has_hash_alg = o->has_hash_alg, .hash_alg = o->hash_alg,
        .has_iter_time = o->has_iter_time, .iter_time = o->iter_time,
    };
}

/* A file for the header, one for the disk, or both in one; NULL: there is none. */
typedef struct CreateFiles {
    BdrvChild *header, *disk;
} CreateFiles;

static BdrvChild *coroutine_fn create_co_child(const BlockdevRef *ref, Error **errp)
{
    BlockDriverState *bs = creator_co_open(ref, errp);

    return bs ? creator_attach(bs, errp) : NULL;
}

static int coroutine_fn create_co_write(const CreateFiles *c, LuksNew *n, const BlockdevCreateOptionsLUKS *o,
                                        Error **errp)
{
    LuksFile place = { .child = c->header };
    uint64_t header_bytes = (uint64_t)n->luks.payload_sector * CRYPTO_SECTOR;
    uint64_t payload = c->header == c->disk ? header_bytes : 0;
    PreallocMode mode = o->has_preallocation && o->preallocation != PREALLOC_MODE_METADATA ? o->preallocation
                                                                                           : PREALLOC_MODE_OFF;
    int ret = 0;

    if (o->size > (uint64_t)BDRV_MAX_LENGTH - payload) {
        error_setg(errp, "The requested file size is too large");
        return -EFBIG;
    }
    n->luks.payload_sector = payload / CRYPTO_SECTOR;
    if (c->disk) {
        ret = bdrv_co_truncate(c->disk, payload + o->size, false, mode, 0, errp);
    }
    if (!ret && c->header != c->disk) {
        ret = bdrv_co_truncate(c->header, header_bytes, false, PREALLOC_MODE_OFF, 0, errp);
    }
    if (ret < 0) {
        return ret;
    }
    ret = luks_co_put(&place, n);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not write the encryption header");
    }
    return ret;
}

static int coroutine_fn luks_co_create(BlockdevCreateOptions *opts, Error **errp)
{
    const BlockdevCreateOptionsLUKS *o = &opts->u.luks;
    QCryptoBlockCreateOptionsLUKS header = header_options(o);
    CreateFiles c = { NULL };
    LuksNew n = { .material = NULL };
    int ret = -EINVAL;

    if (!o->file && !o->header) {
        error_setg(errp, "Either the parameter 'header' or 'file' must be specified");
        return -EINVAL;
    }
    if (o->file && !(c.disk = create_co_child(o->file, errp))) {
        return -EINVAL;
    }
    c.header = o->header ? create_co_child(o->header, errp) : c.disk;
    if (c.header) {
        ret = luks_co_make(&n, &header, "", errp);
        if (!ret) {
            ret = create_co_write(&c, &n, o, errp);
        }
        luks_new_clear(&n);
    }
    if (c.header && c.header != c.disk) {
        bdrv_root_unref_child(c.header);
    }
    if (c.disk) {
        bdrv_root_unref_child(c.disk);
    }
    return ret;
}

const BlockDriver bdrv_luks = {
    .format_name = "luks",
    .kind = BLOCK_DRIVER_FORMAT,
    .instance_size = sizeof(LuksState),
    .schema_driver = BLOCKDEV_DRIVER_LUKS,
    .co_open = luks_co_open,
    .co_close = luks_co_close,
    .co_create = luks_co_create,
    .co_amend_keys = luks_co_amend_keys,
    .refresh_limits = luks_refresh_limits,
    .probe = luks_probe,
    .get_info = luks_get_info,
    .get_specific_info = luks_get_specific_info,
    .co_getlength = luks_co_getlength,
    .co_truncate = luks_co_truncate,
    .co_preadv = luks_co_preadv,
    .co_pwritev = luks_co_pwritev,
};
