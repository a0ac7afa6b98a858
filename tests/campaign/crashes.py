"""Processes are killed, and calls of the system fail, while outputs are written: these are absent, old, or complete.

fit, apply, merge, subtract and save run in forked processes, one to three at one output, which get SIGKILL after a
random time, or exactly before or after one of the calls that write files (files.c stands before the C library). Then
every such call fails once, with ENOSPC, EIO or EROFS, alone or with all that follow: the command says one line, exits
with 1, and leaves the old output. The calls are also logged in their order, by files.c and, where there is one, by
strace: the bytes are on the disk before the name is, and the name before the command ends.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import itertools
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from harness import main
from preload import built, preloading

import bnstream
from bnstream.streams.sources.arrays import array

FAIL, KILL_BEFORE, KILL_AFTER = range(3)
ERRORS = (errno.ENOSPC, errno.EIO, errno.EROFS)
KILLS = 25              # of one operation, before the next one
LONGEST = 60            # seconds of a process, after which it counts as hanging
N_PIECES = 12
# What a command may ask for where another one was killed: an output that is complete, or a checkpoint of another pass.
ASKS = re.compile(r"exists; give another name|--resume|--restart")

Operation = Callable[[Path], list[str]]


def operations(data: Path) -> dict[str, tuple[str, list[Operation]]]:
    """What is run, by name: the name of the output, and commands that may write it at the same time.

    Each command is a function of the folder of the output.
    """
    def command(*words: object) -> list[str]:
        return [str(word) for word in words]

    x, table, states = data / "x.npy", data / "x.csv", [data / f"{i}.npz" for i in range(3)]
    return {
        "fit": ("out.npz", [
            lambda to: command("fit", x, "-o", to / "out.npz", "--checkpoint-every", 0, "--resume"),
            lambda to: command("fit", x, "-o", to / "out.npz", "--restart"),
            lambda to: command("fit", data / "y.npy", "-o", to / "out.npz", "--restart")]),
        "fit by": ("out.npz", [
            lambda to: command("fit", table, "--by", "key", "-o", to / "out.npz", "--checkpoint-every", 0,
                               "--resume")]),
        "fit --exact": ("out.npz", [
            lambda to: command("fit", x, "--exact", "-o", to / "out.npz", "--checkpoint-every", 0, "--resume")]),
        "apply .npy": ("out.npy", [
            lambda to, state=state: command("apply", state, x, "-o", to / "out.npy", "--force") for state in states]),
        "apply .parquet": ("out.parquet", [
            lambda to: command("apply", data / "table.npz", table, "-o", to / "out.parquet", "--force")]),
        "apply .csv": ("out.csv", [
            lambda to: command("apply", data / "table.npz", table, "-o", to / "out.csv", "--force")]),
        "apply to a folder": ("out/x.npy", [
            lambda to: command("apply", states[0], x, "-o", f"{to / 'out'}/", "--resume")]),
        "merge": ("out.npz", [
            lambda to, i=i: command("merge", *states[i:], "-o", to / "out.npz") for i in range(3)]),
        "subtract": ("out.npz", [
            lambda to: command("subtract", data / "whole.npz", data / "part.npz", "-o", to / "out.npz")]),
        "save": ("out.npz", [
            lambda to, i=i: command("save", data / f"{i}.npz", to / "out.npz") for i in range(3)]),
    }


def prepare(data: Path) -> None:
    """Write the inputs."""
    rng = np.random.default_rng(0)
    x = rng.normal(1e6, 1, (N_PIECES * 128, 4))
    np.save(data / "x.npy", x)
    np.save(data / "y.npy", x[:640] + 1)
    rows = [f"{i % 7},{a!r},{b!r}" for i, (a, b) in enumerate(x[:1500, :2].tolist())]
    (data / "x.csv").write_text("\n".join(["key,a,b", *rows]) + "\n", encoding="utf-8")
    for i in range(3):
        bnstream.save(data / f"{i}.npz", bnstream.Moments().update(x[i::7]))
    exact = bnstream.Moments(exact=True).update(x)
    bnstream.save(data / "whole.npz", exact)
    bnstream.save(data / "part.npz", bnstream.Moments(exact=True).update(x[:500]))
    bnstream.save(data / "table.npz", bnstream.Moments(names=["a", "b"]).update(x[:1500, :2]))


def run(words: list[str]) -> None:
    """The command, or `save`."""
    array.CHUNK_BYTES = array.PIECE_BYTES = 1 << 12
    if words[0] == "save":
        try:
            bnstream.save(words[2], bnstream.load(words[1]))
        except OSError as error:
            print(f"bnstream: {error}", file=sys.stderr)
            sys.exit(1)
        return
    from bnstream import cli

    sys.argv = ["bnstream", *words]
    cli.main()


class Process:
    """A forked process that runs a command; its standard error is a file."""

    def __init__(self, words: list[str], folder: Path, *, chosen: int = 0, action: int = FAIL, number: int = 0,
                 rest: bool = False, log: bool = False) -> None:
        self.stderr = tempfile.TemporaryFile()                # noqa: SIM115
        self.log = tempfile.TemporaryFile() if log else None   # noqa: SIM115
        self.killed = False
        self.code: int | None = None
        sys.stdout.flush()
        self.pid = os.fork()
        if self.pid == 0:
            code = 70
            try:
                os.dup2(self.stderr.fileno(), 2)
                sys.stderr = open(2, "w", closefd=False)      # noqa: SIM115
                signal.alarm(LONGEST)
                ctypes.CDLL(None).watch_files(
                    os.fsencode(folder), ctypes.c_long(chosen), action, number, int(rest),
                    -1 if self.log is None else os.dup(self.log.fileno()))
                run(words)
                code = 0
            except SystemExit as end:
                code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
            except BaseException:
                import traceback
                traceback.print_exc()
            finally:
                with contextlib.suppress(BaseException):
                    if log:     # the first run of an operation: what it has imported late
                        Path(FOLDER, "modules").write_text("\n".join(sys.modules), encoding="utf-8")
                    sys.stderr.flush()
                os._exit(code)

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)

    def wait(self) -> int:
        self.code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        self.stderr.seek(0)
        self.message = self.stderr.read().decode()
        self.stderr.close()
        assert self.code != -signal.SIGALRM, "a process hangs"
        return self.code

    def calls(self) -> list[list[str]]:
        """The logged calls: the function, the file, and to which name it is moved."""
        assert self.log is not None
        self.log.seek(0)
        return [line.split("\t") for line in self.log.read().decode().splitlines()]


def content(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None


def left(folder: Path) -> list[str]:
    """The files in a folder and below it."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def emptied(folder: Path, out: str, old: bytes | None) -> Path:
    """A folder with nothing but an old output, if there is one."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / out).parent.mkdir(parents=True)
    if old is not None:
        (folder / out).write_bytes(old)
    elif (folder / out).parent != folder:
        (folder / out).parent.rmdir()
    return folder


def import_all(modules: list[str]) -> None:
    """Import what a process has imported late, so that later ones need not."""
    for module in modules:
        if module not in sys.modules and module != "traceback":
            with contextlib.suppress(Exception):
                __import__(module)


class Trial:
    """One operation: its results, and its time without a kill."""

    def __init__(self, name: str, out: str, commands: list[Operation], folder: Path) -> None:
        self.name, self.out, self.commands, self.folder = name, out, commands, folder
        self.right, self.calls = [], []
        self.seconds = 0.0
        for one in commands:
            for _ in range(2):
                emptied(folder, out, None)
                start = time.monotonic()
                process = Process(one(folder), folder, log=True)
                assert process.wait() == 0, f"{name}: {process.message}"
                seconds = time.monotonic() - start
                import_all(Path(FOLDER, "modules").read_text(encoding="utf-8").splitlines())
            self.seconds = max(self.seconds, seconds)
            self.right.append((folder / out).read_bytes())
            self.calls.append(process.calls())
            require_order(name, self.calls[-1], out)
            assert left(folder) == [out], f"{name}: leaves {left(folder)}"
        # What may be replaced: a state by a state, for an output that a command makes anew.
        self.old = self.right[-1] if len(commands) > 1 else None

    def killed(self, rng: np.random.Generator) -> int:
        """Kill processes at one output; return how many were killed."""
        n_processes = int(rng.integers(1, 1 + min(3, max(1, len(self.commands) * 2 - 1))))
        old = [None, self.old][int(rng.integers(2))]
        emptied(self.folder, self.out, old)
        n_killed = 0
        for _ in range(int(rng.integers(1, 5))):            # a resumed pass is killed as well
            which = rng.integers(len(self.commands), size=n_processes)
            processes = []
            for i in which:
                exactly = rng.random() < 0.5
                chosen = int(rng.integers(1, 2 + len(self.calls[i]))) if exactly else 0
                processes.append(Process(self.commands[i](self.folder), self.folder, chosen=chosen,
                                         action=int(rng.choice([KILL_BEFORE, KILL_AFTER]))))
            time.sleep(rng.uniform(0, 1.1 * self.seconds))      # waits for nothing: it varies the moment of the kill
            for process in processes:
                process.kill()
            codes = [process.wait() for process in processes]
            n_killed += codes.count(-signal.SIGKILL)
            found = content(self.folder / self.out)
            whole = [self.right[i] for i in which]
            for process, code in zip(processes, codes, strict=True):
                assert code in (0, 1, -signal.SIGKILL), f"{self.name}: exit code {code}: {process.message}"
                assert code != 1 or ASKS.search(process.message), f"{self.name}: {process.message}"
                assert "Traceback" not in process.message, f"{self.name}: {process.message}"
            if found not in whole and found != old:
                raise AssertionError(f"{self.name}: the output is neither absent, nor old, nor complete, after {codes}")
            assert 0 not in codes or found is not None, f"{self.name}: no output after success"
            assert n_processes > 1 or codes != [0] or found in whole, f"{self.name}: an old output after success"
            strange = [one for one in left(self.folder) if one != self.out and not re.search(
                r"(^|/)\.[^/]*\.part$|^out\.npz\.checkpoint$|^out/\.apply\.checkpoint$", one)]
            assert not strange, f"{self.name}: leaves {strange}"
            old = found
        process = Process(self.commands[0](self.folder), self.folder)
        code = process.wait()
        if code == 1 and "--re" in process.message:             # the checkpoint is that of another pass
            (self.folder / "out.npz.checkpoint").unlink()
            process = Process(self.commands[0](self.folder), self.folder)
            code = process.wait()
        done = "exists; give another name" in process.message
        assert code == 0 or done, f"{self.name}, after kills: {process.message}"
        assert content(self.folder / self.out) == self.right[0], f"{self.name}: other bytes after kills"
        return n_killed

    def failing(self, rng: np.random.Generator) -> Iterator[int]:
        """Each call of the first command fails; yield 1 for each."""
        calls = self.calls[0]
        renamed = next(i for i, (call, _, to) in enumerate(calls, 1) if call == "rename" and to == self.out)
        for k in range(1, len(calls) + 1):
            if len(calls) > 60 and rng.random() > 60 / len(calls):
                continue
            for number in ERRORS:
                for rest in (False, True):
                    old = self.old
                    emptied(self.folder, self.out, old)
                    process = Process(self.commands[0](self.folder), self.folder, chosen=k, number=number, rest=rest)
                    code = process.wait()
                    where = (f"{self.name}: {errno.errorcode[number]} at call {k}, {calls[k - 1]}"
                             f"{' and later ones' if rest else ''}: exit code {code}, {process.message!r}")
                    found = content(self.folder / self.out)
                    if code == 0:
                        assert found == self.right[0], f"{where}: no error, and not the right output"
                    else:
                        assert code == 1, where
                        lines = process.message.splitlines()
                        assert len(lines) == 1 and lines[0].startswith("bnstream: "), where
                        late = k > renamed and found == self.right[0]
                        assert found == old or late, f"{where}: the old output is lost"
                    parts = [one for one in left(self.folder) if one.endswith(".part")]
                    assert not parts or (rest and number != errno.ENOSPC) or calls[k - 1][0] == "unlink", (
                        f"{where}: leaves {parts}")
                    yield 1


def require_order(name: str, calls: list[list[str]], out: str) -> None:
    """Raise AssertionError unless the bytes are synced before the rename, and the folder after it."""
    at = next((i for i, (call, _, to) in enumerate(calls) if call == "rename" and to == out), None)
    assert at is not None, f"{name}: no rename to {out} in {calls}"
    part = calls[at][1]
    of_part = [call for call, file, _ in calls[:at] if file == part]
    assert of_part[0] == "open" and of_part[-1] == "fsync", f"{name}: {of_part} of the part before the rename"
    folder = str(Path(out).parent)
    assert ["fsync", folder, ""] in calls[at:], f"{name}: {calls[at:]} after the rename, without fsync of the folder"


def traced(words: list[str], folder: Path) -> list[list[str]] | None:
    """The calls of a command as strace sees them; None where it cannot trace."""
    strace = shutil.which("strace")
    if strace is None:
        return None
    log = folder.parent / "strace.log"
    environment = preloading(None)
    done = subprocess.run(
        [strace, "-f", "-y", "-qq", "-s", "0", "-e", "trace=openat,write,pwrite64,fsync,fdatasync,rename", "-o", log,
         sys.executable, "-m", "bnstream", *words], env=environment, check=False, capture_output=True, text=True)
    if "ptrace" in done.stderr.lower():
        return None
    assert done.returncode == 0, done.stderr
    found, root = [], re.escape(str(folder))
    for line in log.read_text().splitlines():
        if moved := re.search(rf'rename\("{root}/([^"]*)", "{root}/([^"]*)"\) += 0', line):
            found.append(["rename", *moved.groups()])
        elif opened := re.search(rf'openat\(.*"{root}/?([^"]*)".*= \d', line):
            found.append(["open", opened[1] or ".", ""])
        elif call := re.search(rf"(write|pwrite64|fsync|fdatasync)\(\d+<{root}/?([^>]*)>", line):
            found.append([call[1], call[2] or ".", ""])
    return found


def trials(rng: np.random.Generator) -> Iterator[int]:
    data, folder = Path(FOLDER, "data"), Path(FOLDER, "out")
    data.mkdir()
    child = os.fork()               # so that this process has no threads when it forks
    if child == 0:
        with contextlib.suppress(BaseException):
            prepare(data)
            os._exit(0)
        os._exit(1)
    assert os.waitpid(child, 0)[1] == 0, "no data"
    found = {name: Trial(name, out, commands, folder) for name, (out, commands) in operations(data).items()}
    for name, trial in found.items():
        if name != "save":
            emptied(folder, trial.out, None)
            calls = traced(trial.commands[0](folder), folder)
            if calls is not None:
                require_order(f"{name} under strace", calls, trial.out)
                yield 0
    all_failures = failures(list(found.values()), rng)
    while True:
        for i in rng.permutation(len(found)):
            n, start = 0, time.monotonic()
            while n < KILLS:
                more = list(found.values())[i].killed(rng)
                n += more
                COUNTS["kills"] += more
                yield more
            COUNTS["seconds"] += time.monotonic() - start
            for one in itertools.islice(all_failures, KILLS):
                COUNTS["failures"] += one
                yield one


def failures(found: list[Trial], rng: np.random.Generator) -> Iterator[int]:
    """The failing calls of all operations, over and over."""
    while True:
        for trial in found:
            yield from trial.failing(rng)


COUNTS = {"kills": 0, "failures": 0, "seconds": 0.0}
FOLDER = ""
if __name__ == "__main__":
    if "BNSTREAM_FILES" not in os.environ:      # once more, with the library
        with tempfile.TemporaryDirectory() as FOLDER:
            library = built("files", FOLDER)
            environment = preloading(library, BNSTREAM_FILES=os.path.realpath(FOLDER))
            sys.exit(subprocess.run([sys.executable, *sys.argv], env=environment, check=False).returncode)
    FOLDER = os.environ["BNSTREAM_FILES"]
    for module in ("pyarrow.csv", "pyarrow.parquet", "typer", "rich", "bnstream.cli", "bnstream.cli.app"):
        __import__(module)                      # once for all processes
    try:
        main(__doc__.partition("\n")[0], "kills and failed calls", trials)
    finally:
        rate = 60 * COUNTS["kills"] / max(COUNTS["seconds"], 1e-9)
        print(f"crashes: {COUNTS['kills']:,} kills, {rate:,.0f} a minute; {COUNTS['failures']:,} failed calls",
              flush=True)
