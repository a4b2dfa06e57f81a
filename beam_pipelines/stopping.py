"""How a command stops: Ctrl-C (SIGINT), SIGTERM and SIGHUP end it with one line and leave no process or temporary file.

A thread waits for the signals, whatever the main thread is doing; it cleans up and ends the process. No exception is
raised anywhere: a build can be stopped at any moment, and the same command resumes it.
The line promises that only of a command that has said so (`resumes`).
"""

from __future__ import annotations

import atexit
import contextlib
import io
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_STOPPED = "stopped"
_CLEANUP_SECONDS = 30.0  # canceling a remote job may take long, but must end
_PARENT_POLL_SECONDS = 0.5
_HEARING_SECONDS = 0.2
_REMOVAL_SECONDS = 2.0
_PR_SET_CHILD_SUBREAPER = 36  # prctl(2)
_SHOW_CURSOR = b"\x1b[?25h\n"  # a progress bar hides the cursor

_cleanups: list[Callable[[], str | None]] = []
_resuming = threading.Event()
_listening = threading.Event()  # in a command; elsewhere the caller's signals are its own
_ending = threading.Lock()  # acquired once, by whatever ends the process: a signal, or the end of the work


def command(main: Callable[[], int]) -> None:
    """Runs `main` and exits with the code that it returns, or with 128 + N after signal N. Only for `__main__`."""
    atexit.register(_end_unless_stopping)  # registered first, so called last
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # until there is something to clean up, and who does it
    _make_temporary_folder()
    _listen()
    signal.pthread_sigmask(signal.SIG_SETMASK, blocked | {signal.SIGINT})
    code = main()
    sys.stderr = io.StringIO()  # errors that threads of Beam report late are of no use
    sys.exit(code)


def resumes(whether: bool) -> None:
    """Says whether the same command goes on with what this one has done if it is stopped."""
    (_resuming.set if whether else _resuming.clear)()


def last_line() -> str:
    """What a command that is stopped says last."""
    return f"{_STOPPED}; run the same command again to continue" if _resuming.is_set() else _STOPPED


@contextlib.contextmanager
def on_stop(clean: Callable[[], str | None]) -> Iterator[None]:
    """If a signal arrives during the block, calls `clean` in another thread and prints the line that it may return."""
    _cleanups.append(clean)
    try:
        yield
    finally:
        _cleanups.remove(clean)


def pause() -> None:
    """Never returns if a signal is ending the process: the error at hand may be a consequence of that.

    A terminal sends its signals to the workers too, and this process may notice their end before its own signal.
    """
    if _listening.is_set():
        time.sleep(_HEARING_SECONDS)
    if _ending.locked():
        threading.Event().wait()


def end_with_parent(parent: int) -> None:
    """Ends this process within a second after its parent, the process `parent`, has ended."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_PARENT_POLL_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _listen() -> None:
    heard = [number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN]  # nohup, or a shell's `&`
    _listening.set()
    # Ctrl-C comes to every process of the terminal, and only this one answers: what it starts inherits that SIGINT is
    # blocked.
    if sys.platform == "linux" and signal.SIGINT in heard:
        # A shell between this process and a worker unblocks signals, but what is ignored stays so. Linux keeps a
        # signal that is blocked for `sigwait` even where it is ignored; elsewhere it may be lost.
        pending = signal.SIGINT in signal.sigpending()
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # which discards a pending one
        if pending:
            os.kill(os.getpid(), signal.SIGINT)
        heard.remove(signal.SIGINT)
        threading.Thread(target=_hear_interrupt, daemon=True).start()
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
    for number in heard:
        signal.signal(number, lambda *_: None)
    threading.Thread(target=_hear, args=(read_end, heard), daemon=True).start()
    _adopt_orphans()


def _end_unless_stopping() -> None:
    _ending.acquire()


def _hear(read_end: int, heard: list[signal.Signals]) -> None:
    if signal.SIGINT in heard:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    while (number := os.read(read_end, 1)[0]) not in heard:
        pass
    _stop_once(number)


def _hear_interrupt() -> None:
    _stop_once(signal.sigwait({signal.SIGINT}))


def _stop_once(number: int) -> None:
    if _ending.acquire(blocking=False):
        _stop(number)


def _stop(number: int) -> None:
    threading.Timer(_CLEANUP_SECONDS, os._exit, [128 + number]).start()
    terminal = _silence()
    _kill_descendants()
    lines = [line for clean in reversed(_cleanups) if (line := _attempt(clean))]
    _kill_descendants()  # those that the main thread has started in the meantime
    with contextlib.suppress(OSError):  # the terminal may be gone
        os.write(terminal, "".join(f"{line}\n" for line in (*lines, last_line())).encode())
    os._exit(128 + number)


def _silence() -> int:
    """Discards what this process prints from now on: its threads would report lost workers. -> the former stderr."""
    with contextlib.suppress(OSError):
        if os.isatty(1):
            os.write(1, _SHOW_CURSOR)
    nowhere, errors = os.open(os.devnull, os.O_WRONLY), os.dup(2)
    for output in (1, 2):
        os.dup2(nowhere, output)
    return errors


def _attempt(clean: Callable[[], str | None]) -> str | None:
    try:
        return clean()
    except Exception as error:  # the other cleanups must run all the same
        return f"warning: {type(error).__name__} while stopping: {error}"


def _kill_descendants() -> None:
    """SIGKILL, until none is left: one may start another meanwhile, which comes to this process as an orphan.

    Where there is no /proc they end by themselves: see `end_with_parent`.
    """
    deadline = time.monotonic() + _CLEANUP_SECONDS / 2
    while os.path.exists("/proc/self/stat") and time.monotonic() < deadline:
        for process in _descendants(os.getpid()):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(process, signal.SIGKILL)
        if not _has_children():
            return
        time.sleep(0.01)


def _has_children() -> bool:
    """Whether child processes are left, after waiting for those that have ended."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return False
    return True


def _descendants(root: int) -> list[int]:
    """The running descendants of the process `root`, parents before their children: a shell that outlives its child
    prints how the child ended.
    """
    parents = dict(_processes())
    found = [root]
    for ancestor in found:  # grows during the loop
        found.extend(process for process, parent in parents.items() if parent == ancestor)
    return found[1:]


def _processes() -> Iterator[tuple[int, int]]:
    """(process, parent) of all processes except zombies."""
    for name in filter(str.isdecimal, os.listdir("/proc")):
        with contextlib.suppress(OSError), open(f"/proc/{name}/stat", encoding="utf-8", errors="replace") as file:
            state, parent = file.read().rpartition(")")[2].split()[:2]
            if state not in "ZX":
                yield int(name), int(parent)


def _adopt_orphans() -> None:
    """On Linux, makes orphaned descendants children of this process."""
    if sys.platform != "linux":
        return
    import ctypes

    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _make_temporary_folder() -> None:
    """Puts all temporary files of this process and its children into one folder, which is removed at the end."""
    import shutil
    import tempfile

    try:
        folder = tempfile.mkdtemp(prefix="beam_pipelines-")
    except OSError:
        return  # whoever needs a temporary file reports the error

    def remove() -> None:
        deadline = time.monotonic() + _REMOVAL_SECONDS
        while os.path.exists(folder) and time.monotonic() < deadline:  # the main thread may be writing into it
            shutil.rmtree(folder, ignore_errors=True)
            time.sleep(0.001)

    tempfile.tempdir = os.environ["TMPDIR"] = folder
    _cleanups.append(remove)
    atexit.register(remove)
