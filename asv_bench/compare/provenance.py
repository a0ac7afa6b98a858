"""When, on what and with which versions the tables were measured."""

import datetime
import os
import subprocess
from pathlib import Path

import bnstream

from . import peers
from .measure import threads

PACKAGE = Path(bnstream.__file__).parent


def git(*arguments):
    """git's output for the package, or an empty text outside a clone."""
    try:
        done = subprocess.run(["git", *arguments, "--", "."], cwd=PACKAGE, check=False, capture_output=True, text=True)
    except OSError:
        return ""
    return done.stdout.strip()


def version():
    """The version of bnstream, and the last commit that changed the package."""
    commit = git("log", "-1", "--format=%h")
    changed = " with changes" if commit and git("status", "--porcelain", "-uno") else ""
    return f"bnstream {bnstream.__version__}" + (f" at commit {commit}{changed}" if commit else "")


def caches():
    """The bytes of a core's second-level cache and of the third level, where the system tells."""
    found = {}
    for folder in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        level, size = (Path(folder, name).read_text(encoding="ascii").strip() for name in ("level", "size"))
        if level in "23":
            found[f"L{level}"] = int(size.removesuffix("K")) * 1024
    return found


def line(config, run, options):
    """The date, the command with these options, the versions and the machine. config: from bnstream.show_config."""
    versions = ", ".join(f"{name} {number}" for name, number in peers.versions().items())
    machine = ", ".join([f"{os.cpu_count()} cores", *(f"{n} of {size / 2**20:.3g} MB" for n, size in caches().items())])
    today = f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}"
    return (
        f"Measured on {today} by `python asv_bench/compare --rounds {run.rounds} --threads {run.threads}{options}`: "
        f"{version()}, {config['compiler']}, kernels of level {config['level']}; {versions}. {machine}.")


def bandwidth(run, sizes):
    """The speed of a plain read of the largest array in the table of sizes, as a sentence."""
    largest, values = list(sizes.rows.items())[-1]
    reads = ", ".join(f"{values[f'GB/s, {threads(n)}']:.1f} GB/s on {threads(n)}" for n in run.counts)
    return f"Plain read of {largest}: {reads}."
