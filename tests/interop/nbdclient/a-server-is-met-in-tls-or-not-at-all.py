#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Goal: a node with credentials talks to the server that was meant, in TLS, or not at all, and says why; what it reads
and writes is exact; a lost connection is made again in TLS while a mirror runs.
Method: servers of nbdkit and of the peer with certificates and keys made here (another authority, expired, another name);
plain text where TLS is asked for, TLS where it is not, a server that falls silent in the middle.
"""
import os
import random
import socket
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
from oracle import (Server, expect, expect_equal, make_image, nbd_module, random_file, read_file, run,  # noqa: E402
                    tool)
from remote import Remote, nbdkit, peer_server  # noqa: E402
from sandbox import Skip, require  # noqa: E402

MIB = 1 << 20
SIZE = 8 * MIB


def authority(box, name):
    with open(os.path.join(box.path, 'template'), 'w', encoding='ascii') as f:
        f.write(f'cn = "authority {name}"\nca\ncert_signing_key\nexpiration_days = 60\n')
    tool(box, 'certtool', '--generate-privkey', '--ecc', '--outfile', f'{name}-key.pem')
    tool(box, 'certtool', '--generate-self-signed', '--load-privkey', f'{name}-key.pem', '--template', 'template',
         '--outfile', f'{name}-cert.pem')


def certificate(box, folder, side, ca, host='localhost', days=30):
    """SIDE-cert.pem and SIDE-key.pem in folder, signed by ca."""
    path = os.path.join(box.path, folder)
    os.makedirs(path, exist_ok=True)
    with open(os.path.join(box.path, 'template'), 'w', encoding='ascii') as f:
        f.write(f'cn = "{side}"\ndns_name = "{host}"\ntls_www_{side}\nsigning_key\nencryption_key\n')
        f.write(f'expiration_days = {days}\n' if days else
                'activation_date = "2020-01-01 00:00:00"\nexpiration_date = "2020-02-01 00:00:00"\n')
    tool(box, 'certtool', '--generate-privkey', '--rsa', '--bits', '2048', '--outfile', f'{path}/{side}-key.pem')
    tool(box, 'certtool', '--generate-certificate', '--load-privkey', f'{path}/{side}-key.pem',
         '--load-ca-certificate', f'{box.path}/{ca}-cert.pem', '--load-ca-privkey', f'{box.path}/{ca}-key.pem',
         '--template', f'{box.path}/template', '--outfile', f'{path}/{side}-cert.pem')
    tool(box, 'cp', f'{box.path}/ca-cert.pem', f'{path}/ca-cert.pem')


def make_files(box):
    authority(box, 'ca')
    authority(box, 'other')
    certificate(box, 'pki', 'server', 'ca')
    certificate(box, 'pki', 'client', 'ca')
    certificate(box, 'foreign', 'server', 'other')
    certificate(box, 'late', 'server', 'ca', days=0)
    for name in ('keys', 'wrong', 'nobody'):
        os.mkdir(os.path.join(box.path, name))
    for name in ('keys', 'wrong'):
        tool(box, 'psktool', '-u', 'alice', '-p', f'{name}/keys.psk')
    tool(box, 'psktool', '-u', 'bob', '-p', 'keys/keys.psk')
    os.symlink('keys', os.path.join(box.path, 'bob'))
    tool(box, 'cp', 'ca-cert.pem', 'nobody/ca-cert.pem')


class Client:
    def __init__(self, box, args):
        self.box, self.server, self.nodes = box, Server(box, args.daemon), 0
        for name in ('pki', 'nobody'):
            self.creds(name, 'x509', name)
        for name in ('keys', 'wrong'):
            self.creds(name, 'psk', name, username='alice')

    def creds(self, name, kind, folder, **more):
        self.server.qmp('object-add', **{'qom-type': f'tls-creds-{kind}', 'id': name, 'endpoint': 'client',
                                         'dir': f'{self.box.path}/{folder}', **more})

    def options(self, sock, creds, host=None, **more):
        self.nodes += 1
        o = {'driver': 'nbd', 'node-name': f'n{self.nodes}', 'server': {'type': 'unix', 'path': f'{self.box.path}/{sock}'},
             **more}
        if creds:
            o['tls-creds'] = creds
        if host:
            o['tls-hostname'] = host
        return o

    def refused(self, why, *where):
        got = self.server.refused('blockdev-add', **self.options(*where))
        expect(why in got, f'{where}: said {got!r}, not {why!r}')

    def is_exact(self, sock, creds, host=None):
        """Write and read all of it, in pieces of all sizes."""
        o = self.options(sock, creds, host)
        self.server.add(o)
        h = nbd_module().NBD()
        h.connect_uri(self.server.export(o['node-name'], writable=True))
        rng = random.Random(5)
        data = bytearray(rng.randbytes(SIZE))
        h.pwrite(bytes(data), 0)
        for _ in range(100):
            at, n = rng.randrange(SIZE // 512 - 140) * 512, rng.randrange(1, 140) * 512
            piece = rng.randbytes(n)
            h.pwrite(piece, at)
            data[at:at + n] = piece
        h.flush()
        expect(h.pread(SIZE, 0) == data, f'{sock}: read is not what was written')
        h.shutdown()
        self.server.unexport(o['node-name'])
        expect('in use' in self.server.refused('object-del', id=creds), 'credentials in use are deleted')
        self.server.qmp('blockdev-del', **{'node-name': o['node-name']})
        return bytes(data)


def peer_tls(box, sock, kind, folder, image='d.raw'):
    return peer_server(box, image, sock, '', 'raw', '--object',
                       f'tls-creds-{kind},id=t,endpoint=server,dir={box.path}/{folder}', '--tls-creds', 't')


def against_the_peer(box, c):
    make_image(box, 'd.raw', 'raw', SIZE)
    for sock, kind, folder, creds, host in (('x', 'x509', 'pki', 'pki', 'localhost'), ('k', 'psk', 'keys', 'keys', None)):
        p = peer_tls(box, sock, kind, folder)
        data = c.is_exact(sock, creds, host)
        p.stop()
        expect(read_file(box, 'd.raw') == data, f'{kind}: the image behind the server')


def against_nbdkit(box, c):
    cert = nbdkit(box, 'nx', '--tls=require', f'--tls-certificates={box.path}/pki', '--tls-verify-peer', 'memory', str(SIZE))
    key = nbdkit(box, 'nk', '--tls=require', f'--tls-psk={box.path}/keys/keys.psk', 'memory', str(SIZE))
    plain = nbdkit(box, 'np', '--tls=off', 'memory', str(SIZE))
    old = nbdkit(box, 'no', '-o', 'memory', str(SIZE))
    c.is_exact('nx', 'pki', 'localhost')
    c.is_exact('nk', 'keys')
    c.refused('does not match the hostname elsewhere', 'nx', 'pki', 'elsewhere')
    c.refused('No hostname for certificate validation', 'nx', 'pki')
    c.refused('disconnected', 'nx', 'nobody', 'localhost')      # nbdkit does not say why
    c.refused('TLS handshake failed', 'nk', 'wrong')
    c.refused('TLS', 'nx', None)
    c.refused('starttls', 'np', 'keys')
    c.refused('Server does not support STARTTLS', 'no', 'keys')
    c.refused("No TLS credentials with id 'none'", 'np', 'none')
    for s in (cert, key, plain, old):
        s.stop()
    for folder, why in (('foreign', 'issuer is unknown'), ('late', 'expired')):
        s = nbdkit(box, 'nf', '--tls=require', f'--tls-certificates={box.path}/{folder}', 'memory', str(SIZE))
        c.refused(why, 'nf', 'pki', 'localhost')
        s.stop()


def against_our_own(box, args, c):
    """Which says why it refuses, also after the handshake."""
    ours = os.path.join(os.path.dirname(os.path.abspath(args.daemon)), 'compat', 'qemu-nbd')
    if not os.path.exists(ours):
        return
    for sock, kind, folder in (('ox', 'x509', 'pki'), ('ok', 'psk', 'keys')):
        p = Remote(box, sock, [ours, '-t', '-e', '20', '-f', 'raw', '-k', f'{box.path}/{sock}', '--object',
                               f'tls-creds-{kind},id=t,endpoint=server,dir={box.path}/{folder}', '--tls-creds', 't',
                               '--object', 'authz-list,id=a,policy=allow,rules.0.match=bob,rules.0.policy=deny',
                               '--tls-authz', 'a', 'd.raw'])
        if kind == 'x509':
            c.is_exact(sock, 'pki', 'localhost')
            c.refused('Certificate is required', sock, 'nobody', 'localhost')
        else:
            c.is_exact(sock, 'keys')
            c.creds('bob', 'psk', 'bob', username='bob')
            c.refused('Access was denied', sock, 'bob')
            c.refused('TLS handshake failed', sock, 'wrong')
        p.stop()


def a_silent_server_holds_nobody(box, c):
    """It says yes to TLS, and nothing more: the attempt can be waited for, and the monitor answers meanwhile."""
    s = socket.socket(socket.AF_UNIX)
    s.bind(f'{box.path}/silent')
    s.listen()
    held = []

    def answer():
        a = s.accept()[0]
        a.sendall(b'NBDMAGICIHAVEOPT\0\3')
        a.recv(20, socket.MSG_WAITALL)
        a.sendall(b'\0\3\xe8\x89\4\x55\x65\xa9' + b'\0\0\0\5' + b'\0\0\0\1' + b'\0\0\0\0')
        held.append(a)
        a.recv(1)
        time.sleep(1)
        a.close()

    t = threading.Thread(target=answer)
    t.start()
    c.refused('TLS', 'silent', 'keys')
    t.join()
    s.close()


def a_mirror_survives(box, c):
    random_file(box, 'src.raw', 32 * MIB)
    make_image(box, 'dst.raw', 'raw', 32 * MIB)
    p = peer_tls(box, 'm', 'x509', 'pki', 'dst.raw')
    o = c.options('m', 'pki', 'localhost', **{'reconnect-delay': 30})
    c.server.add(o)
    c.server.add_image('src', 'src.raw', 'raw')
    c.server.qmp('blockdev-mirror', **{'job-id': 'm', 'device': 'src', 'target': o['node-name'], 'sync': 'full',
                                       'speed': 16 * MIB})
    for _ in range(2):
        time.sleep(0.4)
        p.kill()
        time.sleep(0.1)
        c.server.alive()
        p = peer_tls(box, 'm', 'x509', 'pki', 'dst.raw')
    c.server.wait_event('BLOCK_JOB_READY', device='m')
    c.server.qmp('block-job-cancel', device='m')
    c.server.wait_event('BLOCK_JOB_COMPLETED', device='m')
    c.server.qmp('blockdev-del', **{'node-name': o['node-name']})
    p.stop()
    expect(read_file(box, 'dst.raw') == read_file(box, 'src.raw'), 'the mirror is not the source')


def test(box, args):
    for program in ('certtool', 'psktool', 'nbdkit', 'qemu-nbd'):
        require(program)
    if args.peer:
        raise Skip('what our client says')
    make_files(box)
    c = Client(box, args)
    against_the_peer(box, c)
    against_nbdkit(box, c)
    against_our_own(box, args, c)
    a_silent_server_holds_nobody(box, c)
    a_mirror_survives(box, c)
    expect_equal(c.server.qmp('query-block-jobs'), [], 'jobs')
    c.server.quit()


run(test)
