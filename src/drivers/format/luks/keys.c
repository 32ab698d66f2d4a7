/* SPDX-License-Identifier: MIT */
/* keys.c: see keys.h. */
#include "aio/host.h"
#include "block/block.h"
#include "block/qapi-visit.h"
#include "crypto/secret.h"
#include "drivers/format/luks/keys.h"

#define ITER_TIME_MS_MAX (1000 * 1000)

/* What is being done, for all below. */
typedef struct Amend {
    const LuksFile *f;
    Luks *l;                    /* as the file has it */
    const QCryptoBlockAmendOptionsLUKS *o;
    const char *secret;
    bool force;
} Amend;

/* ---- the file ---- */

static int coroutine_fn co_write(const Amend *a, uint64_t offset, const void *buf, size_t bytes)
{
    int ret = bdrv_co_pwrite(a->f->child, a->f->offset + offset, bytes, buf, 0);

    return ret ? ret : bdrv_co_flush(a->f->child->bs);
}

/* From now on the header is @next. */
static int coroutine_fn co_switch(const Amend *a, const Luks *next)
{
    uint8_t header[LUKS_HEADER_BYTES];
    int ret;

    luks_build(next, header);
    ret = co_write(a, 0, header, sizeof(header));
    if (!ret) {
        *a->l = *next;
    }
    return ret;
}

static unsigned active_slots(const Luks *l)
{
    unsigned n = 0;

    for (unsigned i = 0; i < LUKS_SLOTS; i++) {
        n += l->slots[i].active;
    }
    return n;
}

static int free_slot(const Luks *l)
{
    for (unsigned i = 0; i < LUKS_SLOTS; i++) {
        if (!l->slots[i].active) {
            return i;
        }
    }
    return -1;
}

/* ---- erasing ---- */

static int coroutine_fn co_erase(const Amend *a, unsigned slot)
{
    size_t bytes = luks_material_bytes(a->l);
    Luks next = *a->l;
    int ret;

    next.slots[slot].active = false;
    next.slots[slot].iterations = 0;
    memset(next.slots[slot].salt, 0, sizeof(next.slots[slot].salt));
    ret = co_switch(a, &next);
    if (!ret) {
        uint8_t *noise = g_malloc(bytes);

        host_ops->random_bytes(noise, bytes);
        ret = co_write(a, luks_material_offset(a->l, slot), noise, bytes);
        g_free(noise);
    }
    return ret;
}

/* Which active slots does the password open? A set of bits, or -errno. */
static int coroutine_fn co_matching(const Amend *a, const char *secret, Error **errp)
{
    uint8_t key[CRYPTO_KEY_MAX], *password;
    size_t n;
    int set = 0, ret = 0;

    password = secret_get_text(secret, &n, errp);
    if (!password) {
        return -EINVAL;
    }
    for (unsigned i = 0; i < LUKS_SLOTS && ret >= 0; i++) {
        if (a->l->slots[i].active) {
            ret = luks_co_try_slot(a->f, a->l, i, password, n, key);
            set |= ret == 1 ? 1 << i : 0;
        }
    }
    crypto_wipe(key, sizeof(key));
    secret_free(password, n);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Unable to read key material");
        return ret;
    }
    return set;
}

static bool slot_in_range(const Amend *a, Error **errp)
{
    if (a->o->has_keyslot && (a->o->keyslot < 0 || a->o->keyslot >= LUKS_SLOTS)) {
        error_setg(errp, "Invalid keyslot %u specified, must be between 0 and %d", (unsigned)a->o->keyslot, LUKS_SLOTS - 1);
        return false;
    }
    return true;
}

/* Which slots are to go? A set of bits, or -errno. */
static int coroutine_fn co_choose(const Amend *a, Error **errp)
{
    const QCryptoBlockAmendOptionsLUKS *o = a->o;
    unsigned active = active_slots(a->l);
    int set = o->old_secret ? co_matching(a, o->old_secret, errp) : 0;

    if (set < 0) {
        return set;
    }
    if (o->has_keyslot) {
        unsigned slot = o->keyslot;

        if (o->old_secret && !(set & 1 << slot)) {
            error_setg(errp, "Given keyslot %u doesn't contain the given old password for erase operation", slot);
        } else if (!a->force && !a->l->slots[slot].active) {
            error_setg(errp, "Given keyslot %u is already erased (inactive) ", slot);
        } else if (!a->force && active == 1) {
            error_setg(errp, "Attempt to erase the only active keyslot %u which will erase all the data in the image "
                       "irreversibly - refusing operation", slot);
        } else {
            return 1 << slot;
        }
        return -EINVAL;
    }
    if (!o->old_secret) {
        error_setg(errp, "To erase keyslot(s), either explicit keyslot index or the password currently contained in them "
                   "must be given");
        return -EINVAL;
    }
    if (!set) {
        error_setg(errp, "No keyslots match given (old) password for erase operation");
        return -EINVAL;
    }
    if (!a->force && __builtin_popcount(set) == (int)active) {
        error_setg(errp, "All the active keyslots match the (old) password that was given and erasing them will erase all "
                   "the data in the image irreversibly - refusing operation");
        return -EINVAL;
    }
    return set;
}

