"""Commands of this project from this checkout or from another one, in the same environment."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def environment(checkout: Path) -> dict[str, str]:
    """In which Python, also in processes that a command starts, finds the code of a checkout first."""
    paths = [str(checkout.resolve()), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def check_code(checkout: Path) -> None:
    """Raises SystemExit unless a command that runs in this folder runs its code."""
    if not (checkout / "beam_pipelines" / "build.py").is_file():
        raise SystemExit(f"{checkout}: there is no beam_pipelines/build.py; name a checkout of this project")
    command = [sys.executable, "-c", "import beam_pipelines; print(beam_pipelines.__file__)"]
    done = subprocess.run(command, cwd=checkout, env=environment(checkout), capture_output=True, text=True, check=True)
    file = Path(done.stdout.strip()).resolve()
    if not file.is_relative_to(checkout.resolve()):
        raise SystemExit(f"{checkout}: its commands would run {file}; take that out of PYTHONPATH")


def check_same(ours: dict[str, str], others: dict[str, str], checkout: Path) -> None:
    """Raises SystemExit unless both have the same shards, of the same bytes."""
    if not ours:
        raise SystemExit("there are no shards to compare")
    different = sorted(name for name in ours | others if ours.get(name) != others.get(name))
    if different:
        raise SystemExit(
            f"{checkout} builds other bytes: {len(different)} of {len(ours | others)} shards differ, "
            f"{different[0]} with SHA-256 {ours.get(different[0], 'that is not here')} and there "
            f"{others.get(different[0], 'no such shard')}"
        )
