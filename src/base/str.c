/* SPDX-License-Identifier: MIT */
/* str.c: small string helpers; see str.h. */
#include "base/osdep.h"
#include "base/str.h"

bool id_wellformed(const char *id)
{
    if (!g_ascii_isalpha(*id)) {
        return false;
    }
    for (id++; *id; id++) {
        if (!g_ascii_isalnum(*id) && !strchr("-._", *id)) {
            return false;
        }
    }
    return true;
}

/* Levenshtein distance, for words of at most 63 letters. */
static unsigned edit_distance(const char *a, const char *b)
{
    unsigned row[64], la = strlen(a), lb = strlen(b);

    if (la > 63 || lb > 63) {
        return UINT_MAX;
    }
    for (unsigned j = 0; j <= lb; j++) {
        row[j] = j;
    }
    for (unsigned i = 1; i <= la; i++) {
        unsigned diag = row[0];

        row[0] = i;
        for (unsigned j = 1; j <= lb; j++) {
            unsigned up = row[j];

            row[j] = MIN(MIN(row[j] + 1, row[j - 1] + 1), diag + (a[i - 1] != b[j - 1]));
            diag = up;
        }
    }
    return row[lb];
}

const char *str_closest(const char *word, const char *const *list)
{
    const char *best = NULL;
    unsigned best_distance = MAX(strlen(word) / 3, 1) + 1;

    for (; *list; list++) {
        unsigned d = edit_distance(word, *list);

        if (d < best_distance) {
            best_distance = d;
            best = *list;
        }
    }
    return best;
}

static int unit_of(char c, uint64_t *unit)
{
    static const char letters[] = "BKMGTPE";
    const char *at = c ? strchr(letters, g_ascii_toupper(c)) : NULL;

    if (!at) {
        return -EINVAL;
    }
    *unit = 1ULL << (10 * (at - letters));
    return 0;
}

int size_parse(const char *text, uint64_t default_unit, uint64_t *bytes)
{
    uint64_t unit = default_unit, whole;
    double fraction = 0;
    char *end;

    if (!g_ascii_isdigit(*text)) {
        return -EINVAL;
    }
    errno = 0;
    bool hex = text[0] == '0' && (text[1] == 'x' || text[1] == 'X');

    whole = g_ascii_strtoull(text, &end, hex ? 16 : 10);
    if (errno) {
        return -ERANGE;
    }
    if (hex) {
        if (*end) {
            return -EINVAL;
        }
        *bytes = whole;
        return 0;
    }
    if (*end == '.') {
        double scale = 0.1;

        for (end++; g_ascii_isdigit(*end); end++, scale /= 10) {
            fraction += (*end - '0') * scale;
        }
    }
    if (*end) {
        if (unit_of(*end, &unit) || end[1]) {
            return -EINVAL;
        }
    } else if (fraction > 0 && unit == 1) {
        return -EINVAL;         /* half a byte */
    }
    if (whole > UINT64_MAX / unit) {
        return -ERANGE;
    }
    uint64_t part = (uint64_t)(fraction * unit + 0.5);

    if (whole * unit > UINT64_MAX - part) {
        return -ERANGE;
    }
    *bytes = whole * unit + part;
    return 0;
}

char *size_to_str(uint64_t bytes)
{
    static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
    double v = bytes;
    int i = 0;

    while (v >= 1000 && i < 6) {
        v /= 1024;
        i++;
    }
    return g_strdup_printf("%0.3g %s", v, units[i]);
}
