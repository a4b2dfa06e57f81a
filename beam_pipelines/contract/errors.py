"""How a command ends with an error: the base class of those that a user can fix, and a wrapper for all commands."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterable

FAILED = 1  # exit codes; argparse exits with 2 if the arguments are wrong
INTERRUPTED = 128 + signal.SIGINT


class UserError(Exception):
    """An error that the user can fix. The message says what was found and what to do."""


class Stopped(KeyboardInterrupt):
    """A signal, by its number, that stops a command as Ctrl-C does."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


def exit_code_of(
    work: Callable[[], int],
    *,
    verbose: bool = False,
    explain: Callable[[Exception], str | None] = lambda error: None,
    failed: int = FAILED,
    stopped: str = "stopped",
) -> int:
    """Calls `work` and returns its exit code: `failed` after printing `error: ...`, 128 + its number after a signal.

    Args:
      work: returns an exit code; an exception is printed on stderr as one line.
      verbose: print the traceback of an error, too.
      explain: returns a sentence for an error that is not a UserError, or None if it is a fault of the program.
      failed: the exit code if `work` raises.
      stopped: what to print after Ctrl-C.
    """
    try:
        code = work()
        sys.stdout.flush()  # a full disk or a closed pipe is an error of the command, too
        return code
    except KeyboardInterrupt as stop:
        print(stopped, file=sys.stderr)
        return 128 + stop.number if isinstance(stop, Stopped) else INTERRUPTED
    except Exception as error:
        if verbose:
            import traceback  # not before signals are handled

            traceback.print_exc()
        told = str(error) if isinstance(error, UserError) else explain(error)
        print(f"error: {told or unexpected(error)}", file=sys.stderr)
        _discard_output()
        return failed


def unknown_option(argument: str, known: Iterable[str]) -> str:
    """The message about an argument that no option of a command takes: it suggests a similar one of those `known`."""
    import difflib  # only after a mistake

    name = argument.partition("=")[0]
    if not name.startswith("-"):
        return f"{argument!r} is neither an option nor the value of one; --help lists all options"
    near = difflib.get_close_matches(name, [option for option in known if option != name], n=1)
    return f"unknown option {name}" + (f"; did you mean {near[0]}?" if near else "; --help lists all options")


def _discard_output() -> None:
    """If the output can't be written, keeps Python from trying again at exit."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def unexpected(error: BaseException) -> str:
    """One line about a fault of the program."""
    first = (str(error).splitlines() or [""])[0]
    told = f"{type(error).__name__}: {first}" if first else type(error).__name__
    return f"internal error, {told}; please report it with the traceback that --verbose shows"
