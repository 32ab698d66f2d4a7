/* SPDX-License-Identifier: MIT */
/* str.c: small string helpers; see str.h. */
#include "base/osdep.h"
#include "base/str.h"

bool id_wellformed(const char *id)
{
    if (!g_ascii_isalpha(*id)) {
        return false;
    }
    while (*++id) {
        if (!g_ascii_isalnum(*id) && !strchr("-._", *id)) {
            return false;
        }
    }
    return true;
}

bool strstart(const char *str, const char *prefix, const char **rest)
{
    size_t len = strlen(prefix);

    if (strncmp(str, prefix, len) != 0) {
        return false;
    }
    if (rest) {
        *rest = str + len;
    }
    return true;
}

void strpadcpy(char *buf, size_t buf_size, const char *str, char pad)
{
    size_t len = strnlen(str, buf_size);

    memcpy(buf, str, len);
    memset(buf + len, pad, buf_size - len);
}

/* ---- did you mean ---- */

#define WORD_MAX 63     /* longer words get no suggestion */

static bool same_letter(char a, char b)
{
    return g_ascii_tolower(a) == g_ascii_tolower(b);
}

/* Slips that lead from @a to @b. row[0] is the one being made, row[1] and row[2] the
 * two before: row[k][j] counts the slips between the first letters of @a and the first j of @b. */
static unsigned edit_distance(const char *a, size_t a_len, const char *b, size_t b_len)
{
    unsigned space[3][WORD_MAX + 1], *row[3] = { space[0], space[1], space[2] };

    for (size_t j = 0; j <= b_len; j++) {
        row[0][j] = j;
    }
    for (size_t i = 1; i <= a_len; i++) {
        unsigned *oldest = row[2];

        row[2] = row[1];
        row[1] = row[0];
        row[0] = oldest;
        row[0][0] = i;
        for (size_t j = 1; j <= b_len; j++) {
            unsigned best = row[1][j - 1] + !same_letter(a[i - 1], b[j - 1]);

            best = MIN(best, row[1][j] + 1);
            best = MIN(best, row[0][j - 1] + 1);
            if (i > 1 && j > 1 && same_letter(a[i - 1], b[j - 2]) && same_letter(a[i - 2], b[j - 1])) {
                best = MIN(best, row[2][j - 2] + 1);
            }
            row[0][j] = best;
        }
    }
    return row[0][b_len];
}

const char *str_closest(const char *word, const char *const *list)
{
    size_t len = strlen(word);
    unsigned least = MAX(len / 3, 1) + 1;
    const char *best = NULL;

    if (len > WORD_MAX) {
        return NULL;
    }
    for (; *list; list++) {
        size_t list_len = strlen(*list);

        if (list_len <= WORD_MAX) {
            unsigned distance = edit_distance(word, len, *list, list_len);

            if (distance < least) {
                least = distance;
                best = *list;
            }
        }
    }
    return best;
}
