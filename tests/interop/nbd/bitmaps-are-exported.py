#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Goal: clients see which parts of a disk a bitmap marks, by the context qemu:dirty-bitmap:NAME, and from which image
of a chain they come, by qemu:allocation-depth, as many contexts at once as they like; what can not be offered is refused.
Method: images with bitmaps stored by the peer, exported from a chain; nbdinfo, libnbd and the peer's own client read
them, beside a model of what was written.
"""
import json
import os
import random
import socket
import struct
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
from oracle import Server, expect, expect_equal, nbd_module, run, tool  # noqa: E402

MIB = 1 << 20
SIZE = 16 * MIB
DIRTY = 'qemu:dirty-bitmap:'


def images(box):
    def img(*argv):
        tool(box, 'qemu-img', *argv)

    img('create', '-q', '-f', 'qcow2', 'base.qcow2', '8M')
    img('bitmap', '--add', 'base.qcow2', 'below')
    tool(box, 'qemu-io', '-c', 'write 5M 1M', 'base.qcow2')
    img('create', '-q', '-f', 'qcow2', '-b', 'base.qcow2', '-F', 'qcow2', 'a.qcow2', str(SIZE))
    for name, *words in (('e1',), ('e2', '-g', '4096'), ('d1', '--disable'), ('d2', '--disable')):
        img('bitmap', '--add', *words, 'a.qcow2', name)
    for name in ('c.qcow2', 'bad.qcow2'):
        img('create', '-q', '-f', 'qcow2', name, '4M')
        img('bitmap', '--add', '--disable', name, 'other')
    # Its program was killed.
    tool(box, 'qemu-io', '-c', 'write 0 64k', '-c', 'sigraise 9', 'bad.qcow2', status=None)


def nodes(box, server):
    server.add_image('base', 'base.qcow2', 'qcow2', **{'read-only': True})
    server.add_image('a', 'a.qcow2', 'qcow2', backing='base')
    server.add_image('c', 'c.qcow2', 'qcow2')
    server.add_image('bad', 'bad.qcow2', 'qcow2')


def busy(server):
    return {(n['node-name'], b['name']) for n in server.qmp('query-named-block-nodes')
            for b in n.get('dirty-bitmaps', []) if b['busy']}


def refusals(server):
    def refused(text, *bitmaps, node='a', **extra):
        expect_equal(server.refused('block-export-add', type='nbd', id='x', bitmaps=list(bitmaps),
                                    **{'node-name': node, **extra}), text, f'{bitmaps} {extra}')

    in_use = "Bitmap '%s' is currently in use by another operation and cannot be used"
    refused("Enabled bitmap 'e1' incompatible with readonly export", 'e1')
    refused("Bitmap 'nope' is not found", 'nope')
    refused("Bitmap 'nope' is not found", 'd1', 'nope')
    refused("Node 'nope' not found", {'node': 'nope', 'name': 'other'})
    refused("Dirty bitmap 'nope' not found", {'node': 'c', 'name': 'nope'})
    refused("Bitmap 'other' is inconsistent and cannot be used", 'other', node='bad')
    expect_equal(busy(server), set(), 'nothing is held by what was refused')
    server.export('a', bitmaps=['d1', 'd2', 'd2', 'below'])
    expect_equal(busy(server), {('a', 'd1'), ('a', 'd2'), ('base', 'below')}, 'bitmaps in use')
    refused(in_use % 'd1', 'd1', name='y')
    refused("NBD server already has export named 'a'", 'nope')
    for bitmap, text in (('e1', "Enabled bitmap 'e1' incompatible with readonly export"), ('d2', in_use % 'd2'),
                         ('nope', "Bitmap 'nope' is not found")):
        expect_equal(server.refused('nbd-server-add', device='a', name='y', bitmap=bitmap), text, 'nbd-server-add')
    server.unexport('a')
    expect_equal(busy(server), set(), 'bitmaps in use afterwards')


def lists(box, nbd):
    depth, both = 'qemu:allocation-depth', [DIRTY + 'e1', DIRTY + 'e2']
    for queries, wanted in (
            ([], ['base:allocation', depth, *both]), (['base:'], ['base:allocation']), (['qemu:'], [depth, *both]),
            ([DIRTY], both), ([DIRTY + 'e2'], both[1:]), ([DIRTY + 'd1'], []), (['qemu:dirty-bitmap'], []),
            (['base', depth + ':', 'qemu:x', DIRTY + 'e'], []),
            ([both[1], depth, both[1], 'base:allocation'], ['base:allocation', depth, both[1]])):
        h, got = nbd.NBD(), []
        h.set_opt_mode(True)
        h.set_export_name('a')
        h.connect_unix(os.path.join(box.path, 'nbd'))
        for q in queries:
            h.add_meta_context(q)
        h.opt_list_meta_context(lambda name: got.append(name) or 0)
        expect_equal(got, wanted, f'contexts for {queries}')
        h.opt_abort()


class Model:
    def __init__(self):
        self.dirty = {'e1': (65536, set()), 'e2': (4096, set())}

    def mark(self, at, n):
        for gran, dirty in self.dirty.values():
            dirty.update(range(at // gran, (at + n - 1) // gran + 1))

    def extents(self, name, start, end):
        """[length, state, length, state...] of a part, as NBD tells it."""
        gran, dirty = self.dirty[name]
        out = []
        while start < end:
            state, n = int(start // gran in dirty), min(gran - start % gran, end - start)
            if out and out[-1] == state:
                out[-2] += n
            else:
                out += [n, state]
            start += n
        return out


def follows_writes(nbd, uri, model):
    rng = random.Random(5)
    writer, reader = nbd.NBD(), nbd.NBD()
    writer.connect_uri(uri)
    for context in ('base:allocation', 'qemu:allocation-depth', DIRTY + 'e1', DIRTY + 'e2'):
        reader.add_meta_context(context)
    reader.connect_uri(uri)
    for _ in range(60):
        at = rng.randrange(SIZE // 512) * 512
        n = min(rng.choice([512, 4096, 65536, 300 * 1024]), SIZE - at)
        writer.pwrite(b'x' * n, at) if rng.random() < 0.7 else writer.zero(n, at)
        model.mark(at, n)
        start = rng.randrange(SIZE)
        end = min(SIZE, start + rng.choice([1, 4096, 100000, SIZE]))
        got = {}
        reader.block_status(end - start, start, lambda name, offset, entries, err: got.update({name: entries}) or 0)
        expect_equal(sorted(got), sorted(['base:allocation', 'qemu:allocation-depth', DIRTY + 'e1', DIRTY + 'e2']),
                     'contexts in a reply')
        for name in model.dirty:
            expect_equal(got[DIRTY + name], model.extents(name, start, end), f'{name} at {start}, to {end}')
        reader.block_status(end - start, start, lambda name, offset, entries, err: got.update({name: entries}) or 0,
                            nbd.CMD_FLAG_REQ_ONE)
        for name in model.dirty:
            expect_equal(got[DIRTY + name], model.extents(name, start, end)[:2], f'the first extent of {name}')
    reader.shutdown()
    writer.shutdown()


def fragmented(nbd, uri, model):
    """More extents than fit a reply: the rest is asked for."""
    writer, reader = nbd.NBD(), nbd.NBD()
    writer.connect_uri(uri)
    for at in range(0, SIZE, 8192):
        writer.zero(512, at)
        model.mark(at, 512)
    writer.shutdown()
    reader.add_meta_context(DIRTY + 'e2')
    reader.connect_uri(uri)
    at, all_of_it = 0, []
    while at < SIZE:
        got = []
        reader.block_status(SIZE - at, at, lambda name, offset, entries, err: got.extend(entries) or 0)
        expect(got, f'an answer at {at}')
        at += sum(got[::2])
        if all_of_it and all_of_it[-1] == got[1]:
            all_of_it[-2] += got.pop(0)
            got.pop(0)
        all_of_it += got
    expect_equal(all_of_it, model.extents('e2', 0, SIZE), 'a fragmented bitmap')
    reader.shutdown()


def peers_client(box, args, model):
    """The peer reads a bitmap as if it were the allocation: what is dirty has no data there."""
    for name in model.dirty:
        options = f'driver=nbd,server.type=unix,server.path={box.path}/nbd,export=a,x-dirty-bitmap={DIRTY}{name}'
        programs = ['qemu-img'] + ([] if args.peer else [os.path.join(os.path.dirname(args.daemon), 'compat/qemu-img')])
        for program in programs:
            found = json.loads(tool(box, program, 'map', '--output=json', '--image-opts', options))
            got = []
            for e in found:
                got += [e['length'], int(not e['data'])]
            expect_equal(got, model.extents(name, 0, SIZE), f'{name} by {program}')


def depths(box, server):
    uri = server.export('a', **{'allocation-depth': True})
    got = [(e['offset'], e['length'], e['type'])
           for e in json.loads(tool(box, 'nbdinfo', '--json', '--map=qemu:allocation-depth', uri))]
    expect_equal(got, [(0, MIB, 0), (MIB, MIB, 1), (2 * MIB, 3 * MIB, 0), (5 * MIB, MIB, 2), (6 * MIB, 2 * MIB, 0),
                       (8 * MIB, 8 * MIB, 2)], 'allocation depth')
    server.unexport('a')


def a_choice_is_for_one_export(box, server):
    """Between choosing contexts and going there the export was made anew, with other bitmaps: nothing is chosen."""
    def name(text):
        return struct.pack('>I', len(text)) + text

    def take(n):
        out = b''
        while len(out) < n:
            part = s.recv(n - len(out))
            expect(part, 'the server closed the connection')
            out += part
        return out

    def option(number, data):
        s.sendall(struct.pack('>QII', 0x49484156454F5054, number, len(data)) + data)
        kind = 0
        while kind != 1:
            _, _, kind, length = struct.unpack('>QIII', take(20))
            expect(not kind >> 31, f'option {number}: {kind:#x}')
            take(length)

    server.export('a', writable=True, bitmaps=['e1', 'e2'])
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(10)
    s.connect(os.path.join(box.path, 'nbd'))
    take(18)
    s.sendall(struct.pack('>I', 3))
    option(8, b'')
    option(10, name(b'a') + struct.pack('>I', 1) + name((DIRTY + 'e2').encode()))
    server.unexport('a')
    server.export('a', writable=True)
    option(7, name(b'a') + b'\0\0')
    s.sendall(struct.pack('>IHHQQI', 0x25609513, 0, 7, 9, 0, 4096))
    magic, flags, kind, cookie, length = struct.unpack('>IHHQI', take(20))
    expect_equal((magic, kind, cookie), (0x668e33ef, 32769, 9), 'a chunk with an error')
    s.close()
    server.unexport('a')


def a_node_goes_after_its_bitmap(box, server, model):
    """A bitmap of another node stays readable though that node was deleted."""
    uri = server.export('a', bitmaps=[{'node': 'c', 'name': 'other'}])
    server.qmp('blockdev-del', **{'node-name': 'c'})
    got = json.loads(tool(box, 'nbdinfo', '--json', f'--map={DIRTY}other', uri))
    expect_equal([(e['length'], e['type']) for e in got], [(SIZE, 0)], 'a bitmap of a node that was deleted')
    server.unexport('a')
    tool(box, 'qemu-io', '-c', 'write 0 64k', 'c.qcow2')        # nobody has it open


def test(box, args):
    nbd = nbd_module()
    images(box)
    server = Server(box, args.daemon)
    nodes(box, server)
    refusals(server)
    uri = server.export('a', writable=True, bitmaps=['e1', 'e2'], **{'allocation-depth': True})
    lists(box, nbd)
    model = Model()
    follows_writes(nbd, uri, model)
    peers_client(box, args, model)
    fragmented(nbd, uri, model)
    server.unexport('a')
    if not args.peer:
        a_choice_is_for_one_export(box, server)
        a_node_goes_after_its_bitmap(box, server, model)
    server.quit()
    # All of it is in the image now.
    tool(box, 'qemu-img', 'check', '-q', 'a.qcow2')
    tool(box, 'qemu-img', 'create', '-q', '-f', 'qcow2', '-b', 'base.qcow2', '-F', 'qcow2', 'a.qcow2', str(SIZE))
    tool(box, 'qemu-io', '-c', 'write 1M 1M', 'a.qcow2')
    server = Server(box, args.daemon)
    nodes(box, server)
    depths(box, server)
    server.quit()


run(test)
