"""The table of layer, RMS, group and instance norm, at each level of the CPU."""

import contextlib

from benchmarks import levels, norms
from benchmarks.data import set_num_threads

from . import peers
from .cache import short
from .measure import RATIO, medians, threads
from .table import Table

CASES = norms.CASES | norms.SMALL
PEERS = ("PyTorch", "ONNX Runtime")
COPIES = {"forward": 1, "backward": 3 / 2}      # the bytes that a call moves at least, in copies of x
KINDS = {"ms": "{:.4f}", "floors": "{:.2f}"} | dict.fromkeys(PEERS, RATIO)


def measured(name, rounds):
    """Median seconds at the level of this process, by who and call."""
    set_num_threads(2)
    calls = {}
    for who, way in norms.WAYS.items():
        with contextlib.suppress(NotImplementedError):
            calls |= {(who, call): function for call, function in way(*CASES[name]).items()}
    return medians(calls, rounds)


def values(seconds, call):
    """The numbers of one level in a row. seconds: by who and call."""
    ours = seconds["bnstream", call]
    found = {"ms": ours * 1e3, "floors": ours / seconds["copy", "forward"] / COPIES[call]}
    return found | {who: seconds[who, call] / ours for who in PEERS if (who, call) in seconds}


def throughput(run):
    names = levels.levels()
    kinds = {kind: style for kind, style in KINDS.items() if kind not in PEERS or peers.installed(kind)}
    table = Table(run.only, f"norms, float32, {threads(2)}",
                  {f"{kind}, {short(name)}": style for name in names for kind, style in kinds.items()})
    wanted = {name: [call for call in norms.CALLS if table.wants(f"{name}, {call}")] for name in CASES}
    if not any(wanted.values()):
        return table
    with levels.processes(names) as processes:
        for name, calls in wanted.items():
            if calls:
                seconds = {level: process.submit(measured, name, run.rounds).result()
                           for level, process in processes.items()}
                for call in calls:
                    table.row(f"{name}, {call}", {
                        f"{kind}, {short(level)}": value for level in names
                        for kind, value in values(seconds[level], call).items()})
    return table
