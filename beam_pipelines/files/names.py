"""The names of a build's files in the data set's folder."""

from __future__ import annotations

import re

TRANSFORM_FOLDERS = ("transform_fn", "transformed_metadata")  # the names that tensorflow-transform looks for
TRANSFORM_FILES = f"{TRANSFORM_FOLDERS[0]}/files.json"
TRANSFORM_GRAPH = f"{TRANSFORM_FOLDERS[0]}/saved_model.pb"
METADATA_FILES = "metadata_files.json"  # the list of the files that describe the data set to other libraries
DUPLICATES = "duplicates.jsonl"  # pairs of examples that show the same picture, if there are any
CARD_FOLDER = "card"
CARD_PAGE = f"{CARD_FOLDER}/index.html"
CARD_STATISTICS = f"{CARD_FOLDER}/statistics.json"
CARD = (CARD_PAGE, CARD_STATISTICS)
CARD_MARKS = {CARD_PAGE: b'content="beam_pipelines.card"', CARD_STATISTICS: b'"bins": {'}  # at their beginning
KEPT_PLAN = "plan.jsonl"  # the plan of a finished data set: its pairs
# Names below the data set's folder. Everything in BUILD is deleted after the data set is published.
BUILD = "_build"
JOURNAL = f"{BUILD}/journal.json"
RECIPE = f"{BUILD}/recipe.json"
PLAN = f"{BUILD}/plan.jsonl"
PAIRING = f"{BUILD}/pairing.jsonl"
PREVIOUS = f"{BUILD}/previous.json"
REFUSED = (f"{BUILD}/rejected.jsonl", f"{BUILD}/duplicates.jsonl")  # the lists of an update, until it is published
POLYGONS = f"{BUILD}/polygons.jsonl"
PUBLISHED = f"{BUILD}/published.json"
LEASE = f"{BUILD}/lease"
TOKENS = f"{BUILD}/token"  # of the build that may write here; see `Workspace`
STAGED = f"{BUILD}/staged"
FINISHED = f"{BUILD}/finished"
TEMPORARIES = f"{BUILD}/temporary"
SCRATCH = f"{BUILD}/scratch"  # temporary files of TensorFlow
DATAFLOW = f"{BUILD}/dataflow"  # what a remote service keeps for itself
_RECEIPT = ".json"  # after the name of the shard
_TOKEN = re.compile(rf"{TOKENS}/[0-9a-f]{{32}}")


def token_file(token: str) -> str:
    """The name of the file that stands for the token, 32 hexadecimal digits."""
    return f"{TOKENS}/{token}"


def is_token(name: str) -> bool:
    """Whether the file `name`, below the data set's folder, stands for a token."""
    return _TOKEN.fullmatch(name) is not None


def staged_receipt(file: str) -> str:
    """The name of the receipt of the staged shard `file`."""
    return f"{STAGED}/{file}{_RECEIPT}"


def finished_receipt(file: str) -> str:
    """The name of the receipt of the finished shard `file`."""
    return f"{FINISHED}/{file}{_RECEIPT}"


def is_receipt(name: str) -> bool:
    """Whether the file `name`, below the data set's folder, is a shard's receipt."""
    return name.startswith((f"{STAGED}/", f"{FINISHED}/")) and name.endswith(f".tfrecord{_RECEIPT}")


def names_of_shard(file: str) -> tuple[str, str, str]:
    """The files of the shard `file` in BUILD: the staged shard, and both receipts."""
    return f"{STAGED}/{file}", staged_receipt(file), finished_receipt(file)
