"""`python -m launch.start` with the options of trainer.task: the program of a job in Vertex AI's prebuilt image.

The image has installed the sdist of this project with its general requirements. This module installs those of the
trainer, and keeps packages that the image already has, such as TensorFlow. It must not import any of them itself.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import subprocess
import sys
from collections.abc import Iterable, Sequence

from launch.errors import LaunchError, command
from trainer import console

DISTRIBUTION = "street-scenes"
_TRACK = "--track"  # the option of the trainer that needs another extra


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code of trainer.task, or 1 if its requirements could not be installed."""
    if code := install(argv):
        return code
    from trainer.task import main as train

    return train(argv)


@command
def install(argv: Sequence[str] | None = None) -> int:
    """Installs the requirements of the trainer with these options. -> 0.

    Raises:
      LaunchError: pip failed.
    """
    console.raise_when_stopped()
    requires = importlib.metadata.requires(DISTRIBUTION) or []
    needed = requirements_of(requires)
    if any(each.partition("=")[0] == _TRACK for each in (sys.argv[1:] if argv is None else argv)):
        needed += requirements_of(requires, "tracking")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--root-user-action=ignore"]
    if subprocess.run([*pip, *needed], check=False).returncode:
        raise LaunchError(
            f"the requirements of the trainer ({', '.join(needed)}) could not be installed; on a network without a "
            "package index, set --container to an image that has them"
        )
    importlib.invalidate_caches()
    return 0


def requirements_of(requires: Iterable[str], extra: str = "trainer") -> list[str]:
    """The requirements of an extra, without the name of the distribution, which may exist in an index."""
    return [line.partition(";")[0].strip() for line in requires if f'extra == "{extra}"' in line.replace("'", '"')]


if __name__ == "__main__":
    console.run_main(main)
