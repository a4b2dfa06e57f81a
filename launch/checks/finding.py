"""What one check found: a line for people, and a status for scripts."""

from __future__ import annotations

from dataclasses import dataclass

OK, WARNING, FAILURE, SKIPPED = "ok", "warning", "failure", "skipped"


@dataclass(frozen=True)
class Finding:
    """`what` was looked at; `told` is one sentence, with the cure where something is wrong."""

    status: str
    what: str
    told: str

    def __str__(self) -> str:
        return f"{self.status:<9}{self.what:<16}{' '.join(self.told.split())}"
