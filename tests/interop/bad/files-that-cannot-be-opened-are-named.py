#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Goal: what cannot be opened is refused by name and cause, leaves no node, no lock,
no file, and the daemon alive; on the command line it ends with status 1.
Method: a missing file, a folder, a device, files without permission, a pipe.
"""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                '..', 'lib'))
from oracle import Server, expect, expect_equal, make_image, run  # noqa: E402

CASES = {
    'missing': 'No such file or directory',
    'no/folder/missing': 'No such file or directory',
    'folder': 'Is a directory',
    '/dev/null': 'regular file',
    'secret.raw': 'Permission denied',
    'locked-folder/a.raw': 'Permission denied',
    'pipe': 'regular file',
    'a.raw/below': 'Not a directory',
    'x' * 300: 'File name too long',
}


def test(box, args):
    def path(name):
        return os.path.join(box.path, name)
    os.mkdir(path('folder'))
    os.mkdir(path('locked-folder'))
    os.mkfifo(path('pipe'))
    make_image(box, 'a.raw', 'raw', '64k')
    for name in ('secret.raw', 'locked-folder/a.raw'):
        make_image(box, name, 'raw', '64k')
    os.chmod(path('secret.raw'), 0)
    os.chmod(path('locked-folder'), 0)
    before = sorted(os.listdir(box.path))
    server = Server(box, args.daemon, obey_permissions=True)
    before = sorted(set(before) | set(os.listdir(box.path)))
    for name, cause in CASES.items():
        if name == 'pipe' and args.peer:
            continue            # it waits for a writer, for ever
        for read_only in (True, False):
            for fmt in ('raw', 'qcow2'):
                text = server.refused('blockdev-add', **{
                    'driver': fmt, 'node-name': 'n', 'read-only': read_only,
                    'file': {'driver': 'file', 'filename': name}})
                expect(name in text, f'{name} is not named: {text}')
                expect(cause in text or (name == 'folder' and read_only
                                         and 'regular file' in text),
                       f'{name}: {text}')
        if name != 'pipe':
            status, text = box.run(
                [args.daemon, '--blockdev', f'driver=file,node-name=n,filename={name}'],
                obey_permissions=True)
            expect_equal(status, 1, f'{name} on the command line: {text}')
            expect(name in text, f'command line: {text}')
    expect_equal(server.qmp('query-named-block-nodes'), [], 'nodes left')
    expect_equal(sorted(os.listdir(box.path)), before, 'files left')
    server.quit()


run(test)
