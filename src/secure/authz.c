/* SPDX-License-Identifier: MIT */
/* authz.c: who may come in; see objects.h. Rules in a file are read again when it has changed: it is looked at for
 * each client, which is as quick as any notice and misses nothing. While it cannot be read nobody comes in.
 */
#include "crypto/secret.h"
#include "secure/objects.h"
#include "block/qdict.h"
#include "block/qapi-visit.h"
#include <fnmatch.h>
#include <sys/stat.h>

typedef struct Rule {
    char *match;
    QAuthZListPolicy policy;
    QAuthZListFormat format;
} Rule;

typedef struct Authz {
    SecureObject common;
    char *identity;             /* authz-simple */
    GArray *rules;              /* of Rule; the lists */
    QAuthZListPolicy policy;
    char *filename;             /* authz-list-file */
    bool refresh;
    struct stat st;             /* of what was read */
} Authz;

static void rules_clear(Authz *a)
{
    for (guint i = 0; i < a->rules->len; i++) {
        g_free(g_array_index(a->rules, Rule, i).match);
    }
    g_array_set_size(a->rules, 0);
    a->policy = Q_AUTH_Z_LIST_POLICY_DENY;
}

static void rules_take(Authz *a, const AuthZListProperties *p)
{
    rules_clear(a);
    a->policy = p->policy;
    for (QAuthZListRuleList *l = p->rules; l; l = l->next) {
        Rule r = { g_strdup(l->value->match), l->value->policy, l->value->format };

        g_array_append_val(a->rules, r);
    }
}

static void authz_free(SecureObject *o)
{
    Authz *a = (Authz *)o;

    if (a->rules) {
        rules_clear(a);
        g_array_free(a->rules, true);
    }
    g_free(a->identity);
    g_free(a->filename);
    g_free(a);
}

/* ---- rules in a file ---- */

static int file_load(Authz *a, Error **errp)
{
    ERRP_GUARD();
    g_autoptr(GError) gerr = NULL;
    g_autofree gchar *text = NULL;
    AuthZListProperties *p = NULL;
    struct stat st;
    bool keyval;
    gsize n;

    rules_clear(a);
    memset(&a->st, 0, sizeof(a->st));
    if (stat(a->filename, &st) < 0 || !g_file_get_contents(a->filename, &text, &n, &gerr)) {
        error_setg(errp, "Unable to read '%s': %s", a->filename, gerr ? gerr->message : g_strerror(errno));
        return -ENOENT;
    }
    const char *start = text;

    while (g_ascii_isspace(*start)) {
        start++;
    }
    if (*start != '{') {
        error_setg(errp, "File '%s' must contain a JSON object", a->filename);
        return -EINVAL;
    }
    g_autoptr(QDict) d = qdict_from_options(start, NULL, &keyval, errp);

    p = d ? qapi_from_json(&qapi_type_AuthZListProperties, d, false, errp) : NULL;
    if (!p) {
        error_prepend(errp, "Unable to take rules from '%s': ", a->filename);
        return -EINVAL;
    }
    rules_take(a, p);
    qapi_free(&qapi_type_AuthZListProperties, p);
    a->st = st;
    return 0;
}

static bool file_changed(const Authz *a)
{
    struct stat st;

    return stat(a->filename, &st) < 0 || st.st_ino != a->st.st_ino || st.st_dev != a->st.st_dev ||
           st.st_size != a->st.st_size || st.st_mtim.tv_sec != a->st.st_mtim.tv_sec ||
           st.st_mtim.tv_nsec != a->st.st_mtim.tv_nsec || st.st_ctim.tv_sec != a->st.st_ctim.tv_sec ||
           st.st_ctim.tv_nsec != a->st.st_ctim.tv_nsec;
}

/* ---- all kinds ---- */

SecureObject *authz_new(const ObjectOptions *opts, Error **errp)
{
    Authz *a = g_new0(Authz, 1);

    a->common.free = authz_free;
    switch (opts->qom_type) {
    case OBJECT_TYPE_AUTHZ_SIMPLE:
        a->identity = g_strdup(opts->u.authz_simple.identity);
        break;
    case OBJECT_TYPE_AUTHZ_LIST:
        a->rules = g_array_new(false, false, sizeof(Rule));
        rules_take(a, &opts->u.authz_list);
        break;
    case OBJECT_TYPE_AUTHZ_LIST_FILE:
        a->rules = g_array_new(false, false, sizeof(Rule));
        a->filename = g_strdup(opts->u.authz_list_file.filename);
        a->refresh = opts->u.authz_list_file.refresh;
        if (file_load(a, errp) < 0) {
            authz_free(&a->common);
            return NULL;
        }
        break;
    default:
        g_assert_not_reached();
    }
    return &a->common;
}

SecureObject *authz_find(const char *id, Error **errp)
{
    SecureObject *o = secure_object_by_id(id);

    if (!o && !secret_exists(id)) {
        error_setg(errp, "No authorization object with id '%s'", id);
    } else if (!o || o->free != authz_free) {
        error_setg(errp, "Object with id '%s' is not an authorization object", id);
        o = NULL;
    }
    return o;
}

bool authz_allows(SecureObject *o, const char *identity, Error **errp)
{
    Authz *a = (Authz *)o;
    bool allowed;

    if (a->filename && a->refresh && file_changed(a) && file_load(a, errp) < 0) {
        return false;
    }
    if (a->identity) {
        allowed = !strcmp(a->identity, identity);
    } else {
        QAuthZListPolicy policy = a->policy;

        for (guint i = 0; i < a->rules->len; i++) {
            const Rule *r = &g_array_index(a->rules, Rule, i);

            if (r->format == Q_AUTH_Z_LIST_FORMAT_GLOB ? !fnmatch(r->match, identity, 0) : !strcmp(r->match, identity)) {
                policy = r->policy;
                break;
            }
        }
        allowed = policy == Q_AUTH_Z_LIST_POLICY_ALLOW;
    }
    if (!allowed) {
        error_setg(errp, "'%s' is not authorized by '%s'", identity, o->id);
    }
    return allowed;
}
