"""What a report is made of."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import keras

    from trainer.data.dataset import Split
    from trainer.evaluation.evaluated import Evaluation
    from trainer.evaluation.examples import Examples
    from trainer.evaluation.sizes import Sizes
    from trainer.inference.model_file import Description


@dataclass(frozen=True, kw_only=True, eq=False)
class Report:
    """The data of a report.

    Attributes:
      evaluation: of `model` on `split`, on one host.
      description: what the model was trained on; None if unknown.
      rows: the rows of the run's metrics.jsonl; empty if there are none.
      config: the content of the run's config.json; empty if there is none.
      run: the folder of the model, if the report is not in it: where rows and config come from.
      is_kept: whether the data set is there after the evaluation.
    """

    evaluation: Evaluation
    split: Split
    model: keras.Model
    description: Description | None
    rows: Sequence[Mapping[str, Any]]
    config: Mapping[str, Any]
    run: str | None = None
    is_kept: bool = True

    @property
    def about(self) -> str:
        return f"{self.evaluation.split}, {len(self.evaluation.images.filenames):,} images"

    @functools.cached_property
    def examples(self) -> Examples:
        from trainer.evaluation.examples import pick_examples

        return pick_examples(self.evaluation, self.split, self.model, self.description)

    @functools.cached_property
    def sizes(self) -> Sizes:
        from trainer.evaluation.sizes import Sizes
        from trainer.inference.model_file import Description

        manifest = self.split.manifest
        return Sizes.of(manifest, self.description or Description.of("", manifest), self.evaluation.views)

    @property
    def was_trained_on(self) -> bool | None:
        """Whether the model was trained on the split; None if that can't be told, as of another data set."""
        config, manifest = self.config.get("config", {}), self.split.manifest
        is_trained = self.description is not None and self.description.dataset == manifest.fingerprint
        if not is_trained and self.split.folder not in config.get("other_datasets", ()):
            return None
        return bool(self.evaluation.split == config.get("train_split", manifest.main_split))
