/* SPDX-License-Identifier: MIT */
/* specific.c: see specific.h. */
#include "base/osdep.h"
#include "ioshell/specific.h"

typedef struct Lines {
    GString *out;
    int indent;
} Lines;

static char *scalar_text(QDict *v)
{
    return qstring_get(v) ? g_strdup(qstring_get(v)) : json_to_str(v, false);
}

static void add_member(const char *key, QDict *v, void *opaque);

static void add_list(QDict *list, Lines *l)
{
    for (size_t i = 0; i < qlist_size(list); i++) {
        QDict *e = qlist_get(list, i);

        if (qdict_type(e) == QTYPE_QDICT) {
            Lines inner = { l->out, l->indent + 8 };

            g_string_append_printf(l->out, "%*s[%zu]:\n", l->indent + 4, "", i);
            qdict_foreach_wire(e, add_member, &inner);
        } else {
            g_autofree char *text = scalar_text(e);

            g_string_append_printf(l->out, "%*s[%zu]: %s\n", l->indent + 4, "", i, text);
        }
    }
}

static void add_member(const char *key, QDict *v, void *opaque)
{
    Lines *l = opaque, inner = { l->out, l->indent + 4 };
    g_autofree char *label = g_strdelimit(g_strdup(key), "-", ' ');

    g_string_append_printf(l->out, "%*s%s:", l->indent, "", label);
    switch (qdict_type(v)) {
    case QTYPE_QDICT:
        g_string_append_c(l->out, '\n');
        qdict_foreach_wire(v, add_member, &inner);
        break;
    case QTYPE_QLIST:
        g_string_append_c(l->out, '\n');
        add_list(v, l);
        break;
    default: {
        g_autofree char *text = scalar_text(v);

        g_string_append_printf(l->out, " %s\n", text);
    }
    }
}

char *image_specific_text(const ImageInfoSpecific *info, int indent)
{
    g_autoptr(QDict) specific = qapi_to_json(&qapi_type_ImageInfoSpecific, info);
    QDict *data = qdict_get_qdict(specific, "data");
    Lines l = { g_string_new(NULL), indent + 4 };

    if (data && qdict_size(data)) {
        g_string_append_printf(l.out, "%*sFormat specific information:\n", indent, "");
        qdict_foreach_wire(data, add_member, &l);
    }
    return g_string_free(l.out, FALSE);
}
