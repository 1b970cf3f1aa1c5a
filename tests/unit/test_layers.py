"""Imports go down only, and what is foreign has one place. Read from the source: none can hide in a function."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODULES = sorted(path.relative_to(ROOT) for path in (ROOT / "gridfs").rglob("*.py"))

LAYERS = {
    "cli": 6,
    "mount": 5,
    "create": 5,
    "life": 5,
    "bench": 5,
    "fuse": 4,
    "zero_open": 4,
    "fast_reads": 4,
    "open_ahead": 4,
    "turns": 4,
    "image": 3,
    "vfs": 3,
    "extents": 2,
    "read": 2,
    "cache": 2,
    "catalog": 2,
    "store": 1,
    "manifest": 1,
    "addresses": 0,
    "erofs": 0,
    "model": 0,
    "names": 0,
    "errors": 0,
    "light": 0,
    "config": 0,
    "config_file": 0,
    "locks": 0,
    "selection": 0,
    "observe": 0,
    "raw_io": 0,
}
"""Layer of each package, module or family of modules (`catalog` and `catalog_*`); see docs/architecture.md, "Layers".

A new one must be given its layer here.
"""

SIBLINGS_APART = [
    ("mount", "create"),
    ("mount", "life"),
    ("create", "life"),
    ("mount", "bench"),
    ("create", "bench"),
    ("store", "manifest"),
    ("cache", "read"),
]
"""Of one layer, and yet neither imports the other."""

ONE_WAY = {("read", "cache")}
"""But for this: read stands on the cache."""

ONLY_IN = {
    "pyfuse3": ("gridfs/fuse.py", "gridfs/mount/daemon.py"),
    "aiobotocore": ("gridfs/store/s3.py", "gridfs/store/s3_*.py"),
    "botocore": ("gridfs/store/s3.py", "gridfs/store/s3_*.py"),
    "httpx2": ("gridfs/store/s3.py", "gridfs/store/s3_*.py", "gridfs/create/web.py"),
    "obstore": ("gridfs/store/objects.py", "gridfs/store/objects_*.py"),
    "tarfile": ("gridfs/create/archive*.py",),
    "zipfile": ("gridfs/create/archive*.py",),
    "rich": ("gridfs/cli/*.py",),
    "click": ("gridfs/cli/*.py",),
    "asyncio": (),
}
"""Foreign packages and the only files that may import them."""

PURE = (
    "gridfs/model.py",
    "gridfs/errors.py",
    "gridfs/names.py",
    "gridfs/manifest/*.py",
    "gridfs/read/plan.py",
    "gridfs/read/prefetch.py",
    "gridfs/create/pack.py",
    "gridfs/cache/memory.py",
)
NOT_IN_PURE = {"trio", "time", "gridfs.store", "random", "threading", "asyncio"}


def imports(path: Path) -> set[str]:
    """Dotted names of all that *path* imports, wherever in it; relative imports made absolute."""
    package = list(path.parent.parts)
    found = set()
    for node in ast.walk(ast.parse((ROOT / path).read_bytes())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            found |= {f"{module}.{alias.name}" for alias in node.names}
    return found


def unit(dotted: str) -> str | None:
    """What of gridfs *dotted* lies in: `read` for gridfs.read.plan, `catalog` for gridfs.catalog_record."""
    parts = dotted.split(".")
    if parts[0] != "gridfs" or len(parts) == 1 or parts[1].startswith("_"):
        return None
    family = parts[1].split("_")[0]
    return family if parts[1] not in LAYERS and family in LAYERS else parts[1]


def own_unit(path: Path) -> str | None:
    return unit(".".join(path.with_suffix("").parts))


def matches(path: Path, patterns: tuple[str, ...]) -> bool:
    return any(path.match(pattern) for pattern in patterns)


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_imports_go_down(path: Path) -> None:
    own = own_unit(path)
    if own is None:  # gridfs/__init__.py and __main__.py
        return
    for name in imports(path):
        other = unit(name)
        if other is None or other == own:
            continue
        assert LAYERS[other] <= LAYERS[own], f"{path} (layer {LAYERS[own]}) imports {name} (layer {LAYERS[other]})"
        for pair in SIBLINGS_APART:
            assert {own, other} != set(pair) or (own, other) in ONE_WAY, f"{path} imports {name}: siblings stay apart"


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_what_is_foreign_has_one_place(path: Path) -> None:
    for name in imports(path):
        allowed = ONLY_IN.get(name.split(".")[0])
        assert allowed is None or matches(path, allowed), f"{path} imports {name}; only {allowed} may"


@pytest.mark.parametrize("path", [path for path in MODULES if matches(path, PURE)], ids=str)
def test_pure_modules_know_no_task_store_or_clock(path: Path) -> None:
    for name in imports(path):
        parts = name.split(".")
        assert not {".".join(parts[:n]) for n in (1, 2)} & NOT_IN_PURE, f"{path} is pure and imports {name}"


READ_THE_ENVIRONMENT = {Path("gridfs/config.py"), Path("gridfs/light.py")}


@pytest.mark.parametrize("path", [path for path in MODULES if path not in READ_THE_ENVIRONMENT], ids=str)
def test_only_config_reads_the_environment(path: Path) -> None:
    for node in ast.walk(ast.parse((ROOT / path).read_bytes())):
        reads = isinstance(node, ast.Attribute) and node.attr in {"environ", "environb", "getenv"}
        assert not reads or ast.unparse(node).split(".")[0] != "os", f"{path}:{node.lineno} reads the environment"


def test_every_module_has_a_layer() -> None:
    units = {own_unit(path) for path in MODULES} - {None}
    assert units <= LAYERS.keys(), f"give {sorted(map(str, units - LAYERS.keys()))} a layer"
