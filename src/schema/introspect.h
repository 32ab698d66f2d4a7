/* SPDX-License-Identifier: MIT */
/* introspect.h: the schema as query-qmp-schema shows it. */
#ifndef LIVEBLK_SCHEMA_INTROSPECT_H
#define LIVEBLK_SCHEMA_INTROSPECT_H

/* A new JSON array. Any thread. */
struct json_object *qapi_introspect(void);
#endif
