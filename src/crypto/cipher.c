/* SPDX-License-Identifier: MIT */
/* cipher.c: see cipher.h. */
#include "crypto/cipher.h"
#include "aio/host.h"
#include <gcrypt.h>
#include <pthread.h>
#include <time.h>

#define SPARE_MAX 16    /* handles that are kept for the next request */

struct CryptoCipher {
    CryptoSpec spec;
    int algo, mode;
    uint8_t key[CRYPTO_KEY_MAX], essiv_key[CRYPTO_HASH_MAX];
    size_t key_bytes, block_bytes;
    gcry_cipher_hd_t essiv;
    pthread_mutex_t lock;       /* over the two below, and essiv */
    gcry_cipher_hd_t spare[SPARE_MAX];
    unsigned n_spare;
};

void crypto_wipe(void *p, size_t bytes)
{
    explicit_bzero(p, bytes);
}

void crypto_init(void)
{
    if (!gcry_control(GCRYCTL_INITIALIZATION_FINISHED_P)) {
        gcry_check_version(NULL);
        gcry_control(GCRYCTL_DISABLE_SECMEM, 0);
        gcry_control(GCRYCTL_INITIALIZATION_FINISHED, 0);
    }
}

/* ---- names of libgcrypt ---- */

static const struct { int algo; size_t key_bytes, block_bytes; } ciphers[] = {
    [Q_CRYPTO_CIPHER_ALGORITHM_AES_128] = { GCRY_CIPHER_AES128, 16, 16 },
    [Q_CRYPTO_CIPHER_ALGORITHM_AES_192] = { GCRY_CIPHER_AES192, 24, 16 },
    [Q_CRYPTO_CIPHER_ALGORITHM_AES_256] = { GCRY_CIPHER_AES256, 32, 16 },
    [Q_CRYPTO_CIPHER_ALGORITHM_CAST5_128] = { GCRY_CIPHER_CAST5, 16, 8 },
    [Q_CRYPTO_CIPHER_ALGORITHM_SERPENT_128] = { GCRY_CIPHER_SERPENT128, 16, 16 },
    [Q_CRYPTO_CIPHER_ALGORITHM_SERPENT_192] = { GCRY_CIPHER_SERPENT192, 24, 16 },
    [Q_CRYPTO_CIPHER_ALGORITHM_SERPENT_256] = { GCRY_CIPHER_SERPENT256, 32, 16 },
    [Q_CRYPTO_CIPHER_ALGORITHM_TWOFISH_128] = { GCRY_CIPHER_TWOFISH128, 16, 16 },
    [Q_CRYPTO_CIPHER_ALGORITHM_TWOFISH_256] = { GCRY_CIPHER_TWOFISH, 32, 16 },
};

static const int modes[] = {
    [Q_CRYPTO_CIPHER_MODE_ECB] = GCRY_CIPHER_MODE_ECB, [Q_CRYPTO_CIPHER_MODE_CBC] = GCRY_CIPHER_MODE_CBC,
    [Q_CRYPTO_CIPHER_MODE_XTS] = GCRY_CIPHER_MODE_XTS, [Q_CRYPTO_CIPHER_MODE_CTR] = GCRY_CIPHER_MODE_CTR,
};

static const struct { int algo; size_t bytes; } hashes[] = {
    [Q_CRYPTO_HASH_ALGORITHM_MD5] = { GCRY_MD_MD5, 16 }, [Q_CRYPTO_HASH_ALGORITHM_SHA1] = { GCRY_MD_SHA1, 20 },
    [Q_CRYPTO_HASH_ALGORITHM_SHA224] = { GCRY_MD_SHA224, 28 }, [Q_CRYPTO_HASH_ALGORITHM_SHA256] = { GCRY_MD_SHA256, 32 },
    [Q_CRYPTO_HASH_ALGORITHM_SHA384] = { GCRY_MD_SHA384, 48 }, [Q_CRYPTO_HASH_ALGORITHM_SHA512] = { GCRY_MD_SHA512, 64 },
    [Q_CRYPTO_HASH_ALGORITHM_RIPEMD160] = { GCRY_MD_RMD160, 20 },
    [Q_CRYPTO_HASH_ALGORITHM_SM3] = { GCRY_MD_SM3, 32 },
};

size_t crypto_hash_bytes(QCryptoHashAlgorithm hash)
{
    return hash < G_N_ELEMENTS(hashes) ? hashes[hash].bytes : 0;
}

size_t crypto_key_bytes(QCryptoCipherAlgorithm cipher, QCryptoCipherMode mode)
{
    bool xts = mode == Q_CRYPTO_CIPHER_MODE_XTS;

    if (cipher >= G_N_ELEMENTS(ciphers) || (xts && ciphers[cipher].block_bytes != 16)) {
        return 0;
    }
    return ciphers[cipher].key_bytes * (xts ? 2 : 1);
}

/* ---- hashes ---- */

