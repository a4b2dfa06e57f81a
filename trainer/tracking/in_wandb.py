"""A run in Weights & Biases, as its own settings say: WANDB_PROJECT, WANDB_MODE, `wandb login`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trainer.tracking import TrackingError
from trainer.tracking.facts import About, Record, Rows, metrics_of


class RunInWandb:
    """See `TrackedRun`. The key of the record is W&B's id; started again offline, it is another folder of the run."""

    def __init__(self, about: About, record: Record) -> None:
        import wandb

        is_offline = wandb.setup().settings.mode in ("offline", "dryrun")
        if wandb.setup().settings.mode in ("online", "run", "shared") and not wandb.login(prompt=False):
            raise TrackingError("W&B has no API key: `wandb login`, or WANDB_MODE=offline for files to sync later")
        record.id = record.key
        self._run: Any = wandb.init(
            id=record.key,
            name=about.name,
            config=dict(about.settings),
            resume=None if is_offline else "allow",
            allow_val_change=True,
            reinit="create_new",
            settings=wandb.Settings(console="off", silent=True),
        )
        self._run.define_metric("val/mean_iou", summary="max")
        self.place = self._run.url or self._run.dir.removesuffix("/files")

    def correct(self, record: Record) -> None:
        """Offline nothing is known; a step that W&B has already, it does not take again."""

    def log(self, rows: Rows) -> None:
        for row in rows:
            self._run.log(metrics_of(row), step=row["step"])  # both splits of a step make one line

    def keep(self, files: Mapping[str, str]) -> None:
        import wandb

        models = {name: path for name, path in files.items() if name.endswith(".keras")}
        others = {name: path for name, path in files.items() if name not in models}
        for kind, part in (("model", models), ("report", others)):
            artifact = wandb.Artifact(f"{kind}-{self._run.id}", type=kind)
            for name, path in part.items():
                artifact.add_file(path, name=name)
            self._run.log_artifact(artifact)

    def end(self, outcome: str) -> None:
        self._run.finish(exit_code=0 if outcome == "finished" else 1)
