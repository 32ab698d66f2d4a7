# SPDX-License-Identifier: MIT
"""remote: other programs' NBD servers, on unix sockets in the sandbox."""
import os
import socket
import subprocess
import time

from sandbox import TestFailure, _in_child, require


class Remote:
    def __init__(self, box, sock, argv):
        require(argv[0])
        self.sock = os.path.join(box.path, sock)
        if os.path.exists(self.sock):
            os.unlink(self.sock)
        self.process = subprocess.Popen([str(a) for a in argv], cwd=box.path, stdin=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                        start_new_session=True, preexec_fn=lambda: _in_child(False, 0))
        box.started.append(self.process)
        for _ in range(500):
            try:
                with socket.socket(socket.AF_UNIX) as s:
                    s.connect(self.sock)
                return
            except OSError:
                if self.process.poll() is not None:
                    break
                time.sleep(0.02)
        raise TestFailure(f'{argv[0]} does not serve')

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self):
        self.process.terminate()
        self.process.wait(20)


def peer_server(box, image, sock, export, fmt='raw', *extra):
    """The peer's server of an image; it survives its clients."""
    return Remote(box, sock, ['qemu-nbd', '-t', '-e', '20', '-f', fmt, '-k', os.path.join(box.path, sock),
                              '-x', export, '--cache=writeback', '--discard=unmap', *extra, image])


def nbdkit(box, sock, *args):
    return Remote(box, sock, ['nbdkit', '-f', '-U', os.path.join(box.path, sock), *args])
