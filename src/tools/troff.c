/* SPDX-License-Identifier: MIT */
/* troff.c: see troff.h. Lines are kept below 80 characters, as the checkers of manual pages want. */
#include "troff.h"
#include "base/osdep.h"
#include "config.h"

#define LINE_MAX_CHARS  76

/* @text with what troff takes for itself escaped; the caller frees. */
static char *escape(const char *text)
{
    GString *s = g_string_new(*text == '.' || *text == '\'' ? "\\&" : NULL);

    for (; *text; text++) {
        switch (*text) {
        case '-':
            g_string_append(s, "\\-");
            break;
        case '\\':
            g_string_append(s, "\\e");
            break;
        case '`':       /* else a typographic quote */
            g_string_append(s, "\\(ga");
            break;
        default:
            g_string_append_c(s, *text);
        }
    }
    return g_string_free(s, false);
}

void troff_begin(const char *page, const char *summary)
{
    g_autofree char *upper = g_ascii_strup(page, -1), *title = escape(upper);
    g_autofree char *line = g_strdup_printf("%s - %s", page, summary);

    printf(".TH %s 1 2026-01-01 \"liveblk " LIVEBLK_VERSION "\" \"liveblk\"\n.SH NAME\n", title);
    troff_text(line);
}

void troff_text(const char *text)
{
    g_auto(GStrv) words = g_strsplit(text, " ", -1);
    size_t col = 0;

    for (char **w = words; *w; w++) {
        g_autofree char *word = escape(*w);
        size_t len = strlen(word);

        /* A word that would begin a request never begins a line: escape() guards it there too. */
        if (col && col + 1 + len > LINE_MAX_CHARS) {
            putchar('\n');
            col = 0;
        }
        col += printf("%s%s", col ? " " : "", word);
    }
    putchar('\n');
}

void troff_heading(const char *text)
{
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);

    for (char **l = lines; *l; l++) {
        g_autofree char *line = escape(g_strchug(*l));

        printf("%s.B %s\n", l == lines ? "" : ".TQ\n", line);
    }
}

void troff_verbatim(const char *text)
{
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);

    for (char **l = lines; *l; l++) {
        g_autofree char *line = escape(*l);

        printf("%s\n", line);
    }
}
