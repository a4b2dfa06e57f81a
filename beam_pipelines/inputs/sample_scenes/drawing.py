"""Draws scenes in several processes, since drawing holds the interpreter's lock.

`python -m beam_pipelines.inputs.sample_scenes.drawing PARENT KEY...` is one of them: it writes a pickled
{path: content} for each key to stdout, and ends when the process PARENT does.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from beam_pipelines import stopping
from beam_pipelines.errors import BuildError
from beam_pipelines.inputs.sample_scenes import draw_scene_files

_COMMAND = (sys.executable, "-m", "beam_pipelines.inputs.sample_scenes.drawing")


def draw_scenes(keys: Sequence[str], processes: int, write: Callable[[str, bytes], object]) -> None:
    """Draws the scenes called `keys`, and calls `write` with the path and the content of each file, from threads.

    Raises:
      BuildError: a process ended before it had drawn its scenes.
    """
    shares = [keys[first::processes] for first in range(min(processes, len(keys)))]
    with ThreadPoolExecutor(processes) as pool:
        for _ in pool.map(lambda share: _draw_share(share, write), shares):
            pass


def _draw_share(keys: Sequence[str], write: Callable[[str, bytes], object]) -> None:
    command = [*_COMMAND, str(os.getpid()), *keys]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            for _ in keys:
                for name, data in pickle.load(process.stdout).items():
                    write(name, data)
        except (EOFError, pickle.UnpicklingError) as error:
            raise BuildError(
                f"a process that draws street scenes ended with {process.wait()}: run the same command again"
            ) from error
        finally:
            process.kill()


def main(parent: str, *keys: str) -> None:
    """Draws the scenes called `keys` for the process `parent`."""
    stopping.end_with_parent(int(parent))
    for key in keys:
        pickle.dump(draw_scene_files(key), sys.stdout.buffer)
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