int crypto_hash(QCryptoHashAlgorithm hash, const void *data, size_t bytes, uint8_t *out)
{
    if (!crypto_hash_bytes(hash)) {
        return -ENOTSUP;
    }
    gcry_md_hash_buffer(hashes[hash].algo, out, data, bytes);
    return 0;
}

int crypto_pbkdf2(QCryptoHashAlgorithm hash, const uint8_t *password, size_t password_bytes, const uint8_t *salt,
                  size_t salt_bytes, uint64_t iterations, uint8_t *out, size_t out_bytes)
{
    if (!crypto_hash_bytes(hash) || iterations > ULONG_MAX) {
        return -ENOTSUP;
    }
    return gcry_kdf_derive(password, password_bytes, GCRY_KDF_PBKDF2, hashes[hash].algo, salt, salt_bytes, iterations,
                           out_bytes, out) ? -EIO : 0;
}

uint64_t crypto_pbkdf2_iterations(QCryptoHashAlgorithm hash, size_t out_bytes, uint64_t ms)
{
    uint8_t password[16] = "password", salt[32] = "salt", out[CRYPTO_KEY_MAX];
    uint64_t n = 1 << 12;
    int64_t ns = 0;

    while (n < 1ULL << 40) {
        int64_t began = host_ops->clock_ns(QEMU_CLOCK_REALTIME);

        crypto_pbkdf2(hash, password, sizeof(password), salt, sizeof(salt), n, out, MIN(out_bytes, sizeof(out)));
        ns = host_ops->clock_ns(QEMU_CLOCK_REALTIME) - began;
        if (ns > 20 * 1000 * 1000) {
            break;
        }
        /* A clock that stands still, as the simulator's, says nothing. */
        if (ns <= 0) {
            return 1000;
        }
        n *= ns < 1000 * 1000 ? 8 : 2;
    }
    double wanted = (double)n * ms * 1e6 / MAX(ns, 1);

    return MAX(1000, (uint64_t)MIN(wanted, (double)UINT32_MAX));
}

/* ---- ciphers ---- */

static gcry_cipher_hd_t handle_new(int algo, int mode, const uint8_t *key, size_t key_bytes)
{
    gcry_cipher_hd_t h = NULL;

    if (gcry_cipher_open(&h, algo, mode, 0)) {
        return NULL;
    }
    if (gcry_cipher_setkey(h, key, key_bytes)) {
        gcry_cipher_close(h);
        return NULL;
    }
    return h;
}

static gcry_cipher_hd_t handle_take(CryptoCipher *c)
{
    gcry_cipher_hd_t h = NULL;

    pthread_mutex_lock(&c->lock);
    if (c->n_spare) {
        h = c->spare[--c->n_spare];
    }
    pthread_mutex_unlock(&c->lock);
    return h ? h : handle_new(c->algo, c->mode, c->key, c->key_bytes);
}

static void handle_give(CryptoCipher *c, gcry_cipher_hd_t h)
{
    pthread_mutex_lock(&c->lock);
    if (c->n_spare < SPARE_MAX) {
        c->spare[c->n_spare++] = h;
        h = NULL;
    }
    pthread_mutex_unlock(&c->lock);
    if (h) {
        gcry_cipher_close(h);
    }
}

/* The salt of essiv is the hash of the key, and the key of a second cipher, as long as that wants. */
static bool essiv_init(CryptoCipher *c, Error **errp)
{
    static const QCryptoCipherAlgorithm by_hash[][2] = {
        { Q_CRYPTO_CIPHER_ALGORITHM_AES_128, 16 }, { Q_CRYPTO_CIPHER_ALGORITHM_AES_192, 24 },
        { Q_CRYPTO_CIPHER_ALGORITHM_AES_256, 32 }, { Q_CRYPTO_CIPHER_ALGORITHM_SERPENT_128, 16 },
        { Q_CRYPTO_CIPHER_ALGORITHM_SERPENT_192, 24 }, { Q_CRYPTO_CIPHER_ALGORITHM_SERPENT_256, 32 },
        { Q_CRYPTO_CIPHER_ALGORITHM_TWOFISH_128, 16 }, { Q_CRYPTO_CIPHER_ALGORITHM_TWOFISH_256, 32 },
        { Q_CRYPTO_CIPHER_ALGORITHM_CAST5_128, 16 },
    };
    size_t n = crypto_hash_bytes(c->spec.ivgen_hash);
    const char *family = QCryptoCipherAlgorithm_str(c->spec.cipher);

    if (!n || crypto_hash(c->spec.ivgen_hash, c->key, c->key_bytes, c->essiv_key) < 0) {
        error_setg(errp, "essiv needs a hash");
        return false;
    }
    for (size_t i = 0; i < G_N_ELEMENTS(by_hash); i++) {
        if (by_hash[i][1] == n && !strncmp(QCryptoCipherAlgorithm_str(by_hash[i][0]), family, 3)) {
            c->essiv = handle_new(ciphers[by_hash[i][0]].algo, GCRY_CIPHER_MODE_ECB, c->essiv_key, n);
            break;
        }
    }
    if (!c->essiv) {
        error_setg(errp, "No %s cipher with key size %zu available", family, n);
        return false;
    }
    return true;
}

