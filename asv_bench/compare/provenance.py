"""What was measured, when, and on what."""

import datetime
import os
import subprocess
from pathlib import Path

import peers
from measure import threads

import bnstream

PACKAGE = Path(bnstream.__file__).parent


def git(*arguments):
    """What git answers about the package, in a clone; else nothing."""
    try:
        done = subprocess.run(["git", *arguments, "--", "."], cwd=PACKAGE, check=False, capture_output=True, text=True)
    except OSError:
        return ""
    return done.stdout.strip()


def measured():
    """The version, and the last commit that touched it."""
    commit = git("log", "-1", "--format=%h")
    changed = " with changes" if commit and git("status", "--porcelain", "-uno") else ""
    return f"bnstream {bnstream.__version__}" + (f" as of {commit}{changed}" if commit else "")


def caches():
    """Bytes of the second level, of each core, and of the third, where the system says."""
    found = {}
    for folder in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        level, size = (Path(folder, name).read_text(encoding="ascii").strip() for name in ("level", "size"))
        if level in "23":
            found[f"L{level}"] = int(size.removesuffix("K")) * 1024
    return found


def line(run, sizes):
    """In words, with the bandwidth of the largest array of the table of sizes."""
    config = bnstream.show_config(mode="dicts")
    largest, values = list(sizes.rows.items())[-1]
    reads = ", ".join(f"{values[f'GB/s, {threads(n)}']:.1f} GB/s on {threads(n)}" for n in run.counts)
    return (
        f"Measured on {datetime.datetime.now(datetime.UTC):%Y-%m-%d} by `compare.py --rounds {run.rounds} --threads "
        f"{run.threads} --write`: {measured()}, {config['compiler']}, kernels of level {config['level']}; "
        f"{', '.join(' '.join(peer) for peer in peers.versions().items())}. "
        f"{', '.join([f'{os.cpu_count()} cores', *(f'{n} of {s / 2**20:.0f} MB' for n, s in caches().items())])}; "
        f"plain read of {largest}: {reads}.")
