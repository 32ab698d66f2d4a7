#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Goal: --help, help and help --output=json tell the same of every command and option, and every
option they name is accepted. Method: read the JSON, look for each option in the text.
"""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))

from cli import run_cli  # noqa: E402
from oracle import expect, expect_equal  # noqa: E402

WANTED = ['create', 'info', 'map', 'convert', 'compare', 'serve', 'mirror', 'jobs', 'job', 'graph', 'qmp']


def test(box, cli):
    overview = cli('--help')
    expect_equal(cli('help'), overview, 'help')
    expect(cli('--version').startswith('liveblk '), 'no version')
    commands = cli.json('help')
    names = [c['name'] for c in commands]
    expect(set(WANTED) <= set(names), f'commands: {names}')
    for c in commands:
        expect('  %s ' % c['name'] in overview, f'{c["name"]} is not in the overview')
        text = cli(c['name'], '--help')
        expect_equal(cli('help', c['name']), text, 'help ' + c['name'])
        expect_equal(cli.json('help', c['name']), c, 'help --output=json ' + c['name'])
        expect('Example' in text and max(map(len, text.split('Example')[0].splitlines())) <= 100, text)
        for o in c['options']:
            expect('--' + o['name'] in text, f'{c["name"]} --{o["name"]} is not in its help')
            if 'letter' in o:
                expect('-%s, --%s' % (o['letter'], o['name']) in text, f'{c["name"]} -{o["letter"]}')


run_cli(test)
