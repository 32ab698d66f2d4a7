/* SPDX-License-Identifier: MIT */
/* qapi-visit.h: types of the control protocol described as data, and what is done with them:
 * JSON to C with every check, C to JSON, free, clone. The descriptors are generated from
 * the schema. Any thread.
 */
#ifndef LIVEBLK_BLOCK_QAPI_VISIT_H
#define LIVEBLK_BLOCK_QAPI_VISIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "block/error.h"

struct json_object;

typedef enum QapiKind {
    QAPI_STR, QAPI_BOOL, QAPI_INT, QAPI_UINT32, QAPI_UINT64, QAPI_SIZE, QAPI_NUMBER, QAPI_NULL, QAPI_ANY,
    QAPI_ENUM, QAPI_STRUCT, QAPI_LIST, QAPI_ALTERNATE,
} QapiKind;

/* Which branch of an alternate is set. */
typedef enum QapiAltKind { QTYPE_QDICT = 1, QTYPE_QSTRING, QTYPE_QNULL } QapiAltKind;

typedef struct QapiType QapiType;

typedef struct QapiMember {
    const char *name;
    const QapiType *type;
    int offset, has_offset;         /* has_offset -1: presence is a pointer, or mandatory */
    bool optional;
} QapiMember;

struct QapiType {
    const char *name;
    QapiKind kind;
    size_t size;
    const QapiMember *members;      /* struct, alternate */
    int n_members;
    const char *const *names;       /* enum */
    int count;                      /* enum values; union cases */
    const char *tag;                /* union */
    int tag_offset, union_offset;
    const QapiType *const *cases;
    const QapiType *element;        /* list */
    int value_offset;
};

typedef struct QapiCommand {
    const char *name;
    const QapiType *arg, *ret;      /* ret NULL: nothing */
    void *(*marshal)(void *arg, Error **errp);
    bool oob;
} QapiCommand;
typedef struct QapiEvent {
    const char *name;
    const QapiType *data;
} QapiEvent;
extern const QapiCommand qapi_commands[];
extern const QapiEvent qapi_events[];

LIVEBLK_PUBLIC extern const QapiType qapi_type_str, qapi_type_bool, qapi_type_int, qapi_type_uint32,
    qapi_type_uint64, qapi_type_size, qapi_type_number, qapi_type_null, qapi_type_any;

LIVEBLK_PUBLIC const char *qapi_enum_str(const QapiType *type, int value);
/* Value of @text, or -1. */
LIVEBLK_PUBLIC int qapi_enum_parse(const QapiType *type, const char *text);

/* A new @type from @json, all checked: unknown members, types, ranges. @keyval: scalars may
 * stand as strings, as on a command line. NULL and *errp on error. */
LIVEBLK_PUBLIC void *qapi_from_json(const QapiType *type, struct json_object *json, bool keyval, Error **errp);
/* A new JSON value. */
LIVEBLK_PUBLIC struct json_object *qapi_to_json(const QapiType *type, const void *value);
LIVEBLK_PUBLIC void qapi_free(const QapiType *type, void *value);
LIVEBLK_PUBLIC void *qapi_clone(const QapiType *type, const void *value);

/* Where events go: set by the monitor; NULL: nowhere. Main thread. */
typedef void QapiEventSink(const char *name, struct json_object *data);
LIVEBLK_PUBLIC void qapi_event_set_sink(QapiEventSink *sink);
void qapi_event_emit(const char *name, const QapiType *type, const void *data);

#endif
