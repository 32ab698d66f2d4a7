# SPDX-License-Identifier: MIT
"""qcow2bitmaps: the bitmaps stored in an image, read by the public format document alone."""
import struct


def read_bitmaps(path):
    """{name: (flags, granularity, set of dirty granules)}; flags: 1 in use, 2 auto."""
    with open(path, 'rb') as f:
        data = f.read()
    bits, = struct.unpack_from('>I', data, 20)
    size, = struct.unpack_from('>Q', data, 24)
    if struct.unpack_from('>I', data, 4)[0] < 3 or not struct.unpack_from('>Q', data, 88)[0] & 1:
        return {}
    at, cluster = struct.unpack_from('>I', data, 100)[0], 1 << bits
    while True:
        magic, length = struct.unpack_from('>II', data, at)
        if magic in (0, 0x23852875):
            break
        at += 8 + (length + 7) // 8 * 8
    if not magic:
        return {}
    number, _, _, directory = struct.unpack_from('>IIQQ', data, at + 8)
    found = {}
    for _ in range(number):
        table, entries, flags, kind, gran, name_len, extra = struct.unpack_from('>QIIBBHI', data, directory)
        name = data[directory + 24 + extra:][:name_len].decode()
        assert kind == 1 and name not in found, name
        directory += (24 + extra + name_len + 7) // 8 * 8
        dirty, per_cluster, last = set(), cluster * 8, (size + (1 << gran) - 1) >> gran
        for i, word in enumerate(struct.unpack_from(f'>{entries}Q', data, table)):
            first = i * per_cluster
            if word == 1:
                dirty.update(range(first, min(first + per_cluster, last)))
            elif word:
                part = data[word:word + cluster]
                dirty.update(first + 8 * j + k for j, byte in enumerate(part) if byte for k in range(8)
                             if byte >> k & 1 and first + 8 * j + k < last)
        found[name] = (flags, 1 << gran, dirty)
    return found
