"""What a prebuilt image of Vertex AI starts: `python -m launch.start` with the options of trainer.task.

There pip has installed this project's sdist with what all of its users need, which is little; the trainer's extra comes
here. What the image has already, TensorFlow above all, is kept.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import subprocess
import sys
from collections.abc import Iterable

DISTRIBUTION = "street-scenes"
_EXTRA = "trainer"


def main() -> int:
    """Returns trainer.task's exit code, or 1 where its requirements can't be installed."""
    needed = requirements_of(importlib.metadata.requires(DISTRIBUTION) or ())
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--root-user-action=ignore"]
    if subprocess.run([*pip, *needed], check=False).returncode:
        print(
            f"error: the requirements of the trainer ({', '.join(needed)}) could not be installed. Where there is no "
            "network to install from, launch with --container and an image that has them",
            file=sys.stderr,
        )
        return 1
    importlib.invalidate_caches()
    from trainer.task import main as train

    return train()


def requirements_of(requires: Iterable[str]) -> list[str]:
    """Those of the distribution's requirements that its extra adds: not by its name, which an index could know too."""
    return [line.partition(";")[0].strip() for line in requires if f'extra == "{_EXTRA}"' in line.replace("'", '"')]


if __name__ == "__main__":
    sys.exit(main())
