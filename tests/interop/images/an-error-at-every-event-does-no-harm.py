#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Goal: whichever step of qcow2 meets an error, once or for good: what was flushed is there, the image has no
corruption, and the daemon goes on.
Method: for each event of blkdebug: an image over a backing file, or with a snapshot, small clusters so that all tables
are used; writes, compressed ones too, zeroes, discards, flushes, growing and shrinking by qemu-io's commands, errors injected from the event on; then the
peer checks the image, and what it reads is compared with a model. Which events were met is counted.
"""
import os
import random
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
from oracle import Server, expect, read_file, run, tool  # noqa: E402
from sandbox import Skip  # noqa: E402

CLUSTER = 1024
SECTORS = 600           # of the disk
# These must be met, or the test tests nothing.
MET = {'l1_update', 'l1_grow_alloc_table', 'l1_grow_write_table', 'l1_grow_activate_table', 'l2_load', 'l2_update', 'l2_alloc_write', 'read_aio', 'read_backing_aio',
       'write_aio', 'cow_read', 'cow_write', 'reftable_load', 'refblock_load', 'refblock_update_part', 'refblock_alloc',
       'cluster_alloc', 'flush_to_disk', 'flush_to_os', 'pwritev', 'pwritev_done', 'none', 'l2_alloc_cow_read', 'write_compressed',
       'l2_update_compressed', 'read_compressed', 'l1_shrink_write_table', 'l1_shrink_free_l2_clusters'}


class Model:
    """For each sector: what it may hold after a power failure now, and what was written since."""

    def __init__(self, value):
        self.durable = [{value} for _ in range(SECTORS)]
        self.now = [{value} for _ in range(SECTORS)]

    def change(self, at, n, value, failed):
        for i in range(at, at + n):
            self.now[i] = self.now[i] | {value} if failed else {value}
            self.durable[i] = self.durable[i] | self.now[i]

    def flushed(self):
        self.durable = [set(s) for s in self.now]


def by_hand(server, command):
    said = server.qmp('human-monitor-command', **{'command-line': f'qemu-io n "{command}"'})
    return 'failed' in said, said


def one_step(server, rng, model):
    kind = rng.random()
    n = rng.choice([1, 1, 2, 8, 70])
    at = rng.randrange(SECTORS - n)
    where = f'{at * 512} {n * 512}'
    if kind < 0.1:
        # One cluster, compressed.
        cluster, value = rng.randrange(SECTORS * 512 // CLUSTER), rng.randrange(1, 256)
        failed = by_hand(server, f'write -q -c -P {value} {cluster * CLUSTER} {CLUSTER}')[0]
        model.change(cluster * CLUSTER // 512, CLUSTER // 512, value, failed)
        failed |= by_hand(server, f'read -v {cluster * CLUSTER} {CLUSTER}')[0]
    elif kind < 0.55:
        value = rng.randrange(1, 256)
        failed = by_hand(server, f'write -q -P {value} {where}')[0]
        model.change(at, n, value, failed)
    elif kind < 0.65:
        failed = by_hand(server, f'write -q -z {where}')[0]
        model.change(at, n, 0, failed)
    elif kind < 0.75:
        failed, _ = by_hand(server, f'discard -q {where}')
        for i in range(at, at + n):             # it need not do anything
            model.now[i] = model.now[i] | {0, 1}
            model.durable[i] = model.durable[i] | {0, 1}
    elif kind < 0.9:
        failed, said = by_hand(server, f'read -v {where}')
    else:
        # flush says nothing, whatever happens; what it did is asked for by a write that has to be durable.
        value = rng.randrange(1, 256)
        failed = by_hand(server, f'write -q -f -P {value} {where}')[0]
        model.change(at, n, value, failed)
        if not failed:
            model.flushed()
    return failed


def look(box, name, model, what):
    found = tool(box, 'qemu-img', 'check', name, status=None)
    expect('ERROR' not in found and 'errors were found' not in found.replace('No errors were found', ''), f'{what}: {found}')
    tool(box, 'qemu-img', 'convert', '-f', 'qcow2', '-O', 'raw', name, 'out.raw')
    data = read_file(box, 'out.raw')
    for i in range(SECTORS):
        sector = data[i * 512:i * 512 + 512]
        expect(sector == sector[:1] * 512 and sector[0] in model.durable[i],
               f'{what}: sector {i} holds {sorted(set(sector))}, and may hold {sorted(model.durable[i])}')


def with_error(box, server, event, once, seed):
    """One image; returns whether the error was met."""
    rng = random.Random(f'{event}{once}{seed}')
    over = seed % 2 == 0
    size = str(SECTORS * 512)
    for name in ('a.qcow2', 'out.raw'):
        if os.path.exists(os.path.join(box.path, name)):
            os.unlink(os.path.join(box.path, name))
    tool(box, 'cp', 'over.qcow2' if over else 'snapshot.qcow2', 'a.qcow2')
    model = Model(1)
    rule = {'event': event, 'once': once, 'errno': 28 if seed % 3 == 1 else 5, 'state': 2}
    # Not before the image has been open for a little while, but for what happens when it opens.
    opening = event in ('none', 'reftable_load', 'refblock_load')
    if opening:
        del rule['state']
    steps = [{'event': 'read_aio', 'state': 1, 'new_state': 2}, {'event': 'write_aio', 'state': 1, 'new_state': 2}]
    reply = server.ask('blockdev-add', **{'driver': 'qcow2', 'node-name': 'n', 'file': {
        'driver': 'blkdebug', 'inject-error': [rule], 'set-state': steps,
        'image': {'driver': 'file', 'filename': 'a.qcow2'}}})
    met = 'error' in reply
    if not met:
        for i in range(12):
            met |= one_step(server, rng, model)
            if i == 6:
                met |= 'L1 table' in by_hand(server, 'truncate 4M')[1]
                by_hand(server, f'truncate {4 << 20}')
            if i == 9:
                met |= 'rror' in by_hand(server, f'truncate {2 << 20}')[1]
        server.qmp('blockdev-del', **{'node-name': 'n'})
    look(box, 'a.qcow2', model, f'{event}, once={once}, seed={seed}')
    server.alive()
    return met


def test(box, args):
    if args.peer:
        raise Skip('the peer has no such command in this program')
    size = str(SECTORS * 512)
    tool(box, 'qemu-img', 'create', '-q', '-f', 'raw', 'base.raw', size)
    tool(box, 'qemu-io', '-f', 'raw', '-c', f'write -q -P 1 0 {size}', 'base.raw')
    tool(box, 'qemu-img', 'create', '-q', '-f', 'qcow2', '-o', f'cluster_size={CLUSTER}', '-b', 'base.raw', '-F', 'raw', 'over.qcow2')
    tool(box, 'qemu-img', 'create', '-q', '-f', 'qcow2', '-o', f'cluster_size={CLUSTER}', 'snapshot.qcow2', size)
    tool(box, 'qemu-io', '-c', f'write -q -P 1 0 {size}', 'snapshot.qcow2')
    tool(box, 'qemu-img', 'snapshot', '-c', 's', 'snapshot.qcow2')
    server = Server(box, args.daemon, nbd=False)
    schema = server.qmp('query-qmp-schema')
    events = next(e['values'] for e in schema if e['meta-type'] == 'enum' and 'l1_grow_alloc_table' in e['values'])
    met = set()
    for event in events:
        for seed in range(4):
            if with_error(box, server, event, seed >= 2, seed):
                met.add(event)
    server.quit()
    expect(MET <= met, f'never met: {sorted(MET - met)}; met: {sorted(met)}')


run(test)
