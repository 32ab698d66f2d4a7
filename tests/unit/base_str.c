/* SPDX-License-Identifier: MIT */
/* base_str: names, suggestions, fixed fields, sizes and durations. */
#include "base/osdep.h"
#include "base/prng.h"
#include "base/str.h"

static void test_id_wellformed(void)
{
    static const char *const good[] = { "a", "Z9", "job-0.a_b", "x--..__" };
    static const char *const bad[] = { "", "0a", "-a", "_a", ".a", "a b", "a/b", "a\n", "#block1", "\xc3\xa4" };

    for (unsigned i = 0; i < G_N_ELEMENTS(good); i++) {
        g_assert_true(id_wellformed(good[i]));
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_assert_false(id_wellformed(bad[i]));
    }
}

static void test_closest(void)
{
    static const char *const list[] = { "mirror", "backup", "commit", "info", "node-name", NULL };
    static const char *const none[] = { NULL };

    g_assert_cmpstr(str_closest("miror", list), ==, "mirror");
    g_assert_cmpstr(str_closest("BACKPU", list), ==, "backup");
    g_assert_cmpstr(str_closest("comit", list), ==, "commit");
    g_assert_cmpstr(str_closest("node_name", list), ==, "node-name");
    g_assert_cmpstr(str_closest("inof", list), ==, "info");
    g_assert_cmpstr(str_closest("inxx", list), ==, NULL);
    g_assert_cmpstr(str_closest("xyzzyx", list), ==, NULL);
    g_assert_cmpstr(str_closest("", list), ==, NULL);
    g_assert_cmpstr(str_closest("x", none), ==, NULL);
    g_autofree char *longest = g_strnfill(63, 'q'), *longer = g_strnfill(64, 'q');
    const char *const longs[] = { longer, longest, NULL };

    g_assert_true(str_closest(longest, longs) == longest);
    g_assert_null(str_closest(longer, longs));
}

static void test_strstart(void)
{
    const char *rest = "untouched";

    g_assert_true(strstart("nbd:unix", "nbd:", &rest));
    g_assert_cmpstr(rest, ==, "unix");
    g_assert_false(strstart("nbd", "nbd:", &rest));
    g_assert_cmpstr(rest, ==, "unix");
    g_assert_true(strstart("x", "", NULL));
    g_assert_true(strstart("x", "x", &rest));
    g_assert_cmpstr(rest, ==, "");
}

static void test_strpadcpy(void)
{
    char buf[5] = "....";

    strpadcpy(buf, 4, "ab", ' ');
    g_assert_cmpmem(buf, 5, "ab  ", 5);
    strpadcpy(buf, 4, "abcdef", ' ');
    g_assert_cmpmem(buf, 5, "abcd", 5);
    strpadcpy(buf, 0, "z", ' ');
    g_assert_cmpmem(buf, 5, "abcd", 5);
}

/* ---- sizes ---- */

static void check_size(const char *text, int ret, uint64_t expected)
{
    uint64_t bytes = 0xdead;

    g_test_message("'%s'", text);
    g_assert_cmpint(size_parse(text, 1, &bytes), ==, ret);
    g_assert_cmpuint(bytes, ==, ret ? 0xdead : expected);
}

static void test_size_parse(void)
{
    static const struct { const char *text; uint64_t bytes; } good[] = {
        { "0", 0 }, { "64k", 65536 }, { "64K", 65536 }, { "1.5G", 3ULL << 29 }, { "512B", 512 },
        { "1b", 1 }, { "1t", 1ULL << 40 }, { "12P", 12ULL << 50 }, { "15E", 15ULL << 60 },
        { "0x1000", 4096 }, { "0X20", 32 }, { "0xE", 14 }, { "0x10B", 0x10b }, { "010", 10 },
        { "18446744073709551615", UINT64_MAX }, { "0xffffffffffffffff", UINT64_MAX },
        { " 1k", 1024 }, { "+5", 5 }, { "1.", 1 }, { "1.0", 1 }, { "5.k", 5120 }, { ".5k", 512 },
        { "1.7k", 1741 }, { "1.1k", 1126 }, { "0.0001k", 0 }, { "0.0005k", 1 }, { "0.00146484375k", 2 },
        { "1.999999999999999999999999k", 2048 }, { "15.999999999999999999E", UINT64_MAX },
        { "7.9999E", 9223256744704315123 },
    };
    static const char *const bad[] = {
        "", " ", "k", ".", ".k", "+", "-", "1kk", "1KB", "1KiB", "1 k", "5 ", "1e3", "1e3k", "1,5k", "0x", "0xk",
        "0x1.8", "0x10M", "0x1000k", "inf", "nan", "0b1", "1.5", "1.5b", "1.00000000000000000000000001",
        "--1", "+-1", "-1k", "-0k", "-1.0", "-0x", "1.5.5k", "99999999999999999999z",
    };
    static const char *const beyond[] = {
        "16E", "18446744073709551616", "99999999999999999999", "0x10000000000000000", "-1", "-0", "-0x1",
        "17179869184G", "99999999999999999999k",
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(good); i++) {
        check_size(good[i].text, 0, good[i].bytes);
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
        check_size(bad[i], -EINVAL, 0);
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(beyond); i++) {
        check_size(beyond[i], -ERANGE, 0);
    }
}

