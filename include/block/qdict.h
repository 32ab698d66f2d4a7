/* SPDX-License-Identifier: MIT */
/* qdict.h: option dictionaries: json-c objects, with the helpers that options need.
 *
 * A QDict is reference counted (qdict_ref, qdict_unref, g_autoptr). Nested dictionaries and
 * dotted keys ("file.filename") are two spellings of one thing: flatten and crumple.
 * One owner at a time.
 */
#ifndef LIVEBLK_BLOCK_QDICT_H
#define LIVEBLK_BLOCK_QDICT_H

#include <json-c/json.h>
#include "block/error.h"

typedef struct json_object QDict;

LIVEBLK_PUBLIC QDict *qdict_new(void);
static inline QDict *qdict_ref(QDict *d) { return json_object_get(d); }
static inline void qdict_unref(QDict *d) { json_object_put(d); }
LIVEBLK_PUBLIC void qdict_put_str(QDict *d, const char *key, const char *value);
LIVEBLK_PUBLIC void qdict_put_int(QDict *d, const char *key, int64_t value);
LIVEBLK_PUBLIC void qdict_put_bool(QDict *d, const char *key, bool value);
LIVEBLK_PUBLIC void qdict_put_obj(QDict *d, const char *key, struct json_object *value);  /* takes @value */
LIVEBLK_PUBLIC bool qdict_haskey(const QDict *d, const char *key);
LIVEBLK_PUBLIC void qdict_del(QDict *d, const char *key);
LIVEBLK_PUBLIC const char *qdict_get_try_str(const QDict *d, const char *key);            /* NULL: none */
LIVEBLK_PUBLIC struct json_object *qdict_get(const QDict *d, const char *key);            /* borrowed */
LIVEBLK_PUBLIC QDict *qdict_clone(const QDict *d);       /* deep */

/* Dotted keys of @d become nested dictionaries; takes @d; NULL and *errp on a clash. */
LIVEBLK_PUBLIC QDict *qdict_crumple(QDict *d, Error **errp);
/* "driver=file,filename=a,,b,file.x=1", or a JSON object when it begins with '{'. A first
 * word without '=' is the value of @implied_key (may be NULL). Crumpled. *keyval tells which. */
LIVEBLK_PUBLIC QDict *qdict_from_options(const char *text, const char *implied_key, bool *keyval, Error **errp);

/* Print as the control protocol does: ", " and ": " between, keys in the peer's order (see
 * json_print.c); @pretty: indented by four. Appends to @out. */
LIVEBLK_PUBLIC void json_print(GString *out, struct json_object *v, bool pretty);
LIVEBLK_PUBLIC char *json_to_str(struct json_object *v, bool pretty);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(QDict, qdict_unref)
#endif
