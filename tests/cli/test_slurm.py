"""Runs below a real Slurm: several nodes on this machine, each with mounts and a runtime directory of its own."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from gridfs.config import Paths
from tests.cli.conftest import Grid
from tests.support.data import ramp

REPOSITORY = Path(__file__).parents[2]
SLURM = REPOSITORY / "tests" / "support" / "slurm"
GRID = f"{sys.executable} -m gridfs"
FILES = 20


@dataclass(frozen=True, slots=True)
class Cluster:
    """A running Slurm, a datastore `data` that its jobs can mount, and what is in it."""

    directory: Path
    digest: str
    """SHA-256 of all files of the datastore, one after the other."""
    environment: dict[str, str]

    def start(self, *arguments: str | Path) -> subprocess.Popen[str]:
        return subprocess.Popen(
            list(map(str, arguments)), env=self.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def run(self, *arguments: str | Path) -> str:
        return subprocess.run(
            list(map(str, arguments)), env=self.environment, check=True, capture_output=True, text=True
        ).stdout


HASH = "cat /datastores/data/* | sha256sum | cut -d' ' -f1"


@pytest.fixture
def cluster(request: pytest.FixtureRequest, private_dirs: Paths, tmp_path: Path, grid: Grid) -> Iterator[Cluster]:
    """Parametrised with the number of nodes, and whether the documented prolog mounts `data` on each."""
    node_count, with_prolog = request.param
    source = tmp_path / "source"
    source.mkdir()
    digest = hashlib.sha256()
    for number in range(FILES):
        data = ramp(30_000, number)
        (source / f"{number:02d}").write_bytes(data)
        digest.update(data)
    grid("datastore", "create", source, "--name", "data").succeeded()
    directory = tmp_path / "slurm"
    environment = {
        **os.environ,
        "PYTHONPATH": str(REPOSITORY),
        "GRIDFS_STORE": str(private_dirs.data / "store"),
        "GRIDFS_CACHE_DIR": str(private_dirs.cache),
        "XDG_RUNTIME_DIR": "/run",  # each node has its own /run/gridfs
        "SLURM_CONF": str(directory / "slurm.conf"),
    }
    scripts = _prolog(directory, environment) if with_prolog else []
    subprocess.run([SLURM, "start", directory, str(node_count), *scripts], check=True, env=environment)
    try:
        yield Cluster(directory, digest.hexdigest(), environment)
    finally:
        subprocess.run([SLURM, "stop", directory], check=True)
        _end_daemons(private_dirs)


def _prolog(directory: Path, environment: dict[str, str]) -> list[str]:
    """The prolog and epilog of docs/slurm, with their settings where the documentation says: in a file before them."""
    directory.mkdir()
    kept = {name: environment[name] for name in ("GRIDFS_STORE", "GRIDFS_CACHE_DIR", "XDG_RUNTIME_DIR", "PYTHONPATH")}
    kept |= {name: value for name, value in environment.items() if name.startswith(("XDG_STATE", "GRIDFS_TEST"))}
    (directory / "grid").write_text(f'#!/bin/sh\nexec {GRID} "$@"\n')
    (directory / "grid").chmod(0o755)
    kept |= {"GRID": str(directory / "grid"), "GRIDFS_PROLOG_DATASTORES": "data"}
    scripts = []
    for name in "prolog", "epilog":
        settings = "".join(f"export {key}='{value}'\n" for key, value in kept.items())
        script = directory / name
        script.write_text(f"#!/bin/sh\n{settings}exec {REPOSITORY}/docs/slurm/{name}.sh\n")
        script.chmod(0o755)
        scripts.append(str(script))
    return scripts


def _end_daemons(paths: Paths) -> None:
    """The nodes' registries are out of sight from here: their daemons are told by the logs that they wrote."""
    pids = {
        int(pid)
        for log in (paths.state / "log").glob("*.log")
        for pid in re.findall(r"is mounted at .* \(pid (\d+)\)", log.read_text())
    }
    for pid in pids:
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except FileNotFoundError:
            continue
        if b"gridfs.mount.daemon" in command:
            os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("cluster", [(2, False)], indirect=True)
