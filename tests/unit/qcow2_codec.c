/* SPDX-License-Identifier: MIT */
/* Compressed clusters, as streams: what is packed is unpacked, so is what others pack in their ways; damaged
 * and hostile streams are refused, in bounded time and memory, and nothing is written behind the cluster. */
#include "base/osdep.h"
#include "drivers/format/qcow2/codec.h"
#include <sys/resource.h>
#include <zlib.h>
#include <zstd.h>

#define GUARD 64

typedef enum Kind { ZEROES, WORDS, NOISE, KINDS } Kind;

static uint8_t *contents(Kind kind, size_t n)
{
    uint8_t *buf = g_malloc0(n);
    GRand *r = g_rand_new_with_seed(n + kind);

    for (size_t i = 0; i < n; i++) {
        buf[i] = kind == NOISE ? g_rand_int(r) : kind == WORDS ? "a few words "[g_rand_int(r) % 12] : 0;
    }
    g_rand_free(r);
    return buf;
}

/* The result of unpacking @stream into a cluster of @n bytes; 0: it is @wanted. */
static int unpack(bool zstd, const uint8_t *stream, size_t bytes, const uint8_t *wanted, size_t n)
{
    g_autofree uint8_t *in = g_memdup2(stream, bytes);     /* of just this size, for checkers */
    g_autofree uint8_t *out = g_malloc(n + GUARD);
    Qcow2Codec u = { .zstd = zstd, .in = in, .in_bytes = bytes, .out = out, .out_bytes = n };

    memset(out, 0xee, n + GUARD);
    int ret = qcow2_codec_unpack(&u);

    for (int i = 0; i < GUARD; i++) {
        g_assert_cmpuint(out[n + i], ==, 0xee);
    }
    g_assert_true(!ret || ret == -EIO);
    if (!ret && wanted) {
        g_assert_cmpmem(out, n, wanted, n);
    }
    return ret;
}

/* The stream of @data, or NULL: it does not become smaller. */
static uint8_t *pack(bool zstd, uint8_t *data, size_t n, size_t *bytes)
{
    uint8_t *out = g_malloc(n);
    Qcow2Codec p = { .zstd = zstd, .in = data, .in_bytes = n, .out = out, .out_bytes = n - 1 };

    g_assert_cmpint(qcow2_codec_pack(&p), ==, 0);
    g_assert_cmpuint(p.packed_bytes, <, n);
    *bytes = p.packed_bytes;
    if (!*bytes) {
        g_clear_pointer(&out, g_free);
    }
    return out;
}

static void test_round(void)
{
    for (int zstd = 0; zstd < 2; zstd++) {
        for (size_t n = 512; n <= 2 * MiB; n *= 2) {
            for (Kind kind = 0; kind < KINDS; kind++) {
                g_autofree uint8_t *data = contents(kind, n);
                size_t bytes;
                g_autofree uint8_t *stream = pack(zstd, data, n, &bytes);

                g_assert_true(!stream == (kind == NOISE));
                if (stream) {
                    g_assert_cmpint(unpack(zstd, stream, bytes, data, n), ==, 0);
                    /* Not two clusters, nor a half. */
                    g_assert_cmpint(unpack(zstd, stream, bytes, NULL, 2 * n), ==, -EIO);
                }
            }
        }
    }
}

/* As zlib makes it, with a window of its own. @flush: how it ends. */
static size_t deflate_by(int window_bits, int flush, uint8_t *data, size_t n, uint8_t *out, size_t max)
{
    z_stream z = { .next_in = data, .avail_in = n, .next_out = out, .avail_out = max };

    g_assert_cmpint(deflateInit2(&z, 6, Z_DEFLATED, -window_bits, 8, Z_DEFAULT_STRATEGY), ==, Z_OK);
    deflate(&z, flush);
    g_assert_cmpuint(z.avail_in, ==, 0);
    deflateEnd(&z);
    return max - z.avail_out;
}

