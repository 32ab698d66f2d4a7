/* SPDX-License-Identifier: MIT */
/* prng.h: a small seeded generator for the simulator and tests; not for secrets.
 *
 * It is splitmix64 (S. Vigna, public domain): any seed will do, neighbouring ones too,
 * and the sequence is the same on every machine.
 *
 * Use:       Prng p = { seed };  n = prng_below(&p, 6);
 * Runs on:   any thread; one owner. Never fails, never suspends.
 */
#ifndef LIVEBLK_BASE_PRNG_H
#define LIVEBLK_BASE_PRNG_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct Prng {
    uint64_t state;         /* the seed, to begin with */
} Prng;

/* 64 random bits. */
static inline uint64_t prng_u64(Prng *p)
{
    uint64_t z = p->state += 0x9e3779b97f4a7c15ULL;

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    return z ^ (z >> 31);
}

/* 0 .. @n - 1, all equally likely; @n > 0. */
static inline uint64_t prng_below(Prng *p, uint64_t n)
{
    unsigned __int128 wide;
    uint64_t threshold;

    assert(n > 0);
    threshold = -n % n;         /* 2^64 mod n: so many low products would be one too many */
    do {
        wide = (unsigned __int128)prng_u64(p) * n;
    } while ((uint64_t)wide < threshold);
    return wide >> 64;
}

/* @least .. @most, both included. */
static inline int64_t prng_range(Prng *p, int64_t least, int64_t most)
{
    uint64_t span = (uint64_t)most - (uint64_t)least + 1;

    assert(least <= most);
    return (int64_t)((uint64_t)least + (span ? prng_below(p, span) : prng_u64(p)));
}

/* True in @hits of @of cases. */
static inline bool prng_chance(Prng *p, uint64_t hits, uint64_t of)
{
    return prng_below(p, of) < hits;
}

/* 0 <= x < 1 */
static inline double prng_double(Prng *p)
{
    return (prng_u64(p) >> 11) * 0x1p-53;
}

/* Fill @buf with random bytes. */
static inline void prng_fill(Prng *p, void *buf, size_t len)
{
    unsigned char *to = buf;

    while (len) {
        uint64_t bits = prng_u64(p);
        size_t n = len < 8 ? len : 8;

        for (size_t i = 0; i < n; i++) {
            to[i] = bits >> (8 * i);
        }
        to += n;
        len -= n;
    }
}

/* A generator of its own, so that what one part of a simulation draws does not shift
 * what another one sees. */
static inline Prng prng_split(Prng *p)
{
    return (Prng) { prng_u64(p) };
}

#endif