CryptoCipher *crypto_cipher_new(const CryptoSpec *spec, const uint8_t *key, size_t key_bytes, Error **errp)
{
    CryptoCipher *c;

    crypto_init();
    if (!crypto_key_bytes(spec->cipher, spec->mode) || key_bytes != crypto_key_bytes(spec->cipher, spec->mode)) {
        error_setg(errp, "Cipher %s in mode %s does not take a key of %zu bytes", QCryptoCipherAlgorithm_str(spec->cipher),
                   QCryptoCipherMode_str(spec->mode), key_bytes);
        return NULL;
    }
    if (!spec->has_ivgen && spec->mode != Q_CRYPTO_CIPHER_MODE_ECB) {
        error_setg(errp, "Mode %s needs a generator of initialisation vectors", QCryptoCipherMode_str(spec->mode));
        return NULL;
    }
    c = g_new0(CryptoCipher, 1);
    c->spec = *spec;
    c->algo = ciphers[spec->cipher].algo;
    c->mode = modes[spec->mode];
    c->block_bytes = ciphers[spec->cipher].block_bytes;
    c->key_bytes = key_bytes;
    memcpy(c->key, key, key_bytes);
    pthread_mutex_init(&c->lock, NULL);
    gcry_cipher_hd_t h = handle_take(c);

    if (!h) {
        error_setg(errp, "Cipher %s in mode %s is not available", QCryptoCipherAlgorithm_str(spec->cipher),
                   QCryptoCipherMode_str(spec->mode));
    } else {
        handle_give(c, h);
    }
    if (!h || (spec->has_ivgen && spec->ivgen == Q_CRYPTO_IV_GEN_ALGORITHM_ESSIV && !essiv_init(c, errp))) {
        crypto_cipher_free(c);
        return NULL;
    }
    return c;
}

void crypto_cipher_free(CryptoCipher *c)
{
    if (!c) {
        return;
    }
    while (c->n_spare) {
        gcry_cipher_close(c->spare[--c->n_spare]);
    }
    if (c->essiv) {
        gcry_cipher_close(c->essiv);
    }
    pthread_mutex_destroy(&c->lock);
    crypto_wipe(c, sizeof(*c));
    g_free(c);
}

static int make_iv(CryptoCipher *c, uint64_t sector, uint8_t iv[16])
{
    uint64_t le = GUINT64_TO_LE(c->spec.ivgen == Q_CRYPTO_IV_GEN_ALGORITHM_PLAIN ? (uint32_t)sector : sector);

    memset(iv, 0, 16);
    memcpy(iv, &le, sizeof(le));
    if (!c->essiv) {
        return 0;
    }
    pthread_mutex_lock(&c->lock);
    int bad = gcry_cipher_encrypt(c->essiv, iv, c->block_bytes, NULL, 0);

    pthread_mutex_unlock(&c->lock);
    return bad ? -EIO : 0;
}

static int set_iv(CryptoCipher *c, gcry_cipher_hd_t h, uint64_t sector)
{
    uint8_t iv[16];

    if (c->mode == GCRY_CIPHER_MODE_ECB) {
        return 0;
    }
    if (make_iv(c, sector, iv) < 0) {
        return -EIO;
    }
    return (c->mode == GCRY_CIPHER_MODE_CTR ? gcry_cipher_setctr(h, iv, c->block_bytes)
                                            : gcry_cipher_setiv(h, iv, c->block_bytes)) ? -EIO : 0;
}

int crypto_cipher_run_to(CryptoCipher *c, bool encrypt, uint64_t sector, uint8_t *dst, const uint8_t *src, size_t bytes)
{
    gcry_cipher_hd_t h = handle_take(c);
    int ret = h ? 0 : -ENOMEM;

    g_assert(bytes % CRYPTO_SECTOR == 0);
    for (size_t at = 0; at < bytes && !ret; at += CRYPTO_SECTOR, sector++) {
        const uint8_t *from = dst == src ? NULL : src + at;     /* NULL: in place */
        size_t n = from ? CRYPTO_SECTOR : 0;

        ret = set_iv(c, h, sector);
        if (!ret && (encrypt ? gcry_cipher_encrypt(h, dst + at, CRYPTO_SECTOR, from, n)
                             : gcry_cipher_decrypt(h, dst + at, CRYPTO_SECTOR, from, n))) {
            ret = -EIO;
        }
    }
    if (h) {
        handle_give(c, h);
    }
    return ret;
}

int crypto_cipher_run(CryptoCipher *c, bool encrypt, uint64_t sector, uint8_t *buf, size_t bytes)
{
    return crypto_cipher_run_to(c, encrypt, sector, buf, buf, bytes);
}
