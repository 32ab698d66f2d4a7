/* SPDX-License-Identifier: MIT */
/* crypt.h: encrypted images, for the files of this folder.
 *
 * METHOD 2 (LUKS): the header extension says where a LUKS header lies in the file. Guest data is encrypted in sectors
 * of 512 bytes, which are numbered by where they lie in the file. Tables are not encrypted, nor are compressed
 * clusters, which such images have none of.
 *
 * METHOD 1 (AES): the first 16 bytes of the password are the key, of AES-128 in CBC mode; sectors are numbered by where
 * the guest sees them. Anybody may try passwords as fast as he can, and whoever may write to the disk may learn of its
 * contents. So such an image is only read, to get at what is in it; a wrong password gives wrong data, as nothing in
 * the image tells.
 *
 * What lies behind the end of the file, or in a hole, is not zero when it is decrypted: no cluster is fresh in such an
 * image (alloc.c), and what the file says of holes says nothing of the disk.
 */
#ifndef LIVEBLK_DRIVERS_QCOW2_CRYPT_H
#define LIVEBLK_DRIVERS_QCOW2_CRYPT_H

#include "drivers/format/luks/header.h"
#include "drivers/format/qcow2/qcow2.h"

struct Qcow2Crypt {
    Luks luks;                  /* of method 2 */
    CryptoCipher *cipher;       /* NULL: opened without a key */
    uint64_t offset, bytes;     /* of the LUKS header, in the file */
    char *secret;               /* what it was opened with, or NULL */
    bool amending;
};

/* Where the LUKS header of an encrypted image lies. */
LuksFile qcow2_crypt_place(BlockDriverState *bs);

#endif
