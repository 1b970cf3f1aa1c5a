"""What a person can write or meet is in the documentation: options, keys, variables, error classes, exit codes."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import click
import pytest

from gridfs import config_file, errors
from gridfs.cli import app, datastore

ROOT = Path(__file__).parents[2]
COMMANDS = (ROOT / "docs" / "commands.md").read_text()
CONFIGURATION = (ROOT / "docs" / "configuration.md").read_text()


def every_command() -> list[tuple[str, ...]]:
    return [(), *((name,) for name in app.COMMANDS), *(("datastore", name) for name in datastore.COMMANDS)]


def section_of(command: tuple[str, ...]) -> str:
    """The part of docs/commands.md about a command: from its heading to the next one."""
    heading = f"## `grid {' '.join(command)}".rstrip()
    found = re.search(rf"^{re.escape(heading)}[` \[].*?(?=^## |\Z)", COMMANDS, re.MULTILINE | re.DOTALL)
    assert found, f"docs/commands.md has no section {heading}"
    return found.group()


def load(command: tuple[str, ...]) -> click.Command:
    found: click.Command = app.grid
    for name in command:
        assert isinstance(found, click.Group)
        inner = found.get_command(click.Context(found), name)
        assert inner is not None
        found = inner
    return found


@pytest.mark.parametrize("command", every_command(), ids=lambda command: " ".join(command) or "grid")
def test_every_option_is_in_the_section_of_its_command(command):
    text = section_of(command) if command else COMMANDS
    missing = [
        spelling
        for param in load(command).params
        if isinstance(param, click.Option) and not param.hidden
        for spelling in (*param.opts, *param.secondary_opts)
        if spelling.startswith("--") and not re.search(rf"{re.escape(spelling)}(?![a-z_-])", text)
    ]
    assert missing == []


def test_every_key_of_the_configuration_file():
    missing = [
        key for keys in config_file.TABLES.values() for key in keys if not re.search(rf"\b{key}\b", CONFIGURATION)
    ]
    assert missing == []


def variables_of_config() -> set[str]:
    """The names of environment variables that config.py reads."""
    tree = ast.parse((ROOT / "gridfs" / "config.py").read_text())
    texts = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    return {text for text in texts if re.fullmatch(r"(GRIDFS|AWS|XDG|_GRID)_[A-Z0-9_]+", text)}


def test_every_variable():
    documented = CONFIGURATION + COMMANDS
    missing = [name for name in variables_of_config() if not re.search(rf"(?<![A-Z]){name}(?![A-Z0-9_])", documented)]
    assert missing == []


def error_classes() -> list[type[errors.GridfsError]]:
    return [
        value
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, errors.GridfsError) and value is not errors.GridfsError
    ]


@pytest.mark.parametrize("error", error_classes(), ids=lambda error: error.__name__)
def test_every_error_class_with_its_exit_code(error):
    rows = [line for line in COMMANDS.splitlines() if line.startswith(f"| {error.exit_code} |")]
    assert len(rows) == 1, f"docs/commands.md has no row, or several, for the exit code {error.exit_code}"
    assert f"`{error.__name__}`" in rows[0]


def test_the_list_as_json_is_described():
    from gridfs.cli.listing import version_as_json
    from gridfs.model import Mode, Version

    version = Version("n", 1, "", "", Mode.COPY, 0, 0, 0, 0, "", "", 0)
    missing = [field for field in version_as_json(version, None) if f"`{field}`" not in COMMANDS]
    assert missing == []
