/* SPDX-License-Identifier: MIT */
/* prng.h: a small seeded generator (splitmix64, public domain by S. Vigna) for the
 * simulator and tests. One owner. */
#ifndef LIVEBLK_BASE_PRNG_H
#define LIVEBLK_BASE_PRNG_H

#include <stdint.h>

typedef struct Prng {
    uint64_t state;
} Prng;

static inline uint64_t prng_u64(Prng *p)
{
    uint64_t z = p->state += 0x9e3779b97f4a7c15ULL;

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    return z ^ (z >> 31);
}

/* 0 .. n-1; n > 0 */
static inline uint64_t prng_below(Prng *p, uint64_t n)
{
    return prng_u64(p) % n;
}
#endif
