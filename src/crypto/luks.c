/* SPDX-License-Identifier: MIT */
/* luks.c: see luks.h. */
#include "crypto/luks.h"
#include "aio/host.h"

#define SLOT_ENABLED    0x00ac71f3u
#define SLOT_DISABLED   0x0000deadu
#define ALIGN_BYTES     4096            /* of key material and payload */

typedef struct DiskSlot {
    uint32_t active, iterations;
    uint8_t salt[32];
    uint32_t key_sector, stripes;
} __attribute__((packed)) DiskSlot;

typedef struct DiskHeader {
    uint8_t magic[6];
    uint16_t version;
    char cipher[32], mode[32], hash[32];
    uint32_t payload_sector, key_bytes;
    uint8_t digest[20], digest_salt[32];
    uint32_t digest_iterations;
    char uuid[40];
    DiskSlot slots[LUKS_SLOTS];
} __attribute__((packed)) DiskHeader;

G_STATIC_ASSERT(sizeof(DiskHeader) == LUKS_HEADER_BYTES);

static const uint8_t magic[6] = { 'L', 'U', 'K', 'S', 0xba, 0xbe };

/* ---- names ---- */

static const struct { const char *name; size_t key_bytes; QCryptoCipherAlgorithm cipher; } names[] = {
    { "aes", 16, Q_CRYPTO_CIPHER_ALGORITHM_AES_128 }, { "aes", 24, Q_CRYPTO_CIPHER_ALGORITHM_AES_192 },
    { "aes", 32, Q_CRYPTO_CIPHER_ALGORITHM_AES_256 }, { "cast5", 16, Q_CRYPTO_CIPHER_ALGORITHM_CAST5_128 },
    { "serpent", 16, Q_CRYPTO_CIPHER_ALGORITHM_SERPENT_128 }, { "serpent", 24, Q_CRYPTO_CIPHER_ALGORITHM_SERPENT_192 },
    { "serpent", 32, Q_CRYPTO_CIPHER_ALGORITHM_SERPENT_256 }, { "twofish", 16, Q_CRYPTO_CIPHER_ALGORITHM_TWOFISH_128 },
    { "twofish", 32, Q_CRYPTO_CIPHER_ALGORITHM_TWOFISH_256 },
};

static int parse_cipher(Luks *l, const char *cipher, const char *mode, Error **errp)
{
    g_auto(GStrv) parts = g_strsplit(mode, "-", 2);
    char *ivgen = parts[0] ? parts[1] : NULL, *hash = ivgen ? strchr(ivgen, ':') : NULL;
    int found_mode = qapi_enum_parse(&qapi_type_QCryptoCipherMode, parts[0] ? parts[0] : ""), found;
    size_t i, n = l->key_bytes / (found_mode == Q_CRYPTO_CIPHER_MODE_XTS ? 2 : 1);

    if (found_mode < 0) {
        error_setg(errp, "Algorithm '%s' is not supported", parts[0] ? parts[0] : "");
        return -ENOTSUP;
    }
    l->spec.mode = found_mode;
    for (i = 0; i < G_N_ELEMENTS(names) && (strcmp(names[i].name, cipher) || names[i].key_bytes != n); i++) {
    }
    if (i == G_N_ELEMENTS(names)) {
        error_setg(errp, "Algorithm '%s' with key size %" PRIu32 " bytes is not supported", cipher, l->key_bytes);
        return -ENOTSUP;
    }
    l->spec.cipher = names[i].cipher;
    if (hash) {
        *hash++ = 0;
        found = qapi_enum_parse(&qapi_type_QCryptoHashAlgorithm, hash);
        if (found < 0) {
            error_setg(errp, "Hash algorithm '%s' is not supported", hash);
            return -ENOTSUP;
        }
        l->spec.ivgen_hash = found;
    }
    if (ivgen) {
        found = qapi_enum_parse(&qapi_type_QCryptoIVGenAlgorithm, ivgen);
        if (found < 0) {
            error_setg(errp, "IV generator '%s' is not supported", ivgen);
            return -ENOTSUP;
        }
        l->spec.ivgen = found;
        l->spec.has_ivgen = true;
        if (found == Q_CRYPTO_IV_GEN_ALGORITHM_ESSIV && !hash) {
            error_setg(errp, "Missing IV generator hash specification");
            return -EINVAL;
        }
    }
    return 0;
}