def test_each_node_serves_its_tasks(cluster: Cluster) -> None:
    """Without an administrator: plain `srun grid run`."""
    script = f"{HASH}; hostname >/dev/null; echo node $SLURMD_NODENAME"
    out = cluster.run("srun", "-N", "2", *GRID.split(), "run", "--datastore_name", "data", "--", "sh", "-c", script)
    assert sorted(out.split("\n")) == sorted(["", cluster.digest, cluster.digest, "node n1", "node n2"])
    assert not os.path.lexists("/datastores/data")


@pytest.mark.parametrize("cluster", [(2, False)], indirect=True)
def test_a_datastore_is_created_in_a_job(cluster: Cluster, tmp_path: Path, grid: Grid) -> None:
    cluster.run("srun", *GRID.split(), "datastore", "create", tmp_path / "source", "--name", "data")
    assert [row["version"] for row in grid("datastore", "-o", "json").json] == [1, 2]


@pytest.mark.long
@pytest.mark.timeout_s(900)
@pytest.mark.parametrize("cluster", [(4, False), (4, True)], indirect=True, ids=["plain", "prolog"])
def test_an_array_of_64_jobs_sees_the_right_bytes(cluster: Cluster, tmp_path: Path) -> None:
    job = tmp_path / "job.sh"
    job.write_text(f'#!/bin/sh\n{GRID} run --datastore_name data --linger 5s -- sh -c "{HASH}"\n')
    output = f"--output={tmp_path}/out-%a"
    cluster.run("sbatch", "--wait", "--array=1-64", output, f"--error={tmp_path}/err-%a", job)
    digests = {(tmp_path / f"out-{number}").read_text() for number in range(1, 65)}
    assert digests == {f"{cluster.digest}\n"}


READ_ON = f"{HASH}; read go; echo 3 > /proc/sys/vm/drop_caches; {HASH}"


@pytest.mark.long
@pytest.mark.timeout_s(600)
@pytest.mark.parametrize("cluster", [(1, False), (1, True)], indirect=True, ids=["plain", "prolog"])
def test_a_cancelled_job_takes_nothing_from_another(cluster: Cluster) -> None:
    """The first job started the daemon (or the prolog did); the second one reads on after it was cancelled."""
    command = [*GRID.split(), "run", "--datastore_name", "data", "--", "sh", "-c", READ_ON]
    first = cluster.start("srun", "-n", "1", "--job-name=first", *command)
    assert first.stdout is not None
    assert first.stdout.readline().strip() == cluster.digest
    second = cluster.start("srun", "-n", "1", "--job-name=second", *command)
    assert second.stdout is not None
    assert second.stdout.readline().strip() == cluster.digest
    cluster.run("scancel", "--name=first")
    first.communicate()
    assert first.returncode != 0
    assert second.communicate("go\n")[0].strip() == cluster.digest
    assert second.returncode == 0


UNDER_SYSTEMD = """
mount -t tmpfs gridfs-test /run
mkdir -p /run/systemd/system
PATH=$1:$PATH exec "$2"
"""


def test_the_prolog_starts_the_unit_of_the_version_that_is_named(tmp_path: Path) -> None:
    """gridfs@NAME, which was started for NAME@VERSION too, mounts the highest."""
    systemctl = tmp_path / "systemctl"
    systemctl.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\n')
    systemctl.chmod(0o755)
    subprocess.run(
        ["unshare", "--mount", "sh", "-c", UNDER_SYSTEMD, "sh", tmp_path, REPOSITORY / "docs/slurm/prolog.sh"],
        check=True,
        env={**os.environ, "GRIDFS_PROLOG_DATASTORES": "imagenet coco@3"},
    )
    started = [line for line in (tmp_path / "asked").read_text().splitlines() if line.startswith("start")]
    assert started == ["start gridfs@imagenet.service", "start gridfs@coco@3.service"]


def test_the_scripts_are_what_the_documentation_names() -> None:
    assert shutil.which("srun"), "install slurmctld slurmd slurm-client munge"
    documentation = (REPOSITORY / "docs" / "slurm.md").read_text()
    for name in "prolog.sh", "epilog.sh":
        assert os.access(REPOSITORY / "docs" / "slurm" / name, os.X_OK)
        assert f"gridfs-{name}" in documentation
