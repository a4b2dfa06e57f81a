"""`python -m trainer.task`: from a data set to a trained, evaluated and exported model."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from trainer.config import parse_train
from trainer.console import import_tensorflow, interruptible


@interruptible
def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 trained, 1 it failed, 128 + the signal's number where a signal stopped it
    and its state was kept, 2 (SystemExit) the arguments are wrong.
    """
    config = parse_train(argv)
    # TensorFlow takes seconds to import: --help and a mistyped option end before this.
    import_tensorflow(config.reporting.verbose)
    from trainer.training.run import run

    return run(config)


if __name__ == "__main__":
    sys.exit(main())
