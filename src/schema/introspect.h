/* SPDX-License-Identifier: MIT */
/* introspect.h: the schema in the form that query-qmp-schema gives to programs. */
#ifndef LIVEBLK_SCHEMA_INTROSPECT_H
#define LIVEBLK_SCHEMA_INTROSPECT_H

#include "block/qdict.h"

/* A list of SchemaInfo; a new reference to one shared value. Main thread. */
QDict *qapi_introspect(void);

#endif