/* ---- the header ---- */

size_t luks_material_bytes(const Luks *l)
{
    return ROUND_UP((size_t)l->key_bytes * LUKS_STRIPES, CRYPTO_SECTOR);
}

uint64_t luks_material_offset(const Luks *l, unsigned slot)
{
    return (uint64_t)l->slots[slot].key_sector * CRYPTO_SECTOR;
}

static int check_slots(const Luks *l, uint64_t room, Error **errp)
{
    size_t bytes = luks_material_bytes(l);

    for (unsigned i = 0; i < LUKS_SLOTS; i++) {
        uint64_t start = luks_material_offset(l, i);

        if (l->slots[i].stripes != LUKS_STRIPES) {
            error_setg(errp, "Keyslot %u is corrupted (stripes %" PRIu32 " != %d)", i, l->slots[i].stripes, LUKS_STRIPES);
            return -EINVAL;
        }
        if (start < LUKS_HEADER_BYTES || start + bytes > room) {
            error_setg(errp, "Keyslot %u is overlapping with the encrypted payload", i);
            return -EINVAL;
        }
        if (l->slots[i].active && !l->slots[i].iterations) {
            error_setg(errp, "Keyslot %u wants %" PRIu32 " iterations", i, l->slots[i].iterations);
            return -EINVAL;
        }
        for (unsigned j = 0; j < i; j++) {
            uint64_t other = luks_material_offset(l, j);

            if (start < other + bytes && other < start + bytes) {
                error_setg(errp, "Keyslots %u and %u are overlapping in the header", j, i);
                return -EINVAL;
            }
        }
    }
    return 0;
}

int luks_parse(Luks *l, const uint8_t *header, uint64_t room, Error **errp)
{
    DiskHeader d;

    memcpy(&d, header, sizeof(d));
    memset(l, 0, sizeof(*l));
    if (memcmp(d.magic, magic, sizeof(magic))) {
        error_setg(errp, "Volume is not in LUKS format");
        return -EINVAL;
    }
    if (GUINT16_FROM_BE(d.version) != 1) {
        error_setg(errp, "LUKS version %u is not supported", GUINT16_FROM_BE(d.version));
        return -ENOTSUP;
    }
    if (!memchr(d.cipher, 0, sizeof(d.cipher)) || !memchr(d.mode, 0, sizeof(d.mode)) || !memchr(d.hash, 0, sizeof(d.hash))) {
        error_setg(errp, "LUKS header cipher, mode or hash name is not NUL terminated");
        return -EINVAL;
    }
    l->key_bytes = GUINT32_FROM_BE(d.key_bytes);
    l->payload_sector = GUINT32_FROM_BE(d.payload_sector);
    l->digest_iterations = GUINT32_FROM_BE(d.digest_iterations);
    if (!l->key_bytes || l->key_bytes > CRYPTO_KEY_MAX || !l->digest_iterations) {
        error_setg(errp, "LUKS header is corrupted: a key of %" PRIu32 " bytes, %" PRIu32 " iterations", l->key_bytes,
                   l->digest_iterations);
        return -EINVAL;
    }
    int hash = qapi_enum_parse(&qapi_type_QCryptoHashAlgorithm, d.hash);

    if (hash < 0) {
        error_setg(errp, "Hash algorithm '%s' is not supported", d.hash);
        return -ENOTSUP;
    }
    l->hash = hash;
    memcpy(l->digest, d.digest, sizeof(l->digest));
    memcpy(l->digest_salt, d.digest_salt, sizeof(l->digest_salt));
    memcpy(l->uuid, d.uuid, sizeof(d.uuid));
    for (unsigned i = 0; i < LUKS_SLOTS; i++) {
        uint32_t active = GUINT32_FROM_BE(d.slots[i].active);

        if (active != SLOT_ENABLED && active != SLOT_DISABLED) {
            error_setg(errp, "Keyslot %u state (active/disable) is corrupted", i);
            return -EINVAL;
        }
        l->slots[i] = (LuksSlot) {
            .active = active == SLOT_ENABLED, .iterations = GUINT32_FROM_BE(d.slots[i].iterations),
            .key_sector = GUINT32_FROM_BE(d.slots[i].key_sector), .stripes = GUINT32_FROM_BE(d.slots[i].stripes),
        };
        memcpy(l->slots[i].salt, d.slots[i].salt, sizeof(l->slots[i].salt));
    }
    int ret = parse_cipher(l, d.cipher, d.mode, errp);

    if (!ret && !room) {
        room = (uint64_t)l->payload_sector * CRYPTO_SECTOR;
        if (room < LUKS_HEADER_BYTES) {
            error_setg(errp, "LUKS payload is overlapping with the header");
            ret = -EINVAL;
        }
    }
    return ret < 0 ? ret : check_slots(l, room, errp);
}

