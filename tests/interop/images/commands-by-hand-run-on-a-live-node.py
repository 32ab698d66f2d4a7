#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Goal: human-monitor-command runs qemu-io's commands on nodes of a running daemon, beside jobs and exports, and
what waits in one keeps neither other commands nor the end of the daemon.
Method: reads, writes, breakpoints, wrong words; writes by hand while a mirror runs, whose target is then compared.
"""
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
from oracle import Server, expect, expect_equal, make_image, poke, run, tool  # noqa: E402
from sandbox import Skip  # noqa: E402


def by_hand(server, node, command):
    return server.qmp('human-monitor-command', **{'command-line': f'qemu-io {node} "{command}"'})


def words(server):
    for line, text in (('info block', "Unknown command 'info': there is qemu-io only"), ('', "Unknown command '': there is qemu-io only"),
                       ('qemu-io', 'qemu-io: block device name expected'), ('qemu-io n', 'qemu-io: string expected'),
                       ('qemu-io n "read 0 1', 'qemu-io: string expected'), ('qemu-io n length x', 'qemu-io: extraneous characters at the end of line'),
                       ('qemu-io -d disk length', "Device 'disk' not found"), ('qemu-io x length', "Cannot find device='x' nor node-name='x'")):
        expect_equal(server.refused('human-monitor-command', **{'command-line': line}), text, line)
    expect_equal(by_hand(server, 'n', 'length'), '1 MiB\r\n', 'length')
    expect_equal(by_hand(server, '\\"n\\"'.replace('\\', ''), 'length'), '1 MiB\r\n', 'length of a node in quotes')
    expect_equal(by_hand(server, 'n', ''), '', 'nothing')
    expect_equal(by_hand(server, 'n', 'nonsense'), 'command "nonsense" not found\r\n', 'nonsense')
    expect_equal(by_hand(server, 'n', 'read 2M 512'), 'read failed: Input/output error\r\n', 'a read beyond the end')
    for command in ('abort', 'sigraise 9'):
        expect('would end this process' in by_hand(server, 'n', command), f'{command} is not refused')
    for command in ('open a.qcow2', 'close', 'quit'):
        expect('not found' in by_hand(server, 'n', command), f'{command} is a command here')


def breakpoints(server, other):
    expect_equal(by_hand(server, 'n', 'break write_aio A'), '', 'break')
    expect_equal(by_hand(server, 'n', 'aio_write -P 5 0 4k'), '', 'aio_write that is stopped')
    expect_equal(by_hand(server, 'n', 'wait_break A'), '', 'wait_break')
    expect_equal(server.refused('blockdev-del', **{'node-name': 'n'}), 'Node n is in use', 'blockdev-del')
    expect('wrote 4096' in by_hand(server, 'n', 'write -P 6 64k 4k'), 'another write does not get through')
    # One monitor waits, another one goes on, with the same node too.
    other.tell('{"execute":"human-monitor-command","arguments":{"command-line":"qemu-io n \\"wait_break B\\""},"id":7}')
    time.sleep(0.1)
    expect_equal(by_hand(server, 'n', 'break read_aio B'), '', 'break')
    by_hand(server, 'n', 'aio_read -q 0 512')
    while other._read().get('id') != 7:
        pass
    by_hand(server, 'n', 'resume B')
    by_hand(server, 'n', 'resume A')
    said = by_hand(server, 'n', 'aio_flush')
    expect('wrote 4096/4096 bytes at offset 0' in said, f'aio_flush says: {said}')
    expect_equal(by_hand(server, 'n', 'read -q -P 5 0 4k'), '', 'what was written')
    expect_equal(by_hand(server, 'n', 'resume A'), 'Could not resume request: No such file or directory\r\n', 'resume')


def permissions(server):
    server.add_image('ro', 'ro.raw', 'raw', **{'read-only': True})
    expect_equal(by_hand(server, 'ro', 'read -q 0 4k'), '', 'a read of a read-only node')
    expect_equal(by_hand(server, 'ro', 'write 0 4k'), 'Block node is read-only\r\n', 'a write to a read-only node')
    server.qmp('blockdev-del', **{'node-name': 'ro'})


def mirror_meanwhile(box, server):
    server.add_image('t', 't.qcow2', 'qcow2')
    server.qmp('blockdev-mirror', **{'job-id': 'm', 'device': 'n', 'target': 't', 'sync': 'full', 'speed': 1 << 20})
    for i in range(20):
        expect_equal(by_hand(server, 'n', f'write -q -P {i + 10} {i * 48}k 5000'), '', 'a write beside a mirror')
    server.qmp('block-job-set-speed', device='m', speed=0)
    server.wait_event('BLOCK_JOB_READY')
    by_hand(server, 'n', 'write -q -P 77 1000 1000')
    by_hand(server, 'n', 'flush')
    server.qmp('block-job-cancel', device='m')         # gently: the target is a copy of now
    server.wait_event('BLOCK_JOB_COMPLETED')
    server.qmp('blockdev-del', **{'node-name': 't'})


def test(box, args):
    if args.peer:
        raise Skip('the peer has no such command in this program')
    make_image(box, 'a.qcow2', 'qcow2', '1M', 'write -q -P 1 0 256k')
    make_image(box, 't.qcow2', 'qcow2', '1M')
    make_image(box, 'ro.raw', 'raw', '1M')
    server = Server(box, args.daemon)
    other = Server.__new__(Server)
    other.box, other.sock, other.events = box, server.daemon.connect(), []
    other.sock.settimeout(20)
    other.replies = other.sock.makefile('r')
    other.tell('{"execute":"qmp_capabilities","id":"hello"}')
    while other._read().get('id') != 'hello':
        pass
    server.add({'driver': 'qcow2', 'node-name': 'n', 'file': {'driver': 'blkdebug', 'image': {
        'driver': 'file', 'filename': 'a.qcow2'}}})
    words(server)
    breakpoints(server, other)
    permissions(server)
    mirror_meanwhile(box, server)
    # What waits does not keep the daemon.
    by_hand(server, 'n', 'break write_aio C')
    by_hand(server, 'n', 'aio_write -P 99 0 4k')
    other.tell('{"execute":"human-monitor-command","arguments":{"command-line":"qemu-io n \\"sleep 1000000\\""}}')
    began = time.monotonic()
    server.quit()
    expect(time.monotonic() - began < 5, 'quit took long')
    expect('No errors' in tool(box, 'qemu-img', 'check', 'a.qcow2'), 'the image is not in order')
    poke(box, 'a.qcow2', 'qcow2', 'read -P 99 0 4k')
    tool(box, 'qemu-img', 'check', 't.qcow2')
    poke(box, 't.qcow2', 'qcow2', 'read -P 77 1000 1000', 'read -P 29 912k 5000')


run(test)
