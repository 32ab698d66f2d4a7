/* SPDX-License-Identifier: MIT */
/* qdict.h: dictionaries of options and messages: JSON objects.
 *
 * A QDict is a json-c value: an object almost everywhere, but lists, strings,
 * numbers and null (a NULL pointer) are the same type. Objects keep the order of
 * insertion; the printer (below) decides the order on the wire.
 *
 * Ownership: qdict_new, parse, clone ... return a reference the caller owns; put
 *            functions that take a QDict take over the caller's reference; get
 *            functions lend. Values may be shared, so change only what you made.
 * Threads:   any; a value belongs to one thread at a time.
 * Fails:     parsers give NULL (or false) and *errp; nothing else fails.
 */
#ifndef LIVEBLK_BLOCK_QDICT_H
#define LIVEBLK_BLOCK_QDICT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <glib.h>
#include <json-c/json.h>
#include "block/error.h"

typedef struct json_object QDict;

/* Kinds of JSON value, as alternates tell them apart. */
typedef enum QType {
    QTYPE_NONE, QTYPE_QNULL, QTYPE_QNUM, QTYPE_QSTRING, QTYPE_QDICT, QTYPE_QLIST, QTYPE_QBOOL,
} QType;

/* ---- making ---- */
LIVEBLK_PUBLIC QDict *qdict_new(void);              /* an empty object */
LIVEBLK_PUBLIC QDict *qlist_new(void);              /* an empty list */
LIVEBLK_PUBLIC QDict *qstring_new(const char *s);
LIVEBLK_PUBLIC QDict *qint_new(int64_t v);
LIVEBLK_PUBLIC QDict *quint_new(uint64_t v);
LIVEBLK_PUBLIC QDict *qdouble_new(double v);
LIVEBLK_PUBLIC QDict *qbool_new(bool v);
LIVEBLK_PUBLIC QDict *qdict_ref(QDict *d);          /* NULL is fine */
LIVEBLK_PUBLIC void qdict_unref(QDict *d);
LIVEBLK_PUBLIC QDict *qdict_clone(const QDict *d);  /* deep */
LIVEBLK_PUBLIC QType qdict_type(const QDict *d);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QDict, qdict_unref)

/* ---- objects ---- */
LIVEBLK_PUBLIC void qdict_put_obj(QDict *d, const char *key, QDict *value);   /* NULL value: null */
LIVEBLK_PUBLIC void qdict_put_str(QDict *d, const char *key, const char *value);
LIVEBLK_PUBLIC void qdict_put_int(QDict *d, const char *key, int64_t value);
LIVEBLK_PUBLIC void qdict_put_bool(QDict *d, const char *key, bool value);
LIVEBLK_PUBLIC void qdict_put_null(QDict *d, const char *key);
LIVEBLK_PUBLIC bool qdict_haskey(const QDict *d, const char *key);
LIVEBLK_PUBLIC size_t qdict_size(const QDict *d);
LIVEBLK_PUBLIC void qdict_del(QDict *d, const char *key);
/* Lent; NULL if absent, or null (see qdict_haskey). */
LIVEBLK_PUBLIC QDict *qdict_get(const QDict *d, const char *key);
/* NULL or @def when absent or of another type. */
LIVEBLK_PUBLIC const char *qdict_get_try_str(const QDict *d, const char *key);
LIVEBLK_PUBLIC int64_t qdict_get_try_int(const QDict *d, const char *key, int64_t def);
LIVEBLK_PUBLIC bool qdict_get_try_bool(const QDict *d, const char *key, bool def);
LIVEBLK_PUBLIC QDict *qdict_get_qdict(const QDict *d, const char *key);       /* an object, or NULL */
LIVEBLK_PUBLIC QDict *qdict_get_qlist(const QDict *d, const char *key);       /* a list, or NULL */
/* Put all members of @src into @dst; those of the same name: replaced if @overwrite. */
LIVEBLK_PUBLIC void qdict_join(QDict *dst, const QDict *src, bool overwrite);
/* Call @fn for each member in order; @fn may not change @d. */
LIVEBLK_PUBLIC void qdict_foreach(const QDict *d, void (*fn)(const char *key, QDict *value, void *opaque),
                                  void *opaque);

/* The same in the order of the wire (see qdict_to_json). */
LIVEBLK_PUBLIC void qdict_foreach_wire(const QDict *d, void (*fn)(const char *key, QDict *value, void *opaque),
                                       void *opaque);

/* ---- lists, scalars ---- */
LIVEBLK_PUBLIC void qlist_append(QDict *list, QDict *value);
LIVEBLK_PUBLIC size_t qlist_size(const QDict *list);
LIVEBLK_PUBLIC QDict *qlist_get(const QDict *list, size_t i);
LIVEBLK_PUBLIC const char *qstring_get(const QDict *d);           /* NULL: not a string */
LIVEBLK_PUBLIC bool qint_get(const QDict *d, int64_t *v);         /* a whole number in range */
LIVEBLK_PUBLIC bool quint_get(const QDict *d, uint64_t *v);
LIVEBLK_PUBLIC bool qbool_get(const QDict *d, bool *v);
LIVEBLK_PUBLIC bool qnumber_get(const QDict *d, double *v);
LIVEBLK_PUBLIC bool qdict_equal(const QDict *a, const QDict *b);  /* same types and contents */

/* ---- nested and dotted ---- */
/* {"a": {"b": 1}, "c": [2]} becomes {"a.b": 1, "c.0": 2}, in place. Empty ones stay. */
LIVEBLK_PUBLIC void qdict_flatten(QDict *d);
/* The reverse; takes over @d. Keys "0", "1", ... make a list. NULL and *errp on a clash. */
LIVEBLK_PUBLIC QDict *qdict_crumple(QDict *d, Error **errp);
/* Move the members whose names begin with @prefix ("file.") into a new dictionary, without
 * the prefix. @sub NULL: drop them. */
LIVEBLK_PUBLIC void qdict_extract_subqdict(QDict *d, QDict **sub, const char *prefix);

/* ---- key=value options ---- */
/* "driver=file,filename=a,,b,x.y=1": a nested dictionary of strings. The first part may be
 * a bare value of @implied_key (NULL: none). "help" or "?" sets *help (NULL: an error). */
LIVEBLK_PUBLIC QDict *qdict_from_keyval(const char *text, const char *implied_key, bool *help, Error **errp);
/* An option's argument: JSON if it begins with '{', else key=value. *keyval tells which. */
LIVEBLK_PUBLIC QDict *qdict_from_options(const char *text, const char *implied_key, bool *keyval, Error **errp);

/* ---- JSON text; see also base/json.h ---- */
/* One complete value. The texts of errors are the field's. */
LIVEBLK_PUBLIC QDict *qdict_from_json(const char *text, Error **errp);
/* Append @v to @out, in one line or (@pretty) with line breaks and indentation of four.
 * Members are printed in the order of the wire (see src/base/json_print.c). */
LIVEBLK_PUBLIC void json_print(GString *out, const QDict *v, bool pretty);
LIVEBLK_PUBLIC char *json_to_str(const QDict *v, bool pretty);     /* the caller frees */

#endif