void luks_build(const Luks *l, uint8_t header[LUKS_HEADER_BYTES])
{
    DiskHeader d = {
        .version = GUINT16_TO_BE(1), .payload_sector = GUINT32_TO_BE(l->payload_sector),
        .key_bytes = GUINT32_TO_BE(l->key_bytes), .digest_iterations = GUINT32_TO_BE(l->digest_iterations),
    };
    const char *mode = QCryptoCipherMode_str(l->spec.mode);
    const char *ivgen = QCryptoIVGenAlgorithm_str(l->spec.ivgen);

    memcpy(d.magic, magic, sizeof(magic));
    for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
        if (names[i].cipher == l->spec.cipher) {
            g_strlcpy(d.cipher, names[i].name, sizeof(d.cipher));
        }
    }
    if (!l->spec.has_ivgen) {
        g_strlcpy(d.mode, mode, sizeof(d.mode));
    } else if (l->spec.ivgen == Q_CRYPTO_IV_GEN_ALGORITHM_ESSIV) {
        snprintf(d.mode, sizeof(d.mode), "%s-%s:%s", mode, ivgen, QCryptoHashAlgorithm_str(l->spec.ivgen_hash));
    } else {
        snprintf(d.mode, sizeof(d.mode), "%s-%s", mode, ivgen);
    }
    g_strlcpy(d.hash, QCryptoHashAlgorithm_str(l->hash), sizeof(d.hash));
    memcpy(d.digest, l->digest, sizeof(d.digest));
    memcpy(d.digest_salt, l->digest_salt, sizeof(d.digest_salt));
    memcpy(d.uuid, l->uuid, sizeof(d.uuid));
    for (unsigned i = 0; i < LUKS_SLOTS; i++) {
        d.slots[i] = (DiskSlot) {
            .active = GUINT32_TO_BE(l->slots[i].active ? SLOT_ENABLED : SLOT_DISABLED),
            .iterations = GUINT32_TO_BE(l->slots[i].iterations), .key_sector = GUINT32_TO_BE(l->slots[i].key_sector),
            .stripes = GUINT32_TO_BE(l->slots[i].stripes),
        };
        memcpy(d.slots[i].salt, l->slots[i].salt, sizeof(l->slots[i].salt));
    }
    memcpy(header, &d, sizeof(d));
}

/* ---- the anti-forensic splitter ---- */

