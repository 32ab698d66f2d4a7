#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""images.py [--ours FOLDER] OUT
images.py [--ours FOLDER] --run REPLAY ARGUMENTS...

qcow2 images for the fuzzer to begin with, made by all programs that
are here: the peer's of PATH, of LIVEBLK_PEER10, and ours. Every version, feature and size of cluster
that gives a small file: tables, extensions, snapshots, bitmaps, compressed data, names of files.
What a program cannot do is left out. Prints how many there are."""
import argparse
import os
import shutil
import subprocess
import sys
import tempfile

# Options of create, and what follows: 's' snapshots, 'b' bitmaps, 'c' compressed data, 'n' nothing but it.
KINDS = {
    'small': ('cluster_size=512', ''),
    'v2': ('compat=0.10,cluster_size=512', 's'),
    'v2-packed': ('compat=0.10,cluster_size=1k', 'c'),
    'snapshots': ('cluster_size=1k', 's'),
    'bitmaps': ('cluster_size=1k', 'b'),
    'packed': ('cluster_size=4k', 'c'),
    'zstd': ('cluster_size=4k,compression_type=zstd', 'c'),
    'packed-snapshots': ('cluster_size=1k', 'cs'),
    'everything': ('cluster_size=2k,lazy_refcounts=on', 'csb'),
    'one-bit': ('cluster_size=512,refcount_bits=1', ''),
    'wide': ('cluster_size=512,refcount_bits=64', 's'),
    'extended': ('cluster_size=16k,extended_l2=on', ''),
    'extended-packed': ('cluster_size=16k,extended_l2=on', 'cs'),
    'data-file': ('cluster_size=4k,data_file=DIR/data.raw', ''),
    'raw-data-file': ('cluster_size=4k,data_file=DIR/data.raw,data_file_raw=on', 'b'),
    'backing': ('cluster_size=1k,backing_file=DIR/base.raw,backing_fmt=raw', 'b'),
    'preallocated': ('cluster_size=2k,preallocation=metadata', 'n'),
    'luks': ('cluster_size=4k,encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10', 'n'),
    'luks-small': ('cluster_size=4k,encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=1,encrypt.cipher-alg=aes-128,'
                   'encrypt.cipher-mode=cbc,encrypt.ivgen-alg=essiv', 'n'),
    'aes': ('cluster_size=4k,encrypt.format=aes,encrypt.key-secret=s', 'n'),
    # A disk by itself.
    'disk': ('key-secret=s,iter-time=1,cipher-alg=aes-128,cipher-mode=cbc', 'n'),
    'disk-serpent': ('key-secret=s,iter-time=1,cipher-alg=serpent-128,cipher-mode=ctr,ivgen-alg=plain,hash-alg=sha1', 'n'),
}
SECRET = ['--object', 'secret,id=s,data=fuzz']


def run(*args):
    """Did it work? What a program does not know must not hold the others up."""
    return subprocess.run(args, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                          timeout=60).returncode == 0


def make(img, io, work, name, options, steps):
    """The image's path, or None."""
    path = os.path.join(work, name + '.qcow2')
    data = os.path.join(work, 'base.raw')
    with open(data, 'wb') as f:
        f.write(b'base' * 8192)
    if os.path.exists(path):
        os.unlink(path)
    if 'c' in steps:
        # A stream of each kind: well packed, hardly, not at all.
        with open(data, 'r+b') as f:
            f.write(bytes(range(256)) * 64 + os.urandom(12288))
        if not run(img, 'convert', '-c', '-f', 'raw', '-O', 'qcow2', '-o', options, data, path):
            return None
        run(img, 'resize', path, '192k')
    elif not run(img, 'create', *(SECRET if 'secret' in options else []), '-f',
                 'luks' if options.startswith('key-secret') else 'qcow2', '-o',
                 options.replace('DIR', work), path, '192k'):
        return None
    if 'n' not in steps:
        run(io, '-f', 'qcow2', '-c', 'write -P 1 3k 9k', '-c', 'write -z 64k 32k', '-c', 'write -P 2 150k 1k',
            '-c', 'discard 66k 4k', path)
    if 's' in steps:
        run(img, 'snapshot', '-c', 'first', path)
        run(io, '-f', 'qcow2', '-c', 'write -P 3 4k 8k', path)
        run(img, 'snapshot', '-c', 'second', path)
        run(io, '-f', 'qcow2', '-c', 'write -P 4 100k 4k', path)
    if 'b' in steps:
        run(img, 'bitmap', '--add', '-g', '4k', path, 'one')
        run(img, 'bitmap', '--add', '--disable', path, 'two')
        run(io, '-f', 'qcow2', '-c', 'write -P 5 20k 30k', path)
    return path if run(img, 'info', '-U', path) else None


def make_all(ours, out):
    """All images into the folder @out; how many."""
    peers = {'path': (shutil.which('qemu-img'), shutil.which('qemu-io'))}
    for label, folder in ('ten', os.environ.get('LIVEBLK_PEER10', '/opt/peer10/bin')), ('ours', ours or ''):
        peers[label] = tuple(os.path.join(folder, n) if os.path.exists(os.path.join(folder, n)) else None
                             for n in ('qemu-img', 'qemu-io'))
    work = os.path.join(out, 'work')
    os.makedirs(work)
    made = 0
    for label, (img, io) in peers.items():
        for name, (options, steps) in KINDS.items() if img and io else ():
            path = make(img, io, work, f'{label}-{name}', options, steps)
            if path:
                os.rename(path, os.path.join(out, os.path.basename(path)))
                made += 1
    shutil.rmtree(work)
    return made


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument('--ours', help='folder with our programs under the names scripts know')
    p.add_argument('--run', nargs=argparse.REMAINDER, help='a fuzz program to run on them, and its arguments')
    p.add_argument('out', nargs='?')
    args = p.parse_args()
    if not args.run:
        print(make_all(args.ours, args.out))
        return 0
    with tempfile.TemporaryDirectory() as out:
        print(make_all(args.ours, out), 'images', flush=True)
        corpus = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'corpus', 'qcow2.txt')
        return subprocess.run([os.path.abspath(args.run[0]), '-i', out, *args.run[1:], corpus]).returncode


sys.exit(main())
