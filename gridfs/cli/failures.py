"""How a failure ends: one line for the person, an exit code for the shell, a traceback only where it helps.

the user's input or surroundings   `grid: MESSAGE; REMEDY`, the exit code of the error's class (errors.py)
wrong usage                        `grid: MESSAGE` and which --help to read, 2
a defect of gridfs                 `grid: defect ...` and the log that has the traceback, 70
a reader of our output that left   nothing, 141 as the shell has it for SIGPIPE
an output on a full disk           `grid: the output can't be written: ...`, 10
"""

from __future__ import annotations

import contextlib
import os
import sys

import click

from gridfs.addresses import shown_url, without_secrets
from gridfs.cli.invocation import Invocation, single_cause
from gridfs.errors import EXIT_BUG, GridfsError, NotFound, Unsupported, exit_code_of, limit_reached

EXIT_USAGE = 2
EXIT_BROKEN_PIPE = 141
EXIT_INTERRUPTED = 130


def end_with(error: BaseException, invocation: Invocation) -> int:
    """Tells the person what *error* means for them; the exit code to end with."""
    error = single_cause(error)
    if isinstance(error, click.exceptions.Exit):
        return error.exit_code
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    if isinstance(error, BrokenPipeError):
        _discard_stdout()
        return EXIT_BROKEN_PIPE
    if isinstance(error, OSError) and _is_of_output(error):
        _discard_stdout()
        _say(f"the output can't be written: {error.strerror}; make room where it goes")
        return Unsupported.exit_code
    if isinstance(error, click.ClickException):
        _say(f"{_usage_message(error)}{_usage_hint(error)}")
        return EXIT_USAGE
    if isinstance(error, click.Abort | KeyboardInterrupt):
        _say("ended by Ctrl-C")
        return EXIT_INTERRUPTED
    if isinstance(error, OSError) and not _has_directory():
        error = NotFound(
            "the current directory is gone, or not to be found by its name", remedy="cd to another one, or to it anew"
        )
    if invocation.debug:
        import traceback

        click.echo(without_secrets("".join(traceback.format_exception(error))), err=True, nl=False)
    error = limit_reached(error) or error
    if isinstance(error, GridfsError):
        _say(str(error))
        return exit_code_of(error)
    _say(f"this is a defect of gridfs: {type(error).__name__}: {error}{_kept_traceback(error, invocation)}")
    return EXIT_BUG


def one_line(text: str) -> str:
    """*text* with what would end or garble the line shown as escapes: names may hold newlines and stray bytes."""
    shown = "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
    return shown.encode("utf-8", "backslashreplace").decode()


def _say(message: str) -> None:
    with contextlib.suppress(OSError):  # a lost terminal: the exit code still tells
        click.echo(f"grid: {one_line(without_secrets(message))}", err=True)


def _usage_message(error: click.ClickException) -> str:
    message = error.format_message().strip().rstrip(".")
    return message[:1].lower() + message[1:] if message[1:2].islower() else message


def _usage_hint(error: click.ClickException) -> str:
    context = getattr(error, "ctx", None)
    return f"; see {context.command_path} --help" if context is not None else ""


def _kept_traceback(error: BaseException, invocation: Invocation) -> str:
    """Writes the traceback to the log and says where that is; a log that can't be written changes nothing."""
    if invocation.debug:
        return ""
    from gridfs.observe import set_up_logging

    try:
        logger = set_up_logging(log_file=invocation.log_file)
        logger.error("defect in: grid %s", " ".join(map(shown_url, sys.argv[1:])), exc_info=error)
    except OSError:
        return "; repeat it with --debug for the traceback"
    return f"; its traceback is in {invocation.log_file}"


def _has_directory() -> bool:
    """Whether the current directory has a path. Relative ones are resolved in many places, and fail without."""
    try:
        os.getcwd()
    except OSError:
        return False
    return True


def _is_of_output(error: OSError) -> bool:
    """Whether it was raised where click writes what we print; its stream tells no more once it has failed."""
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    return place is not None and place.tb_frame.f_globals.get("__name__") == click.echo.__module__


def _discard_stdout() -> None:
    """Python flushes stdout once more at exit, and would complain about the pipe again."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
