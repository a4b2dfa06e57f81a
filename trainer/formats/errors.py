"""Why a model does not become a file for another runtime."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

from beam_pipelines.contract.errors import UserError


class FormatError(UserError, ValueError):
    """A model that can't be written in a format, or is not what a data set needs; the message says how to fix it."""


class UnsupportedOperationError(FormatError):
    """A model with operations that a format lacks: `operations` are their names in TensorFlow."""

    def __init__(self, title: str, operations: Iterable[str], where: str = "") -> None:
        self.operations = tuple(sorted(set(operations)))
        names = ", ".join(self.operations)
        super().__init__(
            f"{title} can't express the operation{'s' * (len(self.operations) > 1)} {names}{where and f' ({where})'}: "
            "export a SavedModel (--format=savedmodel), which takes every operation, or build the model of other layers"
        )


@contextlib.contextmanager
def needed_packages(title: str) -> Iterator[None]:
    """Turns a failing import of what the extra `export` installs into a FormatError."""
    try:
        yield
    except ImportError as error:
        raise FormatError(
            f"{title} needs packages that are not installed ({error}): pip install 'street-scenes[export]'"
        ) from error
