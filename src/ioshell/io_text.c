/* SPDX-License-Identifier: MIT */
/* io_text.c: numbers and patterns as words, reports, dumps, buffers. */
#include "base/size.h"
#include "ioshell/ioshell_private.h"

/* ---- words ---- */

int64_t io_number(const char *text)
{
    uint64_t v;
    int ret = size_parse(text, 1, &v);

    return ret < 0 ? ret : v > INT64_MAX ? -ERANGE : (int64_t)v;
}

void io_number_error(IoShell *s, int64_t ret, const char *text)
{
    if (ret == -ERANGE) {
        ioshell_print(s, "Parsing error: argument too large -- %s\n", text);
    } else {
        ioshell_print(s, "Parsing error: non-numeric argument, or extraneous/unrecognized suffix -- %s\n", text);
    }
}

bool io_parse_number(IoShell *s, const char *text, int64_t *value)
{
    *value = io_number(text);
    if (*value < 0) {
        io_number_error(s, *value, text);
        return false;
    }
    return true;
}

int io_pattern(IoShell *s, const char *text)
{
    char *end;
    long v = strtol(text, &end, 0);

    if (end == text || *end || v < 0 || v > UINT8_MAX) {
        ioshell_print(s, "%s is not a valid pattern byte\n", text);
        return -1;
    }
    return v;
}

/* ---- reports ---- */

/* Without a fraction of nothing but zeroes. */
static char *trimmed(char *text)
{
    char *point = strchr(text, '.');

    if (point && strspn(point + 1, "0") == strlen(point + 1)) {
        *point = '\0';
    }
    return text;
}

char *io_size_text(double bytes)
{
    static const char *const units[] = { "bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
    size_t unit = 0;

    while (bytes >= 1024 && unit + 1 < G_N_ELEMENTS(units)) {
        bytes /= 1024;
        unit++;
    }
    g_autofree char *number = trimmed(g_strdup_printf("%.*f", unit ? 3 : 6, bytes));

    return g_strdup_printf("%s %s", number, units[unit]);
}

static char *time_text(int64_t ns, bool terse)
{
    int64_t hundredths = (ns + 5000000) / 10000000, seconds = hundredths / 100;

    if (!seconds && !terse) {
        return g_strdup_printf("00.%02d sec", (int)(hundredths % 100));
    }
    return g_strdup_printf("%" PRId64 ":%02d:%02d.%02d", seconds / 3600, (int)(seconds / 60 % 60), (int)(seconds % 60),
                           (int)(hundredths % 100));
}

void io_report(IoShell *s, const char *verb, int64_t start_ns, int64_t offset, int64_t asked, int64_t done, int ops,
               bool terse)
{
    int64_t ns = MAX(qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL) - start_ns, 1);
    double rate = done * 1e9 / ns, ops_rate = ops * 1e9 / ns;
    g_autofree char *time = time_text(ns, terse);

    if (terse) {
        ioshell_print(s, "%" PRId64 ",%d,%s,%.3f,%.3f\n", done, ops, time, rate, ops_rate);
        return;
    }
    g_autofree char *size = io_size_text(done), *rate_size = io_size_text(rate);

    ioshell_print(s, "%s %" PRId64 "/%" PRId64 " bytes at offset %" PRId64 "\n%s, %d ops; %s (%s/sec and %.4f ops/sec)\n",
                  verb, done, asked, offset, size, ops, time, rate_size, ops_rate);
}

void io_dump(IoShell *s, const uint8_t *buf, int64_t offset, int64_t bytes)
{
    g_autoptr(GString) line = g_string_new(NULL);
    bool cut = s->config.in_daemon && bytes > IO_DUMP_BYTES_MAX;

    bytes = cut ? IO_DUMP_BYTES_MAX : bytes;

    for (int64_t i = 0; i < bytes; i += 16) {
        int n = MIN(16, bytes - i);

        g_string_printf(line, "%08" PRIx64 ":  ", offset + i);
        for (int j = 0; j < n; j++) {
            g_string_append_printf(line, "%02x ", buf[i + j]);
        }
        g_string_append_c(line, ' ');
        for (int j = 0; j < n; j++) {
            g_string_append_c(line, g_ascii_isalnum(buf[i + j]) ? buf[i + j] : '.');
        }
        ioshell_print(s, "%s\n", line->str);
    }
    if (cut) {
        ioshell_print(s, "(the rest is not shown)\n");
    }
}

/* ---- buffers ---- */

enum { MISALIGN_BYTES = 16 };

void *io_alloc(IoShell *s, int64_t bytes, uint8_t pattern)
{
    uint8_t *buf = qemu_try_blockalign(blk_bs(s->blk), bytes + (s->misalign ? MISALIGN_BYTES : 0));

    if (!buf) {
        ioshell_print(s, "no memory for %" PRId64 " bytes\n", bytes);
        return NULL;
    }
    buf += s->misalign ? MISALIGN_BYTES : 0;
    memset(buf, pattern, bytes);
    return buf;
}

void io_free(IoShell *s, void *buf)
{
    if (buf) {
        qemu_vfree((uint8_t *)buf - (s->misalign ? MISALIGN_BYTES : 0));
    }
}

void *io_alloc_vector(IoShell *s, QEMUIOVector *qiov, char **words, int n, uint8_t pattern)
{
    g_autofree int64_t *sizes = g_new(int64_t, n);
    int64_t total = 0;

    for (int i = 0; i < n; i++) {
        if (!io_parse_number(s, words[i], &sizes[i])) {
            return NULL;
        }
        if (sizes[i] > IO_BYTES_MAX) {
            ioshell_print(s, "Argument '%s' exceeds maximum size %" PRId64 "\n", words[i], IO_BYTES_MAX);
            return NULL;
        }
        if (sizes[i] > IO_BYTES_MAX - total) {
            ioshell_print(s, "The total number of bytes exceed the maximum size %" PRId64 "\n", IO_BYTES_MAX);
            return NULL;
        }
        total += sizes[i];
    }
    uint8_t *buf = io_alloc(s, total, pattern), *at = buf;

    if (!buf) {
        return NULL;
    }
    qemu_iovec_init(qiov, n);
    for (int i = 0; i < n; i++) {
        qemu_iovec_add(qiov, at, sizes[i]);
        at += sizes[i];
    }
    return buf;
}
