#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""test_install.py BUILD SOURCE: what `meson install` lays down is whole.

 - with the flags of `pkg-config liveblk` alone, every public header compiles by itself, and the
   example builds against the shared and against the static library, and works;
 - the shared library exports exactly what the public headers mark as LIVEBLK_PUBLIC;
 - programs, manual pages and completions are there, and the installed programs run.
"""
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from test_embed import check_embed  # noqa: E402


def fail(text):
    sys.exit('FAIL: ' + text)


def run(argv, **kw):
    p = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **kw)
    if p.returncode:
        fail('%s: %s' % (shlex.join(argv), p.stdout))
    return p.stdout


def find(top, name):
    for folder, _, names in os.walk(top):
        if name in names:
            return os.path.join(folder, name)
    fail('%s is not installed' % name)


def headers(top):
    folder = os.path.dirname(find(top, 'block-backend.h'))
    if os.path.basename(folder) != 'block':
        fail('the headers lie in ' + folder)
    return folder, sorted(os.listdir(folder))


def declared(folder, names):
    """What the headers mark as exported."""
    found = set()
    for name in names:
        with open(os.path.join(folder, name), encoding='utf-8') as f:
            text = re.sub(r'/\*.*?\*/|^\s*#[^\n]*(?:\\\n[^\n]*)*', ' ', f.read(), flags=re.S | re.M)
        for m in re.finditer(r'LIVEBLK_PUBLIC\b([^;{]*?)(?:;|\{)', text):
            head = re.sub(r'LIVEBLK_PRINTF\([^)]*\)|\[[^\]]*\]', '', m.group(1)).strip()
            # Where a parameter list follows, the word before the first one; else the last word.
            word = re.search(r'(\w+)\s*\((?!\s*\*)', head) or re.search(r'(\w+)\s*$', head)
            found.add(word.group(1))
    return found


def check_symbols(library, folder, names):
    out = run(['nm', '-D', '--defined-only', library])
    exported = {w[2].split('@')[0] for w in (line.split() for line in out.splitlines()) if len(w) == 3}
    wanted = declared(folder, names)
    if exported - wanted:
        fail('exported but in no public header: ' + ' '.join(sorted(exported - wanted)))
    if wanted - exported:
        fail('in a public header but not exported: ' + ' '.join(sorted(wanted - exported)))
    if len(exported) < 300:
        fail('only %d symbols were found' % len(exported))


def check_headers(cc, flags, names, where):
    for name in names:
        source = os.path.join(where, 'one.c')
        with open(source, 'w', encoding='utf-8') as f:
            f.write('#include "block/%s"\nint main(void) { return 0; }\n' % name)
        run(cc + ['-std=gnu17', '-Wall', '-Werror', '-fsyntax-only'] + flags + [source])


def main():
    build, source = (os.path.abspath(a) for a in sys.argv[1:])
    for tool in ('pkg-config', 'nm', 'cc'):
        if not shutil.which(tool):
            print('SKIP: no ' + tool)
            sys.exit(77)
    cc = ['cc']
    with tempfile.TemporaryDirectory() as top:
        run(['meson', 'install', '-C', build, '--no-rebuild', '--quiet'], env=dict(os.environ, DESTDIR=top))
        pc = find(top, 'liveblk.pc')
        lib = os.path.dirname(find(top, 'libliveblk.a'))
        # As if the folder were the root: only for our own file, not for those it requires.
        with open(pc, encoding='utf-8') as f:
            moved = re.sub(r'^prefix=', 'prefix=' + top, f.read(), flags=re.M)
        with open(pc, 'w', encoding='utf-8') as f:
            f.write(moved)
        env = dict(os.environ, PKG_CONFIG_PATH=os.path.dirname(pc))

        def flags(*what):
            return shlex.split(run(['pkg-config', *what, 'liveblk'], env=env))

        folder, names = headers(top)
        for name in os.listdir(os.path.join(source, 'include/block')):
            if name.endswith('.h') and name not in names:
                fail('%s is not installed: name it in include/block/meson.build' % name)
        check_symbols(os.path.join(lib, 'libliveblk.so'), folder, names)
        check_headers(cc, flags('--cflags'), names, top)
        example = os.path.join(source, 'examples/embed.c')
        with open(example, encoding='utf-8') as f:
            if len(f.readlines()) >= 80:
                fail('the example has 80 lines or more')
        shared, static = os.path.join(top, 'embed-shared'), os.path.join(top, 'embed-static')
        run(cc + [example, '-o', shared] + flags('--cflags', '--libs'))
        words = ['-l:libliveblk.a' if w == '-lliveblk' else w for w in flags('--cflags', '--libs', '--static')]
        run(cc + [example, '-o', static] + words)
        if 'libliveblk' in run(['ldd', static]):
            fail('the static example needs the shared library')
        os.environ['LD_LIBRARY_PATH'] = lib
        bindir = os.path.dirname(find(top, 'liveblkd'))
        liveblk = os.path.join(bindir, 'liveblk')
        for n, embed in enumerate((shared, static)):
            where = os.path.join(top, 'try%d' % n)
            os.mkdir(where)
            check_embed(embed, liveblk, where)
        run([os.path.join(bindir, 'liveblkd'), '--version'])
        commands = re.findall(r'^  (\w+)  ', run([liveblk, '--help']), re.M)
        if len(commands) < 10:
            fail('no commands in the help')
        for page in ['liveblk.1', 'liveblkd.1'] + ['liveblk-%s.1' % c for c in commands]:
            find(top, page)
        for name in ('_liveblk', 'liveblk.fish'):
            find(top, name)
        if not os.path.exists(os.path.join(os.path.dirname(find(top, 'liveblk.fish')), '../../bash-completion/completions/liveblk')):
            fail('no completion for bash')


if __name__ == '__main__':
    main()
