"""rclone mount and s3fs, each with the settings that its documentation recommends for reading large read-only sets."""

from __future__ import annotations

import os
import subprocess
from abc import ABC, abstractmethod
from pathlib import Path

from benchmarks.processes import Argument, Failed, ended, last_words, mountpoints, run, wait_until
from benchmarks.rivals import Rivals
from benchmarks.servers import BUCKET, Server
from benchmarks.subjects.base import remove


class ChildMount(ABC):
    """A mount whose daemon is a child in the foreground."""

    name = ""

    def __init__(self, rivals: Rivals, work: Path) -> None:
        self.rivals = rivals
        place = work / self.name.replace(" ", "-")
        self.root = place / "mount"
        self.cache = place / "cache"
        self.log = place / "log"
        self.process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def command(self, prefix: str, server: Server, cache_limit_bytes: int | None) -> list[Argument]:
        """What shows the objects below *prefix* at self.root, in the foreground."""

    def environment(self, server: Server) -> dict[str, str]:
        return {}

    def start(self, prefix: str, dataset: str, server: Server, *, cache_limit_bytes: int | None) -> tuple[Path, int]:
        self.root.mkdir(parents=True, exist_ok=True)
        self.cache.mkdir(parents=True, exist_ok=True)
        command = self.command(prefix, server, cache_limit_bytes)
        with self.log.open("wb") as log:
            process = self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=os.environ | self.environment(server),
                start_new_session=True,
            )
        wait_until(lambda: str(self.root) in mountpoints() or process.poll() is not None, f"{self.name}: a mount")
        if process.poll() is not None:
            raise Failed(last_words(self.log.read_text(errors="replace")) or f"{self.name} ended")
        return self.root, process.pid

    def stop(self) -> None:
        if str(self.root) in mountpoints():
            for options in ([], ["-l"]):
                try:
                    run(["umount", *options, self.root], timeout_s=20)
                except Failed:
                    continue
                break
        if self.process is not None:
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                ended(self.process)
            self.process = None

    def forget(self) -> None:
        remove(self.cache)


class Rclone(ChildMount):
    """Modification times come from the listing, and directories stay known: without, each stat() is a HEAD."""

    mode = ""

    def command(self, prefix: str, server: Server, cache_limit_bytes: int | None) -> list[Argument]:
        limit = [f"--vfs-cache-max-size={cache_limit_bytes}"] if cache_limit_bytes else []
        return [
            self.rivals.require("rclone"),
            "mount",
            f"bench:{BUCKET}/{prefix}",
            self.root,
            "--read-only",
            "--use-server-modtime",
            "--no-checksum",
            "--dir-cache-time=1000h",
            "--attr-timeout=1000h",
            "--poll-interval=0",
            "--vfs-fast-fingerprint",
            f"--vfs-cache-mode={self.mode}",
            "--vfs-read-chunk-streams=8",
            "--vfs-read-chunk-size=4M",
            f"--cache-dir={self.cache}",
            *limit,
        ]

    def environment(self, server: Server) -> dict[str, str]:
        return {
            "RCLONE_CONFIG": "",
            "RCLONE_CONFIG_BENCH_TYPE": "s3",
            "RCLONE_CONFIG_BENCH_PROVIDER": "Ceph",
            "RCLONE_CONFIG_BENCH_ENDPOINT": server.endpoint,
            "RCLONE_CONFIG_BENCH_ACCESS_KEY_ID": server.access_key,
            "RCLONE_CONFIG_BENCH_SECRET_ACCESS_KEY": server.secret_key,
        }


class RcloneFull(Rclone):
    name = "rclone, cache full"
    mode = "full"


class RcloneOff(Rclone):
    name = "rclone, cache off"
    mode = "off"


class S3fs(ChildMount):
    """With its cache on local disk, the kernel's page cache kept, and attributes of all files remembered."""

    name = "s3fs"

    def command(self, prefix: str, server: Server, cache_limit_bytes: int | None) -> list[Argument]:
        options = [
            f"url={server.endpoint}",
            "use_path_request_style",
            "ro",
            f"use_cache={self.cache}",
            "kernel_cache",
            "max_stat_cache_size=2000000",
            "stat_cache_expire=100000",
            "enable_noobj_cache",
            "parallel_count=8",
            "multireq_max=30",
        ]
        return [self.rivals.require("s3fs"), f"{BUCKET}:/{prefix}", self.root, "-f", "-o", ",".join(options)]

    def environment(self, server: Server) -> dict[str, str]:
        return {"AWSACCESSKEYID": server.access_key, "AWSSECRETACCESSKEY": server.secret_key}
