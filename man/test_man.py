#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""test_man.py LIVEBLK: every page is there, names its options, and no checker has anything to say."""
import os
import re
import shutil
import subprocess
import sys
import tempfile


def out(*argv, **kw):
    return subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True, **kw).stdout


def check(page, source, options, folder, tools):
    path = os.path.join(folder, page + '.1')
    with open(path, 'w', encoding='utf-8') as f:
        f.write(source)
    for tool in tools:
        p = subprocess.run(tool + [path], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                           env=dict(os.environ, LC_ALL='C.UTF-8', MANROFFSEQ=''))
        said = p.stdout if tool[0] == 'mandoc' else p.stderr
        if p.returncode or said.strip():
            sys.exit('%s: %s says: %s' % (page, tool[0], said))
    for o in options:
        if o.replace('-', '\\-') not in source:
            sys.exit('%s does not name %s' % (page, o))


def main():
    liveblk = sys.argv[1]
    tools = [t for t in (['mandoc', '-Tlint'], ['man', '--warnings', '-E', 'UTF-8', '-l', '-Tutf8'],
                         ['groff', '-ww', '-man', '-Tutf8', '-z'])
             if shutil.which(t[0])]
    commands = re.findall(r'^  (\w+)  ', out(liveblk, '--help'), re.M)
    with tempfile.TemporaryDirectory() as folder:
        for c in commands:
            options = re.findall(r'--[a-z][a-z-]*', out(liveblk, c, '--help').split('Options:')[1].split('Example')[0])
            check('liveblk-' + c, out(liveblk, 'help', '--manual', c), options, folder, tools)
        check('liveblk', out(liveblk, 'help', '--manual'), commands, folder, tools)
        daemon = os.path.join(os.path.dirname(liveblk), 'liveblkd')
        check('liveblkd', out(liveblk, 'help', '--manual', 'liveblkd'),
              re.findall(r'^ *(--[a-z-]+)', out(daemon, '--help'), re.M), folder, tools)
    if not tools:
        print('SKIP: neither mandoc nor man is installed')
        sys.exit(77)


main()