/* Hash the block piece by piece, each with its number before it. */
static int diffuse(QCryptoHashAlgorithm hash, uint8_t *block, size_t bytes)
{
    size_t n = crypto_hash_bytes(hash);
    uint8_t in[4 + CRYPTO_HASH_MAX], out[CRYPTO_HASH_MAX];
    int ret = 0;

    for (size_t at = 0, i = 0; at < bytes && !ret; at += n, i++) {
        uint32_t number = GUINT32_TO_BE(i);
        size_t len = MIN(n, bytes - at);

        memcpy(in, &number, 4);
        memcpy(in + 4, block + at, len);
        ret = crypto_hash(hash, in, 4 + len, out);
        memcpy(block + at, out, len);
    }
    crypto_wipe(in, sizeof(in));
    crypto_wipe(out, sizeof(out));
    return ret;
}

static void xor_into(uint8_t *to, const uint8_t *from, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) {
        to[i] ^= from[i];
    }
}

static int af_merge(const Luks *l, const uint8_t *material, uint8_t *key)
{
    uint8_t block[CRYPTO_KEY_MAX] = { 0 };
    int ret = 0;

    for (unsigned i = 0; i < LUKS_STRIPES - 1 && !ret; i++) {
        xor_into(block, material + (size_t)i * l->key_bytes, l->key_bytes);
        ret = diffuse(l->hash, block, l->key_bytes);
    }
    xor_into(block, material + (size_t)(LUKS_STRIPES - 1) * l->key_bytes, l->key_bytes);
    memcpy(key, block, l->key_bytes);
    crypto_wipe(block, sizeof(block));
    return ret;
}

static int af_split(const Luks *l, const uint8_t *key, uint8_t *material)
{
    uint8_t block[CRYPTO_KEY_MAX] = { 0 };
    int ret = 0;

    host_ops->random_bytes(material, (size_t)(LUKS_STRIPES - 1) * l->key_bytes);
    for (unsigned i = 0; i < LUKS_STRIPES - 1 && !ret; i++) {
        xor_into(block, material + (size_t)i * l->key_bytes, l->key_bytes);
        ret = diffuse(l->hash, block, l->key_bytes);
    }
    xor_into(block, key, l->key_bytes);
    memcpy(material + (size_t)(LUKS_STRIPES - 1) * l->key_bytes, block, l->key_bytes);
    crypto_wipe(block, sizeof(block));
    return ret;
}

/* ---- slots ---- */

static CryptoCipher *slot_cipher(const Luks *l, unsigned slot, const uint8_t *password, size_t password_bytes, Error **errp)
{
    uint8_t key[CRYPTO_KEY_MAX];
    CryptoCipher *c = NULL;

    if (crypto_pbkdf2(l->hash, password, password_bytes, l->slots[slot].salt, sizeof(l->slots[slot].salt),
                      l->slots[slot].iterations, key, l->key_bytes) < 0) {
        error_setg(errp, "Could not derive a key from the password");
    } else {
        c = crypto_cipher_new(&l->spec, key, l->key_bytes, errp);
    }
    crypto_wipe(key, sizeof(key));
    return c;
}

static int key_digest(const Luks *l, const uint8_t *key, uint8_t digest[20])
{
    return crypto_pbkdf2(l->hash, key, l->key_bytes, l->digest_salt, sizeof(l->digest_salt), l->digest_iterations, digest,
                         20);
}

int luks_slot_open(const Luks *l, unsigned slot, uint8_t *material, const uint8_t *password, size_t password_bytes,
                   uint8_t key[CRYPTO_KEY_MAX])
{
    uint8_t digest[20];
    CryptoCipher *c = slot_cipher(l, slot, password, password_bytes, NULL);
    int ret = c ? crypto_cipher_run(c, false, 0, material, luks_material_bytes(l)) : -EIO;

    crypto_cipher_free(c);
    if (!ret) {
        ret = af_merge(l, material, key);
    }
    if (!ret) {
        ret = key_digest(l, key, digest);
    }
    return ret < 0 ? ret : !memcmp(digest, l->digest, sizeof(digest));
}

