/* SPDX-License-Identifier: MIT */
/* size.c: see size.h. Integers throughout: a double has not digits enough for 2^64. */
#include "base/osdep.h"
#include "base/size.h"

/* What stands behind the point: @digits / @scale, and whether more followed that
 * could not be kept. */
typedef struct Fraction {
    uint64_t digits, scale;
    bool inexact;
} Fraction;

static const char *parse_fraction(const char *s, Fraction *f)
{
    *f = (Fraction) { .scale = 1 };
    for (; g_ascii_isdigit(*s); s++) {
        if (f->scale < 1000000000000000000ULL) {
            f->digits = f->digits * 10 + (*s - '0');
            f->scale *= 10;
        } else if (*s != '0') {
            f->inexact = true;
        }
    }
    return s;
}

/* Bytes for the unit letter @c; 0: it is none. */
static uint64_t unit_bytes(char c)
{
    static const char letters[] = "bkmgtpe";
    const char *at = c ? strchr(letters, g_ascii_tolower(c)) : NULL;

    return at ? 1ULL << (10 * (at - letters)) : 0;
}

static int parse_hex(const char *s, uint64_t unit, uint64_t *bytes)
{
    char *end;
    uint64_t value;

    if (!g_ascii_isxdigit(*s)) {
        return -EINVAL;
    }
    errno = 0;
    value = g_ascii_strtoull(s, &end, 16);
    if (*end) {
        return -EINVAL;     /* a unit too: B and E would be digits */
    }
    return errno || __builtin_mul_overflow(value, unit, bytes) ? -ERANGE : 0;
}

static int parse_decimal(const char *s, uint64_t default_unit, uint64_t *bytes)
{
    Fraction fraction = { .scale = 1 };
    uint64_t whole = 0, unit = default_unit, part;
    bool overflow = false, digits = false;

    for (; g_ascii_isdigit(*s); s++) {
        digits = true;
        overflow |= __builtin_mul_overflow(whole, 10, &whole);
        overflow |= __builtin_add_overflow(whole, *s - '0', &whole);
    }
    if (*s == '.') {
        digits |= g_ascii_isdigit(s[1]);
        s = parse_fraction(s + 1, &fraction);
    }
    if (!digits) {
        return -EINVAL;
    }
    if (*s) {
        unit = unit_bytes(*s);
        if (!unit || s[1]) {
            return -EINVAL;
        }
    }
    if (unit == 1 && (fraction.digits || fraction.inexact)) {
        return -EINVAL;     /* part of a byte */
    }
    part = ((unsigned __int128)fraction.digits * unit * 2 + fraction.scale) / fraction.scale / 2;
    overflow |= __builtin_mul_overflow(whole, unit, &whole);
    overflow |= __builtin_add_overflow(whole, part, &whole);
    if (overflow) {
        return -ERANGE;
    }
    *bytes = whole;
    return 0;
}

/* A whole number without a unit, in either base. */
static bool is_plain_number(const char *s)
{
    if (s[0] == '0' && (s[1] == 'x' || s[1] == 'X')) {
        return s[2] && !s[2 + strspn(s + 2, "0123456789abcdefABCDEF")];
    }
    return *s && !s[strspn(s, "0123456789")];
}

int size_parse(const char *text, uint64_t default_unit, uint64_t *bytes)
{
    uint64_t value;
    int ret;

    while (g_ascii_isspace(*text)) {
        text++;
    }
    if (*text == '-') {
        return is_plain_number(text + 1) ? -ERANGE : -EINVAL;
    }
    if (*text == '+') {
        text++;
    }
    if (text[0] == '0' && (text[1] == 'x' || text[1] == 'X')) {
        ret = parse_hex(text + 2, default_unit, &value);
    } else {
        ret = parse_decimal(text, default_unit, &value);
    }
    if (ret == 0) {
        *bytes = value;
    }
    return ret;
}

char *size_to_str(uint64_t bytes)
{
    static const char units[][4] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
    double value = bytes;
    unsigned i = 0;

    /* From 999.5 on three digits would show as 1000. */
    while (value >= 999.5) {
        value /= 1024;
        i++;
    }
    return g_strdup_printf("%.3g %s", value, units[i]);
}

char *duration_to_str(int64_t ns)
{
    int64_t us = MAX(ns, 0) / 1000, ms = us / 1000, s = ms / 1000;

    if (us == 0) {
        return g_strdup("0 s");
    }
    if (ms == 0) {
        return g_strdup_printf("%" PRId64 " us", us);
    }
    if (s == 0) {
        return g_strdup_printf("%" PRId64 " ms", ms);
    }
    if (s < 10) {
        return g_strdup_printf("%" PRId64 ".%" PRId64 " s", s, ms / 100 % 10);
    }
    if (s < 60) {
        return g_strdup_printf("%" PRId64 " s", s);
    }
    if (s < 3600) {
        return g_strdup_printf("%" PRId64 " min %02" PRId64 " s", s / 60, s % 60);
    }
    if (s < 86400) {
        return g_strdup_printf("%" PRId64 " h %02" PRId64 " min", s / 3600, s / 60 % 60);
    }
    return g_strdup_printf("%" PRId64 " d %02" PRId64 " h", s / 86400, s / 3600 % 24);
}
