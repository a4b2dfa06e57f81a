"""`python -m beam_pipelines.verify DATASET`: reads a data set and checks it."""

from __future__ import annotations

from collections.abc import Sequence

from beam_pipelines import stopping  # imports nothing slow: signals are handled after this


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 if every check passed, 1 if one failed or there is no data set, 2 if an error kept it
    from checking or the arguments are wrong.

    As a command it also exits with 128 + the number of the signal that stopped it.
    """
    from beam_pipelines.options import parse_verify

    settings = parse_verify(argv)
    # Beam takes a second to import; --help exits before that.
    from beam_pipelines.verifier import run

    return run(settings)


if __name__ == "__main__":
    stopping.command(main)
