"""What ends a launch, as a sentence for people."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator


class LaunchError(RuntimeError):
    """A reason to stop that the user can do something about. The message says what was found and what to do."""


@contextlib.contextmanager
def missing_packages() -> Iterator[None]:
    """Turns an import that fails into a LaunchError that says what to install."""
    try:
        yield
    except ImportError as error:
        raise LaunchError(f"a package is missing here ({error}): pip install '.[launch]'") from error
