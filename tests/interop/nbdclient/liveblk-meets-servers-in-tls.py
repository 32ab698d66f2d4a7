#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Goal: liveblk reads and writes what is behind nbds:// and nbds+unix://, of every program that serves NBD in TLS, with
certificates and with keys; whom it does not know it does not talk to, and says why. nbdinfo and nbdcopy meet our servers by
the same names.
Method: nbdkit, qemu-nbd of both peers and ours, `liveblk serve`; a disk is told about, copied out, copied in and compared.
"""
import os
import socket
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import pki  # noqa: E402
from cli import Cli  # noqa: E402
from oracle import expect, expect_equal, random_file, read_file, run, tool  # noqa: E402
from remote import Remote, nbdkit  # noqa: E402
from sandbox import Skip, require  # noqa: E402

SIZE = 3 << 20
KINDS = {'x': 'pki', 'k': 'keys'}


def free_port():
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]


def qemu_nbd(box, program, kind):
    folder = f'{box.path}/{KINDS[kind]}'
    creds = 'x509' if kind == 'x' else 'psk'
    return Remote(box, 's', [program, '-t', '-e', '9', '-f', 'raw', '-k', f'{box.path}/s', '--object',
                             f'tls-creds-{creds},id=t,endpoint=server,dir={folder}', '--tls-creds', 't', '-x', 'd', 'disk'])


def name(box, kind, folder=True, host='localhost', sock='s'):
    more = f'&tls-certificates={box.path}/pki&tls-hostname={host}' if kind == 'x' else f'&tls-psk-file={box.path}/keys/keys.psk'
    return f'nbds+unix://{"alice@" if kind == "k" else ""}/d?socket={box.path}/{sock}' + (more if folder else '')


def works(box, cli, kind, what):
    """With all in the name, and with options."""
    uri = name(box, kind)
    short = name(box, kind, folder=False)
    options = ['--tls', KINDS[kind], *(['--tls-hostname', 'localhost'] if kind == 'x' else ['--tls-user', 'alice'])]
    expect_equal(cli.json('info', uri)['virtual-size'], SIZE, f'{what}: info')
    cli('convert', '--force', '-O', 'raw', *options, short, 'out')
    expect(read_file(box, 'out') == read_file(box, 'disk'), f'{what}: what is copied out')
    random_file(box, 'new', SIZE, seed=len(what))
    cli('convert', '--existing', '-f', 'raw', '-O', 'raw', 'new', uri)
    cli('compare', '-f', 'raw', '-F', 'raw', *options, 'new', short)
    cli('map', *options, short)


def every_server(box, cli, compat):
    programs = {'peer': 'qemu-nbd', 'ours': os.path.join(compat, 'qemu-nbd')}
    peer10 = os.path.join(os.environ.get('LIVEBLK_PEER10', '/opt/peer10/bin'), 'qemu-nbd')
    if os.path.exists(peer10):
        programs['peer 10'] = peer10
    for kind in KINDS:
        for what, program in programs.items():
            server = qemu_nbd(box, program, kind)
            works(box, cli, kind, f'qemu-nbd of {what}, {kind}')
            if what == 'ours':
                libnbd_tools(box, kind)
            server.stop()
        tls = [f'--tls-certificates={box.path}/pki', '--tls-verify-peer'] if kind == 'x' else [f'--tls-psk={box.path}/keys/keys.psk']
        server = nbdkit(box, 's', '--tls=require', *tls, 'file', f'{box.path}/disk')
        works(box, cli, kind, f'nbdkit, {kind}')
        server.stop()


def libnbd_tools(box, kind, sock='s'):
    uri = f'nbds+unix://{"alice@" if kind == "k" else ""}/d?socket={box.path}/{sock}'
    uri += f'&tls-certificates={box.path}/pki' if kind == 'x' else f'&tls-psk-file={box.path}/keys/keys.psk'
    expect('protocol: newstyle-fixed with TLS' in tool(box, 'nbdinfo', uri), f'nbdinfo {kind}')
    tool(box, 'nbdcopy', uri, 'copied')
    expect(read_file(box, 'copied') == read_file(box, 'disk'), f'nbdcopy {kind}: out')
    random_file(box, 'new', SIZE, seed=9)
    tool(box, 'nbdcopy', '--flush', 'new', uri)
    expect(read_file(box, 'new') == read_file(box, 'disk'), f'nbdcopy {kind}: in')


def our_own_serve(box, cli):
    """By the addresses that `liveblk serve` prints; over TCP the host is the name."""
    for kind, folder in KINDS.items():
        said = cli.json('serve', '--detach', '-f', 'raw', '--name', 'd', '--socket', 's', '--tls', folder, 'disk')
        expect_equal(said['exports'][0]['uri'], f'nbds+unix:///d?socket={box.path}/s', 'address')
        options = ['--tls', 'keys1', '--tls-user', 'alice'] if kind == 'k' else ['--tls', folder, '--tls-hostname', 'localhost']
        cli('compare', '-f', 'raw', '-F', 'raw', *options, 'disk', said['exports'][0]['uri'])
        works(box, cli, kind, f'serve, {kind}')
        libnbd_tools(box, kind)
        cli('qmp', 'quit')
        port = free_port()
        said = cli.json('serve', '--detach', '-f', 'raw', '--name', 'd', '--listen', f'127.0.0.1:{port}', '--tls', folder, 'disk')
        uri = said['exports'][0]['uri']
        cli('compare', '-f', 'raw', '-F', 'raw', '--tls', 'keys1' if kind == 'k' else folder, 'disk', uri)
        cli.fails(1, 'TLS', 'info', uri.replace('nbds:', 'nbd:'))
        # What one of ours serves another passes on, in plain text.
        said = cli.json('serve', '--detach', '-f', 'raw', '--name', 'relay', '--socket', 'r', '--control', 'rc',
                        f'{uri}?tls-certificates={box.path}/pki' if kind == 'x' else
                        f'{uri}?tls-username=alice&tls-psk-file={box.path}/keys/keys.psk')
        cli('compare', '-f', 'raw', '-F', 'raw', 'disk', said['exports'][0]['uri'])
        cli('qmp', '--control', 'rc', 'quit')
        cli('qmp', 'quit')


def refusals(box, cli, compat):
    server = qemu_nbd(box, os.path.join(compat, 'qemu-nbd'), 'x')
    sock = f'nbds+unix:///d?socket={box.path}/s'
    cli.fails(1, '--tls FOLDER', 'info', sock)
    cli.fails(1, 'Say which it is to have', 'info', '--tls', 'pki', sock)
    cli.fails(1, 'does not match the hostname elsewhere', 'info', '--tls', 'pki', '--tls-hostname', 'elsewhere', sock)
    cli.fails(1, 'issuer is unknown', 'info', '--tls', 'strange', '--tls-hostname', 'localhost', sock)
    cli.fails(1, 'Certificate is required', 'info', '--tls', 'nobody', '--tls-hostname', 'localhost', sock)
    cli.fails(1, 'TLS', 'info', '--tls', 'keys1', '--tls-hostname', 'localhost', sock)
    cli.fails(1, 'TLS', 'info', sock.replace('nbds', 'nbd'))
    cli.fails(1, 'No such file', 'info', '--tls', 'none', '--tls-hostname', 'localhost', sock)
    cli.fails(1, 'Unknown parameter', 'info', sock + '&tls-certificate=pki')
    cli.fails(1, 'has to be called keys.psk', 'info', sock + '&tls-psk-file=pki/some')
    cli.fails(1, 'exclude each other', 'info', sock + '&tls-psk-file=keys/keys.psk&tls-certificates=pki')
    cli.fails(1, 'has to be nbds+unix', 'info', '--tls', 'pki', 'nbds+unix:///d')
    cli.fails(1, 'has to be nbds://HOST', 'info', '--tls', 'pki', 'nbds:///d')
    cli.fails(1, 'No valid URL', 'info', '--tls', 'pki', 'nbds://[::1/d')
    cli('info', '--tls', 'nobody', sock + '&tls-verify-peer=false', status=1)
    server.stop()
    server = qemu_nbd(box, os.path.join(compat, 'qemu-nbd'), 'k')
    cli.fails(1, 'has the keys of 2 users', 'info', '--tls', 'keys', sock)
    cli.fails(1, 'TLS handshake failed', 'info', '--tls', 'wrong', sock)
    cli.fails(1, 'carol', 'info', '--tls', 'keys', '--tls-user', 'carol', sock)
    cli('info', '--tls', 'keys', '--tls-user', 'bob', sock)
    server.stop()
    server = Remote(box, 's', ['qemu-nbd', '-t', '-f', 'raw', '-k', f'{box.path}/s', '-x', 'd', 'disk'])
    cli.fails(1, 'starttls', 'info', '--tls', 'pki', '--tls-hostname', 'localhost', sock)
    server.stop()


def test(box, args):
    for program in ('certtool', 'psktool', 'nbdkit', 'qemu-nbd', 'nbdinfo', 'nbdcopy'):
        require(program)
    build = os.path.dirname(os.path.abspath(args.daemon))
    if args.peer or not os.path.exists(os.path.join(build, 'liveblk')):
        raise Skip('no liveblk beside the daemon')
    cli, compat = Cli(box, os.path.join(build, 'liveblk')), os.path.join(build, 'compat')
    pki.authority(box, 'ca')
    pki.authority(box, 'other')
    pki.certificate(box, 'pki', 'server', 'ca')
    pki.certificate(box, 'pki', 'client', 'ca', 'alice')
    pki.certificate(box, 'strange', 'client', 'other', 'alice')
    tool(box, 'cp', 'other-cert.pem', 'strange/ca-cert.pem')
    pki.keys(box, 'keys', 'alice', 'bob')
    pki.keys(box, 'wrong', 'alice')
    for folder in ('nobody', 'keys1'):
        os.mkdir(os.path.join(box.path, folder))
    tool(box, 'cp', 'ca-cert.pem', 'nobody/ca-cert.pem')
    with open(f'{box.path}/keys/keys.psk', encoding='ascii') as f, open(f'{box.path}/keys1/keys.psk', 'w', encoding='ascii') as o:
        o.write(''.join(line for line in f if line.startswith('alice:')))
    random_file(box, 'disk', SIZE)
    every_server(box, cli, compat)
    our_own_serve(box, cli)
    refusals(box, cli, compat)


run(test)
