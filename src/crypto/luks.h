/* SPDX-License-Identifier: MIT */
/* luks.h: the header of LUKS version 1, by its public on-disk format specification: what a disk is encrypted with,
 * and eight slots that each hold the disk's key, encrypted with a password.
 *
 * A header is parsed and built in memory; the caller reads and writes the file. Runs on: any thread, and takes as
 * long as its iterations want, so: on worker threads, where somebody waits.
 */
#ifndef LIVEBLK_CRYPTO_LUKS_H
#define LIVEBLK_CRYPTO_LUKS_H

#include "crypto/cipher.h"

#define LUKS_HEADER_BYTES       592
#define LUKS_SLOTS              8
#define LUKS_STRIPES            4000
/* Iterations that trying one password on all active slots may take: some minutes. A header that somebody else made
 * may want 2^32 of each slot; then it is described, and not opened. */
#define LUKS_ITERATIONS_MAX     (1ULL << 29)

typedef struct LuksSlot {
    bool active;
    uint32_t iterations, key_sector, stripes;
    uint8_t salt[32];
} LuksSlot;

typedef struct Luks {
    CryptoSpec spec;
    QCryptoHashAlgorithm hash;
    uint32_t payload_sector, key_bytes, digest_iterations;
    uint8_t digest[20], digest_salt[32];
    char uuid[41];
    LuksSlot slots[LUKS_SLOTS];
} Luks;

/* From the first LUKS_HEADER_BYTES of the header's place, which has @room bytes in all; 0: as many as the header says,
 * where the encrypted disk begins behind it. 0 or -EINVAL, *errp. */
int luks_parse(Luks *l, const uint8_t *header, uint64_t room, Error **errp);
void luks_build(const Luks *l, uint8_t header[LUKS_HEADER_BYTES]);
/* Where the key material of a slot lies, from the header's start, and how long it is; bytes. */
uint64_t luks_material_offset(const Luks *l, unsigned slot);
size_t luks_material_bytes(const Luks *l);

/* Bytes that a new header with its slots takes, for a cipher in a mode; 0: there is no such thing. */
uint64_t luks_layout_bytes(QCryptoCipherAlgorithm cipher, QCryptoCipherMode mode);

/* Iterations that a try of a password on all active slots takes, each that opens followed by a look at the digest. */
uint64_t luks_try_iterations(const Luks *l);

/* Is @material of @slot, which it spoils, opened by @password? 1: *key is the disk's; 0: no; -errno. */
int luks_slot_open(const Luks *l, unsigned slot, uint8_t *material, const uint8_t *password, size_t password_bytes,
                   uint8_t key[CRYPTO_KEY_MAX]);
/* A new header with a new key, and its layout, but for slots: spec and hash are set. @ms: what an attacker's try is to
 * cost. */
int luks_new(Luks *l, uint64_t ms, uint8_t key[CRYPTO_KEY_MAX], Error **errp);
/* Let @password open @slot: fills the slot, and @material. */
int luks_slot_fill(Luks *l, unsigned slot, const uint8_t key[CRYPTO_KEY_MAX], const uint8_t *password,
                   size_t password_bytes, uint64_t ms, uint8_t *material, Error **errp);

#endif
