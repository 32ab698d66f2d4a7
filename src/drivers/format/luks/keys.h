/* SPDX-License-Identifier: MIT */
/* keys.h: changing the passwords of a LUKS header, while the disk is in use.
 *
 * CRASHES. The header is one write of two sectors, in which nothing but the changed slot differs; between any two
 * writes the file is flushed. A new password: its key material is written first, into a slot that is not active,
 * then the header that makes it so. An old one: first the header, without the slot and its salt, then its material.
 * A slot in use that is filled anew (by force): the new password first gets another slot, if one is free. So wherever
 * it stops, each slot that is active opens, and if there was a password that is to stay, it does.
 *
 * REFUSED without force: what would leave no password at all, and filling a slot in use.
 */
#ifndef LIVEBLK_DRIVERS_LUKS_KEYS_H
#define LIVEBLK_DRIVERS_LUKS_KEYS_H

#include "drivers/format/luks/header.h"

/* Change @l, and the file, as @options say (QCryptoBlockAmendOptionsLUKS in JSON). @secret: what the image was opened
 * with, or NULL. One at a time for a header. Main thread; suspends, as long as passwords take. 0 or -errno. */
int coroutine_fn luks_co_amend(const LuksFile *f, Luks *l, const char *secret, QDict *options, bool force, Error **errp);

#endif
