"""`python -m beam_pipelines.labels INPUT`: what the masks hold, and a draft of a label table for them."""

from __future__ import annotations

from collections.abc import Sequence

from beam_pipelines import stopping  # imports nothing slow: signals are handled after this


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 if the draft is written or the table of --labels fits, 1 if it has a problem, 2 if an
    error kept it from counting or the arguments are wrong.

    As a command it also exits with 128 + the number of the signal that stopped it.
    """
    from beam_pipelines.options import parse_labels

    settings = parse_labels(argv)
    # Beam takes a second to import; --help exits before that.
    from beam_pipelines.drafter import run

    return run(settings)


if __name__ == "__main__":
    stopping.command(main)
