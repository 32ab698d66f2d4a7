/* SPDX-License-Identifier: MIT */
/* Ciphers, hashes and PBKDF2 give what public vectors say (FIPS 180 and 197, SP 800-38A, IEEE 1619, RFC 2144, 6070 and
 * 7914, the authors of Twofish); LUKS headers are parsed as they were built, slots open with their password only, and
 * damaged headers are refused, or name nothing outside their room. */
#include "base/osdep.h"
#include "crypto/luks.h"
#include "tests/unit/driver_util.h"

#define ROOM (64 * MiB)

static size_t from_hex(const char *text, uint8_t *out)
{
    size_t n = strlen(text) / 2;

    for (size_t i = 0; i < n; i++) {
        out[i] = g_ascii_xdigit_value(text[2 * i]) << 4 | g_ascii_xdigit_value(text[2 * i + 1]);
    }
    return n;
}

/* ---- ciphers ---- */

typedef struct Vector {
    QCryptoCipherAlgorithm cipher;
    QCryptoCipherMode mode;
    const char *key, *plain, *wanted;   /* plain NULL: bytes that count up; others: the first block, zeroes after it */
    uint64_t sector;
} Vector;

static const Vector vectors[] = {
    { Q_CRYPTO_CIPHER_ALGORITHM_AES_128, Q_CRYPTO_CIPHER_MODE_ECB, "2b7e151628aed2a6abf7158809cf4f3c",
      "6bc1bee22e409f96e93d7e117393172a", "3ad77bb40d7a3660a89ecaf32466ef97", 0 },
    { Q_CRYPTO_CIPHER_ALGORITHM_AES_128, Q_CRYPTO_CIPHER_MODE_CBC, "2b7e151628aed2a6abf7158809cf4f3c",
      "6bc1bee22e409f96e93d7e117393172a", "3ad77bb40d7a3660a89ecaf32466ef97", 0 },
    { Q_CRYPTO_CIPHER_ALGORITHM_AES_192, Q_CRYPTO_CIPHER_MODE_ECB, "000102030405060708090a0b0c0d0e0f1011121314151617",
      "00112233445566778899aabbccddeeff", "dda97ca4864cdfe06eaf70a0ec0d7191", 0 },
    { Q_CRYPTO_CIPHER_ALGORITHM_AES_256, Q_CRYPTO_CIPHER_MODE_ECB,
      "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f", "00112233445566778899aabbccddeeff",
      "8ea2b7ca516745bfeafc49904b496089", 0 },
    { Q_CRYPTO_CIPHER_ALGORITHM_AES_128, Q_CRYPTO_CIPHER_MODE_XTS,
      "2718281828459045235360287471352631415926535897932384626433832795", NULL,
      "27a7479befa1d476489f308cd4cfa6e2a96e4bbe3208ff25287dd3819616e89c", 0 },
    { Q_CRYPTO_CIPHER_ALGORITHM_AES_256, Q_CRYPTO_CIPHER_MODE_XTS,
      "2718281828459045235360287471352662497757247093699959574966967627"
      "3141592653589793238462643383279502884197169399375105820974944592", NULL,
      "1c3b3a102f770386e4836c99e370cf9bea00803f5e482357a4ae12d414a3e63b", 0xff },
    { Q_CRYPTO_CIPHER_ALGORITHM_CAST5_128, Q_CRYPTO_CIPHER_MODE_ECB, "0123456712345678234567893456789a",
      "0123456789abcdef", "238b4fe5847e44b2", 0 },
    { Q_CRYPTO_CIPHER_ALGORITHM_TWOFISH_128, Q_CRYPTO_CIPHER_MODE_ECB, "00000000000000000000000000000000",
      "00000000000000000000000000000000", "9f589f5cf6122c32b6bfec2f2ae8c35a", 0 },
};

