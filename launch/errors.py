"""How a launch command ends: an error as one sentence, and the exit codes that scripts rely on."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import sys
import traceback
from collections.abc import Iterator, Sequence
from typing import Protocol

from beam_pipelines.errors import as_build_error, first_line


class LaunchError(RuntimeError):
    """An error that the user can act on. The message says what was found and how to fix it."""


class Main(Protocol):
    """The entry point of a command. `argv` defaults to the arguments of the process; returns the exit code."""

    def __call__(self, argv: Sequence[str] | None = None) -> int: ...


def command(main: Main) -> Main:
    """Turns everything that `main` raises into a line on stderr and an exit code.

    1 after an error (`error: ...`), 130 after Ctrl-C. Wrong arguments stay argparse's SystemExit with code 2. A
    traceback is printed only if `--verbose` is among the arguments.
    """

    @functools.wraps(main)
    def run(argv: Sequence[str] | None = None) -> int:
        """Calls `main`; its parameters and return value are those of `main`."""
        arguments = sys.argv[1:] if argv is None else list(argv)
        try:
            code = main(arguments)
            sys.stdout.flush()  # a full disk or a closed pipe is an error of the command, too
            return code
        except KeyboardInterrupt:
            print("stopped", file=sys.stderr)
            return 128 + signal.SIGINT
        except Exception as error:
            if "--verbose" in arguments:
                traceback.print_exc()
            print(f"error: {sentence(error)}", file=sys.stderr)
            _discard_output()
            return 1

    return run


def _discard_output() -> None:
    """If the output cannot be written, keeps Python from trying again and reporting it when it exits."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def sentence(error: Exception) -> str:
    """The error for people: what was found, and how to fix it."""
    if isinstance(error, LaunchError):
        return str(error)
    if build_error := as_build_error(error):
        return str(build_error)
    if isinstance(error, OSError):
        place = f"{error.filename}: " if error.filename else ""
        return f"{place}{error.strerror or first_line(error)}; fix this and run the same command again"
    name, message = type(error).__name__, first_line(error)
    told = name if message == name else f"{name}: {message}"
    return f"internal error, {told}; please report it with the traceback that --verbose shows"


@contextlib.contextmanager
def missing_packages(extra: str) -> Iterator[None]:
    """Turns a failed import into a LaunchError that names the extra to install."""
    try:
        yield
    except ImportError as error:
        raise LaunchError(f"a required package is not installed ({error}): pip install '.[{extra}]'") from error
