"""Settings, from flags over environment over the configuration file to defaults. Only this and light.py
read os.environ.

Units are in the names, and every default says where it comes from.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from gridfs.errors import AccessDenied, InvalidInput
from gridfs.light import ensure_private as ensure_private
from gridfs.light import home_directory, runtime_directory

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30

BLOCK_SIZE_BYTES = 128 * KIB
"""Unit of checksum and presence in new versions; each manifest records its own (docs/decisions/block-size.md)."""

PART_SIZE_BYTES = 8 * MIB
"""Largest ranged GET; a segment of the disk cache has the same size (peers use 8 MiB: mountpoint-s3, s3fs 10 MiB)."""

PACK_SIZE_BYTES = 64 * MIB
"""Aim of a pack: eight parts, so that filling one keeps several connections busy."""

READ_TIMEOUT_S = 20.0
"""A read fails after this: the kernel asks a failed buffered read twice, and a reader in a page fault can't die."""

LEAST_MEMORY_TARGET_BYTES = 32 * MIB
"""Two parts in flight for a window, one for a reader, one being written."""

FREE_SPACE_FRACTION = 0.05
"""The cache keeps this share of its disk free (mountpoint-s3's default)."""

_SIZE_UNITS = {"": 1, "b": 1, "k": KIB, "m": MIB, "g": GIB, "t": 1 << 40}
_SIZE_PATTERN = re.compile(r"(\d+(?:\.\d+)?)\s*(?:([kmgt])(?:i?b)?|b)?", re.IGNORECASE | re.ASCII)


def parse_size(text: str) -> int:
    """Bytes of `200GiB`, `64M` or `4096`; units are powers of 1024 however they are spelled."""
    match = _SIZE_PATTERN.fullmatch(text.strip())
    if match is None:
        raise InvalidInput(f"'{text}' is no size", remedy="write it as 200GiB, 512MiB or a number of bytes")
    return int(float(match.group(1)) * _SIZE_UNITS[(match.group(2) or "").lower()])


def check_memory_target(size_bytes: int | None) -> None:
    """Raises InvalidInput when *size_bytes*, which was asked for as the hard limit of memory, could not be kept."""
    if size_bytes is not None and size_bytes < LEAST_MEMORY_TARGET_BYTES:
        raise InvalidInput(
            f"{size_bytes} bytes are too little for the data in memory; a daemon needs 32MiB",
            remedy="give --memory-target, GRIDFS_MEMORY_TARGET or cache.memory_target at least that, or leave it out",
        )


@dataclass(frozen=True, slots=True)
class Paths:
    """Where gridfs keeps what on this node, by the XDG specification; all are the user's alone (0700)."""

    data: Path
    """The default store."""
    cache: Path
    state: Path
    """Journals of creations, logs of daemons."""
    config_file: Path
    runtime: Path
    """Registry of mounts, sockets, hidden mountpoints. Local and empty after a restart of the machine."""

    @classmethod
    def from_environment(cls, environ: dict[str, str] | None = None) -> Paths:
        env = os.environ if environ is None else environ
        home = Path(home_directory(env))

        def base(variable: str, default: Path) -> Path:
            value = env.get(variable, "")
            return Path(value) if os.path.isabs(value) else default  # the specification ignores relative ones

        return cls(
            data=base("XDG_DATA_HOME", home / ".local/share") / "gridfs",
            cache=base("XDG_CACHE_HOME", home / ".cache") / "gridfs",
            state=base("XDG_STATE_HOME", home / ".local/state") / "gridfs",
            config_file=base("XDG_CONFIG_HOME", home / ".config") / "gridfs" / "config.toml",
            runtime=Path(runtime_directory(env)),
        )


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """Which store, and how to reach it. Goes to daemons as JSON; it never holds a secret."""

    url: str
    endpoint_url: str | None = None
    region: str | None = None
    profile: str | None = None
    sign: bool = True
    requester_pays: bool = False


_PROXY_VARIABLES = ("http_proxy", "https_proxy", "all_proxy")


@dataclass(frozen=True, slots=True)
class AwsEnvironment:
    """What the AWS variables say of S3. aiobotocore reads the rest of them (profiles, SSO, containers) by itself."""

    endpoint_url: str | None = None
    region: str | None = None
    access_key_id: str | None = None
    secret_access_key: str | None = field(default=None, repr=False)
    session_token: str | None = field(default=None, repr=False)
    has_metadata: bool = True
    """Whether EC2's metadata service may be asked."""
    has_proxy: bool = False
    """Whether HTTP goes through a proxy. Which hosts are excepted is the client's business that goes through it."""

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> AwsEnvironment:
        env = os.environ if environ is None else environ
        return cls(
            endpoint_url=env.get("AWS_ENDPOINT_URL_S3") or env.get("AWS_ENDPOINT_URL") or None,
            region=env.get("AWS_REGION") or env.get("AWS_DEFAULT_REGION") or None,
            access_key_id=env.get("AWS_ACCESS_KEY_ID") or None,
            secret_access_key=env.get("AWS_SECRET_ACCESS_KEY") or None,
            session_token=env.get("AWS_SESSION_TOKEN") or None,
            has_metadata=env.get("AWS_EC2_METADATA_DISABLED", "").lower() != "true",
            has_proxy=any(env.get(name) or env.get(name.upper()) for name in _PROXY_VARIABLES),
        )


