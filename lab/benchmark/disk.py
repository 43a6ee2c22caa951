"""The file system that is measured on."""

import contextlib
import os
import shutil
import subprocess


MAKE = {
    "ext4": ["mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0,nodiscard", "-i", "8192"],
    "xfs": ["mkfs.xfs", "-q", "-K"],
    "btrfs": ["mkfs.btrfs", "-q", "-K"],
}


@contextlib.contextmanager
def fresh(beside, folder, size, kind="ext4"):
    """An empty folder, which is removed at the end; as root a new file system of `size` bytes in an image. One on which much was deleted
    a short time ago may look at each inode that it was, before it takes another: what ran before would be measured."""
    os.makedirs(folder)
    image = os.path.join(beside, "image") if os.geteuid() == 0 else None
    if image:
        with open(image, "wb") as out:
            out.truncate(size)
        run(*MAKE[kind], image)
        run("mount", "-o", "loop", image, folder)
    try:
        yield
    finally:
        if image:
            run("umount", folder)
            os.remove(image)
        shutil.rmtree(folder, ignore_errors=True)


def run(*command):
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


def used(folder):
    """Bytes on disk of all that is in a folder."""
    out = subprocess.run(["du", "-s", "--block-size=1", folder], check=True, capture_output=True, text=True).stdout
    return int(out.split()[0])
