"""The line itself: global options at any place, help, version, imports, how it ends."""

from __future__ import annotations

import importlib.metadata
import os
import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest

from gridfs import __version__
from gridfs.cli import app, datastore

ROOT = Path(app.__file__).parents[2]


def every_command() -> list[tuple[str, ...]]:
    return [(name,) for name in app.COMMANDS] + [("datastore", name) for name in datastore.COMMANDS]


def test_version(grid):
    assert grid("--version").succeeded().out == f"grid {__version__}\n"


def test_without_a_command_it_teaches_the_five(grid):
    out = grid().succeeded().out
    assert out == grid("--help").succeeded().out == grid("-h").succeeded().out
    for command in ("grid datastore create", "grid datastore ", "grid mount", "grid run", "grid unmount"):
        assert command in out


@pytest.mark.parametrize("command", every_command(), ids=" ".join)
def test_each_command_has_help_with_an_example(command):
    context = click.Context(app.grid, info_name="grid")
    found: click.Command | None = app.grid
    for name in command:
        assert isinstance(found, click.Group)
        found = found.get_command(context, name)
        assert found is not None, name
        context = click.Context(found, info_name=name, parent=context)
    text = found.get_help(context)
    assert "  grid " in text.split("Usage:", 1)[1].split("\n", 1)[1], f"no example in:\n{text}"


GLOBAL_OPTIONS = ["--store", "--cluster", "--endpoint-url", "--region", "--profile", "--no-sign-request", "--config",
                  "--output", "--debug"]  # fmt: skip


@pytest.mark.parametrize("command", every_command(), ids=" ".join)
def test_each_command_takes_the_global_options(command):
    context = click.Context(app.grid, info_name="grid")
    found: click.Command = app.grid
    for name in command:
        assert isinstance(found, click.Group)
        found = found.get_command(context, name)
    spellings = {spelling for param in found.params for spelling in param.opts}
    assert spellings.issuperset(GLOBAL_OPTIONS)


def test_global_options_before_and_after_the_command(grid, tmp_path):
    store = tmp_path / "store"
    for line in (
        ("--store", store, "-o", "json", "datastore"),
        ("datastore", "--store", store, "-o", "json"),
        ("--store", store, "datastore", "list", "--output=json"),
        ("datastore", "--store", "/nowhere", "list", "-o", "json", "--store", store),
        ("datastores", "list", "-ojson", f"--store=file://{store}"),
    ):
        assert grid(*line).json == []


def test_an_unknown_option_names_the_right_one(grid):
    grid("datastore", "create", "--nmae", "x").failed(2, "--nmae", "--name", "grid datastore create --help")
    grid("datasotre").failed(2, "datasotre", "'datastore'", "grid --help")
    grid("datastore", "creat", "x").failed(2, "creat", "'create'", "grid datastore --help")


def test_the_old_spellings(grid, tmp_path):
    assert grid("datastores").succeeded().err == grid("datastore", "list").succeeded().err
    grid("umount", "nothing").failed(3, "nothing")


