/* SPDX-License-Identifier: MIT */
/* event.c: from the senders of events to their one sink. */
#include "base/osdep.h"
#include "block/qapi-visit.h"

static QapiEventSink *event_sink;

void qapi_event_set_sink(QapiEventSink *sink)
{
    __atomic_store_n(&event_sink, sink, __ATOMIC_RELEASE);
}

void qapi_event_emit(const char *name, const QapiType *type, const void *data)
{
    QapiEventSink *sink = __atomic_load_n(&event_sink, __ATOMIC_ACQUIRE);
    g_autoptr(QDict) json = NULL;

    if (sink) {
        json = type ? qapi_to_json(type, data) : NULL;
        sink(name, json);
    }
}
