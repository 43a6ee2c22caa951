"""What this machine can do, measured in the same run: the rates that no backup can go beyond."""

import concurrent.futures
import hashlib
import os
import shutil
import subprocess
import time

SIZE = 256 * 1000 * 1000
FILES = 20_000


def timed(work):
    begun = time.monotonic()
    work()
    return time.monotonic() - begun


def best(amount, work, times=3):
    return amount / min(timed(work) for _ in range(times))


def measure(folder, far):
    """Rates: bytes a second where the name ends in `MB/s`, else calls a second; of one thread or process each."""
    os.makedirs(folder)
    path, block = os.path.join(folder, "file"), os.urandom(1 << 20)

    def write():
        with open(path, "wb", buffering=0) as out:
            for _ in range(SIZE >> 20):
                out.write(block)
            os.fsync(out.fileno())

    def read():
        with open(path, "rb", buffering=0) as file:
            while file.read(1 << 20):
                pass

    def sha256():
        digest = hashlib.sha256()
        for _ in range(SIZE >> 20):
            digest.update(block)

    def run(*command):
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)

    rates = {
        "write with fsync, MB/s": best(SIZE / 1e6, write),
        "read from the cache, MB/s": best(SIZE / 1e6, read),
        "sha256, MB/s": best(SIZE / 1e6, sha256),
        "zstd -3, MB/s": best(SIZE / 1e6, lambda: run("zstd", "-q", "-3", "-T1", "-c", path)),
        "ssh, MB/s": best(SIZE / 1e6, lambda: run(*far.ssh.split(), "far", f"cat '{path}'")),
        "ssh with aes128-gcm, MB/s":
            best(SIZE / 1e6, lambda: run(*far.ssh.split(), "-c", "aes128-gcm@openssh.com", "far", f"cat '{path}'")),
        "ssh connections": best(1, lambda: run(*far.ssh.split(), "far", "true")),
    }
    tree, links = os.path.join(folder, "tree"), os.path.join(folder, "links")
    os.makedirs(tree)
    os.makedirs(links)
    here, there = os.open(tree, os.O_RDONLY), os.open(links, os.O_RDONLY)
    names = [str(number) for number in range(FILES)]

    def create():
        for name in names:
            os.close(os.open(name, os.O_WRONLY | os.O_CREAT, dir_fd=here))

    rates["create"] = FILES / timed(create)
    rates["stat"] = best(FILES, lambda: [os.stat(name, dir_fd=here, follow_symlinks=False) for name in names])
    rates["link"] = FILES / timed(lambda: [os.link(name, name, src_dir_fd=here, dst_dir_fd=there) for name in names])
    rates["unlink of a link"] = FILES / timed(lambda: [os.unlink(name, dir_fd=there) for name in names])
    os.close(here)
    os.close(there)
    rates["link, all cores"] = in_parallel(folder)
    shutil.rmtree(folder)
    return rates


def in_parallel(folder):
    """Links a second of as many threads as there are cores, each with folders of its own. What Python adds is small beside a link."""
    cores = os.cpu_count()
    jobs = []
    for core in range(cores):
        here, there = (os.path.join(folder, f"{name}-{core}") for name in ("from", "to"))
        os.makedirs(here)
        os.makedirs(there)
        jobs.append((os.open(here, os.O_RDONLY), os.open(there, os.O_RDONLY)))
        for number in range(FILES // cores):
            os.close(os.open(str(number), os.O_WRONLY | os.O_CREAT, dir_fd=jobs[-1][0]))

    def link(job):
        for number in range(FILES // cores):
            os.link(str(number), str(number), src_dir_fd=job[0], dst_dir_fd=job[1])

    with concurrent.futures.ThreadPoolExecutor(cores) as pool:
        rate = FILES / timed(lambda: list(pool.map(link, jobs)))
    for job in jobs:
        os.close(job[0])
        os.close(job[1])
    return rate
