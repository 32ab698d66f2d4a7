/* SPDX-License-Identifier: MIT */
/* ops_check.c: what a check found, as an object. */
#include "ops/ops.h"

QDict *ops_check_object(const BdrvCheckResult *r, const char *filename, const char *format)
{
    const struct { const char *name; int64_t n; bool always; } fields[] = {
        { "image-end-offset", r->image_end_offset }, { "total-clusters", r->total_clusters },
        { "corruptions-fixed", r->corruptions_fixed }, { "leaks-fixed", r->leaks_fixed },
        { "check-errors", r->check_errors, true }, { "corruptions", r->corruptions }, { "leaks", r->leaks },
        { "allocated-clusters", r->allocated_clusters }, { "fragmented-clusters", r->fragmented_clusters },
        { "compressed-clusters", r->compressed_clusters },
    };
    QDict *d = qdict_new();

    for (size_t i = 0; i < G_N_ELEMENTS(fields); i++) {
        if (fields[i].n || fields[i].always) {
            qdict_put_int(d, fields[i].name, fields[i].n);
        }
    }
    qdict_put_str(d, "filename", filename);
    qdict_put_str(d, "format", format);
    return d;
}
