"""The tables and the picture of what was measured. As a program: the numbers from stdin as a picture in the file named."""

import json
import statistics
import sys

STEPS = {"first": "first run", "changed": "1 % changed", "same": "nothing changed", "verify": "verify the store",
         "restore": "restore", "prune": "prune to one"}


def groups(results):
    """Of each corpus and step: the rows of all repetitions."""
    found = {}
    for row in results["measured"]:
        found.setdefault((row["corpus"], row["step"]), []).append(row)
    return found


def contenders(results):
    names = []
    for row in results["measured"]:
        names += [name for name, value in row.items() if isinstance(value, dict) and name not in names]
    return sorted(names, key=lambda name: (name != "handover", ["handover", "rsync", "rsnapshot", "tar", "restic", "borg",
                                                                 "rdiff-backup"].index(name)))


def ratios(rows, other, key):
    return [row["handover"][key] / max(row[other][key], 1e-9) for row in rows
            if "handover" in row and other in row and row[other].get(key)]


def spread(found, form="{:.2f}"):
    if not found:
        return "-"
    text = form.format(statistics.median(found))
    return text + (f" ({form.format(min(found))}-{form.format(max(found))})" if len(found) > 1 else "")


def values(rows, name, key):
    return [row[name][key] for row in rows if name in row and key in row[name]]


def tables(results):
    names, found = contenders(results), groups(results)
    others = [name for name in names if name != "handover"]
    for key, title in (("wall", "Time: handover / the other"), ("cpu_both", "CPU of both sides: handover / the other"),
                       ("wire", "Bytes on the wire: handover / the other"), ("disk", "Disk on the sink: handover / the other")):
        lines = []
        for (corpus, step), rows in found.items():
            cells = [spread(ratios(rows, other, key)) for other in others]
            if key in ("wire", "disk") and step not in ("first", "changed", "same"):
                continue
            lines.append([corpus, STEPS[step], *cells])
        print(f"\n### {title}\n")
        table(["corpus", "step", *others], lines)
    print("\n### Seconds (they mean something within this run only)\n")
    table(["corpus", "step", *names], [[corpus, STEPS[step], *(spread(values(rows, name, "wall"), "{:.1f}") for name in names)]
                                      for (corpus, step), rows in found.items()])
    print("\n### MB on the wire\n")
    table(["corpus", "step", *names], [[corpus, STEPS[step], *(megabytes(values(rows, name, "wire")) for name in names)]
                                      for (corpus, step), rows in found.items() if step in ("first", "changed", "same")])
    print("\n### Memory at its highest, MB: all processes of the source / of the sink\n")
    table(["corpus", "step", *names], [[corpus, STEPS[step], *(memory(rows, name) for name in names)]
                                      for (corpus, step), rows in found.items()])
    print("\n### Where the time of handover went (seconds, median)\n")
    table(["corpus", "step", "command", "phases"], list(phases(found)))
    print("\n### What this machine can do\n")
    table(["limit", "a second"], [[name, f"{rate:,.1f}"] for name, rate in results["limits"].items()])
    print("\n" + "\n".join(f"- {key}: {value}" for key, value in results["machine"].items()))


def megabytes(found):
    return f"{statistics.median(found) / 1e6:.2f}" if found else "-"


def memory(rows, name):
    sides = values(rows, name, "sides")
    return " / ".join(f"{max(side[which]['together'] for side in sides) / 1e6:.0f}" for which in ("source", "sink")) if sides else "-"


def phases(found):
    for (corpus, step), rows in found.items():
        commands = [row["handover"]["phases"] for row in rows if "handover" in row]
        for what in commands[0] if commands else ():
            names = [timing["phase"] for timing in commands[0][what].get("timings", ())]
            if not names:
                continue
            took = {name: statistics.median(next((t["seconds"] for t in one[what]["timings"] if t["phase"] == name), 0)
                                            for one in commands) for name in names}
            shown = [f"{name} {seconds:.2f}" for name, seconds in took.items() if seconds >= 0.005]
            wall = statistics.median(one[what]["wall"] for one in commands)
            yield [corpus, STEPS[step], f"{what} {wall:.2f}", ", ".join(shown)]


def table(head, lines):
    widths = [max(len(line[i]) for line in [head, *lines]) for i in range(len(head))]
    for line in [head, ["-" * width for width in widths], *lines]:
        print("| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths)) + " |")


def picture(results, path):
    """The ratios of time as bars, a panel a corpus, one that is shorter than the line being faster than the other."""
    import matplotlib
    matplotlib.use("svg")
    from matplotlib import pyplot

    others = [name for name in contenders(results) if name != "handover"]
    found = groups(results)
    corpora = list(dict.fromkeys(corpus for corpus, _ in found))
    matplotlib.rcParams.update({"svg.hashsalt": "handover", "font.size": 9})
    figure, panels = pyplot.subplots(len(corpora), 1, figsize=(9, 2.6 * len(corpora)), squeeze=False, layout="constrained")
    for (panel,), corpus in zip(panels, corpora):
        steps = [step for step in ("first", "changed", "same", "restore") if (corpus, step) in found]
        width = 0.8 / len(others)
        for at, other in enumerate(others):
            at_step = [ratios(found[corpus, step], other, "wall") for step in steps]
            heights = [statistics.median(r) if r else 0 for r in at_step]
            low = [h - min(r) if r else 0 for h, r in zip(heights, at_step)]
            high = [max(r) - h if r else 0 for h, r in zip(heights, at_step)]
            places = [place + at * width for place in range(len(steps))]
            bars = panel.bar(places, heights, width * 0.9, label=other, yerr=(low, high), error_kw={"elinewidth": 0.7})
            panel.bar_label(bars, labels=[f"{h:.2f}" if h else "" for h in heights], fontsize=6, padding=1)
        panel.axhline(1, color="black", linewidth=0.8)
        panel.set_yscale("log")
        panel.set_title(f"{corpus}: time of handover / time of the other")
        panel.set_xticks([place + 0.4 - width / 2 for place in range(len(steps))], [STEPS[step] for step in steps])
    panels[0][0].legend(ncols=len(others), fontsize=7)
    figure.savefig(path, metadata={"Date": None, "Creator": None})


if __name__ == "__main__":
    picture(json.load(sys.stdin), sys.argv[1])
