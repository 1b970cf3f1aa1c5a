"""The documents hold together: links lead somewhere, and what they list is what there is."""

from __future__ import annotations

import pkgutil
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "benchmarks").rglob("*.md")])


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_links_lead_somewhere(document: Path) -> None:
    text = re.sub(r"^ {4}.*$", "", re.sub(r"(?ms)^```.*?^```", "", document.read_text()), flags=re.M)
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text)
    missing = [t for t in targets if "://" not in t and not (document.parent / t).exists()]
    assert not missing


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_files_that_a_document_names_exist(document: Path) -> None:
    named = re.findall(r"`((?:gridfs|tests|benchmarks|systemd|docs|\.ci)/[\w./@-]+)`", document.read_text())
    missing = [name for name in named if not (ROOT / name).exists()]
    assert not missing


def test_the_architecture_page_names_code_that_there_is() -> None:
    text = (ROOT / "docs/architecture.md").read_text()
    units = "bench|cache|catalog|cli|config|create|errors|fuse|life|manifest|model|mount|read|store|vfs"
    for path in re.findall(rf"`((?:{units})(?:/[\w/]+)?\.py)`", text):
        assert (ROOT / "gridfs" / path).is_file(), path
    names = re.findall(rf"`((?:{units})(?:\.[A-Za-z_]+)+)`", text)
    assert len(names) > 20
    for name in names:
        if not name.endswith(".py"):
            assert pkgutil.resolve_name(f"gridfs.{name}"), name


def test_every_invariant_names_its_tests() -> None:
    text = (ROOT / "docs/architecture.md").read_text()
    rows = re.findall(r"^\| (\d+) \|.*$", text, re.M)
    assert rows == [str(number) for number in range(1, 11)]
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", text)
    assert len(named) >= len(rows)
    for path, test in named:
        assert re.search(rf"^ *(async )?def {test}\(", (ROOT / path).read_text(), re.M), f"{path}::{test}"


def test_every_decision_is_listed() -> None:
    pages = {path.name for path in (ROOT / "docs/decisions").glob("*.md")} - {"README.md"}
    listed = set(re.findall(r"\]\(([\w-]+\.md)\)", (ROOT / "docs/decisions/README.md").read_text()))
    assert listed == pages


def test_the_two_commands_of_the_readme_are_shell_that_parses() -> None:
    commands = re.findall(r"^    (sh \.ci/\w+)$", (ROOT / "README.md").read_text(), re.M)
    assert commands == ["sh .ci/demo", "sh .ci/run"]
    for command in commands:
        for shell in ("sh", "bash"):
            subprocess.run([shell, "-n", command.split()[1]], cwd=ROOT, check=True)
