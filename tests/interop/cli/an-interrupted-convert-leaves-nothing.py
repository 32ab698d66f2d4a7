#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Goal: ^C, SIGTERM and SIGHUP while converting leave neither the target nor a part of it; a target
that was there is as it was. Method: signals at many moments of a copy.
"""
import signal
import time
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))

from cli import run_cli  # noqa: E402
from oracle import expect, expect_equal, make_image, read_file, tool  # noqa: E402


def test(box, cli):
    make_image(box, 'a.raw', 'raw', '200M', 'write -P 1 0 200M')
    tool(box, 'cp', '/etc/passwd', 'there.qcow2')
    old, before = read_file(box, 'there.qcow2'), sorted(os.listdir(box.path))
    killed = 0
    for n in range(18):
        sig = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)[n % 3]
        target = ('new.qcow2', 'new.raw', 'there.qcow2')[n // 3 % 3]
        proc = cli.start('convert', '--force', 'a.raw', target)
        time.sleep(0.004 * n)
        proc.send_signal(sig)
        proc.communicate(timeout=20)
        if proc.returncode == 0:        # it was faster
            expect_equal(os.path.getsize(os.path.join(box.path, target)) >= 200 << 20, True, target)
            tool(box, 'rm', target)
            with open(os.path.join(box.path, 'there.qcow2'), 'wb') as f:
                f.write(old)
        else:
            expect_equal(proc.returncode, -sig, 'the status')
            killed += 1
        expect_equal(sorted(os.listdir(box.path)), before, f'the folder after signal {sig} at {4 * n} ms')
        expect_equal(read_file(box, 'there.qcow2'), old, 'the file that was there')
    expect(killed >= 6, f'only {killed} were interrupted')


run_cli(test)
