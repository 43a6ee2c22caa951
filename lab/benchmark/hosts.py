"""The other host: an sshd of our own on loopback, with keys of its own. Every contender reaches the other side through it,
on a line that counts what goes over it."""

import getpass
import os
import socket
import subprocess
import threading
import time

import measure

SSHD = """
Port {port}
ListenAddress 127.0.0.1
HostKey {root}/host
PidFile none
UsePAM no
StrictModes no
AuthorizedKeysFile {root}/authorized_keys
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
Subsystem sftp internal-sftp
# Nobody's own shell settings: what they load, every session would pay for.
SetEnv HOME={root}
"""

SSH = """
Host far
    HostName 127.0.0.1
    Port {port}
    User {user}
    IdentityFile {root}/peer
    IdentitiesOnly yes
    UserKnownHostsFile {root}/known_hosts
    LogLevel ERROR
"""


class Line:
    """Passes connections to a port on, and counts the bytes of both ways. `port` is its own."""

    def __init__(self, to):
        self.to, self.bytes, self.lock = to, 0, threading.Lock()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            near, _ = self.listener.accept()
            far = socket.create_connection(("127.0.0.1", self.to))
            for one, other in (near, far), (far, near):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=self.carry, args=(one, other), daemon=True).start()

    def carry(self, one, other):
        """Within the kernel, so that it costs next to nothing."""
        out, into = os.pipe()
        try:
            while moved := os.splice(one.fileno(), into, 1 << 16):
                with self.lock:
                    self.bytes += moved
                while moved:
                    moved -= os.splice(out, other.fileno(), moved)
            other.shutdown(socket.SHUT_WR)
        except OSError:
            one.close()
        os.close(out)
        os.close(into)


class Far:
    """`root` is the folder of its keys. It runs until `stop`."""

    def __init__(self, root):
        self.root, self.user = root, getpass.getuser()
        os.makedirs(root, mode=0o700)
        # One key for the gate of handover, one that may do anything, for its peers.
        for name in ("host", "gate", "peer"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.path(name)], check=True)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.line = Line(port)
        self.port = self.line.port
        with open(self.path("host.pub")) as key:
            self.write("known_hosts", f"[127.0.0.1]:{self.port} {' '.join(key.read().split()[:2])}\n")
        with open(self.path("peer.pub")) as key:
            self.write("authorized_keys", key.read())
        self.write("sshd_config", SSHD.format(port=port, root=root))
        self.write("ssh_config", SSH.format(port=self.port, root=root, user=self.user))
        self.ssh = f"ssh -F {self.path('ssh_config')}"
        if os.geteuid() == 0:
            os.makedirs("/run/sshd", exist_ok=True)
        with open(self.path("log"), "ab") as log:
            self.server = subprocess.Popen(["/usr/sbin/sshd", "-D", "-e", "-f", self.path("sshd_config")],
                                           stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        until = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                return
            except OSError:
                if time.monotonic() > until or self.server.poll() is not None:
                    raise SystemExit("bench: sshd does not start: " + open(self.path("log")).read())
                time.sleep(0.05)

    def path(self, name):
        return os.path.join(self.root, name)

    def write(self, name, text):
        with open(self.path(name), "w") as out:
            out.write(text)

    def stop(self):
        self.server.terminate()
        self.server.wait()

    def sessions_end(self):
        """Waits until nobody is logged in: only then sshd knows what a session has cost."""
        until = time.monotonic() + 60
        while measure.children(self.server.pid):
            if time.monotonic() > until:
                raise SystemExit("bench: a session does not end")
            time.sleep(0.02)

    def cpu(self):
        """Seconds of processor of all sessions that have ended."""
        with open(f"/proc/{self.server.pid}/stat") as stat:
            fields = stat.read().rsplit(")", 1)[1].split()
        return (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")

    def wire(self):
        """Bytes that went over the line, both ways, since it is up."""
        return self.line.bytes
