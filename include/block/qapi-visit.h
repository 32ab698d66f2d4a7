/* SPDX-License-Identifier: MIT */
/* qapi-visit.h: one set of functions that free, copy, read and print values of every type of
 * the schema, working from generated tables (declared in qapi-types.h as qapi_type_NAME).
 *
 * Runs on:  any thread.   Suspends: never.
 * Input:    checks everything the schema says; on the first fault frees what was made and
 *           sets *errp with the text clients of the field know. Depth is limited.
 * Lists:    all list types begin with `next`, then `value`.
 */
#ifndef LIVEBLK_BLOCK_QAPI_VISIT_H
#define LIVEBLK_BLOCK_QAPI_VISIT_H

#include "block/error.h"
#include "block/qdict.h"

typedef enum QapiKind {
    QAPI_STR, QAPI_BOOL, QAPI_NUMBER, QAPI_NULL, QAPI_ANY, QAPI_INT, QAPI_UINT, QAPI_SIZE,
    QAPI_ENUM, QAPI_STRUCT, QAPI_UNION, QAPI_ALTERNATE, QAPI_LIST,
} QapiKind;

typedef struct QapiType QapiType;

typedef struct QapiMember {
    const char *name;
    const QapiType *type;
    size_t offset;
    size_t has_offset;          /* of the bool, if has_flag (it may be the first member) */
    bool has_flag;              /* false, if optional: presence is the pointer's */
    bool optional, has_default;
    union { int64_t i; double n; } def;
    QType qtype;                /* alternates: what selects this branch */
} QapiMember;

struct QapiType {
    QapiKind kind;
    const char *name;
    size_t size;                /* of the C type itself */
    int bits;                   /* integers */
    const char *const *values;  /* enums: names */
    int n_values;
    const QapiMember *members;  /* structs, unions; alternates: branches */
    int n_members;
    const QapiType *const *variants;    /* unions: by value of the tag; NULL: nothing more */
    int tag;                    /* unions: index of the member */
    size_t u_offset;            /* unions, alternates */
    const QapiType *element;    /* lists */
};

/* Free a value that a pointer of this type points to, with all below. NULL is fine. */
LIVEBLK_PUBLIC void qapi_free(const QapiType *type, void *value);
LIVEBLK_PUBLIC void *qapi_clone(const QapiType *type, const void *value);
/* Read @json (lent) as @type; the value, or NULL and *errp. @keyval: scalars are strings, as
 * key=value options have them. */
LIVEBLK_PUBLIC void *qapi_from_json(const QapiType *type, QDict *json, bool keyval, Error **errp);
/* To JSON; a new reference. A list that is NULL is an empty one. */
LIVEBLK_PUBLIC QDict *qapi_to_json(const QapiType *type, const void *value);
/* Name of an enum's value, static; value of a name, or -1. */
LIVEBLK_PUBLIC const char *qapi_enum_str(const QapiType *type, int value);
LIVEBLK_PUBLIC int qapi_enum_parse(const QapiType *type, const char *name);

/* A command. */
typedef struct QapiCommand {
    const char *name;
    const QapiType *arg;        /* a struct or union, perhaps empty */
    const QapiType *ret;        /* NULL: nothing */
    /* Call the handler with a value of @arg; a value of @ret, owned by the caller. */
    void *(*marshal)(void *arg, Error **errp);
    bool oob;                   /* may run out of band: at once, beside others */
} QapiCommand;
extern const QapiCommand qapi_commands[];       /* ends with a NULL name */

/* An event. */
typedef struct QapiEvent {
    const char *name;
    const QapiType *data;       /* NULL: none */
} QapiEvent;
extern const QapiEvent qapi_events[];           /* ends with a NULL name */

/* Where events go; NULL: nowhere. Called in the thread that sends; @data is lent, NULL: none.
 * Set it before other threads run. */
typedef void QapiEventSink(const char *name, QDict *data);
LIVEBLK_PUBLIC void qapi_event_set_sink(QapiEventSink *sink);
void qapi_event_emit(const char *name, const QapiType *type, const void *data);

#endif