@dataclass(frozen=True, slots=True)
class Environment:
    """What environment variables say about gridfs; None where a variable is unset or empty."""

    store: str | None = None
    cluster: str | None = None
    config_file: str | None = None
    cache_dir: str | None = None
    max_cache_size: str | None = None
    memory_target: str | None = None
    completion: str | None = None
    """What a shell asks of click: `bash_source`, `bash_complete`, ..."""
    job: str | None = None
    """The scheduler's job that this process belongs to."""
    shell: str = "/bin/sh"
    """What `grid session` starts."""
    aws: AwsEnvironment = field(default_factory=AwsEnvironment)

    @classmethod
    def read(cls, environ: Mapping[str, str] | None = None) -> Environment:
        env = os.environ if environ is None else environ
        return cls(
            store=env.get("GRIDFS_STORE") or None,
            cluster=env.get("GRIDFS_CLUSTER") or None,
            config_file=env.get("GRIDFS_CONFIG") or None,
            cache_dir=env.get("GRIDFS_CACHE_DIR") or None,
            max_cache_size=env.get("GRIDFS_MAX_CACHE_SIZE") or None,
            memory_target=env.get("GRIDFS_MEMORY_TARGET") or None,
            completion=env.get("_GRID_COMPLETE") or None,
            job=env.get("SLURM_JOB_ID") or None,
            shell=env.get("SHELL") or "/bin/sh",
            aws=AwsEnvironment.from_environment(env if environ is not None else None),
        )


@dataclass(frozen=True, slots=True)
class CacheSettings:
    """The node's caches."""

    directory: Path
    max_size_bytes: int | None = None
    """Limit of the disk tier; None: as much as leaves FREE_SPACE_FRACTION of the disk free."""
    memory_target_bytes: int | None = None
    """Hard budget of all data in memory, LEAST_MEMORY_TARGET_BYTES or more; None: the lesser of 1 GiB and a quarter of
    the cgroup's limit."""


@dataclass(frozen=True, slots=True)
class MountOptions:
    """What the mounted tree looks like and how it is read."""

    allow_other: bool = False
    uid: int | None = None
    gid: int | None = None
    umask: int | None = None
    file_mode: int = 0o444
    dir_mode: int = 0o555
    read_timeout_s: float = READ_TIMEOUT_S
    prefetch: str = "auto"
    """`auto`, `none` or `all`."""
    image: bool = True
    """Let the kernel mount the version as an EROFS image, where it can: the tree is then as fast as a local disk."""
    veil: bool = True
    """What people see need not be the FUSE mount: the image, or else a read-only overlay where it may be mounted, which
    answers Python's isatty() without the daemon."""
    zero_open: bool = True
    """Let the kernel open files by itself, where the extension module works."""
    xattr: bool = False
    """Answer `user.gridfs.*`; costs two requests a file on every `ls -l`."""
    extra: tuple[str, ...] = field(default=())
    """Further options of `-o`, for the kernel."""

    @classmethod
    def unsaid(cls, uid: int) -> MountOptions:
        """What holds for user *uid* where no option says otherwise: root lets others in."""
        return cls(allow_other=uid == 0)


_IN_A_CACHE = ("blocks", "manifests", "reachable", "lost+found")
_SCRATCH_OF_A_CACHE = ("gc-", "verify-")


def ensure_cache(directory: Path) -> Path:
    """`ensure_private` of the directory of a cache, which a person names: what others use too is not taken from them.

    Raises AccessDenied for such a directory (/tmp, /scratch), and what ensure_private raises.
    """
    try:
        status, names = directory.stat(), os.listdir(directory)
    except OSError:
        return ensure_private(directory)  # which makes it, or says why not
    foreign = [name for name in names if name not in _IN_A_CACHE and not name.startswith(_SCRATCH_OF_A_CACHE)]
    if status.st_uid == os.geteuid() and stat.S_IMODE(status.st_mode) & 0o077 and (foreign or status.st_mode & 0o002):
        raise AccessDenied(
            f"the cache directory {directory} would be closed to others, who can enter it now, and it is not the"
            " cache's alone",
            remedy=f"name one of its own, {directory / 'gridfs'}, by --cache-dir or GRIDFS_CACHE_DIR",
        )
    return ensure_private(directory)


def notify_socket() -> str | None:
    """Where systemd wants to be told that a service is ready (sd_notify(3))."""
    return os.environ.get("NOTIFY_SOCKET") or None
