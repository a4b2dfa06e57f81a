"""Lists the regular files below local folders, and tells which names belong to other programs."""

from __future__ import annotations

import heapq
import os
import stat
from collections.abc import Iterator

from beam_pipelines.errors import BuildError
from beam_pipelines.files.refusals import cannot_read

# Folders of operating systems and NAS devices; hidden folders are skipped as well.
_SYSTEM_FOLDERS = {"__macosx", "@eadir", "#recycle", "$recycle.bin", "system volume information", "lost+found"}
_SYSTEM_FILES = {"thumbs.db", "ehthumbs.db", "desktop.ini"}


def is_visible(name: str) -> bool:
    """Whether no part of `name`, a path below the input, is hidden or belongs to a file manager or a NAS."""
    *folders, file = name.split("/")
    if file.startswith(".") or file.lower() in _SYSTEM_FILES:
        return False
    return not any(folder.startswith(".") or folder.lower() in _SYSTEM_FOLDERS for folder in folders)


def list_local(folder: str) -> Iterator[tuple[str, int]]:
    """Yields (path below `folder`, bytes) of the regular files below it, and of broken links, with 0 bytes.

    Links are followed. A folder with several paths is listed once, under the path with the fewest links, then the
    fewest parts, then the first name. So loops end, and the result does not depend on the file system.

    Raises:
      BuildError: `folder` is not a folder, or a folder below it can't be listed.
    """
    if not os.path.isdir(folder):
        raise BuildError(f"{folder} is not a folder" if os.path.exists(folder) else f"{folder} does not exist")
    seen: set[tuple[int, int]] = set()
    queue = [(0, 0, "")]  # links, parts, path below `folder`
    while queue:
        links, parts, below = heapq.heappop(queue)
        try:
            found = os.stat(os.path.join(folder, below))
            identity = (found.st_dev, found.st_ino)
            if identity in seen:
                continue
            seen.add(identity)
            with os.scandir(os.path.join(folder, below)) as entries:
                for entry in entries:
                    name = f"{below}/{entry.name}" if below else entry.name
                    if entry.is_dir():
                        heapq.heappush(queue, (links + entry.is_symlink(), parts + 1, name))
                    elif (size := _file_size(entry)) is not None:
                        yield name, size
        except OSError as error:
            raise cannot_read(error.filename, error, "listed") from error


def _file_size(entry: os.DirEntry[str]) -> int | None:
    """Bytes of a regular file; 0 for a broken link, which is reported when it is read; None for pipes and devices."""
    try:
        found = entry.stat()
    except OSError:
        return 0
    return found.st_size if stat.S_ISREG(found.st_mode) else None