def test_starting_imports_little():
    """`grid --version` and the command tree must not pay for what single commands need."""
    heavy = {"trio", "rich", "obstore", "aiobotocore", "botocore", "pyfuse3", "sqlite3", "yaml", "zstandard", "asyncio"}
    code = (
        f"import sys\nfrom gridfs.cli.app import run\nrun(['--version'])\nprint(sorted({heavy!r} & set(sys.modules)))\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert ended.stdout == f"grid {__version__}\n[]\n", ended.stderr


def test_listing_imports_no_rich_where_no_terminal_is(private_dirs):
    code = (
        "import sys\n"
        "from gridfs.cli.app import run\n"
        "run(['datastore'])\n"
        "print([name for name in ('rich', 'pyfuse3', 'aiobotocore', 'obstore') if name in sys.modules])\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert ended.stdout.splitlines()[-1] == "[]", ended.stderr


def test_the_entry_point():
    (entry,) = importlib.metadata.entry_points(group="console_scripts", name="grid")
    assert entry.value == "gridfs.cli:main"


def test_a_reader_that_leaves_is_no_error(private_dirs):
    """As in `grid --help | head -1`: nothing on stderr, and the code of a process that SIGPIPE ended."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as stdout:
        ended = subprocess.run(
            [sys.executable, "-m", "gridfs", "--help"], stdout=stdout, stderr=subprocess.PIPE, cwd=ROOT
        )
    assert (ended.returncode, ended.stderr) == (141, b"")


@pytest.mark.parametrize("arguments", [["--help"], ["datastore"], ["status", "-o", "json"]])
def test_an_output_that_is_full(private_dirs, arguments):
    with open("/dev/full", "w") as full:
        ended = subprocess.run(
            [sys.executable, "-m", "gridfs", *arguments], stdout=full, stderr=subprocess.PIPE, text=True, cwd=ROOT
        )
    assert ended.returncode == 10
    assert ended.stderr.splitlines()[-1].startswith("grid: the output can't be written: No space left")


@pytest.mark.parametrize("closed", ["<&- >&- 2>&-", ">&-"])
def test_descriptors_that_are_closed_are_no_error(private_dirs, closed):
    """As those of a daemon that runs a command: no file of ours may take their place, nor be missed."""
    ended = subprocess.run(
        ["/bin/sh", "-c", f'exec "$@" {closed}', "sh", sys.executable, "-m", "gridfs", "datastore"],
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert ended.returncode == 0, ended.stderr


def test_a_defect_says_where_its_traceback_is(private_dirs):
    code = (
        "import sys\n"
        "from gridfs.cli import app, listing\n"
        "def broken(invocation):\n"
        "    raise KeyError('a defect')\n"
        "listing.print_datastores = broken\n"
        "sys.exit(app.run(sys.argv[1:]))\n"
    )
    ended = subprocess.run([sys.executable, "-c", code, "datastore"], capture_output=True, text=True, cwd=ROOT)
    log = private_dirs.state / "log" / "grid.log"
    assert ended.returncode == 70
    assert ended.stderr == f"grid: this is a defect of gridfs: KeyError: 'a defect'; its traceback is in {log}\n"
    assert "Traceback" in log.read_text()
    with_debug = subprocess.run(
        [sys.executable, "-c", code, "datastore", "--debug"], capture_output=True, text=True, cwd=ROOT
    )
    assert with_debug.returncode == 70
    assert "Traceback" in with_debug.stderr


ENDLESS = (
    "import sys, trio\n"
    "from gridfs.cli import app, listing\n"
    "async def endless():\n"
    "    print('waiting', flush=True)\n"
    "    await trio.sleep_forever()\n"
    "listing.print_datastores = lambda invocation: invocation.run(endless, after_signal='start it again')\n"
    "sys.exit(app.run(['datastore']))\n"
)


def ended_by(command: list[str], *numbers: signal.Signals) -> tuple[int, str]:
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stdout is not None
    assert process.stdout.readline() == "waiting\n"
    for number in numbers:
        process.send_signal(number)
    _, err = process.communicate(timeout=60)
    return process.returncode, err


@pytest.mark.parametrize(
    "arguments",
    [["datastore", "create", "data"], ["unmount", "data"], ["bench"], ["--store", "./store", "datastore"]],
    ids=lambda arguments: arguments[0],
)
def test_a_current_directory_that_is_gone_is_no_defect(private_dirs, tmp_path, arguments):
    gone, grid = tmp_path / "gone", [sys.executable, "-P", "-m", "gridfs"]
    gone.mkdir()
    done = subprocess.run(
        ["sh", "-c", 'cd "$1"; rmdir "$1"; shift; exec "$@"', "sh", gone, *grid, *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr[:39]) == (3, "grid: the current directory is gone, or")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_in_good_order(private_dirs, number):
    expected = f"grid: ended by {number.name}; start it again\n"
    assert ended_by([sys.executable, "-c", ENDLESS], number) == (130, expected)


IMPORTING = (
    "import os, signal, sys\n"
    "class Interrupting:\n"
    "    def find_spec(self, name, path=None, target=None):\n"
    "        if name == 'gridfs.cli.app':\n"
    "            os.kill(os.getpid(), signal.SIGINT)\n"
    "sys.meta_path.insert(0, Interrupting())\n"
    "from gridfs.cli import main\n"
    "sys.argv[1:] = ['datastore']\n"
    "main()\n"
)


def test_an_interrupt_while_modules_are_imported_is_no_traceback(private_dirs):
    ended = subprocess.run([sys.executable, "-c", IMPORTING], capture_output=True, text=True, cwd=ROOT)
    assert (ended.returncode, ended.stderr) == (130, "grid: ended by Ctrl-C\n")


def test_under_nohup_a_lost_terminal_changes_nothing(private_dirs):
    """The first signal is ignored, or the second would not be the one that is named."""
    command = ["nohup", sys.executable, "-c", ENDLESS]
    assert ended_by(command, signal.SIGHUP, signal.SIGTERM) == (130, "grid: ended by SIGTERM; start it again\n")


def test_messages_that_nobody_can_read_change_nothing(private_dirs, tmp_path):
    """stderr is a pipe whose reader has gone; the version is made all the same."""
    (tmp_path / "pets").mkdir()
    (tmp_path / "pets" / "file").write_bytes(b"1")
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "gridfs", "datastore", "create", str(tmp_path / "pets")]
    with os.fdopen(writing, "w") as stderr:
        ended = subprocess.run(command, stdout=subprocess.PIPE, stderr=stderr, text=True, cwd=ROOT)
    assert ended.returncode == 0
    assert "available" in ended.stdout


def test_another_package_of_the_same_name_is_recognised(tmp_path):
    """pymongo's `gridfs`, installed later into the same environment, has overwritten our __init__.py and errors.py."""
    package = tmp_path / "gridfs"
    for path in (ROOT / "gridfs").rglob("*.py"):
        copy = package / path.relative_to(ROOT / "gridfs")
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    (package / "__init__.py").write_text("class GridFS: pass\n")
    (package / "errors.py").write_text("class NoFile(Exception): pass\n")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from gridfs.cli import main; main()"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert ended.returncode == 10
    assert str(package) in ended.stderr
    assert "pymongo" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


STARTING = (
    "import os, signal, sys\n"
    "from gridfs.cli import app, run_daemons\n"
    "run_daemons._ensured = lambda *_: os.kill(os.getpid(), signal.SIGINT)\n"
    "sys.exit(app.run(['run', '--datastore_name', 'pets', '--', 'true']))\n"
)


def test_an_interrupt_of_the_child_that_starts_daemons_is_no_traceback(private_dirs):
    """Ctrl-C reaches it as well as its parent."""
    ended = subprocess.run([sys.executable, "-c", STARTING], capture_output=True, text=True, cwd=ROOT)
    assert (ended.returncode, ended.stderr) == (130, "grid: ended by SIGINT\n")
