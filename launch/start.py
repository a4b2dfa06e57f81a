"""`python -m launch.start` with the options of trainer.task: what a job runs in a prebuilt image of Vertex AI.

The image has installed this project's sdist with its few general requirements; this module installs those of the
trainer, and keeps what the image already has, TensorFlow above all. It must run before they are installed.
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
_EXTRA = "trainer"


def main(argv: Sequence[str] | None = None) -> int:
    """Returns trainer.task's exit code, or 1 if its requirements could not be installed."""
    if code := install(argv):
        return code
    from trainer.task import main as train

    return train(argv)


@command
def install(argv: Sequence[str] | None = None) -> int:
    """Installs the requirements of the trainer. -> 0.

    Raises:
      LaunchError: pip failed.
    """
    console.raise_when_stopped()
    needed = requirements_of(importlib.metadata.requires(DISTRIBUTION) or ())
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--root-user-action=ignore"]
    if subprocess.run([*pip, *needed], check=False).returncode:
        raise LaunchError(
            f"the requirements of the trainer ({', '.join(needed)}) could not be installed; on a network without a "
            "package index, set --container to an image that has them"
        )
    importlib.invalidate_caches()
    return 0


def requirements_of(requires: Iterable[str]) -> list[str]:
    """The requirements that the trainer's extra adds. Not by the name of the distribution, which an index may have."""
    return [line.partition(";")[0].strip() for line in requires if f'extra == "{_EXTRA}"' in line.replace("'", '"')]


if __name__ == "__main__":
    console.run_main(main)
