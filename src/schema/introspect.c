/* SPDX-License-Identifier: MIT */
/* introspect.c: the generated text of the schema, read once, when first asked for. */
#include "base/osdep.h"
#include "schema/introspect.h"

extern const char qapi_introspection[];

QDict *qapi_introspect(void)
{
    static QDict *list;

    if (!list) {
        list = qdict_from_json(qapi_introspection, &error_abort);
    }
    return qdict_ref(list);
}
