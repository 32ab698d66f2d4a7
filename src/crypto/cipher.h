/* SPDX-License-Identifier: MIT */
/* cipher.h: encrypting sectors of 512 bytes, each by itself, with an initialisation vector made from its
 * number. Over libgcrypt, which also has the hashes and PBKDF2.
 *
 * Runs on: any thread; a cipher may be used by several at a time. Never suspends; costs about a
 * nanosecond a byte.
 */
#ifndef LIVEBLK_CRYPTO_CIPHER_H
#define LIVEBLK_CRYPTO_CIPHER_H

#include "base/osdep.h"
#include "block/error.h"
#include "qapi-types.h"

#define CRYPTO_SECTOR   512
#define CRYPTO_KEY_MAX  64
#define CRYPTO_HASH_MAX 64

typedef struct CryptoSpec {
    QCryptoCipherAlgorithm cipher;
    QCryptoCipherMode mode;
    QCryptoIVGenAlgorithm ivgen;
    bool has_ivgen;                     /* ecb needs none */
    QCryptoHashAlgorithm ivgen_hash;    /* of essiv */
} CryptoSpec;

typedef struct CryptoCipher CryptoCipher;

/* Once, before anything else here. Main thread. */
void crypto_init(void);
/* Bytes of a key for this cipher in this mode; 0: there is no such thing. */
size_t crypto_key_bytes(QCryptoCipherAlgorithm cipher, QCryptoCipherMode mode);
/* NULL and *errp: the spec or the length of the key cannot be. */
CryptoCipher *crypto_cipher_new(const CryptoSpec *spec, const uint8_t *key, size_t key_bytes, Error **errp);
void crypto_cipher_free(CryptoCipher *c);       /* NULL: nothing */
/* In place: @bytes, whole sectors, the first of which has number @sector. 0 or -EIO. */
int crypto_cipher_run(CryptoCipher *c, bool encrypt, uint64_t sector, uint8_t *buf, size_t bytes);
/* The same from @src to @dst, which are the same or do not overlap. */
int crypto_cipher_run_to(CryptoCipher *c, bool encrypt, uint64_t sector, uint8_t *dst, const uint8_t *src, size_t bytes);

size_t crypto_hash_bytes(QCryptoHashAlgorithm hash);    /* 0: not known */
int crypto_hash(QCryptoHashAlgorithm hash, const void *data, size_t bytes, uint8_t *out);
int crypto_pbkdf2(QCryptoHashAlgorithm hash, const uint8_t *password, size_t password_bytes, const uint8_t *salt,
                  size_t salt_bytes, uint64_t iterations, uint8_t *out, size_t out_bytes);
/* How many iterations of it take @ms of this processor's time; at least 1000. Takes about a tenth of a second. */
uint64_t crypto_pbkdf2_iterations(QCryptoHashAlgorithm hash, size_t out_bytes, uint64_t ms);
/* Overwrite, so that the compiler does not leave it out. */
void crypto_wipe(void *p, size_t bytes);

#endif