static void test_size_default_unit(void)
{
    uint64_t bytes;

    g_assert_cmpint(size_parse("1.5", MiB, &bytes), ==, 0);
    g_assert_cmpuint(bytes, ==, 3 << 19);
    g_assert_cmpint(size_parse("7b", MiB, &bytes), ==, 0);
    g_assert_cmpuint(bytes, ==, 7);
    g_assert_cmpint(size_parse("0x10", MiB, &bytes), ==, 0);
    g_assert_cmpuint(bytes, ==, 16 * MiB);
    g_assert_cmpint(size_parse("0x1000000000000", MiB, &bytes), ==, -ERANGE);
}

/* What is written as a whole number is read back as it was. */
static void test_size_round_trip(void)
{
    Prng prng = { 5 };

    for (int i = 0; i < 20000; i++) {
        uint64_t value = prng_u64(&prng) >> prng_below(&prng, 64), bytes;
        g_autofree char *text = g_strdup_printf(i % 2 ? "0x%" PRIx64 : "%" PRIu64, value);

        g_assert_cmpint(size_parse(text, 1, &bytes), ==, 0);
        g_assert_cmpuint(bytes, ==, value);
    }
}

static void test_size_to_str(void)
{
    static const struct { uint64_t bytes; const char *text; } cases[] = {
        { 0, "0 B" }, { 1, "1 B" }, { 512, "512 B" }, { 999, "999 B" }, { 1000, "0.977 KiB" },
        { 1024, "1 KiB" }, { 1536, "1.5 KiB" }, { 999424, "976 KiB" }, { 1022976, "999 KiB" },
        { 1023487, "999 KiB" }, { 1023488, "0.976 MiB" }, { 1024000, "0.977 MiB" }, { 1600000, "1.53 MiB" },
        { 123457024, "118 MiB" }, { 1072693248, "0.999 GiB" }, { 1073741824, "1 GiB" },
        { 1000000000000, "931 GiB" }, { 1ULL << 40, "1 TiB" }, { 1ULL << 50, "1 PiB" }, { UINT64_MAX, "16 EiB" },
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *text = size_to_str(cases[i].bytes);

        g_assert_cmpstr(text, ==, cases[i].text);
    }
}

static void test_duration_to_str(void)
{
    static const struct { int64_t ns; const char *text; } cases[] = {
        { INT64_MIN, "0 s" }, { 0, "0 s" }, { 999, "0 s" }, { 15999, "15 us" }, { 350 * 1000000LL, "350 ms" },
        { 999999999, "999 ms" }, { 1000000000, "1.0 s" }, { 9999999999, "9.9 s" }, { 42500000000, "42 s" },
        { 59999999999, "59 s" }, { 185 * 1000000000LL, "3 min 05 s" }, { 3600 * 1000000000LL, "1 h 00 min" },
        { 7620 * 1000000000LL, "2 h 07 min" }, { (4 * 86400 + 3 * 3600 + 59) * 1000000000LL, "4 d 03 h" },
        { INT64_MAX, "106751 d 23 h" },
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *text = duration_to_str(cases[i].ns);

        g_assert_cmpstr(text, ==, cases[i].text);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/str/id-wellformed", test_id_wellformed);
    g_test_add_func("/str/closest", test_closest);
    g_test_add_func("/str/strstart", test_strstart);
    g_test_add_func("/str/strpadcpy", test_strpadcpy);
    g_test_add_func("/size/parse", test_size_parse);
    g_test_add_func("/size/default-unit", test_size_default_unit);
    g_test_add_func("/size/round-trip", test_size_round_trip);
    g_test_add_func("/size/to-str", test_size_to_str);
    g_test_add_func("/duration/to-str", test_duration_to_str);
    return g_test_run();
}
