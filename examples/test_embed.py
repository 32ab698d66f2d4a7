#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""test_embed.py EMBED LIVEBLK: the example does what it says, and fails as it should."""
import os
import subprocess
import sys
import tempfile


def run(*argv, want=0):
    p = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=50)
    if p.returncode != want:
        sys.exit('%s: status %d, not %d: %s' % (' '.join(argv), p.returncode, want, p.stdout))
    return p.stdout


def check_embed(embed, liveblk, where):
    """Mirror an image with data, one without, and what cannot be."""
    raw, image = os.path.join(where, 'a.raw'), os.path.join(where, 'a.qcow2')
    with open(raw, 'wb') as f:
        f.write(os.urandom(5 << 20))
        f.truncate(40 << 20)
    run(liveblk, 'convert', raw, image)
    copy = os.path.join(where, 'copy.raw')
    out = run(embed, image, copy)
    if '%' not in out or not out.endswith('copy.raw: done\n'):
        sys.exit('unexpected output: ' + out)
    run(liveblk, 'compare', '-f', 'raw', '--other-format', 'raw', raw, copy)
    if os.stat(copy).st_blocks * 512 > 8 << 20:
        sys.exit('the holes were written')
    run(embed, image, copy, want=2)
    run(embed, os.path.join(where, 'nothing'), os.path.join(where, 'new'), want=1)


if __name__ == '__main__':
    with tempfile.TemporaryDirectory() as folder:
        check_embed(os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2]), folder)
