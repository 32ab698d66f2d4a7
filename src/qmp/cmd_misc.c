/* SPDX-License-Identifier: MIT */
/* cmd_misc.c: the session's own commands. */
#include "base/osdep.h"
#include "block/qdict.h"
#include "qapi-commands.h"
#include "qmp/monitor.h"
#include "qmp/version.h"
#include "schema/introspect.h"

void qmp_qmp_capabilities(QMPCapabilityList *enable, Error **errp)
{
    /* The monitor negotiates by itself; reached only by a caller that is no monitor. */
}

VersionInfo *qmp_query_version(Error **errp)
{
    VersionInfo *v = g_new0(VersionInfo, 1);

    v->qemu = g_new0(VersionTriple, 1);
    v->qemu->major = QMP_VERSION_MAJOR;
    v->qemu->minor = QMP_VERSION_MINOR;
    v->qemu->micro = QMP_VERSION_MICRO;
    v->package = g_strdup(QMP_VERSION_PACKAGE);
    return v;
}

CommandInfoList *qmp_query_commands(Error **errp)
{
    CommandInfoList *list = NULL;

    for (const QapiCommand *c = qapi_commands; c->name; c++) {
        CommandInfoList *e = g_new0(CommandInfoList, 1);

        e->value = g_new0(CommandInfo, 1);
        e->value->name = g_strdup(c->name);
        e->next = list;
        list = e;
    }
    return list;
}

struct json_object *qmp_query_qmp_schema(Error **errp)
{
    return qapi_introspect();
}

void qmp_quit(Error **errp)
{
    monitor_request_quit();
}
