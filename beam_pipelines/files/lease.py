"""One build at a time in one folder: the second is refused, and the claim of a killed one lapses."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any, TextIO

from beam_pipelines import stopping
from beam_pipelines.errors import BuildError
from beam_pipelines.files import cloud, storage
from beam_pipelines.files.refusals import cannot_write

HEARTBEAT_SECONDS = 20
LAPSE_SECONDS = 90  # without a heartbeat; longer than any pause of a living build
_lost: set[str] = set()  # leases that this process held until another build took them


@contextlib.contextmanager
def hold(path: str) -> Iterator[None]:
    """Holds the lease at `path` for the block. Raises BuildError where another build holds it."""
    with _hold_local(path) if storage.is_local(path) else _hold_object(path):
        yield


def check(path: str) -> None:
    """Raises BuildError where this process has lost the lease at `path`: what is in the folder is another build's."""
    if path in _lost:
        raise BuildError(
            f"another build took {_folder(path)} after {LAPSE_SECONDS} s in which this one could not renew its lease; "
            "wait for it, and run the same command again"
        )


@contextlib.contextmanager
def _hold_local(path: str) -> Iterator[None]:
    """A lock of the operating system, which ends with the process that holds it, however that ends. If the block leaves
    nothing beside the file, the file goes, and so do the folders that were made for it.
    """
    made = _missing_folders(path)
    try:
        file = _lock(path)
        file.truncate(0)
        file.write(_owner())
        file.flush()
    except OSError as error:  # also of a file system without locks
        raise cannot_write(os.path.dirname(path), error) from error

    def tidy() -> None:
        with contextlib.suppress(OSError):
            if os.listdir(os.path.dirname(path)) == [os.path.basename(path)]:
                os.remove(path)
            for folder in made:
                os.rmdir(folder)

    with file:
        try:
            with stopping.on_stop(tidy):
                yield
        finally:
            tidy()


def _missing_folders(path: str) -> list[str]:
    """The folders that `path` needs and that do not exist, the deepest first."""
    missing = []
    while (path := os.path.dirname(path)) and not os.path.lexists(path):
        missing.append(path)
    return missing


def _lock(path: str) -> TextIO:
    """-> the file at `path`, locked until it is closed. Raises OSError, and BuildError where another process has it."""
    while True:
        with contextlib.ExitStack() as opened:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            file = opened.enter_context(open(path, "a+", opener=_not_through_a_link))
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                file.seek(0)
                raise BuildError(_held(path, file.read() or "another process")) from error
            # A build deletes its lease while it holds it: what was opened before that is nobody's lease any more.
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(file.fileno()), os.stat(path)):
                    opened.pop_all()
                    return file


def _not_through_a_link(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW, 0o666)


@contextlib.contextmanager
def _hold_object(path: str) -> Iterator[None]:
    """An object whose every version is conditional on the one before it, renewed by a heartbeat."""
    blob, owner = _blob(path), _owner()
    with cloud.errors(path):
        _claim(blob, owner, path)
    _lost.discard(path)
    stop = threading.Event()
    beat = threading.Thread(target=_renew, args=(blob, owner, path, stop), daemon=True)
    beat.start()

    def give_up() -> None:
        stop.set()
        beat.join()
        if path not in _lost:
            with contextlib.suppress(Exception):
                blob.delete(if_generation_match=blob.generation)  # not a successor's

    try:
        with stopping.on_stop(give_up):
            yield
    finally:
        give_up()


def _claim(blob: Any, owner: str, path: str) -> None:
    """Makes the object ours; afterwards `blob.generation` is that of our version."""
    generation = 0
    if blob.exists():
        blob.reload()
        age = time.time() - blob.updated.timestamp()
        if age < LAPSE_SECONDS:
            wait = f"{age:.0f} s ago; if that one was killed, start again in {LAPSE_SECONDS - age:.0f} s"
            raise BuildError(_held(path, f"{blob.download_as_text()}, last seen {wait}"))
        generation = blob.generation
    if not _write(blob, owner, generation):
        raise BuildError(_held(path, "another build that started at the same moment"))


def _write(blob: Any, owner: str, generation: int) -> bool:
    """Writes the version that comes after `generation`, of which 0 is none. False where another build was faster."""
    from google.api_core.exceptions import NotFound, PreconditionFailed

    try:
        blob.upload_from_string(owner, if_generation_match=generation)
    except PreconditionFailed:
        try:
            found = blob.download_as_text()
        except NotFound:
            return False  # that build has ended already
        if found != owner:
            return False
        blob.reload()  # it is ours: the answer to it was lost, and the client asked again
    return True


def _renew(blob: Any, owner: str, path: str, stop: threading.Event) -> None:
    while not stop.wait(HEARTBEAT_SECONDS):
        # A heartbeat that fails, for whatever reason, is made up for by the next one: it lapses only after several.
        with contextlib.suppress(Exception):
            if not _write(blob, owner, blob.generation):
                _lost.add(path)  # it lapsed, and another build has it: that one's heartbeat counts now
                return


def _blob(path: str) -> Any:
    from apache_beam.io.gcp.gcsio import create_storage_client, parse_gcs_path
    from apache_beam.options.pipeline_options import PipelineOptions

    bucket, name = parse_gcs_path(path)
    with cloud.errors(path):
        return create_storage_client(PipelineOptions([])).bucket(bucket).blob(name)


def _owner() -> str:
    return json.dumps({"host": socket.gethostname(), "process": os.getpid(), "build": uuid.uuid4().hex[:8]})


def _held(path: str, owner: str) -> str:
    return f"another build is writing to {_folder(path)} ({owner}): wait for it, or choose another --output"


def _folder(path: str) -> str:
    return path.rsplit("/", 2)[0]
