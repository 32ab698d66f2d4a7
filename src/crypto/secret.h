/* SPDX-License-Identifier: MIT */
/* secret.h: passwords and keys that objects hold, by their names. Main thread. */
#ifndef LIVEBLK_CRYPTO_SECRET_H
#define LIVEBLK_CRYPTO_SECRET_H

#include "base/osdep.h"
#include "block/error.h"
#include "qapi-types.h"

/* Make one. 0 or -errno. */
int secret_create(const char *id, const SecretProperties *p, Error **errp);
bool secret_exists(const char *id);
/* Forget it, and overwrite it. */
void secret_destroy(const char *id);
/* Its bytes: a copy, *bytes long with a 0 behind, for secret_free(). NULL and *errp: there is none of this name. */
uint8_t *secret_get(const char *id, size_t *bytes, Error **errp);
/* The same, and it has to be UTF-8 text, as passwords are. */
uint8_t *secret_get_text(const char *id, size_t *bytes, Error **errp);
void secret_free(uint8_t *secret, size_t bytes);

#endif
