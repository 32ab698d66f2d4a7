#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Goal: `liveblk check` finds in damaged images what the peer finds, count by count; what it
repairs the peer finds in order; and repairing is never worse than before.
Method: images of all kinds made by the peer, with snapshots and compressed clusters, then bytes of their
tables changed at random; both check them. Where the walk itself depends on damage (a table that is
named twice) only the verdict is compared.
"""
import json
import os
import random
import shutil
import struct
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
from oracle import expect, expect_equal, run, tool  # noqa: E402
from sandbox import Skip  # noqa: E402

COUNTS = ('corruptions', 'leaks', 'check-errors', 'image-end-offset', 'total-clusters', 'allocated-clusters',
          'fragmented-clusters', 'compressed-clusters')


def make(box, rng, name):
    cluster = rng.choice([512, 1024, 4096, 65536, 65536, 262144])
    refcount = rng.choice([1, 2, 4, 8, 16, 16, 32, 64])
    compat = rng.choice(['0.10', '1.1', '1.1'])
    if compat == '0.10':
        refcount = 16
    size = rng.choice([100, 1000, 4000]) * cluster + rng.choice([0, 512, 4096])
    options = f'cluster_size={cluster},compat={compat}'
    options += f',refcount_bits={refcount}' if compat != '0.10' else ''
    extended = compat != '0.10' and cluster >= 16384 and rng.random() < 0.4
    options += ',extended_l2=on' if extended else ''
    external = compat != '0.10' and rng.random() < 0.2
    options += f',data_file={name}.data' if external else ''
    tool(box, 'qemu-img', 'create', '-q', '-f', 'qcow2', '-o', options, name, str(size))
    argv = ['qemu-io']
    for _ in range(rng.randrange(1, 30)):
        at = rng.randrange(size // 512) * 512
        n = min(rng.choice([512, cluster, 3 * cluster, 20 * cluster]), size - at)
        kind = rng.random()
        if kind < 0.6:
            argv += ['-c', f'write {at} {n}']
        elif kind < 0.8:
            argv += ['-c', f'write -z {at} {n}']
        elif not external and size - at // cluster * cluster >= cluster:
            argv += ['-c', f'write -c {at // cluster * cluster} {cluster}']
    tool(box, *argv, name, status=None)         # a narrow refcount may forbid some
    if refcount > 1 and rng.random() < 0.5:
        for i in range(rng.randrange(1, 3)):
            tool(box, 'qemu-img', 'snapshot', '-c', f's{i}', name, status=None)
            at = rng.randrange(size // 512) * 512
            tool(box, 'qemu-io', '-c', f'write {at} {min(4 * cluster, size - at)}', name, status=None)
    return cluster, extended


def damage(box, rng, name, cluster, extended):
    """Change entries of tables; returns whether only refcounts and flags were touched."""
    with open(os.path.join(box.path, name), 'r+b') as f:
        head = f.read(104)
        l1_size, l1 = struct.unpack('>IQ', head[36:48])
        reftable, = struct.unpack('>Q', head[48:56])
        end = os.fstat(f.fileno()).st_size

        def get(at):
            f.seek(at)
            return struct.unpack('>Q', f.read(8).ljust(8, b'\0'))[0]

        l2s = [e for e in (get(l1 + 8 * i) & 0x00fffffffffffe00 for i in range(l1_size)) if e]
        block = get(reftable)
        light = True
        for _ in range(rng.randrange(1, 6)):
            kind = rng.random()
            if kind < 0.5 and block:
                f.seek(block + rng.randrange(min(cluster, end // cluster * 2 + 8)))
                f.write(bytes([rng.choice([0, 1, 2, 3, 255])]))
            elif kind < 0.75 and l2s:
                at = rng.choice(l2s) + 8 * rng.randrange(cluster // 8) // (1 + extended) * (1 + extended)
                f.seek(at)
                f.write(struct.pack('>Q', get(at) ^ (1 << 63)) if get(at) & 0x00fffffffffffe00 else b'')
            elif l2s:
                at = rng.choice(l2s) + 8 * rng.randrange(cluster // 8) // (1 + extended) * (1 + extended)
                value = rng.choice([0, rng.randrange(end // cluster) * cluster | 1 << 63, 1 << 40 | 1 << 63,
                                    0x200 | 1 << 63, 1 << 55, 1 << 62 | rng.randrange(end)])
                f.seek(at)
                f.write(struct.pack('>Q', value))
                light = False
    return light


def check(box, liveblk, name, *repair):
    """Counts by both; (ours, peer's)."""
    mine = tool(box, 'sh', '-c', f'{liveblk} check --output=json {" ".join(repair)} {name} 2>/dev/null', status=None)
    return json.loads(mine)


def peer_check(box, name, *repair):
    text = tool(box, 'sh', '-c', f'qemu-img check --output=json {" ".join(repair)} -f qcow2 {name} 2>/dev/null', status=None)
    return json.loads(text) if text.startswith('{') else None


def pick(result):
    return {k: result[k] for k in COUNTS if result.get(k)}


def test(box, args):
    liveblk = os.path.join(os.path.dirname(args.daemon), 'liveblk')
    if not os.path.exists(liveblk):
        raise Skip('no liveblk beside the daemon')
    compared = 0
    for seed in range(int(os.environ.get('CHECK_SEED', 0)), int(os.environ.get('CHECK_SEED_END', 18))):
        rng = random.Random(seed)
        cluster, extended = make(box, rng, 'a')
        expect_equal(pick(check(box, liveblk, 'a')), pick(peer_check(box, 'a')), f'seed {seed}, sound')
        light = damage(box, rng, 'a', cluster, extended)
        mine, peer = check(box, liveblk, 'a'), peer_check(box, 'a')
        if peer is None:
            continue            # the peer could not open it or gave up
        if light:
            expect_equal(pick(mine), pick(peer), f'seed {seed}, damaged')
            compared += 1
        else:
            expect_equal(bool(mine.get('corruptions')), bool(peer.get('corruptions')), f'seed {seed}, verdict')
        shutil.copy(os.path.join(box.path, 'a'), os.path.join(box.path, 'b'))
        shutil.copy(os.path.join(box.path, 'a'), os.path.join(box.path, 'c'))
        fixed = check(box, liveblk, 'b', '--repair', 'leaks')
        expect_equal(fixed.get('leaks', 0), 0, f'seed {seed}, leaks left')
        peer_check(box, 'c', '-r', 'leaks')
        again, peer_again = peer_check(box, 'b'), peer_check(box, 'c')
        expect(again.get('leaks', 0) == 0 and (
            peer_again.get('leaks', 0) or again.get('corruptions', 0) <= max(
                peer_again.get('corruptions', 0), peer.get('corruptions', 0))),
            f'seed {seed}, the peer after our repair of leaks: {again}, after its own {peer_again}')
        fixed = check(box, liveblk, 'a', '--repair', 'all')
        again = peer_check(box, 'a')
        expect_equal(pick(check(box, liveblk, 'a')), pick(again), f'seed {seed}, repaired')
        if light:
            expect_equal((again.get('corruptions', 0), again.get('leaks', 0)), (0, 0), f'seed {seed}, left: {fixed}')
    expect(compared > 4 or 'CHECK_SEED' in os.environ, f'{compared} compared')


run(test)
