# SPDX-License-Identifier: MIT
"""steps: what may be done to an image of the matrix. Each step is a function of the image: it returns False where it
cannot be done now, and otherwise has changed image and model alike. Whether a program of ours or of a peer does it
is drawn for each step anew.
"""
import os

from image import SECRET, Bitmap

SNAPSHOTS_MAX = 4
# What a program may say where a counter is too narrow: packed clusters count many.
TOO_MANY = ('overflow', 'Numerical result out of range', 'Invalid argument', 'too large', 'Cannot decrease',
            'exceed', 'refcount', 'larger than')


def snapshots_max(im):
    """With every cluster counted once for the disk and once for each."""
    return 0 if im.width == 1 else min(SNAPSHOTS_MAX, 2 ** min(im.width, 8) - 3)


def may_overflow(im):
    return TOO_MANY if im.c['compression'] != 'none' else None


# ---- the disk ----

def noise(im, n):
    """A file of bytes that no two places share, for `write -s`."""
    data = im.rng.randbytes(n)
    with open(im.file('noise'), 'wb') as f:
        f.write(data)
    return data


def io(im, side, commands, *after):
    words = []
    for c in [*commands, *after]:
        words += ['-c', c]
    where = im.where()
    im.run(side, 'qemu-io', *where[:-1], *words, where[-1], status=-9 if 'sigraise 9' in after else 0)


def may_discard(im):
    """Below version 3 a discarded cluster shows what lies below."""
    return im.version == 3 or not im.backing


