"""What the public image of TensorFlow runs: `python3 -c SOURCE SDIST CONSTRAINTS [argument of launch.start ...]`.

The request of a job contains this source, so it needs only what the image has: Python with pip, and TensorFlow, which
reads gs:// paths. It installs the sdist into a virtual environment that sees the packages of the image: none of these
is replaced, and those of the operating system, which pip can't uninstall, are not in the way. The process then becomes
`launch.start`, in the folder of the unpacked sdist, which is like a checkout of the project.
"""

import os
import shutil
import site
import subprocess
import sys
import tempfile
import venv
from pathlib import Path


def main(sdist: str, constraints: str, *arguments: str) -> None:
    """Installs the sdist with its general requirements, and becomes launch.start with `arguments`.

    Raises:
      SystemExit: with a message: a file can't be read, or pip failed.
    """
    folder = Path(tempfile.mkdtemp(prefix="street-scenes-"))
    package, versions = (_fetch(uri, folder) for uri in (sdist, constraints))
    python = _environment(folder / "venv")
    pip = [python, "-m", "pip", "install", "--quiet", "--root-user-action=ignore", "--constraint", versions]
    if subprocess.run([*pip, package], check=False).returncode:
        sys.exit(
            f"error: {sdist} could not be installed; on a network without a package index, set --container to an image "
            "that has it"
        )
    os.chdir(_unpacked(package, folder))
    shutil.copy(versions, ".")
    os.execv(python, [python, "-m", "launch.start", f"--constraints={versions}", *arguments])


def _fetch(uri: str, folder: Path) -> str:
    """Copies a gs:// file. -> its path. Raises SystemExit if it can't be read."""
    from tensorflow import errors
    from tensorflow.io import gfile

    path = str(folder / uri.rpartition("/")[2])
    try:
        gfile.copy(uri, path)
    except errors.OpError as error:
        sys.exit(f"error: {uri} could not be read: {error.message}; give the account of the job access to the bucket")
    return path


def _unpacked(package: str, folder: Path) -> Path:
    """Unpacks the sdist. -> its only folder."""
    # Not tarfile with a filter, which the Python of the image, 3.11.0rc1, does not have yet.
    shutil.unpack_archive(package, folder / "sources")
    (sources,) = (folder / "sources").iterdir()
    return sources


def _environment(folder: Path) -> str:
    """A virtual environment that sees the packages of this Python, also its pip. -> its Python."""
    venv.create(folder)
    (packages,) = folder.glob("lib/python*/site-packages")
    # Not venv's system_site_packages, which skips the packages of an image that is a virtual environment itself.
    lines = [f"import site; site.addsitedir({place!r})" for place in site.getsitepackages()]
    (packages / "image.pth").write_text("\n".join(lines), encoding="utf-8")
    return str(folder / "bin" / "python")


if __name__ == "__main__":
    main(*sys.argv[1:])
