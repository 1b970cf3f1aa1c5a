"""Builds the optional shared library gridfs/_zero_open.so; everything else is in pyproject.toml.

The library needs a C compiler, pkg-config and the headers of libfuse3. Without them the installation succeeds all the
same and gridfs lives without the library: every open() then costs a message to the daemon. It is no Python module (it
stands in for a function of libfuse and is loaded with ctypes), so its file name carries no Python version.
"""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError

LIBRARY = "gridfs._zero_open"


class BuildZeroOpen(build_ext):
    """build_ext that asks pkg-config for libfuse3 and names the result `_zero_open.so`."""

    def build_extension(self, ext: Extension) -> None:
        try:
            answer = subprocess.run(
                ["pkg-config", "--cflags", "--libs", "fuse3"], check=True, capture_output=True, text=True
            )
        except (OSError, subprocess.CalledProcessError) as error:
            raise CompileError(f"no libfuse3 for {LIBRARY}: {error}") from error
        for flag in shlex.split(answer.stdout):
            (ext.extra_link_args if flag.startswith(("-l", "-L", "-Wl,")) else ext.extra_compile_args).append(flag)
        super().build_extension(ext)

    def get_ext_filename(self, fullname: str) -> str:
        return str(Path(*fullname.split(".")).with_suffix(".so"))


setup(
    ext_modules=[
        Extension(
            LIBRARY,
            sources=["gridfs/_zero_open.c", "gridfs/_fast_reads.c", "gridfs/_open_ahead.c"],
            extra_compile_args=["-O2", "-Wall", "-pthread"],
            # Linked against libfuse3 even if nothing seems to need it: there RTLD_NEXT finds what it stands for.
            extra_link_args=["-Wl,--no-as-needed", "-ldl"],
            optional=True,
        )
    ],
    cmdclass={"build_ext": BuildZeroOpen},
)