static void test_ciphers(void)
{
    for (size_t i = 0; i < G_N_ELEMENTS(vectors); i++) {
        const Vector *v = &vectors[i];
        CryptoSpec spec = { .cipher = v->cipher, .mode = v->mode, .ivgen = Q_CRYPTO_IV_GEN_ALGORITHM_PLAIN64,
                            .has_ivgen = true };
        uint8_t key[CRYPTO_KEY_MAX], wanted[32], buf[CRYPTO_SECTOR] = { 0 }, plain[CRYPTO_SECTOR];
        size_t key_bytes = from_hex(v->key, key), n = from_hex(v->wanted, wanted);

        for (int j = 0; !v->plain && j < CRYPTO_SECTOR; j++) {
            buf[j] = j;
        }
        if (v->plain) {
            from_hex(v->plain, buf);
        }
        memcpy(plain, buf, sizeof(buf));
        CryptoCipher *c = crypto_cipher_new(&spec, key, key_bytes, &error_abort);

        g_assert_cmpint(crypto_cipher_run(c, true, v->sector, buf, sizeof(buf)), ==, 0);
        g_assert_cmpmem(buf, n, wanted, n);
        g_assert_cmpint(crypto_cipher_run(c, false, v->sector, buf, sizeof(buf)), ==, 0);
        g_assert_cmpmem(buf, sizeof(buf), plain, sizeof(plain));
        crypto_cipher_free(c);
    }
}

/* Each sector has an initialisation vector of its own; "plain" has 32 bits of its number, plain64 has all. */
static void test_ivgen(void)
{
    for (int g = 0; g < Q_CRYPTO_IV_GEN_ALGORITHM__MAX; g++) {
        CryptoSpec spec = { .cipher = Q_CRYPTO_CIPHER_ALGORITHM_AES_256, .mode = Q_CRYPTO_CIPHER_MODE_CBC, .ivgen = g,
                            .has_ivgen = true, .ivgen_hash = Q_CRYPTO_HASH_ALGORITHM_SHA256 };
        uint8_t key[32] = { 1, 2, 3 }, two[2 * CRYPTO_SECTOR] = { 0 }, far[CRYPTO_SECTOR] = { 0 };
        CryptoCipher *c = crypto_cipher_new(&spec, key, sizeof(key), &error_abort);

        g_assert_cmpint(crypto_cipher_run(c, true, 7, two, sizeof(two)), ==, 0);
        g_assert_cmpint(memcmp(two, two + CRYPTO_SECTOR, CRYPTO_SECTOR), !=, 0);
        g_assert_cmpint(crypto_cipher_run(c, true, (1ULL << 32) + 7, far, sizeof(far)), ==, 0);
        g_assert_cmpint(!memcmp(two, far, sizeof(far)), ==, g == Q_CRYPTO_IV_GEN_ALGORITHM_PLAIN);
        crypto_cipher_free(c);
    }
}

static void test_refused(void)
{
    CryptoSpec spec = { .cipher = Q_CRYPTO_CIPHER_ALGORITHM_AES_128, .mode = Q_CRYPTO_CIPHER_MODE_XTS, .has_ivgen = true,
                        .ivgen = Q_CRYPTO_IV_GEN_ALGORITHM_PLAIN64 };
    uint8_t key[CRYPTO_KEY_MAX] = { 0 };
    Error *err = NULL;

    g_assert_null(crypto_cipher_new(&spec, key, 16, &err));     /* XTS has two keys */
    error_free(err);
    err = NULL;
    spec.cipher = Q_CRYPTO_CIPHER_ALGORITHM_CAST5_128;          /* and wants blocks of 16 bytes */
    g_assert_null(crypto_cipher_new(&spec, key, 32, &err));
    error_free(err);
    g_assert_cmpuint(crypto_key_bytes(spec.cipher, spec.mode), ==, 0);
}

/* ---- hashes ---- */

