"""`python -m trainer.task`: from a data set to a trained, evaluated and exported model."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from trainer.config import parse_train
from trainer.console import run_command


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 trained, 1 it failed, 128 + the signal's number where a signal stopped it
    and its state was kept, 2 (SystemExit) the arguments are wrong.
    """
    config = parse_train(argv)

    def work() -> int:
        from trainer.training.run import run

        return run(config)

    def check() -> None:
        from trainer.data.manifest import check_local

        check_local(config.places.dataset, filter(None, (config.data.train_split, config.data.val_split)))

    less_memory = (
        "Try a smaller --batch_per_replica with --accumulate; or, with another --output, a smaller --crop_size or "
        "--precision=bfloat16"
    )
    return run_command(
        work,
        check=check,
        verbose=config.reporting.verbose,
        less_memory=less_memory,
        hosts=config.cluster.workers,
    )


if __name__ == "__main__":
    sys.exit(main())