static void make_uuid(char text[41])
{
    uint8_t u[16];

    host_ops->random_bytes(u, sizeof(u));
    u[6] = (u[6] & 0x0f) | 0x40;        /* version 4 */
    u[8] = (u[8] & 0x3f) | 0x80;
    snprintf(text, 41, "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", u[0], u[1], u[2], u[3], u[4],
             u[5], u[6], u[7], u[8], u[9], u[10], u[11], u[12], u[13], u[14], u[15]);
}

uint64_t luks_try_iterations(const Luks *l)
{
    /* A hash yields so many bytes at a time, and each takes all iterations anew. */
    size_t n = MAX(crypto_hash_bytes(l->hash), 1);
    uint64_t blocks = DIV_ROUND_UP(l->key_bytes, n), sum = 0;

    for (unsigned i = 0; i < LUKS_SLOTS; i++) {
        if (l->slots[i].active) {
            sum += l->slots[i].iterations * blocks + (uint64_t)l->digest_iterations * DIV_ROUND_UP(20, n);
        }
    }
    return sum;
}

uint64_t luks_layout_bytes(QCryptoCipherAlgorithm cipher, QCryptoCipherMode mode)
{
    Luks l = { .key_bytes = crypto_key_bytes(cipher, mode) };

    return l.key_bytes ? ALIGN_BYTES + LUKS_SLOTS * ROUND_UP((uint64_t)luks_material_bytes(&l), ALIGN_BYTES) : 0;
}

int luks_new(Luks *l, uint64_t ms, uint8_t key[CRYPTO_KEY_MAX], Error **errp)
{
    uint64_t at = ALIGN_BYTES;

    crypto_init();
    l->key_bytes = crypto_key_bytes(l->spec.cipher, l->spec.mode);
    if (!l->key_bytes) {
        error_setg(errp, "Cipher %s cannot be used in mode %s", QCryptoCipherAlgorithm_str(l->spec.cipher),
                   QCryptoCipherMode_str(l->spec.mode));
        return -ENOTSUP;
    }
    for (unsigned i = 0; i < LUKS_SLOTS; i++) {
        l->slots[i] = (LuksSlot) { .key_sector = at / CRYPTO_SECTOR, .stripes = LUKS_STRIPES };
        at += ROUND_UP(luks_material_bytes(l), (size_t)ALIGN_BYTES);
    }
    l->payload_sector = at / CRYPTO_SECTOR;
    host_ops->random_bytes(key, l->key_bytes);
    host_ops->random_bytes(l->digest_salt, sizeof(l->digest_salt));
    make_uuid(l->uuid);
    /* The digest is tried once for each slot: an eighth of the time. */
    l->digest_iterations = crypto_pbkdf2_iterations(l->hash, 20, ms / 8);
    if (key_digest(l, key, l->digest) < 0) {
        error_setg(errp, "Could not compute the digest of the key");
        return -EIO;
    }
    return 0;
}

int luks_slot_fill(Luks *l, unsigned slot, const uint8_t key[CRYPTO_KEY_MAX], const uint8_t *password,
                   size_t password_bytes, uint64_t ms, uint8_t *material, Error **errp)
{
    LuksSlot *s = &l->slots[slot];
    int ret;

    host_ops->random_bytes(s->salt, sizeof(s->salt));
    s->iterations = crypto_pbkdf2_iterations(l->hash, l->key_bytes, ms);
    memset(material, 0, luks_material_bytes(l));
    ret = af_split(l, key, material);
    if (ret < 0) {
        error_setg(errp, "Could not split the key");
        return ret;
    }
    CryptoCipher *c = slot_cipher(l, slot, password, password_bytes, errp);

    if (!c) {
        return -EIO;
    }
    ret = crypto_cipher_run(c, true, 0, material, luks_material_bytes(l));
    crypto_cipher_free(c);
    if (ret < 0) {
        error_setg(errp, "Could not encrypt the key");
        return ret;
    }
    s->active = true;
    return 0;
}
