"""What a command costs: time, CPU with all children, and memory of the whole family of processes."""

import os
import resource
import subprocess
import threading
import time

TICK = 0.05


class Family(threading.Thread):
    """Looks at the descendants of a process now and then, and at itself unless `root` is false: memory at its highest,
    alone and together."""

    def __init__(self, pid, root=True):
        super().__init__(daemon=True)
        self.pid, self.root, self.done, self.together, self.each = pid, root, threading.Event(), 0, {}

    def run(self):
        while not self.done.wait(TICK):
            total, pending = 0, [self.pid] if self.root else children(self.pid)
            while pending:
                pid = pending.pop()
                now, highest, name = memory(pid)
                total += now
                if name:
                    self.each[pid, name] = max(highest, self.each.get((pid, name), 0))
                pending += children(pid)
            self.together = max(self.together, total)

    def stop(self):
        self.done.set()
        self.join()

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
    return max([0, *family.each.values(), usage.ru_maxrss * 1024 if usage.ru_maxrss > own else 0])


def run(command, far=None, env=None, cwd=None, accept=(0,)):
    """Runs a command; gives what it cost here and on the `far` host, and what it printed. An exit code that is not
    accepted ends the benchmark."""
    if far:
        far.sessions_end()
        before, wire, there = far.cpu(), far.wire(), Family(far.server.pid, root=False)
        there.start()
    begun = time.monotonic()
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=cwd,
                          env={**os.environ, **(env or {})}) as child:
        here = Family(child.pid)
        here.start()
        said = []
        reader = threading.Thread(target=lambda: said.append(child.stderr.read()))
        reader.start()
        text = child.stdout.read()
        reader.join()
        _, status, usage = os.wait4(child.pid, 0)
        wall = time.monotonic() - begun
        child.returncode = os.waitstatus_to_exitcode(status)
    here.stop()
    if child.returncode not in accept:
        raise SystemExit(f"bench: {' '.join(command)} ended with {child.returncode}\n"
                         f"{(text + said[0])[-4000:].decode(errors='replace')}")
    cost = {
        "wall": wall,
        "cpu": usage.ru_utime + usage.ru_stime,
        "memory": {"largest": largest(usage, here), "together": here.together, "each": here.highest()},
    }
    if far:
        far.sessions_end()
        there.stop()
        each = there.highest()
        cost["far"] = {"cpu": far.cpu() - before,
                       "memory": {"largest": max([0, *each.values()]), "together": there.together, "each": each}}
        cost["wire"] = far.wire() - wire
    return cost, text


def add(costs):
    """Of commands that ran one after the other: what they took together, and the memory of the largest."""
    total = dict(costs[0])
    for cost in costs[1:]:
        total["wall"] += cost["wall"]
        total["cpu"] += cost["cpu"]
        total["memory"] = max(total["memory"], cost["memory"], key=lambda memory: memory["together"])
        if "far" in cost:
            total["wire"] = total.get("wire", 0) + cost["wire"]
            far = total.get("far", {"cpu": 0, "memory": cost["far"]["memory"]})
            total["far"] = {"cpu": far["cpu"] + cost["far"]["cpu"],
                            "memory": max(far["memory"], cost["far"]["memory"], key=lambda memory: memory["together"])}
    return total