static void test_others(void)
{
    size_t n = 64 * KiB, max = 80 * KiB;
    g_autofree uint8_t *data = contents(WORDS, n), *out = g_malloc(max);

    for (int bits = 9; bits <= 15; bits++) {
        size_t bytes = deflate_by(bits, Z_FINISH, data, n, out, max);

        g_assert_cmpint(unpack(false, out, bytes, data, n), ==, 0);
        /* Something follows: the rest of the last sector. */
        memset(out + bytes, 0xff, 512);
        g_assert_cmpint(unpack(false, out, bytes + 512, data, n), ==, 0);
    }
    /* One that does not say that it ends, but fills the cluster. */
    g_assert_cmpint(unpack(false, out, deflate_by(12, Z_SYNC_FLUSH, data, n, out, max), data, n), ==, 0);

    size_t bytes = ZSTD_compress(out, max, data, n, 19);

    memset(out + bytes, 0, 512);
    g_assert_cmpint(unpack(true, out, bytes + 512, data, n), ==, 0);
    /* Two frames for one cluster. */
    bytes = ZSTD_compress(out, max, data, n / 2, 1);
    bytes += ZSTD_compress(out + bytes, max - bytes, data + n / 2, n / 2, 1);
    g_assert_cmpint(unpack(true, out, bytes, data, n), ==, 0);
}

static void test_cut(void)
{
    size_t n = 4096;
    g_autofree uint8_t *data = contents(WORDS, n);

    for (int zstd = 0; zstd < 2; zstd++) {
        size_t bytes;
        g_autofree uint8_t *stream = pack(zstd, data, n, &bytes);

        g_assert_nonnull(stream);
        /* The last bytes may hold only the end of the stream. */
        for (size_t k = 0; k < bytes; k++) {
            int ret = unpack(zstd, stream, k, data, n);

            g_assert_true(ret == -EIO || k + 8 > bytes);
        }
    }
}

static void test_damaged(void)
{
    GRand *r = g_rand_new_with_seed(1);
    size_t n = 16 * KiB;
    g_autofree uint8_t *data = contents(WORDS, n);

    for (int i = 0; i < 4000; i++) {
        bool zstd = i & 1;
        size_t bytes;
        g_autofree uint8_t *stream = pack(zstd, data, n, &bytes);

        for (int k = 1 + g_rand_int(r) % 4; k; k--) {
            stream[g_rand_int(r) % (k & 1 ? bytes : MIN(bytes, 24))] = g_rand_int(r);
        }
        unpack(zstd, stream, bytes, NULL, n);
        for (size_t k = 0; k < 300; k++) {
            stream[k] = g_rand_int(r);
        }
        unpack(zstd, stream, 300, NULL, n);
    }
    g_rand_free(r);
}

/* A frame that asks for a window of 128 MiB is taken, but not the memory for it. */
static void test_window(void)
{
    if (!g_test_subprocess()) {
        g_test_trap_subprocess(NULL, 0, G_TEST_SUBPROCESS_INHERIT_STDERR);
        g_test_trap_assert_passed();
        return;
    }
    size_t n = 2 * MiB, max = 3 * MiB;
    g_autofree uint8_t *data = contents(WORDS, n), *out = g_malloc(max);
    ZSTD_CCtx *c = ZSTD_createCCtx();
    ZSTD_inBuffer in = { data, n, 0 };
    ZSTD_outBuffer o = { out, max, 0 };

    g_assert_false(ZSTD_isError(ZSTD_CCtx_setParameter(c, ZSTD_c_windowLog, 27)));
    g_assert_false(ZSTD_isError(ZSTD_CCtx_setParameter(c, ZSTD_c_contentSizeFlag, 0)));
    g_assert_false(ZSTD_isError(ZSTD_compressStream2(c, &o, &in, ZSTD_e_flush)));
    g_assert_cmpuint(ZSTD_compressStream2(c, &o, &in, ZSTD_e_end), ==, 0);
    ZSTD_freeCCtx(c);

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    struct rlimit limit = { 64 * MiB, 64 * MiB };

    setrlimit(RLIMIT_DATA, &limit);
#endif
    g_assert_cmpint(unpack(true, out, o.pos, data, n), ==, 0);
    /* Nor when it is damaged. */
    out[o.pos / 2] ^= 1;
    unpack(true, out, o.pos, NULL, n);
    g_assert_cmpint(unpack(true, out, o.pos / 2, NULL, n), ==, -EIO);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/qcow2/codec/round", test_round);
    g_test_add_func("/qcow2/codec/others", test_others);
    g_test_add_func("/qcow2/codec/cut", test_cut);
    g_test_add_func("/qcow2/codec/damaged", test_damaged);
    g_test_add_func("/qcow2/codec/window", test_window);
    return g_test_run();
}
