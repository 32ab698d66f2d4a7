/* SPDX-License-Identifier: MIT */
/* snapshots.c: what several commands of qemu-img say and take of snapshots inside images. */
#include "compat/compat.h"
#include <time.h>
#include "base/size.h"
#include "block/snapshot.h"

void compat_print_snapshots(const SnapshotInfoList *list, int indent)
{
    printf("%*sSnapshot list:\n%*s%-7s %-16s %8s %19s %15s %10s\n", indent, "", indent, "", "ID", "TAG", "VM_SIZE",
           "DATE", "VM_CLOCK", "ICOUNT");
    for (; list; list = list->next) {
        const SnapshotInfo *s = list->value;
        g_autofree char *size = size_to_str(s->vm_state_size);
        time_t date = s->date_sec;
        struct tm tm;
        char day[32], clock[32];
        int64_t sec = s->vm_clock_sec;

        localtime_r(&date, &tm);
        strftime(day, sizeof(day), "%Y-%m-%d %H:%M:%S", &tm);
        snprintf(clock, sizeof(clock), "%04" PRId64 ":%02d:%02d.%03d", sec / 3600, (int)(sec / 60 % 60),
                 (int)(sec % 60), (int)(s->vm_clock_nsec / 1000000));
        printf("%*s%-7s %-16s %8s %19s %15s ", indent, "", s->id, s->name, size, day, clock);
        if (s->has_icount) {
            printf("%10" PRId64 "\n", s->icount);
        } else {
            printf("%10s\n", "--");
        }
    }
}

/* Behind a value of "key=value,key=value": the comma, or the end; two commas are one that is meant. */
static const char *value_end(const char *p, GString *value)
{
    for (; *p && (*p != ',' || p[1] == ','); p++) {
        g_string_append_c(value, *p);
        p += *p == ',';
    }
    return p;
}

bool compat_snapshot_parse(const char *text, CompatSnapshot *sn)
{
    compat_snapshot_clear(sn);
    sn->given = true;
    if (!g_str_has_prefix(text, "snapshot.")) {
        sn->any = g_strdup(text);
        return true;
    }
    for (const char *p = text; *p; p += *p == ',') {
        size_t key_bytes = strcspn(p, "=,");
        g_autofree char *key = g_strndup(p, key_bytes);
        g_autoptr(GString) value = g_string_new(NULL);
        char **to = !strcmp(key, "snapshot.id") ? &sn->id : !strcmp(key, "snapshot.name") ? &sn->name : NULL;

        if (!to || p[key_bytes] != '=') {
            compat_fail("Invalid parameter '%s'", key);
            compat_fail("Failed in parsing snapshot param '%s'", text);
            return false;
        }
        p = value_end(p + key_bytes + 1, value);
        g_free(*to);
        *to = g_strdup(value->str);
    }
    return true;
}

void compat_snapshot_clear(CompatSnapshot *sn)
{
    g_free(sn->id);
    g_free(sn->name);
    g_free(sn->any);
    *sn = (CompatSnapshot) { 0 };
}

int coroutine_fn compat_co_snapshot_load(const CompatSnapshot *sn, BlockBackend *blk, Error **errp)
{
    Error *err = NULL;
    int ret = sn->any ? bdrv_snapshot_load_tmp_by_id_or_name(blk_bs(blk), sn->any, &err)
                      : bdrv_snapshot_load_tmp(blk_bs(blk), sn->id, sn->name, &err);

    if (ret < 0) {
        error_prepend(&err, "Failed to load snapshot: ");
        error_propagate(errp, err);
    }
    return ret;
}
