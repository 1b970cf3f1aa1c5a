"""What a daemon is told: a MountSpec, sent to it as JSON, and a MountRecord, what it tells about itself.

Both are records of plain types; `to_json` and `from_json` translate by the annotations, so a field is declared once.
A spec never holds a secret: credentials are found by the daemon where the command found them.
"""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar

from gridfs.config import CacheSettings, MountOptions, StoreSettings
from gridfs.model import Version
from gridfs.mount.mounts import Mounted, is_block_device, uses_of
from gridfs.mount.veil import source_of

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class MountSpec:
    """One daemon to be: which version, where, and how."""

    mount_id: str
    store: StoreSettings
    version: Version
    directory: Path
    """Of this mount alone, below the registry; exists and is empty."""
    target: Path | None
    """Where people shall see it; None for the daemon of a run, which sees it in its own namespace."""
    target_made: bool
    """The target was made for this mount, and goes with it."""
    log_file: Path
    cache: CacheSettings
    options: MountOptions
    linger_s: float | None = None
    """The daemon ends this long after its last user let go; None: only when told to."""

    @property
    def source(self) -> str:
        """First column of `df` and /proc/mounts."""
        return source_of(f"{self.version.name}@{self.version.version}")


@dataclass(frozen=True, slots=True)
class MountRecord:
    """One daemon that is, as its `record.json` has it. Whether it still lives, only its lock says (registry.py)."""

    mount_id: str
    name: str
    version: int
    store_url: str
    uid: int
    gid: int
    pid: int
    started_at: str
    """UTC, ISO 8601 with a `Z`."""
    target: Path | None
    target_made: bool
    fuse_path: Path
    """Where the FUSE mount itself is: hidden below the registry, or at the target for one who may not mount."""
    fuse_device: str
    """`major:minor` in mountinfo."""
    veil_device: str | None
    """The image's or the overlay's, when there is one."""
    zero_open: bool
    veil: str
    """`image`, `overlay`, or why none."""
    tree_path: Path | None
    """Where the image is mounted, below the registry; None without one."""
    read_ahead: str
    """Its size, and why it is no larger if it is smaller than asked for."""
    max_background: str
    cache_directory: Path
    log_file: Path
    linger_s: float | None

    @property
    def label(self) -> str:
        return f"{self.name}@{self.version}"

    @property
    def source(self) -> str:
        """What all that it mounts is called in mountinfo."""
        return source_of(self.label)

    @property
    def shown_path(self) -> Path:
        """What is attached elsewhere: the image when there is one, else the FUSE mount."""
        return self.tree_path or self.fuse_path

    @property
    def shown_device(self) -> str:
        """`major:minor` of what is at shown_path."""
        return self.fuse_device if self.tree_path is None or self.veil_device is None else self.veil_device

    @property
    def is_image(self) -> bool:
        """Whether what is shown is an image."""
        return self.tree_path is not None

    @property
    def on_block_device(self) -> bool:
        """Whether the image lies on loop devices."""
        return self.is_image and is_block_device(self.shown_device)

    @property
    def own_paths(self) -> frozenset[Path]:
        """The daemon's own mounts, which are nobody's use of it."""
        return frozenset(path for path in (self.fuse_path, self.tree_path) if path is not None)

    @property
    def devices(self) -> frozenset[str]:
        return frozenset(device for device in (self.fuse_device, self.veil_device) if device is not None)

    def uses_in(self, mounts: Iterable[Mounted]) -> list[Mounted]:
        """Those of *mounts* that show it, the daemon's own aside."""
        return uses_of(self.own_paths, self.devices, self.source, mounts)


def to_json(record: Any) -> str:
    """One line of JSON. *record* is a dataclass of plain types, paths, enums, and such dataclasses."""
    return json.dumps(plain(record), separators=(",", ":"))


def from_json(kind: type[T], text: str | bytes) -> T:
    """The record that `to_json` wrote. Raises ValueError, KeyError or TypeError for anything else."""
    return from_json_value(kind, json.loads(text))


def from_json_value(kind: type[T], value: Any) -> T:
    """As from_json, for JSON that is parsed already."""
    record: T = _typed(kind, value)
    return record


def plain(value: Any) -> Any:
    """What JSON can say of *value*: records and mappings as objects, paths and enums as what they hold."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, Path):
        return str(value)  # surrogates of undecodable bytes survive as \udcXX escapes
    if isinstance(value, Enum):
        return value.value
    return [plain(item) for item in value] if isinstance(value, tuple | list) else value


def _typed(kind: Any, value: Any) -> Any:
    origin = typing.get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        chosen = next(k for k in typing.get_args(kind) if k is not type(None))
        return None if value is None else _typed(chosen, value)
    if origin is tuple:
        return tuple(_typed(typing.get_args(kind)[0], item) for item in value)
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        return kind(**{f.name: _typed(hints[f.name], value[f.name]) for f in dataclasses.fields(kind)})
    if kind is Path or (isinstance(kind, type) and issubclass(kind, Enum)):
        return kind(value)
    return value
