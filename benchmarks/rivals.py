"""The rivals' virtual environment, and their versions.

torch comes first and by its exact version: litData and torchvision would take the newest with several GB of CUDA.
litData itself is installed without its dependencies for that reason (it asks for torchvision, which it uses only to
decode); those that StreamingRawDataset imports are in rivals.txt. s3fs is Debian's.
"""

from __future__ import annotations

import hashlib
import platform
import re
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.processes import Argument, Failed, run

TORCH = "torch==2.13.0"
LITDATA = "litdata==0.2.76"
REQUIREMENTS = Path(__file__).with_name("rivals.txt")


@dataclass(frozen=True, slots=True)
class Rivals:
    """Where the programs are."""

    bin: Path
    _modules: dict[Path, dict[str, bool]] = field(default_factory=dict, repr=False)

    @property
    def python(self) -> Path:
        return self.bin / "python"

    def python_with(self, module: str) -> Path:
        """A Python that can import *module*: the rivals', else this one. Raises Failed when neither can."""
        for python in (self.python, Path(sys.executable)):
            if python not in self._modules:
                self._modules[python] = {}
            known = self._modules[python]
            if module not in known:
                known[module] = python.exists() and _imports(python, module)
            if known[module]:
                return python
        raise Failed(f"{module} is not installed (`make bench` installs it)")

    def require(self, program: str) -> Path:
        """The path of *program*. Raises Failed when it isn't installed."""
        inside = self.bin / program
        if inside.exists():
            return inside
        if found := shutil.which(program):
            return Path(found)
        raise Failed(f"{program} is not installed (`make bench` installs it; s3fs: apt-get install s3fs)")


def _imports(python: Path, module: str) -> bool:
    try:
        run([python, "-c", f"import {module}"])
    except Failed:
        return False
    return True


def install(directory: Path) -> Rivals:
    """Makes the environment in *directory* unless an earlier run has. Raises Failed when pip does."""
    rivals = Rivals(directory / "bin")
    wanted = hashlib.sha256(REQUIREMENTS.read_bytes() + f"{TORCH}{LITDATA}{sys.version}".encode()).hexdigest()
    mark = directory / "installed"
    if mark.exists() and mark.read_text() == wanted:
        return rivals
    print("installing the rivals (some minutes, once) ...", flush=True)
    if shutil.which("s3fs") is None and shutil.which("apt-get") is not None:
        run(["apt-get", "-qq", "-y", "--no-install-recommends", "install", "s3fs"])
    run([sys.executable, "-m", "venv", str(directory)])
    pip: list[Argument] = [rivals.python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    run([*pip, TORCH], timeout_s=1800)
    run([*pip, "-r", REQUIREMENTS], timeout_s=1800)
    run([*pip, "--no-deps", LITDATA])
    mark.write_text(wanted)
    return rivals


def versions(rivals: Rivals) -> dict[str, str]:
    """What is compared, as each says it itself."""
    from gridfs import __version__

    found = {"gridfs": __version__, "python": platform.python_version(), "kernel": platform.release()}
    questions: dict[str, list[str]] = {
        "s3fs": ["s3fs", "--version"],
        "ceph": ["radosgw", "--version"],
        "rclone": ["rclone", "version"],
    }
    for name, (program, question) in questions.items():
        try:
            told = re.search(r"\d+(\.\d+)+", run([rivals.require(program), question]))
            found[name] = told.group() if told else "unknown"
        except Failed:
            found[name] = "not installed"
    listed = ""
    try:
        listed = run([rivals.python, "-m", "pip", "list", "--format=freeze", "--disable-pip-version-check"])
    except Failed:
        pass
    for line in listed.splitlines():
        name, _, version = line.partition("==")
        if name in ("boto3", "litdata", "torch", "obstore", "awscli"):
            found[name] = version
    return found
