/* SPDX-License-Identifier: MIT */
/* objects.c: the list of objects that protect; see objects.h. */
#include "secure/objects.h"

static LIST_HEAD(, SecureObject) objects = LIST_HEAD_INITIALIZER(objects);

bool secure_object_is(ObjectType type)
{
    switch (type) {
    case OBJECT_TYPE_TLS_CREDS_X509:
    case OBJECT_TYPE_TLS_CREDS_PSK:
    case OBJECT_TYPE_TLS_CREDS_ANON:
    case OBJECT_TYPE_AUTHZ_SIMPLE:
    case OBJECT_TYPE_AUTHZ_LIST:
    case OBJECT_TYPE_AUTHZ_LIST_FILE:
        return true;
    default:
        return false;
    }
}

int secure_object_add(const ObjectOptions *opts, Error **errp)
{
    SecureObject *o;

    switch (opts->qom_type) {
    case OBJECT_TYPE_TLS_CREDS_X509:
    case OBJECT_TYPE_TLS_CREDS_PSK:
    case OBJECT_TYPE_TLS_CREDS_ANON:
        o = tls_creds_new(opts, errp);
        break;
    default:
        o = authz_new(opts, errp);
        break;
    }
    if (!o) {
        return -EINVAL;
    }
    o->id = g_strdup(opts->id);
    o->type = opts->qom_type;
    LIST_INSERT_HEAD(&objects, o, link);
    return 0;
}

SecureObject *secure_object_by_id(const char *id)
{
    SecureObject *o;

    LIST_FOREACH(o, &objects, link) {
        if (!strcmp(o->id, id)) {
            return o;
        }
    }
    return NULL;
}

int secure_object_del(SecureObject *o, Error **errp)
{
    if (__atomic_load_n(&o->users, __ATOMIC_SEQ_CST)) {
        error_setg(errp, "object '%s' is in use, can not be deleted", o->id);
        return -EBUSY;
    }
    LIST_REMOVE(o, link);
    g_free(o->id);
    o->free(o);
    return 0;
}

void secure_object_ref(SecureObject *o)
{
    __atomic_add_fetch(&o->users, 1, __ATOMIC_SEQ_CST);
}

void secure_object_unref(SecureObject *o)
{
    if (o) {
        unsigned before = __atomic_fetch_sub(&o->users, 1, __ATOMIC_SEQ_CST);

        g_assert(before > 0);
    }
}
