"""What a check found: a line for people, with a status for scripts."""

from __future__ import annotations

from dataclasses import dataclass

OK, WARNING, FAILURE, SKIPPED = STATUSES = ("ok", "warning", "failure", "skipped")


@dataclass(frozen=True)
class Finding:
    """`message` is one sentence, with a fix if there is a problem; `name` is what was checked, the check if empty."""

    status: str
    message: str
    name: str = ""

    def __str__(self) -> str:
        return f"{self.status:<9}{self.name:<17}{' '.join(self.message.split())}"
