"""A Python like that of TensorFlow's public image."""

from __future__ import annotations

import sys
import venv
from pathlib import Path

# No index, and no environment to build in that would have to be downloaded: pip finds what it needs here, or fails.
OFFLINE = {"PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "0"}


def make_image(folder: Path, *lines: str) -> Path:
    """A virtual environment with TensorFlow and pip, and all other packages of the running Python; `lines` are more
    lines of its .pth file. -> its folder.
    """
    venv.create(folder / "image")
    (packages,) = folder.glob("image/lib/python*/site-packages")
    found = [path for path in sys.path if Path(path).name == "site-packages"]
    (packages / "running.pth").write_text("\n".join([*found, *lines]))
    return folder / "image"
