/* SPDX-License-Identifier: MIT */
/* objects.h: objects that protect connections: TLS credentials, authorisation: one list of them all.
 *
 * Objects are made and deleted by commands; whoever works with one for longer holds a reference, and it cannot be
 * deleted meanwhile. Runs on the main thread, but that whoever holds a
 * reference may make and drop more in any thread. Nothing suspends.
 */
#ifndef LIVEBLK_SECURE_OBJECTS_H
#define LIVEBLK_SECURE_OBJECTS_H

#include "base/osdep.h"
#include "base/queue.h"
#include "qapi-types.h"

typedef struct SecureObject SecureObject;

struct SecureObject {
    char *id;
    ObjectType type;
    unsigned users;                     /* atomic */
    void (*free)(SecureObject *o);      /* what the kind holds, and itself; not the id */
    LIST_ENTRY(SecureObject) link;
};

/* Does this file's list hold objects of @type? */
bool secure_object_is(ObjectType type);
/* Make the object @opts describes; its id is free. 0, or -errno: nothing is made. */
int secure_object_add(const ObjectOptions *opts, Error **errp);
/* NULL: there is none. */
SecureObject *secure_object_by_id(const char *id);
/* -EBUSY: it has users. */
int secure_object_del(SecureObject *o, Error **errp);
void secure_object_ref(SecureObject *o);
/* NULL: nothing. */
void secure_object_unref(SecureObject *o);

/* ---- kinds: NULL and *errp on failure; only objects.c calls these ---- */
SecureObject *tls_creds_new(const ObjectOptions *opts, Error **errp);
SecureObject *authz_new(const ObjectOptions *opts, Error **errp);

/* ---- authorisation ---- */

/* The authorisation object @id. NULL and *errp: it is none. */
SecureObject *authz_find(const char *id, Error **errp);
/* May @identity come in? False: *errp says why not. */
bool authz_allows(SecureObject *authz, const char *identity, Error **errp);

#endif
