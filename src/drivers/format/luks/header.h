/* SPDX-License-Identifier: MIT */
/* header.h: a LUKS header that lies in a file: at its beginning, in a file of its own, or inside a qcow2 image. Read
 * and opened with a password; made; written. What is in it: crypto/luks.h.
 *
 * All run in the main thread and suspend: passwords are tried on worker threads. Texts of errors name the option that
 * is missing; @prefix is what stands before its name ("", "encrypt.").
 *
 * TIME. Reading a header takes none. Each try of a password costs as many iterations as the header says; one that
 * wants more than luks_work_max of all its slots is refused. The process can do everything else meanwhile.
 */
#ifndef LIVEBLK_DRIVERS_LUKS_HEADER_H
#define LIVEBLK_DRIVERS_LUKS_HEADER_H

#include "block/block_int-common.h"
#include "crypto/luks.h"

typedef struct LuksFile {
    BdrvChild *child;
    uint64_t offset;            /* of the header, bytes */
    uint64_t room;              /* bytes that it may take with its slots; 0: as the header says */
} LuksFile;

/* LUKS_ITERATIONS_MAX; less in tests of hostile headers. */
extern uint64_t luks_work_max;

/* Read and check the header. 0 or -errno. */
int coroutine_fn luks_co_load(const LuksFile *f, Luks *l, Error **errp);
/* Does the password open @slot? 1: *key is the disk's; 0: no; -errno: the file cannot be read. Overwrite *key later. */
int coroutine_fn luks_co_try_slot(const LuksFile *f, const Luks *l, unsigned slot, const uint8_t *password,
                                  size_t password_bytes, uint8_t key[CRYPTO_KEY_MAX]);
/* The key that the password of @secret (NULL: an error that says so) opens. 0 or -errno. */
int coroutine_fn luks_co_unlock(const LuksFile *f, const Luks *l, const char *secret, const char *prefix,
                                uint8_t key[CRYPTO_KEY_MAX], Error **errp);

/* A header that does not lie anywhere yet. */
typedef struct LuksNew {
    Luks luks;
    uint8_t key[CRYPTO_KEY_MAX];
    uint8_t *material;          /* of slot 0 */
} LuksNew;

/* 0 or -errno; afterwards, either way, luks_new_clear(). */
int coroutine_fn luks_co_make(LuksNew *n, const QCryptoBlockCreateOptionsLUKS *o, const char *prefix, Error **errp);
void luks_new_clear(LuksNew *n);
/* Write it: the key material, and when that is safe the header. 0 or -errno. */
int coroutine_fn luks_co_put(const LuksFile *f, const LuksNew *n);

/* What it says of itself, into *info, which is zero. */
void luks_describe(const Luks *l, bool detached, QCryptoBlockInfoLUKS *info);

#endif
