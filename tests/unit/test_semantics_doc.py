"""docs/semantics.md is kept true: every promise names a test, and every test that it names exists."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "semantics.md").read_text()


def test_every_test_that_is_named_exists() -> None:
    named = re.findall(r"`(tests/[a-z_/]+\.py)::(\w+)`", TEXT)
    assert len(named) > 50
    missing = [f"{path}::{name}" for path, name in named if f"def {name}(" not in (ROOT / path).read_text()]
    assert not missing


def test_every_promise_names_a_test() -> None:
    promises = re.findall(r"^- .*(?:\n  .*)*", TEXT, re.MULTILINE)
    rows = [line for line in TEXT.splitlines() if line.startswith("| ") and "what happened" not in line]
    assert len(promises) > 30
    assert len(rows) == 12
    assert not [promise for promise in [*promises, *rows] if "::test_" not in promise]
