"""The result of a check: a line for people, with a status for scripts."""

from __future__ import annotations

from dataclasses import dataclass

OK, WARNING, FAILURE, SKIPPED = STATUSES = ("ok", "warning", "failure", "skipped")


@dataclass(frozen=True)
class Finding:
    """A result. `message` is a sentence, with a fix for a problem; `name` is the subject, by default the check."""

    status: str
    message: str
    name: str = ""

    def __str__(self) -> str:
        return f"{self.status:<9}{self.name:<17}{' '.join(self.message.split())}"