static void test_hashes(void)
{
    static const struct { QCryptoHashAlgorithm hash; const char *of_abc; } known[] = {
        { Q_CRYPTO_HASH_ALGORITHM_SHA1, "a9993e364706816aba3e25717850c26c9cd0d89d" },
        { Q_CRYPTO_HASH_ALGORITHM_SHA224, "23097d223405d8228642a477bda255b32aadbce4bda0b3f7e36c9da7" },
        { Q_CRYPTO_HASH_ALGORITHM_SHA256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" },
        { Q_CRYPTO_HASH_ALGORITHM_RIPEMD160, "8eb208f7e05d987a9b044a8e98c6b087f15a0bfc" },
        { Q_CRYPTO_HASH_ALGORITHM_MD5, "900150983cd24fb0d6963f7d28e17f72" },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(known); i++) {
        uint8_t out[CRYPTO_HASH_MAX], wanted[CRYPTO_HASH_MAX];
        size_t n = from_hex(known[i].of_abc, wanted);

        g_assert_cmpuint(crypto_hash_bytes(known[i].hash), ==, n);
        g_assert_cmpint(crypto_hash(known[i].hash, "abc", 3, out), ==, 0);
        g_assert_cmpmem(out, n, wanted, n);
    }
}

static void test_pbkdf2(void)
{
    static const struct { QCryptoHashAlgorithm hash; const char *password; uint64_t n; const char *wanted; } known[] = {
        { Q_CRYPTO_HASH_ALGORITHM_SHA1, "password", 1, "0c60c80f961f0e71f3a9b524af6012062fe037a6" },
        { Q_CRYPTO_HASH_ALGORITHM_SHA1, "password", 4096, "4b007901b765489abead49d926f721d065a429c1" },
        { Q_CRYPTO_HASH_ALGORITHM_SHA256, "passwd", 1, "55ac046e56e3089fec1691c22544b605f94185216dde0465e68b9d57c20dacbc" },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(known); i++) {
        uint8_t out[32], wanted[32];
        size_t n = from_hex(known[i].wanted, wanted);

        g_assert_cmpint(crypto_pbkdf2(known[i].hash, (const uint8_t *)known[i].password, strlen(known[i].password),
                                      (const uint8_t *)"salt", 4, known[i].n, out, n), ==, 0);
        g_assert_cmpmem(out, n, wanted, n);
    }
}

/* ---- LUKS ---- */

static void make(Luks *l, QCryptoHashAlgorithm hash, uint8_t key[CRYPTO_KEY_MAX])
{
    memset(l, 0, sizeof(*l));
    l->spec = (CryptoSpec) { .cipher = Q_CRYPTO_CIPHER_ALGORITHM_AES_256, .mode = Q_CRYPTO_CIPHER_MODE_CBC,
                             .ivgen = Q_CRYPTO_IV_GEN_ALGORITHM_ESSIV, .has_ivgen = true,
                             .ivgen_hash = Q_CRYPTO_HASH_ALGORITHM_SHA256 };
    l->hash = hash;
    g_assert_cmpint(luks_new(l, 1, key, &error_abort), ==, 0);
}

static void test_slots(void)
{
    static const QCryptoHashAlgorithm hash[] = { Q_CRYPTO_HASH_ALGORITHM_SHA1, Q_CRYPTO_HASH_ALGORITHM_SHA512 };

    for (size_t i = 0; i < G_N_ELEMENTS(hash); i++) {
        uint8_t key[CRYPTO_KEY_MAX], found[CRYPTO_KEY_MAX], header[LUKS_HEADER_BYTES];
        Luks l, parsed;

        make(&l, hash[i], key);
        g_autofree uint8_t *material = g_malloc(luks_material_bytes(&l)), *copy = g_malloc(luks_material_bytes(&l));

        g_assert_cmpint(luks_slot_fill(&l, 3, key, (const uint8_t *)"pass", 4, 1, material, &error_abort), ==, 0);
        luks_build(&l, header);
        g_assert_cmpint(luks_parse(&parsed, header, ROOM, &error_abort), ==, 0);
        g_assert_true(parsed.slots[3].active && !parsed.slots[0].active);
        g_assert_cmpuint(parsed.payload_sector, ==, l.payload_sector);
        g_assert_cmpstr(parsed.uuid, ==, l.uuid);
        memcpy(copy, material, luks_material_bytes(&l));
        g_assert_cmpint(luks_slot_open(&parsed, 3, copy, (const uint8_t *)"pass", 4, found), ==, 1);
        g_assert_cmpmem(found, l.key_bytes, key, l.key_bytes);
        memcpy(copy, material, luks_material_bytes(&l));
        g_assert_cmpint(luks_slot_open(&parsed, 3, copy, (const uint8_t *)"Pass", 4, found), ==, 0);
        /* One bit of the material that is lost loses the key. */
        memcpy(copy, material, luks_material_bytes(&l));
        copy[luks_material_bytes(&l) / 2] ^= 1;
        g_assert_cmpint(luks_slot_open(&parsed, 3, copy, (const uint8_t *)"pass", 4, found), ==, 0);
    }
}

static void put32(uint8_t *header, size_t at, uint32_t value)
{
    value = GUINT32_TO_BE(value);
    memcpy(header + at, &value, sizeof(value));
}

static void test_damaged(void)
{
    static const struct { size_t at; uint32_t value; const char *error; } damage[] = {
        { 0, 0, "Volume is not in LUKS format" },
        { 6, 2 << 16, "LUKS version 2 is not supported" },
        { 108, 1u << 31, "LUKS header is corrupted: a key of 2147483648 bytes*" },
        { 164, 0, "LUKS header is corrupted*" },
        { 8, 0x66666666, "Algorithm 'ffff' with key size 32 bytes is not supported" },
        { 40, 0x66666666, "Algorithm 'ffff*' is not supported" },
        { 72, 0x66666666, "Hash algorithm 'ffff*' is not supported" },
        { 208, 1, "Keyslot 0 state (active/disable) is corrupted" },
        { 212, 0, "Keyslot 0 wants 0 iterations" },
        { 248, UINT32_MAX, "Keyslot 0 is overlapping with the encrypted payload" },
        { 248, 0, "Keyslot 0 is overlapping with the encrypted payload" },
        { 252, 1, "Keyslot 0 is corrupted (stripes 1 != 4000)" },
        { 248 + 48, 8, "Keyslots 0 and 1 are overlapping in the header" },
    };
    uint8_t key[CRYPTO_KEY_MAX], good[LUKS_HEADER_BYTES], bad[LUKS_HEADER_BYTES];
    Luks l, parsed;

    make(&l, Q_CRYPTO_HASH_ALGORITHM_SHA256, key);
    g_autofree uint8_t *material = g_malloc(luks_material_bytes(&l));

    luks_slot_fill(&l, 0, key, (const uint8_t *)"x", 1, 1, material, &error_abort);
    luks_build(&l, good);
    for (size_t i = 0; i < G_N_ELEMENTS(damage); i++) {
        Error *err = NULL;

        memcpy(bad, good, sizeof(bad));
        put32(bad, damage[i].at, damage[i].value);
        g_assert_cmpint(luks_parse(&parsed, bad, ROOM, &err), <, 0);
        if (!g_pattern_match_simple(damage[i].error, error_get_pretty(err))) {
            g_test_message("%zu: %s", damage[i].at, error_get_pretty(err));
            g_test_fail();
        }
        error_free(err);
    }
    /* A hostile count is described, and known to be too much before anything is tried. */
    memcpy(bad, good, sizeof(bad));
    put32(bad, 212, UINT32_MAX);
    g_assert_cmpint(luks_parse(&parsed, bad, ROOM, &error_abort), ==, 0);
    g_assert_cmpuint(luks_try_iterations(&parsed), >, LUKS_ITERATIONS_MAX);
    g_assert_cmpint(luks_parse(&parsed, good, ROOM, &error_abort), ==, 0);
    g_assert_cmpuint(luks_try_iterations(&parsed), <=, LUKS_ITERATIONS_MAX);
    g_assert_cmpint(luks_parse(&parsed, good, luks_material_offset(&l, 7) + luks_material_bytes(&l) - 1, NULL), <, 0);
    g_assert_cmpint(luks_parse(&parsed, good, luks_material_offset(&l, 7) + luks_material_bytes(&l), NULL), ==, 0);
}

static void test_random_damage(void)
{
    uint8_t key[CRYPTO_KEY_MAX], good[LUKS_HEADER_BYTES], bad[LUKS_HEADER_BYTES];
    GRand *r = g_rand_new_with_seed(1);
    int accepted = 0;
    Luks l, parsed;

    make(&l, Q_CRYPTO_HASH_ALGORITHM_SHA256, key);
    luks_build(&l, good);
    for (int i = 0; i < 20000; i++) {
        memcpy(bad, good, sizeof(bad));
        for (int n = g_rand_int_range(r, 1, 4); n; n--) {
            bad[g_rand_int_range(r, 0, sizeof(bad))] = g_rand_int(r);
        }
        if (luks_parse(&parsed, bad, ROOM, NULL) < 0) {
            continue;
        }
        accepted++;
        g_assert_cmpuint(parsed.key_bytes, <=, CRYPTO_KEY_MAX);
        for (unsigned s = 0; s < LUKS_SLOTS; s++) {
            g_assert_cmpuint(luks_material_offset(&parsed, s) + luks_material_bytes(&parsed), <=, ROOM);
        }
    }
    g_assert_cmpint(accepted, >, 0);
    g_rand_free(r);
}

int main(int argc, char **argv)
{
    test_begin(&argc, &argv);
    crypto_init();
    g_test_add_func("/crypto/ciphers", test_ciphers);
    g_test_add_func("/crypto/ivgen", test_ivgen);
    g_test_add_func("/crypto/refused", test_refused);
    g_test_add_func("/crypto/hashes", test_hashes);
    g_test_add_func("/crypto/pbkdf2", test_pbkdf2);
    g_test_add_func("/crypto/luks/slots", test_slots);
    g_test_add_func("/crypto/luks/damaged", test_damaged);
    g_test_add_func("/crypto/luks/random-damage", test_random_damage);
    return test_end();
}
