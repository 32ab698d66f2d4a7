/* SPDX-License-Identifier: MIT */
/* header.c: see header.h. */
#include "block/block.h"
#include "crypto/secret.h"
#include "drivers/format/luks/header.h"

#define ITER_TIME_MS_MAX (1000 * 1000)

uint64_t luks_work_max = LUKS_ITERATIONS_MAX;

/* What lies behind the end of the file reads as zeroes: a header that is cut off is seen as one that is damaged. */
static int coroutine_fn co_read(const LuksFile *f, uint64_t offset, size_t bytes, uint8_t *buf)
{
    uint64_t end = bdrv_getlength_cached(f->child->bs), at = f->offset + offset;
    size_t n = at < end ? MIN(bytes, end - at) : 0;

    memset(buf + n, 0, bytes - n);
    return n ? bdrv_co_pread(f->child, at, n, buf, 0) : 0;
}

int coroutine_fn luks_co_load(const LuksFile *f, Luks *l, Error **errp)
{
    uint8_t header[LUKS_HEADER_BYTES];
    int ret = co_read(f, 0, sizeof(header), header);

    if (ret < 0) {
        error_setg_errno(errp, -ret, "Unable to read LUKS header");
        return ret;
    }
    return luks_parse(l, header, f->room, errp);
}

/* ---- opening ---- */

typedef struct TryJob {
    const Luks *luks;
    unsigned slot;
    uint8_t *material, *key;
    const uint8_t *password;
    size_t password_bytes;
} TryJob;

static int try_job(void *opaque)
{
    TryJob *j = opaque;

    return luks_slot_open(j->luks, j->slot, j->material, j->password, j->password_bytes, j->key);
}

int coroutine_fn luks_co_try_slot(const LuksFile *f, const Luks *l, unsigned slot, const uint8_t *password,
                                  size_t password_bytes, uint8_t key[CRYPTO_KEY_MAX])
{
    size_t bytes = luks_material_bytes(l);
    uint8_t *material = qemu_try_blockalign(f->child->bs, bytes);
    TryJob job = { l, slot, material, key, password, password_bytes };
    int ret;

    if (!material) {
        return -ENOMEM;
    }
    ret = co_read(f, luks_material_offset(l, slot), bytes, material);
    if (!ret) {
        ret = thread_pool_submit_co(try_job, &job);
    }
    crypto_wipe(material, bytes);
    qemu_vfree(material);
    return ret;
}

int coroutine_fn luks_co_unlock(const LuksFile *f, const Luks *l, const char *secret, const char *prefix,
                                uint8_t key[CRYPTO_KEY_MAX], Error **errp)
{
    size_t n;
    uint8_t *password;
    int ret = 0;

    if (!secret) {
        error_setg(errp, "Parameter '%skey-secret' is required for cipher", prefix);
        return -EINVAL;
    }
    if (luks_try_iterations(l) > luks_work_max) {
        error_setg(errp, "Trying a password would take %" PRIu64 " iterations, more than the %" PRIu64 " that are allowed",
                   luks_try_iterations(l), luks_work_max);
        return -EINVAL;
    }
    password = secret_get_text(secret, &n, errp);
    if (!password) {
        return -EINVAL;
    }
    for (unsigned i = 0; i < LUKS_SLOTS && !ret; i++) {
        if (l->slots[i].active) {
            ret = luks_co_try_slot(f, l, i, password, n, key);
        }
    }
    secret_free(password, n);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Unable to read key material");
    } else if (!ret) {
        error_setg(errp, "Invalid password, cannot unlock any keyslot");
        ret = -EPERM;
    } else {
        ret = 0;
    }
    return ret;
}

/* ---- making ---- */

typedef struct MakeJob {
    LuksNew *n;
    uint8_t *password;
    size_t password_bytes;
    uint64_t ms;
    Error *err;
} MakeJob;

