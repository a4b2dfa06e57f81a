"""How a launch command ends: an error as one sentence, and the exit codes that scripts rely on."""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Iterator, Sequence
from typing import Protocol

from beam_pipelines.contract.errors import UserError, exit_code_of
from beam_pipelines.errors import as_build_error, first_line


class LaunchError(UserError):
    """An error that the user can act on. The message says what was found and how to fix it."""


class Main(Protocol):
    """The entry point of a command. `argv` defaults to the arguments of the process; returns the exit code."""

    def __call__(self, argv: Sequence[str] | None = None) -> int: ...


def command(main: Main) -> Main:
    """Turns everything that `main` raises into a line on stderr and an exit code.

    1 after an error (`error: ...`), 130 after Ctrl-C; see `trainer.console.run_main` for other signals. Wrong arguments
    stay argparse's SystemExit with code 2. A traceback is printed only if `--verbose` is among the arguments.
    """

    @functools.wraps(main)
    def run(argv: Sequence[str] | None = None) -> int:
        """Calls `main`; its parameters and return value are those of `main`."""
        arguments = sys.argv[1:] if argv is None else list(argv)
        return exit_code_of(lambda: main(arguments), verbose="--verbose" in arguments, explain=explain)

    return run


def explain(error: Exception) -> str | None:
    """The message for an error that is not a UserError; None if it is a fault of the program."""
    if build_error := as_build_error(error):
        return str(build_error)
    if isinstance(error, OSError):
        place = f"{error.filename}: " if error.filename else ""
        return f"{place}{error.strerror or first_line(error)}; fix this and run the same command again"
    return None


@contextlib.contextmanager
def missing_packages(extra: str) -> Iterator[None]:
    """Turns a failed import into a LaunchError that names the extra to install."""
    try:
        yield
    except ImportError as error:
        raise LaunchError(f"a required package is not installed ({error}): pip install '.[{extra}]'") from error
