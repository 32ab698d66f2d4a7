/* SPDX-License-Identifier: MIT */
/* cmd_object.c: objects that are no nodes: iothreads, throttle groups, secrets, and those that protect connections. */
#include "base/osdep.h"
#include "base/str.h"
#include "block/aio.h"
#include "crypto/secret.h"
#include "drivers/filter/throttle_group.h"
#include "qapi-commands.h"
#include "secure/objects.h"

/* ---- iothreads ---- */

#define THREAD_POOL_MAX_DEFAULT 64

static int64_t checked(bool has, int64_t v, const char *name, Error **errp)
{
    if (has && v < 0 && !*errp) {
        error_setg(errp, "%s value must be in range [0, %" PRId64 "]", name, INT64_MAX);
    }
    return has ? v : 0;
}

static void iothread_add(const char *id, const IothreadProperties *p, Error **errp)
{
    Error *err = NULL;
    IOThreadParams params = {
        .poll_max_ns = p->has_poll_max_ns ? checked(true, p->poll_max_ns, "poll-max-ns", &err) : 32768,
        .poll_grow = checked(p->has_poll_grow, p->poll_grow, "poll-grow", &err),
        .poll_shrink = checked(p->has_poll_shrink, p->poll_shrink, "poll-shrink", &err),
        .aio_max_batch = checked(p->has_aio_max_batch, p->aio_max_batch, "aio-max-batch", &err),
        .thread_pool_min = checked(p->has_thread_pool_min, p->thread_pool_min, "thread-pool-min", &err),
        .thread_pool_max = p->has_thread_pool_max
            ? checked(true, p->thread_pool_max, "thread-pool-max", &err) : THREAD_POOL_MAX_DEFAULT,
    };

    if (!err && (params.thread_pool_min > params.thread_pool_max || params.thread_pool_max == 0)) {
        error_setg(&err, "bad thread-pool-min/thread-pool-max values");
    }
    if (err) {
        error_propagate(errp, err);
        return;
    }
    iothread_create(id, &params, errp);
}

/* ---- all kinds ---- */

void qmp_object_add(ObjectOptions *arg, Error **errp)
{
    if (!id_wellformed(arg->id)) {
        error_setg(errp, "Parameter 'id' expects an identifier");
        error_append_hint(errp, "Identifiers consist of letters, digits, '-', '.', '_', starting with a letter.\n");
        return;
    }
    if (throttle_group_by_id(arg->id) || secret_exists(arg->id) || secure_object_by_id(arg->id) ||
        (arg->qom_type != OBJECT_TYPE_IOTHREAD && iothread_by_id(arg->id))) {
        error_setg(errp, "attempt to add duplicate property '%s' to object (type 'container')", arg->id);
        return;
    }
    switch (arg->qom_type) {
    case OBJECT_TYPE_IOTHREAD:
        iothread_add(arg->id, &arg->u.iothread, errp);
        break;
    case OBJECT_TYPE_THROTTLE_GROUP:
        throttle_group_create(arg->id, &arg->u.throttle_group, errp);
        break;
    case OBJECT_TYPE_SECRET:
        secret_create(arg->id, &arg->u.secret, errp);
        break;
    default:
        g_assert(secure_object_is(arg->qom_type));
        secure_object_add(arg, errp);
        break;
    }
}

void qmp_object_del(const char *id, Error **errp)
{
    IOThread *t = iothread_by_id(id);
    ThrottleGroup *g = throttle_group_by_id(id);
    SecureObject *s = secure_object_by_id(id);

    if (t) {
        iothread_destroy(t, errp);
    } else if (g) {
        throttle_group_destroy(g, errp);
    } else if (secret_exists(id)) {
        secret_destroy(id);
    } else if (s) {
        secure_object_del(s, errp);
    } else {
        error_setg(errp, "object '%s' not found", id);
    }
}
