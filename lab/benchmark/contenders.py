"""Handover, and what an operator would pick instead. Each brings a corpus of the far host to this one, or is run there to
push it here, over the same sshd; each has its own folder, and knows how to restore, to prove and to prune what it keeps.

A contender's commands for a step are lists of (what, side, argv): `side` is where argv runs, so that what it costs counts
on that side: "sink" pulls, "source" pushes or collects. What has been said to be done is done: whoever does not sync by
himself gets a sync of the file system after it."""

import glob
import json
import os
import shlex
import shutil
import subprocess

HERE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))


class Contender:
    # Whether it keeps times to the nanosecond.
    nanoseconds = True
    # Whether each generation is a folder or a file of its own.
    folders = True
    # The exit codes that are not a failure.
    accept = (0,)
    # What must be installed, as commands.
    needs = ()

    def __init__(self, work, corpus, far, args):
        self.work, self.corpus, self.far, self.args = os.path.join(work, self.name), corpus.root, far, args
        self.env, self.cwd = {}, None
        os.makedirs(self.work)
        self.prepare()

    def prepare(self):
        """Makes what must be there before the first backup; not measured."""

    def path(self, *names):
        return os.path.join(self.work, *names)

    def once(self, *command):
        done = subprocess.run(command, env={**os.environ, **self.env}, cwd=self.cwd, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if done.returncode != 0:
            raise SystemExit(f"bench: {' '.join(command)}: {done.stdout.decode(errors='replace')[-2000:]}")

    def sync(self):
        return ("sync", "sink", ["sync", "-f", self.work])

    def shell(self, text):
        return ["bash", "-euo", "pipefail", "-c", text]

    def look(self, what, text):
        """Takes from a command's output what is worth keeping."""
        return {}

    def stored(self):
        """The folder on the sink of which the disk is counted."""
        return self.path("store")

    def left(self):
        """After pruning: the generations that are left, where they are folders or files."""
        return os.listdir(self.stored()) if self.folders else None


class Handover(Contender):
    name = "handover"
    CONFIG = """
state = "{work}/state"
[source]
name = "bench"
home = "{work}/source"
keep = 1
reserve = "0%"
[[source.element]]
name = "data"
kind = "tree"
paths = ["{corpus}"]
[sink]
home = "{work}/sink"
keep = {keep}
reserve = "0%"
undo_for = "{undo}"
identity = "{far.root}/gate"
known_hosts = "{far.root}/known_hosts"
[[sink.source]]
name = "bench"
host = "127.0.0.1"
port = {far.port}
user = "{far.user}"
"""

    def prepare(self):
        for name, keep, undo in ("handover.toml", 14, "1d"), ("one.toml", 1, "0s"):
            with open(self.path(name), "w") as out:
                out.write(self.CONFIG.format(work=self.work, corpus=self.corpus, far=self.far, keep=keep, undo=undo))
        for words in (["source", "init"], ["sink", "init"], ["source", "authorize", f"{self.far.root}/gate.pub",
                      "--authorized-keys", f"{self.far.root}/authorized_keys"]):
            self.once(*self.handover(*words))

    def handover(self, *words, config="handover.toml"):
        return [self.args.handover, "--config", self.path(config), *words]

    def stored(self):
        return self.path("sink/store/bench")

    def left(self):
        # The generations, and what was condemned and is not gone yet; beside them lies what the store keeps of itself.
        kept = [name for name in super().left() if name.startswith("20")]
        return kept + glob.glob(self.path("sink/condemned/*/*"))

    def backup(self, step):
        return [("collect", "source", self.handover("--json", "source", "run")),
                ("fetch", "sink", self.handover("--json", "sink", "run"))]

    def look(self, what, text):
        if what not in ("collect", "fetch"):
            return {}
        said = json.loads(text)
        if what == "collect":
            if not said["generation"]:
                raise SystemExit(f"bench: nothing was collected: {text}")
            return {"timings": said["timings"], "read": said["generation"]["bytes_read"]}
        fetched = said["sources"][0]
        if len(fetched["stored"]) != 1 or len(fetched["accepted"]) != 1:
            raise SystemExit(f"bench: nothing was handed over: {text}")
        return {"timings": fetched["timings"], "said_wire": fetched["stored"][0]["wire"]}

    def verify(self):
        return [("verify", "sink", self.handover("sink", "verify"))]

    def restore(self, target):
        return [("restore", "sink", self.handover("restore", "--from", self.path("sink/store/bench"), "--to", target))]

    def restored(self, target):
        return target + self.corpus

    def prune(self):
        return [("prune", "sink", self.handover("sink", "prune", config="one.toml"))]


class Rsync(Contender):
    """`rsync -a --link-dest` over ssh, a folder a generation."""

    name, needs = "rsync", ("rsync",)

    def prepare(self):
        self.steps = []

    def backup(self, step):
        before = [f"--link-dest=../{self.steps[-1]}"] if self.steps else []
        self.steps.append(step)
        os.makedirs(self.path("store"), exist_ok=True)
        return [("rsync", "sink", ["rsync", "-a", *before, "-e", self.far.ssh, f"far:{self.corpus}/", self.path("store", step)]),
                self.sync()]

    def verify(self):
        return None

    def restore(self, target):
        return [("cp", "sink", ["cp", "-a", self.path("store", self.steps[-1]), target])]

    def restored(self, target):
        return target

    def prune(self):
        return [("rm", "sink", ["rm", "-rf", *(self.path("store", step) for step in self.steps[:-1])])]


class Rsnapshot(Contender):
    name, needs = "rsnapshot", ("rsnapshot", "rsync")

    def prepare(self):
        values = [("config_version", "1.2"), ("snapshot_root", self.path("store") + "/"), ("cmd_cp", "/bin/cp"), ("cmd_rm", "/bin/rm"),
                  ("cmd_rsync", shutil.which("rsync")), ("cmd_ssh", "/usr/bin/ssh"), ("ssh_args", self.far.ssh.removeprefix("ssh ")),
                  ("retain", "alpha\t5"), ("verbose", "1"), ("lockfile", self.path("lock")),
                  ("backup", f"{self.far.user}@far:{self.corpus}/\tfar/")]
        with open(self.path("conf"), "w") as out:
            out.writelines(f"{key}\t{value}\n" for key, value in values)

    def backup(self, step):
        return [("rsnapshot", "sink", ["rsnapshot", "-c", self.path("conf"), "alpha"]), self.sync()]

    def verify(self):
        return None

    def restore(self, target):
        return [("cp", "sink", ["cp", "-a", self.path("store/alpha.0/far") + self.corpus, target])]

    def restored(self, target):
        return target

    def prune(self):
        return [("rm", "sink", ["rm", "-rf", *glob.glob(self.path("store/alpha.[1-9]"))])]


class Tar(Contender):
    """`tar | zstd` on the source, over ssh into a file a generation."""

    name, needs = "tar", ("zstd", "tar")

    def prepare(self):
        os.makedirs(self.path("store"))
        self.newest = None

    def backup(self, step):
        self.newest = self.path("store", f"{step}.tar.zst")
        there = f"tar -C {shlex.quote(self.corpus)} --format=posix -c . | zstd -q -T0 -3"
        return [("tar", "sink", self.shell(f"{self.far.ssh} far {shlex.quote(there)} >{shlex.quote(self.newest)}")), self.sync()]

    def verify(self):
        return [("zstd -t", "sink", ["zstd", "-q", "-t", *sorted(glob.glob(self.path("store/*")))])]

    def restore(self, target):
        os.makedirs(target)
        return [("tar", "sink", self.shell(f"zstd -q -dc {shlex.quote(self.newest)} | tar -C {shlex.quote(target)} -xp"))]

    def restored(self, target):
        return target

    def prune(self):
        return [("rm", "sink", ["rm", *(path for path in glob.glob(self.path("store/*")) if path != self.newest)])]


class Restic(Contender):
    """Run on the source, its repository on the sink by sftp. It always encrypts."""

    name, needs, folders = "restic", ("restic",), False

    def prepare(self):
        self.env = {"RESTIC_PASSWORD": "bench", "RESTIC_CACHE_DIR": self.path("cache")}
        self.repository = ["restic", "-q", "-o", f"sftp.command={self.far.ssh} far -s sftp", "-r", f"sftp:far:{self.path('store')}"]
        self.here = ["restic", "-q", "-r", self.path("store")]
        self.once(*self.repository, "init")

    def backup(self, step):
        return [("restic", "source", [*self.repository, "backup", self.corpus]), self.sync()]

    def verify(self):
        return [("check", "sink", [*self.here, "check", "--read-data"])]

    def restore(self, target):
        return [("restore", "sink", [*self.here, "restore", "latest", "--target", target])]

    def restored(self, target):
        return target + self.corpus

    def prune(self):
        return [("prune", "sink", [*self.here, "forget", "--keep-last", "1", "--prune"])]


class Borg(Contender):
    """Run on the source, its repository on the sink by `borg serve`; without encryption."""

    name, needs, folders = "borg", ("borg",), False

    def prepare(self):
        self.env = {"BORG_RSH": self.far.ssh, "BORG_BASE_DIR": self.path("base"), "BORG_RELOCATED_REPO_ACCESS_IS_OK": "yes",
                    "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes"}
        self.repository = f"ssh://far{self.path('store')}"
        self.once("borg", "init", "-e", "none", self.repository)

    def backup(self, step):
        self.newest = step
        return [("create", "source", ["borg", "create", f"{self.repository}::{step}", self.corpus]), self.sync()]

    def verify(self):
        return [("check", "sink", ["borg", "check", "--verify-data", self.path("store")])]

    def restore(self, target):
        os.makedirs(target)
        self.cwd = target
        return [("extract", "sink", ["borg", "extract", f"{self.path('store')}::{self.newest}"])]

    def restored(self, target):
        return target + self.corpus

    def prune(self):
        return [("prune", "sink", ["borg", "prune", "--keep-last", "1", self.path("store")]),
                ("compact", "sink", ["borg", "compact", self.path("store")])]


class RdiffBackup(Contender):
    name, needs, nanoseconds, folders = "rdiff-backup", ("rdiff-backup",), False, False

    def command(self, *words):
        return ["rdiff-backup", "--api-version", "201", "--remote-schema", f"{self.far.ssh} {{h}} rdiff-backup --api-version 201 server", *words]

    def backup(self, step):
        return [("backup", "sink", self.command("backup", f"far::{self.corpus}", self.path("store"))), self.sync()]

    def verify(self):
        return [("verify", "sink", ["rdiff-backup", "verify", self.path("store")])]

    def restore(self, target):
        return [("restore", "sink", ["rdiff-backup", "restore", self.path("store"), target])]

    def restored(self, target):
        return target

    def prune(self):
        return [("remove", "sink", ["rdiff-backup", "--force", "remove", "increments", "--older-than", "0B", self.path("store")])]


ALL = {kind.name: kind for kind in (Handover, Rsync, Rsnapshot, Tar, Restic, Borg, RdiffBackup)}
