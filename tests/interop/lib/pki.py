# SPDX-License-Identifier: MIT
"""pki: certificates and keys for TLS, made in a sandbox with GnuTLS's tools.

    authority(box, 'ca')                             ca-cert.pem, ca-key.pem
    certificate(box, 'pki', 'server', 'ca', 'NAME')  pki/server-cert.pem, server-key.pem, and the ca-cert.pem of `ca`
    keys(box, 'keys', 'alice', 'bob')                keys/keys.psk
"""
import os

from oracle import tool


def _template(box, *lines):
    path = os.path.join(box.path, 'template')
    with open(path, 'w', encoding='ascii') as f:
        f.write(''.join(line + '\n' for line in lines))
    return path


def authority(box, name):
    template = _template(box, f'cn = "authority {name}"', 'ca', 'cert_signing_key', 'expiration_days = 60')
    tool(box, 'certtool', '--generate-privkey', '--ecc', '--outfile', f'{name}-key.pem')
    tool(box, 'certtool', '--generate-self-signed', '--load-privkey', f'{name}-key.pem', '--template', template,
         '--outfile', f'{name}-cert.pem')


def certificate(box, folder, side, ca, name='localhost', days=30, host='localhost'):
    """side: server or client; days 0: its time is over."""
    time = [f'expiration_days = {days}'] if days else ['activation_date = "2020-01-01 00:00:00"',
                                                       'expiration_date = "2020-02-01 00:00:00"']
    template = _template(box, f'cn = "{name}"', 'organization = "tests"', f'dns_name = "{host}"', 'ip_address = "127.0.0.1"',
                         f'tls_www_{side}', 'signing_key', 'encryption_key', *time)
    path = os.path.join(box.path, folder)
    os.makedirs(path, exist_ok=True)
    tool(box, 'certtool', '--generate-privkey', '--rsa', '--bits', '2048', '--outfile', f'{path}/{side}-key.pem')
    tool(box, 'certtool', '--generate-certificate', '--load-privkey', f'{path}/{side}-key.pem',
         '--load-ca-certificate', f'{box.path}/{ca}-cert.pem', '--load-ca-privkey', f'{box.path}/{ca}-key.pem',
         '--template', template, '--outfile', f'{path}/{side}-cert.pem')
    tool(box, 'cp', f'{box.path}/ca-cert.pem', f'{path}/ca-cert.pem')


def keys(box, folder, *users):
    os.makedirs(os.path.join(box.path, folder), exist_ok=True)
    for user in users:
        tool(box, 'psktool', '-u', user, '-p', f'{folder}/keys.psk')
