# SPDX-License-Identifier: MIT
"""axes: the features that an image may be made of, which of them go together, and a small set of
combinations in which every two values that may meet do meet.

Use:    combinations()      all that are possible, as dicts {axis: value}
        impossible(c)       why @c cannot be, or None
        pairwise(seed)      the small set
"""
import itertools
import random

AXES = {
    'version': (3, 2),
    'cluster': tuple(512 << i for i in range(13)),
    'width': (16, 1, 2, 4, 8, 32, 64),
    'compression': ('none', 'zlib', 'zstd'),
    'extended': ('off', 'on'),
    'data_file': ('none', 'external', 'raw'),
    'lazy': ('off', 'on'),
    'encryption': ('none', 'luks', 'aes'),
}


def impossible(c):
    """The first reason why an image like @c cannot be made, or None."""
    if c['version'] == 2:
        if c['width'] != 16:
            return 'refcounts of version 2 have 16 bits'
        if c['extended'] == 'on':
            return 'version 2 has no extended L2 entries'
        if c['data_file'] != 'none':
            return 'version 2 has no data files'
        if c['lazy'] == 'on':
            return 'version 2 has no dirty bit, so no lazy refcounts'
        if c['compression'] == 'zstd':
            return 'version 2 has no compression types'
    if c['extended'] == 'on' and c['cluster'] < 16384:
        return 'extended L2 entries need clusters of 16 KiB'
    if c['compression'] != 'none' and c['data_file'] != 'none':
        return 'compressed clusters cannot lie in a data file'
    if c['compression'] != 'none' and c['encryption'] != 'none':
        return 'compressed clusters cannot be encrypted'
    if c['data_file'] == 'raw' and c['encryption'] != 'none':
        return 'a raw data file shows the disk as it is, so it cannot be encrypted: holes read as noise'
    return None


def every():
    """The whole product, possible or not."""
    for values in itertools.product(*AXES.values()):
        yield dict(zip(AXES, values))


def combinations():
    return [c for c in every() if impossible(c) is None]


def reasons():
    """{reason: how many combinations it rules out}."""
    found = {}
    for c in every():
        why = impossible(c)
        if why:
            found[why] = found.get(why, 0) + 1
    return found


def key(c):
    return ','.join(f'{axis}={c[axis]}' for axis in AXES)


def _pairs(c):
    return {(a, c[a], b, c[b]) for a, b in itertools.combinations(AXES, 2)}


def pairwise(seed):
    """Combinations that hold every pair of values that any possible one holds; which, @seed decides."""
    rng = random.Random(f'pairs {seed}')
    pool = combinations()
    rng.shuffle(pool)
    left = set().union(*(_pairs(c) for c in pool))
    chosen = []
    while left:
        # The best of a random few is nearly as good as the best of all, and far sooner found.
        wanted = next(iter(sorted(left, key=str)))
        fits = [c for c in pool if c[wanted[0]] == wanted[1] and c[wanted[2]] == wanted[3]]
        best = max(rng.sample(fits, min(40, len(fits))), key=lambda c: len(_pairs(c) & left))
        chosen.append(best)
        left -= _pairs(best)
    rng.shuffle(chosen)
    return chosen
