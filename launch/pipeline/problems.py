"""Finds options that cannot work in a pipeline, before anything is uploaded or requested."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path

from beam_pipelines.inputs.layouts import LAYOUTS
from beam_pipelines.recipe import Recipe, input_paths
from trainer.config import TrainConfig

_REFUSED = {
    "--local": "a pipeline runs on Google Cloud: use `python -m launch.vertex --local`",
    "--no_wait": "the training has to wait for the data set: leave it out",
    "--wait": "the step waits for the training anyway, and this command ends when the pipeline is submitted: leave it "
    "out",
    "--plan": "a pipeline builds the data set: use `python -m launch.dataflow --plan`",
    "--template_location": "a pipeline builds the data set: use `python -m launch.dataflow --template_location`",
    "--print_config": "the step would print the options and end: leave it out, or give the trainer's options to "
    "`python -m trainer.task --print_config`",
    "--setup_file": "the steps have no file of this machine: set --sdk_container_image to an image that has the "
    "package",
}
_FOLDERS = ("--labels", "--moments_from", "--sdk_location")  # options whose value may be a local folder


def option_problem(options: Iterable[tuple[str, ...]]) -> str | None:
    """Why an option can't be used in a pipeline. `options`: each with the values after it."""
    for option in options:
        name, _, value = option[0].partition("=")
        if name in _REFUSED:
            return f"{name}: {_REFUSED[name]}"
        values = [each for text in (value, *option[1:]) for each in text.split(",") if each]
        if name != "--recipe" and (found := next((each for each in values if _is_here(each, name)), None)):
            kind = "folder" if Path(found).expanduser().is_dir() else "file"
            return f"{name}={found} is a {kind} of this machine, which a step can't read: copy it to gs://"
    return None


def _is_here(text: str, option: str) -> bool:
    """Whether the value of an option is a path of this machine. Names such as `train` may be those of folders, too."""
    path = Path(text).expanduser()
    return len(text) < 4096 and (path.is_file() or (option in _FOLDERS and path.is_dir()))


def place_problem(args: argparse.Namespace) -> str | None:
    """Why a folder that the pipeline writes to can't be used with its input."""
    for path in input_paths(args.input):
        for option, folder in (("dataset", args.dataset), ("output", args.output)):
            if folder == path.rstrip("/"):
                return f"--{option}={folder} is also --input: choose a folder beside the input"
            if _is_among_images(path.rstrip("/"), folder):
                return f"--{option}={folder} is among the images of --input={path}: choose a folder beside the input"
    return None


def _is_among_images(source: str, folder: str) -> bool:
    """Whether a folder is below the input, in a folder that a layout takes images or masks from."""
    taken = {name.lower() for layout in LAYOUTS for name in layout.folders}
    below = folder.removeprefix(f"{source}/").lower().split("/") if folder.startswith(f"{source}/") else []
    return bool({*below} & taken)


def split_problem(recipe: Recipe, train: TrainConfig) -> str | None:
    """Which split of the training the build does not make, as far as its options tell."""
    made = _splits_of(recipe)
    needed = {"train_split": train.data.train_splits, "val_split": (train.data.val_split,)}
    for option, splits in needed.items():
        missing = [split for split in splits if split and made and split not in made]
        if missing:
            without = ", or --val_split='' for none" if option == "val_split" else ""
            return (
                f"--{option}={missing[0]} is not one of the splits that --splits makes, {', '.join(made)}: add it "
                f"there, or set --{option} to one of them{without}"
            )
    return None


def _splits_of(recipe: Recipe) -> Sequence[str]:
    """The splits that a build makes; none if that depends on its input."""
    return recipe.split_names or tuple(recipe.split_fractions)