static int coroutine_fn co_deactivate(const Amend *a, Error **errp)
{
    int set, ret = 0;

    if (a->o->new_secret) {
        error_setg(errp, "'new-secret' must not be given when erasing keyslots");
        return -EINVAL;
    }
    if (a->o->has_iter_time) {
        error_setg(errp, "'iter-time' must not be given when erasing keyslots");
        return -EINVAL;
    }
    set = slot_in_range(a, errp) ? co_choose(a, errp) : -EINVAL;
    if (set < 0) {
        return set;
    }
    for (unsigned i = 0; i < LUKS_SLOTS && !ret; i++) {
        ret = set & 1 << i ? co_erase(a, i) : 0;
    }
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Could not erase a keyslot");
    }
    return ret;
}

/* ---- filling ---- */

typedef struct FillJob {
    Luks next;
    unsigned slot;
    const uint8_t *key, *password;
    size_t password_bytes;
    uint64_t ms;
    uint8_t *material;
    Error *err;
} FillJob;

static int fill_job(void *opaque)
{
    FillJob *j = opaque;

    return luks_slot_fill(&j->next, j->slot, j->key, j->password, j->password_bytes, j->ms, j->material, &j->err);
}

static int coroutine_fn co_fill(const Amend *a, unsigned slot, const uint8_t *key, const uint8_t *password, size_t n,
                                Error **errp)
{
    size_t bytes = luks_material_bytes(a->l);
    FillJob job = { *a->l, slot, key, password, n, a->o->has_iter_time ? a->o->iter_time : 2000, g_malloc(bytes), NULL };
    int ret = thread_pool_submit_co(fill_job, &job);

    if (ret < 0) {
        error_propagate(errp, job.err);
    } else {
        ret = co_write(a, luks_material_offset(a->l, slot), job.material, bytes);
        if (!ret) {
            ret = co_switch(a, &job.next);
        }
        if (ret < 0) {
            error_setg_errno(errp, -ret, "Could not write keyslot %u", slot);
        }
    }
    crypto_wipe(job.material, bytes);
    g_free(job.material);
    return ret;
}

/* The slot may be in use: then the password gets another one first, so that a crash leaves it that. */
static int coroutine_fn co_fill_safely(const Amend *a, unsigned slot, const uint8_t *key, const uint8_t *password, size_t n,
                                       Error **errp)
{
    int spare = a->l->slots[slot].active ? free_slot(a->l) : -1;
    int ret = spare < 0 ? 0 : co_fill(a, spare, key, password, n, errp);

    if (!ret && a->l->slots[slot].active) {
        ret = co_erase(a, slot);
        if (ret < 0) {
            error_setg_errno(errp, -ret, "Could not erase a keyslot");
        }
    }
    if (!ret) {
        ret = co_fill(a, slot, key, password, n, errp);
    }
    if (!ret && spare >= 0) {
        ret = co_erase(a, spare);
        if (ret < 0) {
            error_setg_errno(errp, -ret, "Could not erase a keyslot");
        }
    }
    return ret;
}

static int check_filling(const Amend *a, Error **errp)
{
    const QCryptoBlockAmendOptionsLUKS *o = a->o;

    if (!o->new_secret) {
        error_setg(errp, "'new-secret' is required to activate a keyslot");
    } else if (o->old_secret) {
        error_setg(errp, "'old-secret' must not be given when activating keyslots");
    } else if (o->has_iter_time && (o->iter_time <= 0 || o->iter_time > ITER_TIME_MS_MAX)) {
        error_setg(errp, o->iter_time ? "iter-time is out of range" : "iter-time must be non-zero");
    } else if (!slot_in_range(a, errp)) {
        return -EINVAL;
    } else if (o->has_keyslot && a->l->slots[o->keyslot].active && !a->force) {
        error_setg(errp, "Refusing to overwrite active keyslot %d - please erase it first", (int)o->keyslot);
    } else if (!o->has_keyslot && free_slot(a->l) < 0) {
        error_setg(errp, "Can't add a keyslot - all keyslots are in use");
    } else {
        return 0;
    }
    return -EINVAL;
}

static int coroutine_fn co_activate(const Amend *a, Error **errp)
{
    uint8_t key[CRYPTO_KEY_MAX], *password;
    size_t n;
    int ret = check_filling(a, errp);

    if (ret < 0) {
        return ret;
    }
    password = secret_get_text(a->o->new_secret, &n, errp);
    if (!password) {
        return -EINVAL;
    }
    ret = luks_co_unlock(a->f, a->l, a->secret, "", key, errp);
    if (!ret) {
        ret = co_fill_safely(a, a->o->has_keyslot ? (unsigned)a->o->keyslot : (unsigned)free_slot(a->l), key, password, n,
                             errp);
    }
    crypto_wipe(key, sizeof(key));
    secret_free(password, n);
    return ret;
}

int coroutine_fn luks_co_amend(const LuksFile *f, Luks *l, const char *secret, QDict *options, bool force, Error **errp)
{
    QCryptoBlockAmendOptionsLUKS *o = qapi_from_json(&qapi_type_QCryptoBlockAmendOptionsLUKS, options, false, errp);
    Amend a = { f, l, o, o && o->secret ? o->secret : secret, force };
    int ret;

    if (!o) {
        return -EINVAL;
    }
    ret = o->state == Q_CRYPTO_BLOCK_LUKS_KEYSLOT_STATE_ACTIVE ? co_activate(&a, errp) : co_deactivate(&a, errp);
    qapi_free_QCryptoBlockAmendOptionsLUKS(o);
    return ret;
}
