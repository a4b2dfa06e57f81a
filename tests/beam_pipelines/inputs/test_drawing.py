from __future__ import annotations

import psutil
import pytest

from beam_pipelines.errors import BuildError
from beam_pipelines.inputs.sample_scenes import draw_scene_files, list_scenes
from beam_pipelines.inputs.sample_scenes.drawing import draw_scenes


@pytest.mark.slow
def test_processes_draw_what_this_process_draws():
    keys = list_scenes({"train": 3, "val": 0})
    drawn: dict[str, bytes] = {}
    draw_scenes(keys, processes=2, write=drawn.__setitem__)
    assert drawn == {name: data for key in keys for name, data in draw_scene_files(key).items()}


def test_a_process_that_dies_is_an_error_with_a_cure():
    def kill(name: str, data: bytes) -> None:
        for child in psutil.Process().children():
            child.kill()

    with pytest.raises(BuildError, match="ended with -9: run the same command again"):
        draw_scenes(list_scenes(), processes=1, write=kill)


def test_what_fails_to_be_written_is_raised():
    def fail(name: str, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        draw_scenes(list_scenes(), processes=2, write=fail)
    living = [child for child in psutil.Process().children() if child.status() != psutil.STATUS_ZOMBIE]
    assert not [child for child in living if "sample_scenes.drawing" in " ".join(child.cmdline())]