static int make_job(void *opaque)
{
    MakeJob *j = opaque;
    LuksNew *n = j->n;
    int ret = luks_new(&n->luks, j->ms, n->key, &j->err);

    if (!ret) {
        n->material = g_malloc(luks_material_bytes(&n->luks));
        ret = luks_slot_fill(&n->luks, 0, n->key, j->password, j->password_bytes, j->ms, n->material, &j->err);
    }
    return ret;
}

static int take_options(LuksNew *n, const QCryptoBlockCreateOptionsLUKS *o, uint64_t *ms, Error **errp)
{
    CryptoSpec *spec = &n->luks.spec;

    spec->cipher = o->has_cipher_alg ? o->cipher_alg : Q_CRYPTO_CIPHER_ALGORITHM_AES_256;
    spec->mode = o->has_cipher_mode ? o->cipher_mode : Q_CRYPTO_CIPHER_MODE_XTS;
    spec->has_ivgen = true;     /* the header names one, also where the mode has no use for it */
    spec->ivgen = o->has_ivgen_alg ? o->ivgen_alg : Q_CRYPTO_IV_GEN_ALGORITHM_PLAIN64;
    spec->ivgen_hash = o->has_ivgen_hash_alg ? o->ivgen_hash_alg : Q_CRYPTO_HASH_ALGORITHM_SHA256;
    n->luks.hash = o->has_hash_alg ? o->hash_alg : Q_CRYPTO_HASH_ALGORITHM_SHA256;
    if (o->has_iter_time && (o->iter_time <= 0 || o->iter_time > ITER_TIME_MS_MAX)) {
        error_setg(errp, o->iter_time ? "iter-time is out of range" : "iter-time must be non-zero");
        return -EINVAL;
    }
    *ms = o->has_iter_time ? o->iter_time : 2000;
    return 0;
}

int coroutine_fn luks_co_make(LuksNew *n, const QCryptoBlockCreateOptionsLUKS *o, const char *prefix, Error **errp)
{
    MakeJob job = { .n = n };
    int ret;

    *n = (LuksNew) { .material = NULL };
    ret = take_options(n, o, &job.ms, errp);
    if (ret < 0) {
        return ret;
    }
    if (!o->key_secret) {
        error_setg(errp, "Parameter '%skey-secret' is required for cipher", prefix);
        return -EINVAL;
    }
    job.password = secret_get_text(o->key_secret, &job.password_bytes, errp);
    if (!job.password) {
        return -EINVAL;
    }
    ret = thread_pool_submit_co(make_job, &job);
    secret_free(job.password, job.password_bytes);
    if (ret < 0) {
        error_propagate(errp, job.err);
    }
    return ret;
}

void luks_new_clear(LuksNew *n)
{
    crypto_wipe(n->key, sizeof(n->key));
    g_clear_pointer(&n->material, g_free);
}

int coroutine_fn luks_co_put(const LuksFile *f, const LuksNew *n)
{
    uint8_t header[LUKS_HEADER_BYTES];
    int ret = bdrv_co_pwrite(f->child, f->offset + luks_material_offset(&n->luks, 0), luks_material_bytes(&n->luks),
                             n->material, 0);

    if (!ret) {
        ret = bdrv_co_flush(f->child->bs);
    }
    luks_build(&n->luks, header);
    if (!ret) {
        ret = bdrv_co_pwrite(f->child, f->offset, sizeof(header), header, 0);
    }
    return ret ? ret : bdrv_co_flush(f->child->bs);
}

/* ---- telling ---- */

void luks_describe(const Luks *luks, bool detached, QCryptoBlockInfoLUKS *l)
{
    QCryptoBlockInfoLUKSSlotList **tail = &l->slots;

    l->cipher_alg = luks->spec.cipher;
    l->cipher_mode = luks->spec.mode;
    l->ivgen_alg = luks->spec.ivgen;
    l->has_ivgen_hash_alg = luks->spec.ivgen == Q_CRYPTO_IV_GEN_ALGORITHM_ESSIV;
    l->ivgen_hash_alg = luks->spec.ivgen_hash;
    l->hash_alg = luks->hash;
    l->detached_header = detached;
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
}
