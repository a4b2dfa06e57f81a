"""The readers of what training and evaluation write."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from tests.torture import folders, mutations
from tests.torture.reader import Reader


def results() -> Reader:
    """images.npz of a report."""
    from beam_pipelines.contract.labels import BUILTIN_TABLES
    from trainer.evaluation.results import ResultsError, read_results

    def read(data: bytes, _: Path) -> list[Any]:
        found, names = read_results(data)
        return [names, *(_plain(value) for value in vars(found).values())]

    sample = _confused().to_bytes(BUILTIN_TABLES["camvid11"]())
    return Reader([sample], mutations.mutate_zip, read, (ResultsError,), slowness=10)


def comparisons() -> Reader:
    """A comparison with a run that has a damaged file in its folder, and its page."""
    from tests.support.reports import confusions_of
    from trainer.comparison import output
    from trainer.comparison.runs import ComparisonError, read_runs
    from trainer.comparison.study import study

    generator = np.random.default_rng(0)
    first, second = (_packed_run(confusions_of(generator, 3, 11, share)) for share in (0.8, 0.9))

    def read(data: bytes, path: Path) -> str:
        runs = path.with_suffix(".runs")
        written = [folders.write(files, runs / name) for name, files in (("a", first), ("b", data))]
        output.write(str(path.with_suffix(".comparison")), study(read_runs([*map(str, written)], "val"), [1, 1]))
        return path.with_suffix(".comparison").joinpath("comparison.json").read_text()

    return Reader([second], folders.mutate_one, read, (ComparisonError,), slowness=50)


def journals() -> Reader:
    """metrics.jsonl, and what a report draws of it."""
    from trainer.evaluation import plots
    from trainer.evaluation.page.charts import learning_charts
    from trainer.training.journal import parse_rows

    def read(data: bytes, _: Path) -> list[str]:
        rows = parse_rows(data)[0]
        if rows:
            plots.png_of(plots.learning_curves(rows))
        return [json.dumps(rows), *map(str, learning_charts(rows))]

    sample = folders.unpacked(_packed_run(_confused().confusions))["metrics.jsonl"]
    return Reader([sample], mutations.mutate_json_lines, read, (), slowness=100)


def recipes() -> Reader:
    """A recipe of the user's, as the command line that it stands for."""
    from trainer.config import expand
    from trainer.recipes import FOLDER
    from trainer.recipes.errors import RecipeError

    def read(data: bytes, path: Path) -> list[str]:
        file = path.with_suffix(".yaml")
        file.write_bytes(data)
        return list(expand([f"--recipe={file}", "--dataset=data"]).argv)

    samples = [path.read_bytes() for path in sorted(FOLDER.glob("*.yaml"))]
    return Reader(
        [*samples, b"steps: 3\nrandom_scale: [0.5, 2]\nmodel: u2netp\n"], mutations.mutate, read, (RecipeError,), 10
    )


def export_notes() -> Reader:
    """What a killed export left beside the folder of a SavedModel; the next one deletes what it names, no more."""
    from trainer.files import sealed
    from trainer.inference import saved_model

    def read(data: bytes, path: Path) -> list[str]:
        home = path.with_suffix(".home")
        folder = home / "export"
        for name in ("export", "export.tmp-0000000f", "export.old-0000000e", "mine", "export.tmp"):
            (home / name).mkdir(parents=True, exist_ok=True)
            (home / name / "kept.txt").write_text("mine")
        (home / "export.export.json").write_bytes(data)
        saved_model._clear(str(folder), str(folder) + ".export.json")
        left = sorted(str(each.relative_to(home)) for each in home.rglob("*.txt"))
        if missing := {f"{name}/kept.txt" for name in ("export", "mine", "export.tmp")} - set(left):
            raise AssertionError(missing)
        return left

    sample = sealed({"made": "export.tmp-0000000f", "replaced": "export.old-0000000e"})

    def damage(data: bytes, random: Random) -> bytes:
        """Another name in it, with a digest that fits; or any damage."""
        if random.random() < 0.5:
            return mutations.mutate_json(data, random)
        names = ("../mine", "mine", "", "export", "export.tmp", "/", "export.tmp-0000000F", None, 3, ["mine"])
        return sealed({"made": None, "replaced": None, random.choice(("made", "replaced")): random.choice(names)})

    return Reader([sample], damage, read, ())


def _confused() -> Any:
    """Results of 3 images of 11 classes."""
    from tests.support.results import results_of

    return results_of(np.random.default_rng(0).integers(0, 50, (3, 11, 11)))


def _plain(value: Any) -> Any:
    return (value.dtype.str, value.shape, value.tobytes()) if isinstance(value, np.ndarray) else value


def _packed_run(confusions: np.ndarray) -> bytes:
    from beam_pipelines.contract.labels import BUILTIN_TABLES
    from tests.support.reports import write_run

    with tempfile.TemporaryDirectory() as folder:
        return folders.packed_folder(write_run(Path(folder) / "run", BUILTIN_TABLES["camvid11"](), confusions))


OF_RUNS: dict[str, Callable[[], Reader]] = {
    "results": results,
    "comparison": comparisons,
    "export note": export_notes,
    "journal": journals,
    "recipe": recipes,
}
