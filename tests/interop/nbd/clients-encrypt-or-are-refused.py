#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Goal: a server with TLS credentials talks to nobody in plain text and to nobody it does not know, and serves the
others exactly, in the main loop and in an iothread; its log says why a client was refused.
Method: certificates made here (one of another authority, one expired), keys, rules; clients of libnbd and of the peer,
and sockets that send what no client sends.
"""
import json
import os
import random
import socket
import struct
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
from oracle import (Server, expect, expect_equal, make_image, nbd_module, random_file, read_file, run,  # noqa: E402
                    tool)
from sandbox import Skip, require  # noqa: E402

MIB = 1 << 20
SIZE = 40 * MIB
LARGE = 32 * MIB
REP_ERR_TLS_REQD, REP_ERR_INVALID, REP_ACK = 0x80000005, 0x80000003, 1


def certificate(box, folder, side, ca, name, *lines, days=30):
    """SIDE-cert.pem and SIDE-key.pem in folder, signed by ca."""
    template = os.path.join(box.path, 'template')
    with open(template, 'w', encoding='ascii') as f:
        f.write(f'cn = "{name}"\norganization = "tests"\ndns_name = "localhost"\nip_address = "127.0.0.1"\n'
                f'tls_www_{side}\nsigning_key\nencryption_key\n')
        if days > 0:
            f.write(f'expiration_days = {days}\n')
        else:
            f.write('activation_date = "2020-01-01 00:00:00"\nexpiration_date = "2020-02-01 00:00:00"\n')
        f.write(''.join(x + '\n' for x in lines))
    path = os.path.join(box.path, folder)
    os.makedirs(path, exist_ok=True)
    tool(box, 'certtool', '--generate-privkey', '--rsa', '--bits', '2048', '--outfile', f'{path}/{side}-key.pem')
    tool(box, 'certtool', '--generate-certificate', '--load-privkey', f'{path}/{side}-key.pem',
         '--load-ca-certificate', f'{box.path}/{ca}-cert.pem', '--load-ca-privkey', f'{box.path}/{ca}-key.pem',
         '--template', template, '--outfile', f'{path}/{side}-cert.pem')
    tool(box, 'cp', f'{box.path}/ca-cert.pem', f'{path}/ca-cert.pem')


def authority(box, name):
    with open(os.path.join(box.path, 'template'), 'w', encoding='ascii') as f:
        f.write(f'cn = "authority {name}"\nca\ncert_signing_key\nexpiration_days = 60\n')
    tool(box, 'certtool', '--generate-privkey', '--ecc', '--outfile', f'{name}-key.pem')
    tool(box, 'certtool', '--generate-self-signed', '--load-privkey', f'{name}-key.pem', '--template', 'template',
         '--outfile', f'{name}-cert.pem')


def make_files(box):
    authority(box, 'ca')
    authority(box, 'other')
    certificate(box, 'server', 'server', 'ca', 'localhost')
    certificate(box, 'alice', 'client', 'ca', 'alice')
    certificate(box, 'bob', 'client', 'ca', 'bob')
    certificate(box, 'stranger', 'client', 'other', 'alice')
    certificate(box, 'late', 'client', 'ca', 'alice', days=0)
    os.mkdir(os.path.join(box.path, 'nobody'))
    tool(box, 'cp', f'{box.path}/ca-cert.pem', f'{box.path}/nobody/ca-cert.pem')
    os.mkdir(os.path.join(box.path, 'keys'))
    os.mkdir(os.path.join(box.path, 'wrong'))
    for user in ('alice', 'bob'):
        tool(box, 'psktool', '-u', user, '-p', 'keys/keys.psk')
    tool(box, 'psktool', '-u', 'alice', '-p', 'wrong/keys.psk')


class Daemon:
    """The daemon under test with a TLS server on a socket of its own."""

    def __init__(self, box, args, objects, **start):
        self.box = box
        self.server = Server(box, args.daemon, nbd=False)
        for o in objects:
            self.server.qmp('object-add', **o)
        self.start = {'addr': {'type': 'unix', 'data': {'path': box.path + '/nbd'}}, 'tls-creds': 't', **start}
        self.server.qmp('nbd-server-start', **self.start)
        self.server.qmp('object-add', **{'qom-type': 'iothread', 'id': 'io'})
        self.server.add_image('d', 'disk', 'raw')
        self.server.add_image('e', 'copy', 'raw')
        self.server.export('d')
        self.server.export('e', writable=True, iothread='io')

    def log(self):
        return self.server.daemon.stderr()

    def connect(self, export='d', folder=None, user=None, keys='keys', tls=2):
        h = nbd_module().NBD()
        h.set_export_name(export)
        h.set_tls(tls)
        if folder:
            h.set_tls_certificates(os.path.join(self.box.path, folder))
        if user:
            h.set_tls_username(user)
            h.set_tls_psk_file(os.path.join(self.box.path, keys, 'keys.psk'))
        h.connect_unix(self.box.path + '/nbd')
        return h

    def refuses(self, why, **how):
        before = self.log()
        try:
            h = self.connect(**how)
            h.pread(512, 0)
        except nbd_module().Error:
            pass
        else:
            expect(False, f'{how}: let in')
        deadline = time.monotonic() + 10
        while why not in self.log()[len(before):]:
            expect(time.monotonic() < deadline, f'{how}: the log does not say {why!r}: {self.log()[len(before):]!r}')
            time.sleep(0.02)
        self.server.alive()


X509 = {'qom-type': 'tls-creds-x509', 'id': 't', 'endpoint': 'server'}
PSK = {'qom-type': 'tls-creds-psk', 'id': 't', 'endpoint': 'server'}


def serves(h, data):
    expect(h.get_tls_negotiated(), 'TLS was not negotiated')
    expect_equal(h.get_size(), SIZE, 'size')
    expect(h.pread(LARGE, 4096) == data[4096:4096 + LARGE], 'a read of 32 MiB is not what was written')
    expect(h.pread(1, 77) == data[77:78], 'a byte')


def writes(h):
    data = random.Random(3).randbytes(LARGE)
    h.pwrite(data, 4096)
    h.flush()
    expect(h.pread(LARGE, 4096) == data, 'a write of 32 MiB is not what is read')


def certificates(box, args, data):
    d = Daemon(box, args, [{**X509, 'dir': box.path + '/server'}])
    h = d.connect(folder='alice')
    serves(h, data)
    w = d.connect('e', folder='bob')
    writes(w)
    # Many requests at once in both directions, and one who leaves in the middle.
    lost = d.connect('e', folder='bob')
    bufs = [nbd_module().Buffer(MIB) for _ in range(16)]
    for i, b in enumerate(bufs):
        lost.aio_pread(b, i * MIB)
    lost.poll(50)
    del lost, bufs
    got = [nbd_module().Buffer(MIB) for _ in range(24)]
    cookies = [h.aio_pread(b, i * MIB) for i, b in enumerate(got)]
    while not all(h.aio_command_completed(c) for c in cookies if c) and h.aio_in_flight():
        h.poll(-1)
    expect(b''.join(bytes(b.to_bytearray()) for b in got) == data[:24 * MIB], 'many reads at once')
    d.refuses('plain text', tls=0)
    d.refuses('client is refused', folder='nobody')
    d.refuses('client is refused', folder='stranger')     # which does not even send it
    d.refuses('expired', folder='late')
    uri = f'nbds+unix:///d?socket={box.path}/nbd&tls-certificates={box.path}/alice'
    info = json.loads(tool(box, 'nbdinfo', '--json', uri))
    expect_equal((info['TLS'], info['exports'][0]['export-size']), (True, SIZE), 'nbdinfo')
    tool(box, 'nbdcopy', uri, 'out')
    expect(read_file(box, 'out') == data, 'nbdcopy')
    hostile(d)
    client_of_peer(box, args, 'tls-creds-x509', 'alice')
    expect('in use' in d.server.refused('object-del', id='t'), 'credentials in use are deleted')
    serves(h, data)
    del h, w
    d.server.unexport('d')
    d.server.unexport('e')
    d.server.qmp('nbd-server-stop')
    d.server.qmp('object-del', id='t')
    d.server.quit()


def client_of_peer(box, args, kind, folder, more=''):
    tool(box, 'qemu-img', 'convert', '--object', f'{kind},id=c,endpoint=client,dir={box.path}/{folder}{more}',
         '--image-opts', f'driver=nbd,server.type=unix,server.path={box.path}/nbd,export=d,tls-creds=c'
         + (',tls-hostname=localhost' if kind.endswith('x509') else ''),
         '-O', 'raw', 'out2')
    expect(read_file(box, 'out2') == read_file(box, 'disk'), "the peer's client reads something else")


def plain_socket(d):
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(10)
    s.connect(d.box.path + '/nbd')
    expect_equal(len(s.recv(18, socket.MSG_WAITALL)), 18, 'greeting')
    s.sendall(struct.pack('>I', 3))
    return s


def option(s, number, data=b''):
    s.sendall(struct.pack('>QII', 0x49484156454F5054, number, len(data)) + data)
    _, _, kind, length = struct.unpack('>QIII', s.recv(20, socket.MSG_WAITALL))
    return kind, s.recv(length, socket.MSG_WAITALL) if length else b''


def ended(s):
    try:
        while s.recv(65536):
            pass
    except ConnectionError:
        pass
    s.close()


def hostile(d):
    s = plain_socket(d)
    for number in (3, 6, 7, 8, 9, 10, 99):
        expect_equal(option(s, number), (REP_ERR_TLS_REQD, b'Option 0x%x not permitted before TLS' % number), 'refusal')
    expect_equal(option(s, 5, b'xx')[0], REP_ERR_INVALID, 'STARTTLS with data')
    # What was smuggled in before the handshake is not taken for what came after.
    s.sendall(struct.pack('>QII', 0x49484156454F5054, 5, 0) + struct.pack('>QII', 0x49484156454F5054, 3, 0))
    ended(s)
    s = plain_socket(d)
    s.sendall(struct.pack('>QII', 0x49484156454F5054, 1, 1) + b'd')
    ended(s)
    rng = random.Random(7)
    for i in range(40):
        s = plain_socket(d)
        expect_equal(option(s, 5)[0], REP_ACK, 'STARTTLS')
        junk = rng.randbytes(rng.randrange(1, 600))
        if i % 2:       # a record with a head that is right
            junk = struct.pack('>BHH', rng.choice((20, 21, 22, 23)), 0x301, len(junk)) + junk
        s.sendall(junk)
        s.shutdown(socket.SHUT_WR)
        ended(s)
    d.server.alive()
    expect('TLS handshake failed' in d.log(), 'the log does not tell of handshakes that failed')


def a_silent_client_is_sent_away(box, args):
    d = Daemon(box, args, [{**X509, 'dir': box.path + '/server'}], **{'handshake-max-seconds': 1})
    s = plain_socket(d)
    expect_equal(option(s, 5)[0], REP_ACK, 'STARTTLS')
    start = time.monotonic()
    ended(s)
    expect(time.monotonic() - start < 5, 'a client may take as long as it likes for its handshake')
    d.server.quit()


def keys(box, args, data):
    d = Daemon(box, args, [{**PSK, 'dir': box.path + '/keys'},
                           {'qom-type': 'authz-simple', 'id': 'a', 'identity': 'alice'}], **{'tls-authz': 'a'})
    serves(d.connect(user='alice'), data)
    d.refuses("'bob' is not authorized by 'a'", user='bob')
    d.refuses('TLS handshake failed', user='alice', keys='wrong')
    d.refuses('plain text', tls=0)
    client_of_peer(box, args, 'tls-creds-psk', 'keys', ',username=alice')
    d.server.quit()


def rules(box, args):
    path = os.path.join(box.path, 'rules')

    def write(policy, *rules_):
        with open(path + '.new', 'w', encoding='ascii') as f:
            json.dump({'policy': policy, 'rules': list(rules_)}, f)
        os.rename(path + '.new', path)

    write('deny', {'match': '*alice*', 'policy': 'allow', 'format': 'glob'})
    d = Daemon(box, args, [{**X509, 'dir': box.path + '/server'},
                           {'qom-type': 'authz-list-file', 'id': 'a', 'filename': path}], **{'tls-authz': 'a'})
    d.connect(folder='alice').shutdown()
    d.refuses('is not authorized', folder='bob')
    write('allow', {'match': '*alice*', 'policy': 'deny', 'format': 'glob'})
    d.connect(folder='bob').shutdown()
    d.refuses('is not authorized', folder='alice')
    with open(path, 'w', encoding='ascii') as f:
        f.write('{ "policy": ')
    d.refuses('rules', folder='bob')
    os.unlink(path)
    d.refuses('Unable to read', folder='bob')
    write('allow')
    d.connect(folder='bob').shutdown()
    d.server.quit()
    d = Daemon(box, args, [{**X509, 'dir': box.path + '/server'},
                           {'qom-type': 'authz-list', 'id': 'a', 'rules': [
                               {'match': 'O=tests,CN=bob', 'policy': 'allow'},
                               {'match': 'CN=bob,O=tests', 'policy': 'allow'}]}], **{'tls-authz': 'a'})
    d.connect(folder='bob').shutdown()
    d.refuses('is not authorized', folder='alice')
    d.server.quit()


def mistakes(box, args):
    """What cannot work is refused when it is made."""
    server = Server(box, args.daemon, nbd=False)

    def refused(text, command='object-add', **arguments):
        got = server.refused(command, **arguments)
        expect(text in got, f'{arguments}: said {got!r}, not {text!r}')

    x509 = {**X509, 'id': 'x'}
    refused("Missing 'dir' property value", **x509)
    refused(f'Unable to access credentials {box.path}/no/ca-cert.pem: No such file', **x509, dir=box.path + '/no')
    refused('Unable to access credentials', **x509, dir=box.path + '/alice')
    refused("No secret with id 'pw'", **x509, dir=box.path + '/server', passwordid='pw')
    refused('Unable to set TLS session priority FOO', **x509, dir=box.path + '/server', priority='FOO')
    refused('username should not be set', **{**PSK, 'id': 'x'}, dir=box.path + '/keys', username='alice')
    refused('Username carol not found', **{**PSK, 'id': 'x', 'endpoint': 'client'}, dir=box.path + '/keys', username='carol')
    certificate(box, 'old', 'server', 'ca', 'localhost', days=0)
    refused('has expired', **x509, dir=box.path + '/old')
    certificate(box, 'foreign', 'server', 'other', 'localhost')
    refused('failed validation', **x509, dir=box.path + '/foreign')
    server.qmp('object-add', **x509, dir=box.path + '/foreign', **{'sanity-check': False})
    refused("attempt to add duplicate property 'x'", **x509, dir=box.path + '/server')
    start = {'addr': {'type': 'unix', 'data': {'path': box.path + '/nbd'}}}
    refused("No TLS credentials with id 'none'", 'nbd-server-start', **start, **{'tls-creds': 'none'})
    server.qmp('object-add', **{'qom-type': 'secret', 'id': 's', 'data': 'x'})
    refused('is not TLS credentials', 'nbd-server-start', **start, **{'tls-creds': 's'})
    refused("No authorization object with id 'none'", 'nbd-server-start', **start, **{'tls-creds': 'x', 'tls-authz': 'none'})
    refused('Unable to read', **{'qom-type': 'authz-list-file', 'id': 'f', 'filename': box.path + '/none'})
    for text, how in (("Either 'file' or 'data'", {}), ('mutually exclusive', {'data': 'a', 'file': 'b'}),
                      ('invalid characters', {'data': 'a!b', 'format': 'base64'}), ("No secret with id 'k'", {'data': 'x', 'keyid': 'k'})):
        refused(text, **{'qom-type': 'secret', 'id': 'z', **how})
    # A key that is encrypted itself.
    tool(box, 'certtool', '--to-p8', '--password', 'pass', '--pkcs-cipher', 'aes-256', '--load-privkey',
         'server/server-key.pem', '--outfile', 'locked.pem')
    tool(box, 'cp', '-r', 'server', 'locked')
    tool(box, 'mv', 'locked.pem', 'locked/server-key.pem')
    refused('Cannot load certificate', **{**x509, 'id': 'y'}, dir=box.path + '/locked')
    server.qmp('object-add', **{'qom-type': 'secret', 'id': 'pw', 'data': 'cGFzcw==', 'format': 'base64'})
    server.qmp('object-add', **{**x509, 'id': 'y'}, dir=box.path + '/locked', passwordid='pw')
    for name in ('x', 'y', 's', 'pw'):
        server.qmp('object-del', id=name)
    expect('not found' in server.refused('object-del', id='x'), 'deleted twice')
    server.quit()


def test(box, args):
    for program in ('certtool', 'psktool', 'nbdinfo', 'nbdcopy', 'qemu-img'):
        require(program)
    if args.peer:
        raise Skip('what our server says')
    if not nbd_module().NBD().supports_tls():
        raise Skip('libnbd without TLS')
    make_files(box)
    random_file(box, 'disk', SIZE)
    data = read_file(box, 'disk')
    make_image(box, 'copy', 'raw', SIZE)
    mistakes(box, args)
    certificates(box, args, data)
    a_silent_client_is_sent_away(box, args)
    keys(box, args, data)
    rules(box, args)


run(test)
