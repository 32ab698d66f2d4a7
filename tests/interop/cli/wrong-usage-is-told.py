#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Goal: every wrong command line ends with status 2, a message that helps, and nothing done.
Method: one case for each kind of mistake; the folder stays as it was.
"""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))

from cli import run_cli  # noqa: E402
from oracle import expect_equal, tool  # noqa: E402

CASES = [
    ("did you mean 'create'", 'creat', 'a', '1G'),
    ('unknown command', 'frobnicate'),
    ('unknown command', '--frobnicate'),
    ("did you mean '--format'", 'info', '--formt=raw', 'a'),
    ("unknown option '--wxyzzy'", 'info', '--wxyzzy', 'a'),
    ("unknown option '-x'", 'info', '-x', 'a'),
    ("'-f' needs a value", 'info', 'a', '-f'),
    ("'--format' needs a value", 'info', 'a', '--format'),
    ('--quiet takes no value', 'info', '--quiet=yes', 'a'),
    ('too few arguments; usage: liveblk info', 'info'),
    ('too many arguments', 'info', 'a', 'b'),
    ("did you mean 'qcow2'", 'info', '-f', 'qcow3', 'a'),
    ("unknown format 'vhdx'", 'create', '-f', 'vhdx', 'a', '1G'),
    ("did you mean 'json'", 'info', '--output=jsn', 'a'),
    ("did you mean 'none'", 'mirror', '--sync', 'nne', 'a'),
    ("'png' is not one of text|dot|svg", 'graph', '--format=png'),
    ("'0' is not a number from 1 to 64", 'convert', '-m', '0', 'a', 'b'),
    ("'65' is not a number from 1 to 64", 'convert', '-m', '65', 'a', 'b'),
    ("'2x' is not a number", 'convert', '-m', '2x', 'a', 'b'),
    ('the size is missing', 'create', 'a'),
    ("'8E' is not a size", 'create', 'a', '8E'),
    ("'1Q' is not a size", 'create', 'a', '1Q'),
    ("'-5' is not a size", 'create', 'a', '--', '-5'),
    ("'9E' is not a size", 'mirror', '--speed', '9E', 'a'),
    ('only one of --pivot, --stop and --detach', 'mirror', '--pivot', '--stop', 'a'),
    ('--keep-source is for --pivot', 'mirror', '--keep-source', 'a'),
    ("did you mean 'pause'", 'job', 'puase', 'j'),
    ('is not one of: pause', 'job', 'xyzzy', 'j'),
    ('speed needs a rate', 'job', 'speed', 'j'),
    ('only speed takes', 'job', 'pause', 'j', '5'),
    ("'fast' is not a rate", 'job', 'speed', 'j', 'fast'),
    ('--soft is for cancel', 'job', 'pause', '--soft', 'j'),
    ('too few arguments', 'job', 'pause'),
    ('is not HOST:PORT', 'serve', '--listen', 'here', 'a'),
    ('is not HOST:PORT', 'serve', '--listen', 'here:0', 'a'),
    ('is not HOST:PORT', 'serve', '--listen', 'here:70000', 'a'),
    ('two ways of one thing', 'serve', '--listen', 'h:1', '--socket', 's', 'a'),
    ('--device is for one image', 'serve', '--device', '/dev/nbd99', 'a', 'b'),
    ('leave out --listen', 'serve', '--device', '/dev/nbd99', '--listen', 'h:1', 'a'),
    ('leave out --tls', 'serve', '--device', '/dev/nbd99', '--tls', '.', 'a'),
    ('--name is for one image', 'serve', '--name', 'n', 'a', 'b'),
    ('is not a name', 'serve', '--name', '1n', 'a'),
    ('unknown command', 'help', 'frobnicate'),
]


def test(box, cli):
    tool(box, 'truncate', '-s', '1M', 'a')
    before = sorted(os.listdir(box.path))
    for wanted, *words in CASES:
        cli.fails(2, wanted, *words)
    status, out, _ = cli.call()
    expect_equal((status, out.split(' ')[0]), (2, 'Usage:'), 'without a command')
    expect_equal(sorted(os.listdir(box.path)), before, 'the folder')


run_cli(test)
