"""What a training run has done so far: what `run` returns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class History:
    """What a run has done so far, now and in earlier calls.

    Attributes:
      step: number of updates.
      rows: the lines of metrics.jsonl, see `trainer.training.journal.Row`; empty on hosts other than the chief.
      best_step: step of the best model by the validation split; None if none was scored.
      best_mean_iou: its mean IoU there, from 0 to 1; None if none was scored.
      why_stopped: what ended the training before its last update, as part of a sentence; None if nothing did.
      signal: number of the signal that stopped the run, which can be resumed; None if it is complete.
    """

    step: int
    rows: Sequence[Mapping[str, Any]]
    best_step: int | None = None
    best_mean_iou: float | None = None
    why_stopped: str | None = None
    signal: int | None = None

    @property
    def is_complete(self) -> bool:
        """Whether the run is trained, evaluated and exported."""
        return self.signal is None

    @property
    def stopped_early(self) -> bool:
        """Whether `--patience` or a callback ended the training."""
        return self.why_stopped is not None

    @property
    def exit_code(self) -> int:
        """Of `trainer.task`: 0, or 128 + the signal."""
        return 0 if self.signal is None else 128 + self.signal

    @property
    def losses(self) -> dict[int, float | None]:
        """Step -> mean training loss of the updates since the step before it."""
        return self._by_step("train", "loss")

    @property
    def val_losses(self) -> dict[int, float | None]:
        """Step -> loss on the validation split."""
        return self._by_step("val", "loss")

    @property
    def val_mean_iou(self) -> dict[int, float | None]:
        """Step -> mean IoU on the validation split, from 0 to 1."""
        return self._by_step("val", "mean_iou")

    def _by_step(self, split: str, name: str) -> dict[int, float | None]:
        return {row["step"]: row[name] for row in self.rows if row["split"] == split}