def write(im, *after):
    """Several requests, some of them at once, by one program."""
    commands, marks, used, side = [], [], set(), im.side()
    verbs = ['write', 'write', 'write', 'aio_write', 'write -z', 'write -z -u', 'discard', 'write -s noise']
    if im.c['compression'] != 'none':
        verbs += ['write -c'] * 5
    for _ in range(im.rng.randrange(1, 7)):
        verb = im.rng.choice(verbs)
        whole = verb in ('discard', 'write -c')
        unit = im.cluster if whole else im.rng.choice([512, 512, 4096])
        at, n = im.place(len(im.disk), min(unit, len(im.disk)) if not whole else unit)
        if verb == 'discard' and not may_discard(im) or verb == 'write -s noise' and 'write -s noise' in used:
            verb = 'write'
        if verb == 'write -c' and side is not im.ours and \
                im.touched & set(range(at // im.cluster, (at + n - 1) // im.cluster + 1)):
            verb = 'write'          # the peers pack only what is not there yet
        used.add(verb)
        value = im.rng.randrange(1, 255)
        if verb in ('write', 'aio_write', 'write -c'):
            commands.append(f'{verb} -P {value} {at} {n}')
            data = bytes([value]) * n
        elif verb == 'write -s noise':
            data = noise(im, min(n, 100000) // 512 * 512 or 512)
            data = data[:n]
            commands.append(f'{verb} {at} {len(data)}')
        else:
            commands.append(f'{verb} {at} {n}')
            data = bytes(n)
        if any(at < e and b < at + len(data) for b, e in marks):
            commands.insert(len(commands) - 1, 'aio_flush')     # those that overlap come one after another
        marks.append((at, at + len(data)))
        im.put(at, data)
    if side is not im.ours:
        # The peers pack into a cluster that they have freed and used for a table since: first of all, then.
        commands.sort(key=lambda c: not c.startswith('write -c'))
    io(im, side, commands, *after)
    return True


def kill(im):
    """The program ends without closing: what was flushed is there, and bitmaps say that they may be wrong."""
    if im.encrypted == 'aes':
        return False
    write(im, 'aio_flush', 'flush', 'sigraise 9')
    for b in im.bitmaps.values():
        b.lost = True
    mend(im, 'all')
    for name in list(im.bitmaps):
        im.run(im.side(), 'qemu-img', 'bitmap', '--remove', *im.where(), name)
        del im.bitmaps[name]
    return True


def mend(im, what):
    """By a peer only where it does no harm: it forgets the snapshots of an image that has bitmaps as well."""
    side = im.ours if im.snapshots and im.bitmaps else im.side()
    im.run(side, 'qemu-img', 'check', '-q', '-r', what, *im.where())


def repair(im):
    if im.snapshots and im.bitmaps and im.encrypted == 'aes':
        return False
    mend(im, im.rng.choice(['leaks', 'all']))
    return True


def resize(im):
    if im.version == 2 and (im.snapshots or im.backing):
        return False
    size = max(4096, len(im.disk) // 512 * 512 + im.rng.randrange(-12, 20) * min(im.cluster, 65536))
    if im.rng.random() < 0.2:
        size += 512
    words, side = ['--shrink'] if size < len(im.disk) else [], im.side()
    if words and side is not im.ours or im.encrypted == 'aes':
        size = max(im.cluster, size // im.cluster * im.cluster)     # what the peer cuts off within a cluster, it shows again
        words = ['--shrink'] if size < len(im.disk) else []
    if not words and not im.backing and im.encrypted == 'none' and im.rng.random() < 0.3:
        mode = im.rng.choice(['metadata', 'falloc', 'full'])
        # A peer that preallocates loses a compressed last cluster, and shows what was in the file before.
        words = ['--preallocation=' + mode] if side is im.ours else []
    if size == len(im.disk):
        return False
    # A peer does not preallocate where the file is longer already.
    if im.run(side, 'qemu-img', 'resize', '-q', *words, *im.where(), size,
              refusal=('preallocation for shrinking files',)) is None:
        mend(im, 'leaks')
        return True
    im.lengthen(size)
    im.touch_all()
    return True


# ---- snapshots ----

def snapshot_create(im):
    if len(im.snapshots) >= snapshots_max(im):
        return False
    if im.c['data_file'] != 'none':
        im.run(im.side(), 'qemu-img', 'snapshot', '-c', 'no', *im.where(), status=1)
        return True
    name = f's{len(im.log)}'
    if im.run(im.side(), 'qemu-img', 'snapshot', '-c', name, *im.where(), refusal=may_overflow(im)) is None:
        mend(im, 'leaks')
    else:
        im.snapshots.append((name, bytes(im.disk)))
    return True


def snapshot_apply(im):
    if not im.snapshots or im.bitmaps:      # with bitmaps it is refused
        return False
    name, data = im.rng.choice(im.snapshots)
    if im.version == 2 and len(data) != len(im.disk):
        return False
    if im.run(im.side(), 'qemu-img', 'snapshot', '-a', name, *im.where(), refusal=may_overflow(im)) is None:
        mend(im, 'leaks')
    else:
        im.disk = bytearray(data)
    return True


def snapshot_delete(im):
    if not im.snapshots:
        return False
    name, _ = im.snapshots.pop(im.rng.randrange(len(im.snapshots)))
    im.run(im.side(), 'qemu-img', 'snapshot', '-d', name, *im.where())
    return True


# ---- bitmaps ----

def bitmap_add(im):
    if im.version == 2 or len(im.bitmaps) >= 5:
        return False
    name, granularity = f'b{len(im.log)}', im.rng.choice([512, 4096, 65536, 1 << 20])
    words = ['--disable'] if im.rng.random() < 0.3 else []
    im.run(im.side(), 'qemu-img', 'bitmap', '--add', '-g', granularity, *words, *im.where(), name)
    im.bitmaps[name] = Bitmap(not words, granularity)
    return True


def bitmap_change(im):
    if not im.bitmaps:
        return False
    name = im.rng.choice(sorted(im.bitmaps))
    b, verb = im.bitmaps[name], im.rng.choice(['--enable', '--disable', '--clear', '--remove', '--merge', '--merge'])
    words = [verb]
    if verb == '--merge':
        others = [n for n in sorted(im.bitmaps) if n != name]
        if not others:
            return False
        words.append(im.rng.choice(others))
        other = im.bitmaps[words[1]]
        for g in other.dirty:
            end = min((g + 1) * other.granularity, len(im.disk))
            b.dirty.update(range(g * other.granularity // b.granularity, (end - 1) // b.granularity + 1))
    elif verb == '--clear':
        b.dirty = set()
    elif verb == '--remove':
        del im.bitmaps[name]
    else:
        b.recording = verb == '--enable'
    im.run(im.side(), 'qemu-img', 'bitmap', *words, *im.where(), name)
    return True


# ---- the image itself ----

def amend(im, words):
    # The peers take minutes for refcounts of large clusters, and write zeroes in the clear for version 2.
    side = im.side()
    if im.encrypted != 'aes' and ('refcount' in words and im.cluster > 16384 or
                                  'compat=0.10' in words and im.encrypted == 'luks'):
        side = im.ours
    return im.run(side, 'qemu-img', 'amend', '-q', '-o', words, *im.where(), refusal=may_overflow(im)) is not None


def amend_version(im):
    c = im.c
    if im.version == 2:
        im.version = 3
        return amend(im, 'compat=1.1') or True
    if c['extended'] == 'on' or c['data_file'] != 'none' or c['compression'] == 'zstd' or im.bitmaps or \
            im.encrypted == 'aes' or \
            any(len(data) != len(im.disk) for _, data in im.snapshots):
        return False
    if amend(im, 'compat=0.10,refcount_bits=16,lazy_refcounts=off'):
        im.version, im.width, im.lazy = 2, 16, False
    return True


def amend_width(im):
    if im.version == 2 or im.cluster > 16384 and im.encrypted == 'aes':
        return False
    width = im.rng.choice([w for w in (1, 2, 4, 8, 16, 32, 64) if 2 ** min(w, 8) - 1 > len(im.snapshots)])
    if amend(im, f'refcount_bits={width}'):
        im.width = width
    return True


def amend_lazy(im):
    if im.version == 2:
        return False
    im.lazy = not im.lazy
    amend(im, f'lazy_refcounts={"on" if im.lazy else "off"}')
    return True


def rebase(im):
    """Onto another backing image, of another length, or onto none: the disk shows the same."""
    if not im.may_have_backing() or im.snapshots or im.bitmaps or im.version == 2:
        return False
    if im.backing and im.rng.random() < 0.3:
        im.run(im.side(), 'qemu-img', 'rebase', '-b', '', *im.where())
        im.backing, im.below = None, b''
        im.touch_all()
        return True
    old, name = im.backing, 'base1' if im.backing == 'base0' else 'base0'
    size = max(512, len(im.disk) // 512 * 512 + im.rng.randrange(-20, 20) * 4096)
    fmt, below = im.make_base(name, size)
    # Where the image is named by options, its name is no place to begin a path from.
    told = name if im.encrypted == 'none' else im.file(name)
    im.run(im.side(), 'qemu-img', 'rebase', '-b', told, '-F', fmt, *im.where())
    im.backing, im.below = name, below
    im.touch_all()              # what differs below is in the image itself now
    if old:
        os.remove(im.file(old))
    return True


def commit(im):
    """Into the backing image; the overlay is emptied or not, and shows the same."""
    if not im.backing or im.snapshots or im.bitmaps:
        return False
    words = ['-d'] if im.rng.random() < 0.3 else []
    im.run(im.side(), 'qemu-img', 'commit', '-q', *words, *im.where())
    im.below = bytes(im.disk) + im.below[len(im.disk):]
    return True


def convert(im):
    """To a new image of the same kind; bitmaps go along or not, snapshots stay behind."""
    words, keep = [], im.bitmaps and im.rng.random() < 0.7
    if im.encrypted == 'aes':
        return False
    if keep:
        words.append('--bitmaps')
    if im.c['compression'] != 'none' and im.rng.random() < 0.7:
        words.append('-c')
    side = im.ours if im.encrypted == 'luks' else im.side()
    im.run(side, 'qemu-img', 'convert', *words, '-O', 'qcow2', '-o', im.creation('b.data'), *im.where(), 'b')
    os.rename(im.file('b'), im.file('a'))
    if im.c['data_file'] != 'none':
        # The image names its data file: it stands where the image says.
        os.rename(im.file('b.data'), im.file('a.data'))
        im.run(im.ours, 'qemu-img', 'amend', '-q', '-o', 'data_file=a.data', '--image-opts',
               im.options() + ',data-file.driver=file,data-file.filename=a.data',
               *(SECRET if im.encrypted != 'none' else ()))
    im.snapshots = []
    if im.backing:
        os.remove(im.file(im.backing))
    im.backing, im.below = None, b''
    im.bitmaps = im.bitmaps if keep else {}
    im.touch_all()
    return True


STEPS = ([write] * 9 + [kill, repair, repair, resize, resize, snapshot_create, snapshot_create, snapshot_apply, snapshot_delete]
         + [bitmap_add, bitmap_add, bitmap_change, bitmap_change, amend_version, amend_width, amend_lazy, rebase, commit]
         + [convert])
