/* SPDX-License-Identifier: MIT */
/* keyval.c: options written as key=value,key=value.
 *
 * A key is words joined by dots: the first begins with a letter, later ones may be numbers
 * (places in a list). A comma in a value is doubled. Later values replace earlier ones of
 * the same key. All values are strings; the schema's input knows how to read them.
 */
#include "base/osdep.h"
#include "block/qdict.h"

#define KEY_LENGTH_MAX 127

/* Length of the word at @s: a name, or (@numbers) a number. 0: neither. */
static size_t key_word(const char *s, bool numbers)
{
    size_t n = 0;

    if (numbers && g_ascii_isdigit(*s)) {
        while (g_ascii_isdigit(s[n])) {
            n++;
        }
    } else if (g_ascii_isalpha(*s)) {
        while (g_ascii_isalnum(s[n]) || s[n] == '-' || s[n] == '_') {
            n++;
        }
    }
    return n;
}

static bool key_is_valid(const char *key)
{
    const char *s = key;
    size_t n;

    if (strlen(key) > KEY_LENGTH_MAX) {
        return false;
    }
    do {
        n = key_word(s, s != key);
        if (!n) {
            return false;
        }
        s += n;
    } while (*s == '.' && *++s);
    return !*s && s[-1] != '.';
}

/* Value at @s up to a single comma, with doubled ones undone; *end is behind it. */
static char *value_take(const char *s, const char **end)
{
    GString *out = g_string_new(NULL);

    for (; *s; s++) {
        if (*s == ',' && *++s != ',') {
            break;
        }
        g_string_append_c(out, *s);
    }
    *end = s;
    return g_string_free(out, FALSE);
}

/* One "key=value" at *text. 0 or -1 and *errp; 1: it is a request for help. */
static int part_take(QDict *flat, const char **text, const char *implied_key, Error **errp)
{
    size_t n = strcspn(*text, "=,");
    g_autofree char *key = g_strndup(*text, n);
    g_autofree char *value = NULL;

    if ((*text)[n] != '=') {
        if (!strcmp(key, "help") || !strcmp(key, "?")) {
            *text += n + ((*text)[n] == ',');
            return 1;
        }
        if (implied_key && n) {
            value = value_take(*text, text);
            qdict_put_str(flat, implied_key, value);
            return 0;
        }
        if (key_is_valid(key)) {
            error_setg(errp, "Expected '=' after parameter '%s'", key);
        } else {
            error_setg(errp, "Invalid parameter '%s'", key);
        }
        return -1;
    }
    if (!key_is_valid(key)) {
        error_setg(errp, "Invalid parameter '%s'", key);
        return -1;
    }
    value = value_take(*text + n + 1, text);
    qdict_put_str(flat, key, value);
    return 0;
}

QDict *qdict_from_keyval(const char *text, const char *implied_key, bool *help, Error **errp)
{
    g_autoptr(QDict) flat = qdict_new();
    bool wants_help = false;

    while (*text) {
        int ret = part_take(flat, &text, implied_key, errp);

        if (ret < 0) {
            return NULL;
        }
        wants_help = wants_help || ret;
        implied_key = NULL;
    }
    if (wants_help && !help) {
        error_setg(errp, "Help is not available for this option");
        return NULL;
    }
    if (help) {
        *help = wants_help;
    }
    return qdict_crumple(g_steal_pointer(&flat), errp);
}

QDict *qdict_from_options(const char *text, const char *implied_key, bool *keyval, Error **errp)
{
    *keyval = *text != '{';
    return *keyval ? qdict_from_keyval(text, implied_key, NULL, errp) : qdict_from_json(text, errp);
}
