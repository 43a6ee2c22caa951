"""Data to measure with: made from a seed, so that two machines measure the same, and changed in a known way."""

import os
import random
import time

PAGE = 16 * 1024
POOL = 16 * 1024 * 1024
MB = 1000 * 1000


class Small:
    """60,000 files of 600 MB in some 3,000 folders; most are small, a few are large."""

    name = "small"

    def __init__(self, root, scale):
        self.root, self.files, self.bytes = root, max(100, int(60000 * scale)), int(600 * MB * scale)
        self.folders = max(5, int(3000 * scale))
        self.pool = random.Random("pool").randbytes(POOL)

    def make(self):
        rng = random.Random("small")
        folders = [self.root]
        for number in range(self.folders - 1):
            # A parent among the earlier ones, rather an early one: some six levels deep, as home folders are.
            parent = folders[int(len(folders) * rng.random() ** 2)]
            folders.append(os.path.join(parent, f"folder {number}" if number % 50 == 0 else f"d{number}"))
        for folder in folders:
            os.makedirs(folder)
        sizes = [rng.lognormvariate(0, 1.6) for _ in range(self.files)]
        unit = self.bytes / sum(sizes)
        for number, size in enumerate(sizes):
            path = os.path.join(rng.choice(folders), f"file-{number}.{rng.choice(['php', 'jpg', 'txt', 'css'])}")
            size = 0 if number % 500 == 0 else max(1, int(size * unit))
            self.write(path, rng, size, "wb")

    def write(self, path, rng, size, how):
        head, start = rng.randbytes(16), rng.randrange(POOL)
        with open(path, how) as out:
            body = head + self.pool[start:start + size]
            while len(body) < size:
                body += self.pool[:size - len(body)]
            out.write(body[:size])

    def all(self):
        return sorted(os.path.join(folder, name) for folder, _, names in os.walk(self.root) for name in names)

    def change(self, seed):
        """1 % of the files get another content, 0.2 % another name; gives what changed, in bytes."""
        rng, paths = random.Random(f"change {seed}"), self.all()
        rng.shuffle(paths)
        hundredth, changed = max(1, len(paths) // 100), 0
        for path in paths[:hundredth]:
            size = max(1, int(os.path.getsize(path) * rng.uniform(0.8, 1.2)))
            self.write(path, rng, size, "wb")
            changed += size
        for path in paths[hundredth:hundredth + max(1, len(paths) // 500)]:
            os.rename(path, f"{path}.{seed}")
        return changed

    def undo_growth(self):
        pass


class Many:
    """1,000,000 files of 4 KB in 1,000 folders."""

    name = "many"

    def __init__(self, root, scale):
        self.root, self.files = root, max(100, int(1_000_000 * scale))
        self.bytes = self.files * 4096
        self.pool = random.Random("pool").randbytes(POOL)

    def make(self):
        rng = random.Random("many")
        for number in range(self.files):
            if number % 1000 == 0:
                folder = os.path.join(self.root, f"{number // 10000:03}", f"{number // 1000:04}")
                os.makedirs(folder)
            self.write(os.path.join(folder, str(number)), rng)

    def write(self, path, rng):
        start = rng.randrange(POOL - 4096)
        with open(path, "wb") as out:
            out.write(rng.randbytes(16) + self.pool[start:start + 4080])

    def change(self, seed):
        """1 % of the files get another content, 0.2 % another name."""
        rng = random.Random(f"change {seed}")
        paths = [os.path.join(folder, name) for folder, _, names in os.walk(self.root) for name in names]
        paths = rng.sample(sorted(paths), len(paths) * 12 // 1000)
        hundredth = len(paths) * 10 // 12
        for path in paths[:hundredth]:
            self.write(path, rng)
        for path in paths[hundredth:]:
            os.rename(path, f"{path}.{seed}")
        return hundredth * 4096

    def undo_growth(self):
        pass


class Logs:
    """300 texts of 500 MB, rotated: ten logs of thirty generations each."""

    name = "logs"
    LOGS, KEPT = 10, 30

    def __init__(self, root, scale):
        self.root, self.bytes = root, int(500 * MB * scale)
        self.each = max(1000, self.bytes // (self.LOGS * self.KEPT))

    def path(self, log, number):
        return os.path.join(self.root, f"service-{log}.log" + (f".{number}" if number else ""))

    def write(self, rng, path, age):
        """`age` is that of its last line, in hours."""
        until, size, words = self.each * rng.uniform(0.8, 1.2), 0, ["GET", "POST", "accepted", "refused", "/index.html", "/photos/", "order", "customer", "timeout"]
        with open(path, "w", buffering=1 << 20) as out:
            second = rng.randrange(10 ** 9)
            while size < until:
                second += rng.randrange(3)
                size += out.write(f"{second} host-{rng.randrange(40)} {rng.choice(words)} {rng.choice(words)} "
                                  f"{rng.randrange(10 ** 8):x} {rng.randrange(60000)} ms\n")
        ended = time.time_ns() - age * 3600 * 10 ** 9
        os.utime(path, ns=(ended, ended))
        return size

    def make(self):
        os.makedirs(self.root)
        for log in range(self.LOGS):
            for number in range(self.KEPT):
                self.write(random.Random(f"log {log} {number}"), self.path(log, number), number + 1)

    def change(self, seed):
        """Every log is rotated by one: the last goes, a new one comes."""
        changed = 0
        for log in range(self.LOGS):
            os.remove(self.path(log, self.KEPT - 1))
            for number in reversed(range(self.KEPT - 1)):
                os.rename(self.path(log, number), self.path(log, number + 1))
            changed += self.write(random.Random(f"rotated {log} {seed}"), self.path(log, 0), 0)
        return changed

    def undo_growth(self):
        pass


class Large:
    """Four files of 3 GB: two incompressible, two like a database, with rows, page numbers and free space."""

    name = "large"

    def __init__(self, root, scale):
        self.root = root
        self.size = max(4, int(3000 * MB * scale / 4 / PAGE)) * PAGE
        self.growth = int(20 * MB * scale)
        self.paths = [os.path.join(root, name) for name in ("archive-1", "archive-2", "table-1.db", "table-2.db")]

    def page(self, rng, number, path):
        if "table" not in path:
            return rng.randbytes(PAGE)
        rows = b"".join(b"row %012d customer-%06d" % (number, rng.randrange(10 ** 6)) + rng.randbytes(24)
                        for _ in range(100))
        return (number.to_bytes(8, "big") + rng.randbytes(8) + rows).ljust(PAGE, b"\0")

    def make(self):
        os.makedirs(self.root)
        for path in self.paths:
            rng = random.Random(path.removeprefix(self.root))
            with open(path, "wb", buffering=1 << 20) as out:
                for number in range(self.size // PAGE):
                    out.write(self.page(rng, number, path))

    def change(self, seed):
        """1 % of all pages are written anew in place, and one file grows; gives what changed, in bytes."""
        rng, changed = random.Random(f"change {seed}"), 0
        for path in self.paths:
            pages = self.size // PAGE
            with open(path, "r+b") as file:
                for number in sorted(rng.sample(range(pages), max(1, pages // 100))):
                    file.seek(number * PAGE)
                    file.write(self.page(rng, number, path))
                    changed += PAGE
        with open(self.paths[0], "ab") as file:
            file.write(rng.randbytes(self.growth))
        return changed + self.growth

    def undo_growth(self):
        os.truncate(self.paths[0], self.size)


CORPORA = {corpus.name: corpus for corpus in (Small, Many, Large, Logs)}


def differences(left, right, nanoseconds=True):
    """What differs between two folders, in content or in metadata; at most ten. Times by the second, where a contender
    keeps no more."""
    found = []

    def tree(root):
        entries = {}
        for folder, _, files in os.walk(root):
            for name in [".", *files]:
                path = os.path.normpath(os.path.join(folder, name))
                entries[os.path.relpath(path, root)] = os.lstat(path)
        return entries

    ours, theirs = tree(left), tree(right)
    for path in sorted(ours.keys() | theirs.keys()):
        if path not in ours or path not in theirs:
            found.append(f"{path}: only in one of them")
            continue
        a, b = ours[path], theirs[path]
        fields = ["st_mode", "st_uid", "st_gid", "st_mtime_ns" if nanoseconds else "st_mtime"] + (["st_size"] if not is_dir(a) else [])
        found += [f"{path}: {f} is {getattr(a, f)}, and {getattr(b, f)} there"
                  for f in fields if int(getattr(a, f)) != int(getattr(b, f))]
        if not is_dir(a) and a.st_size == b.st_size and not same(os.path.join(left, path), os.path.join(right, path)):
            found.append(f"{path}: another content")
        if len(found) >= 10:
            break
    return found


def is_dir(stat):
    return stat.st_mode & 0o170000 == 0o040000


def same(left, right):
    with open(left, "rb") as a, open(right, "rb") as b:
        while True:
            one, other = a.read(1 << 20), b.read(1 << 20)
            if one != other:
                return False
            if not one:
                return True
