/* SPDX-License-Identifier: MIT */
/* bufzero.c: buffer_is_zero(), declared in block/iov.h.
 *
 * A buffer that is not zero mostly shows it at once, so three words are looked at
 * first: its beginning, middle and end. The rest is or-ed together with the
 * compiler's vector types, in blocks between which one may stop: 16-byte vectors
 * become SSE2 or NEON or plain words; on x86 a second copy of the loop uses AVX2
 * where the processor has it (asked once a call; that is one load and a test).
 */
#include "base/osdep.h"
#include "block/iov.h"

#define BLOCK_BYTES 256

static uint64_t load_u64(const unsigned char *p)
{
    uint64_t v;

    memcpy(&v, p, sizeof(v));
    return v;
}

/* Whether [@p, @end), a multiple of BLOCK_BYTES from @p on, is zero. @p has the
 * alignment of VECTOR. */
#define DEFINE_BLOCKS_ARE_ZERO(NAME, ATTRIBUTES, VECTOR)                            \
    ATTRIBUTES                                                                      \
    static bool NAME(const unsigned char *p, const unsigned char *end)              \
    {                                                                               \
        enum { WORDS = sizeof(VECTOR) / 8, VECTORS = BLOCK_BYTES / sizeof(VECTOR) }; \
                                                                                    \
        for (; p < end; p += BLOCK_BYTES) {                                         \
            const VECTOR *v = (const VECTOR *)p;                                    \
            VECTOR even = v[0], odd = v[1];                                         \
            uint64_t any = 0;                                                       \
                                                                                    \
            for (int i = 2; i < VECTORS; i += 2) {                                  \
                even |= v[i];                                                       \
                odd |= v[i + 1];                                                    \
            }                                                                       \
            even |= odd;                                                            \
            for (int i = 0; i < WORDS; i++) {                                       \
                any |= even[i];                                                     \
            }                                                                       \
            if (any) {                                                              \
                return false;                                                       \
            }                                                                       \
        }                                                                           \
        return true;                                                                \
    }

typedef uint64_t Vector16 __attribute__((vector_size(16), may_alias));
DEFINE_BLOCKS_ARE_ZERO(blocks_are_zero_16, , Vector16)

#if defined(__x86_64__) || defined(__i386__)
typedef uint64_t Vector32 __attribute__((vector_size(32), may_alias));
DEFINE_BLOCKS_ARE_ZERO(blocks_are_zero_avx2, __attribute__((target("avx2"))), Vector32)

static bool blocks_are_zero(const unsigned char *p, const unsigned char *end)
{
    return __builtin_cpu_supports("avx2") ? blocks_are_zero_avx2(p, end)
                                          : blocks_are_zero_16(p, end);
}
#else
static bool blocks_are_zero(const unsigned char *p, const unsigned char *end)
{
    return blocks_are_zero_16(p, end);
}
#endif

/* The same for any length from 8 on; the last word may overlap the one before. */
static bool words_are_zero(const unsigned char *p, const unsigned char *end)
{
    uint64_t any = load_u64(end - 8);

    for (; end - p >= 8; p += 8) {
        any |= load_u64(p);
    }
    return !any;
}

bool buffer_is_zero(const void *buf, size_t len)
{
    const unsigned char *p = buf, *end = len ? p + len : p;    /* NULL has no sum, not even with 0 */

    if (len < 8) {
        unsigned any = 0;

        while (p < end) {
            any |= *p++;
        }
        return !any;
    }
    if (load_u64(p) | load_u64(p + (len - 8) / 2) | load_u64(end - 8)) {
        return false;
    }
    if (len >= BLOCK_BYTES + 32) {
        const unsigned char *start = (const unsigned char *)(((uintptr_t)p + 31) & ~(uintptr_t)31);
        const unsigned char *stop = start + (end - start) / BLOCK_BYTES * BLOCK_BYTES;

        /* What lies before the first aligned block: at most four words. */
        if (!words_are_zero(p, p + 32) || !blocks_are_zero(start, stop)) {
            return false;
        }
        p = stop;
        if (end - p < 8) {
            return true;        /* the last word was looked at above */
        }
    }
    return words_are_zero(p, end);
}
