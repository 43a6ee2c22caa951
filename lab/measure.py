"""What a command costs: time, CPU with all children, and memory of the whole family of processes."""

import os
import resource
import subprocess
import threading
import time

TICK = 0.05


class Family(threading.Thread):
    """Looks at a process and all its descendants now and then: memory at its highest, alone and together."""

    def __init__(self, pid):
        super().__init__(daemon=True)
        self.pid, self.done, self.together, self.each = pid, threading.Event(), 0, {}

    def run(self):
        while not self.done.wait(TICK):
            total, pending = 0, [self.pid]
            while pending:
                pid = pending.pop()
                now, highest, name = memory(pid)
                total += now
                if name:
                    self.each[pid, name] = max(highest, self.each.get((pid, name), 0))
                pending += children(pid)
            self.together = max(self.together, total)

    def highest(self):
        """The highest of one process, by name of the program."""
        found = {}
        for (_, name), size in self.each.items():
            found[name] = max(size, found.get(name, 0))
        return found


def memory(pid):
    try:
        with open(f"/proc/{pid}/status") as status:
            fields = dict(line.rstrip("\n").split(":\t", 1) for line in status if ":\t" in line)
    except OSError:
        return 0, 0, None
    kib = lambda key: int(fields.get(key, "0 kB").split()[0]) * 1024
    return kib("VmRSS"), kib("VmHWM"), fields["Name"]


def children(pid):
    found = []
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children") as file:
                found += [int(child) for child in file.read().split()]
    except OSError:
        pass
    return found


def largest(usage, family):
    """Of the largest process. The system's own number is exact, but begins with the size of this very program."""
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return max([*family.each.values(), usage.ru_maxrss * 1024 if usage.ru_maxrss > own else 0])


def run(command, stdout=subprocess.DEVNULL):
    """Runs a command; gives what it cost and what it printed. Any exit code but 0 ends the benchmark."""
    begun = time.monotonic()
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=stdout) as child:
        family = Family(child.pid)
        family.start()
        text = child.stdout.read() if child.stdout else b""
        _, status, usage = os.wait4(child.pid, 0)
        wall = time.monotonic() - begun
        child.returncode = os.waitstatus_to_exitcode(status)
    family.done.set()
    family.join()
    if child.returncode != 0:
        raise SystemExit(f"bench: {' '.join(command)} ended with {child.returncode}\n{text.decode(errors='replace')}")
    cost = {
        "wall": wall,
        "cpu": usage.ru_utime + usage.ru_stime,
        "user": usage.ru_utime,
        "system": usage.ru_stime,
        "memory": {"largest": largest(usage, family), "together": family.together, "each": family.highest()},
    }
    return cost, text
