"""How commands run: signals, TensorFlow's log, and one line for each error."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from types import FrameType

from beam_pipelines.contract.errors import Stopped, exit_code_of

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
LINE_SECONDS = 20.0  # between lines of progress, if the output is not a terminal

_errors = 2  # the file descriptor of stderr, before anything redirects it


def run_main(main: Callable[[], int], signals: Sequence[signal.Signals] = (signal.SIGINT,)) -> None:
    """Ends the process with the exit code of `main`. For the module that is started, before slow imports.

    One of `signals` ends the process with a line and 128 + its number: at once, until `raise_when_stopped` is called.
    Signals that are ignored, as with nohup, stay ignored.
    """
    global _errors
    _errors = os.dup(2)
    heard = [number for number in signals if signal.getsignal(number) != signal.SIG_IGN]
    for number in heard:
        signal.signal(number, _end_at_once)
    code = main()
    for number in heard:  # what Python does at the end may take long, and must not end in a traceback
        signal.signal(number, lambda *_: os._exit(code))
    sys.exit(code)


def raise_when_stopped() -> None:
    """From now on, the first signal raises `Stopped` in the main thread, so that files and jobs are cleaned up.

    Not during imports: Python drops an exception that is raised in one of its callbacks, with a traceback.
    """
    for number in SIGNALS:
        if signal.getsignal(number) is _end_at_once:
            signal.signal(number, _raise)


def run_command(
    work: Callable[[], int],
    *,
    check: Callable[[], None] = lambda: None,
    verbose: bool = False,
    less_memory: str = "Use less memory",
    hosts: int = 1,
    stopped: str = "stopped",
) -> int:
    """Imports TensorFlow, calls `work`, and returns its exit code; see `beam_pipelines.contract.errors.exit_code_of`.

    Args:
      check: raises errors that can be found without TensorFlow, whose import takes seconds.
      less_memory, hosts: see `trainer.errors.explain`.
      stopped: what to print if a signal stops `work`.
    """

    def import_and_work() -> int:
        check()
        import_tensorflow(verbose)
        raise_when_stopped()
        return work()

    def explain(error: Exception) -> str | None:
        from trainer import errors

        return errors.explain(error, less_memory, hosts)

    return exit_code_of(import_and_work, verbose=verbose, explain=explain, stopped=stopped)


def import_tensorflow(verbose: bool = False) -> None:
    """Imports TensorFlow and initializes its devices. Its log is shown only with `verbose`, or if the import fails.

    TF_CPP_MIN_LOG_LEVEL alone does not suppress messages from before TensorFlow has set up its log.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "0" if verbose else "2")
    with contextlib.nullcontext() if verbose else held_back():
        import tensorflow as tf

        tf.config.list_physical_devices()


@contextlib.contextmanager
def held_back() -> Iterator[None]:
    """Shows what is written to stderr only if the block fails.

    Redirects the file descriptor, since native code does not write to Python's sys.stderr.
    """
    import tempfile

    sys.stderr.flush()
    real = os.dup(2)
    with tempfile.TemporaryFile() as log:
        os.dup2(log.fileno(), 2)
        try:
            yield
        except KeyboardInterrupt:
            raise
        except BaseException:
            log.seek(0)
            os.write(real, log.read())
            raise
        finally:
            os.dup2(real, 2)
            os.close(real)


def _end_at_once(number: int, _frame: FrameType | None) -> None:
    """A handler for the time before the work: there is nothing to clean up."""
    os.write(_errors, b"stopped\n")
    os._exit(128 + number)


def _raise(number: int, _frame: FrameType | None) -> None:
    for each in SIGNALS:
        if signal.getsignal(each) is _raise:
            signal.signal(each, _end_at_once)  # a second signal does not wait for the cleanup
    raise Stopped(number)
