"""When, on what and with which versions the tables were measured."""

import datetime
import os
import platform
import subprocess
from pathlib import Path

from benchmarks import levels

import bnstream

from . import peers
from .measure import size_name, threads

PACKAGE = Path(bnstream.__file__).parent
CPU, CACHES = Path("/proc/cpuinfo"), Path("/sys/devices/system/cpu/cpu0/cache")


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


def cpu():
    """The model of the CPU, as far as the system tells."""
    try:
        lines = CPU.read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return next(iter(models), "") or platform.processor() or platform.machine()


def caches():
    """The bytes of the caches of the first core by name, L1d to L3, where the system tells."""
    found = {}
    for folder in sorted(CACHES.glob("index*")):
        level, kind, size = (Path(folder, name).read_text(encoding="ascii").strip()
                             for name in ("level", "type", "size"))
        if kind != "Instruction":
            found["L1d" if level == "1" else f"L{level}"] = int(size.removesuffix("K")) * 1024
    return found


def machine():
    """The CPU, its level, its cores and its caches."""
    sizes = [f"{name} of {size_name(size)}" for name, size in caches().items()]
    return ", ".join([f"{cpu()} of level {levels.levels()[-1]}", f"{os.cpu_count()} cores", *sizes])


def line(command, kernels, counts):
    """When, by which command and on what the tables were measured, as a paragraph.

    kernels: the levels that were measured. counts: the numbers of threads.
    """
    versions = ", ".join(f"{name} {number}" for name, number in peers.versions().items())
    today = f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}"
    compiler = bnstream.show_config(mode="dicts")["compiler"]
    return (f"Measured on {today} by `python asv_bench/compare {command}`, on {' and '.join(map(threads, counts))}: "
            f"{version()}, {compiler}, kernels of level {' and '.join(kernels)}; {versions}. {machine()}.")


def bandwidth(run, sizes):
    """The speed of a plain read of the largest array in the table of sizes, as a sentence."""
    largest, values = list(sizes.rows.items())[-1]
    reads = ", ".join(f"{values[f'GB/s, {threads(n)}']:.1f} GB/s on {threads(n)}" for n in run.counts)
    return f"Plain read of {largest}: {reads}."
