"""`python -m beam_pipelines.card DATASET`: writes the card of a data set again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from beam_pipelines import stopping  # imports nothing slow: signals are handled after this

if TYPE_CHECKING:
    from rich.console import Console

    from beam_pipelines.files.workspace import Workspace


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 if the card is written, 1 if there is no data set or an error, 2 (SystemExit) if the
    arguments are wrong.

    As a command it also exits with 128 + the number of the signal that stopped it.
    """
    from beam_pipelines.options import card_parser, parse_card

    parser = card_parser()
    if not parser.parse_args(argv).dataset:
        parser.error("DATASET is empty: give the folder of a data set")
    settings = parse_card(argv)
    # Beam takes a second to import; --help exits before that.
    from beam_pipelines import runners

    return runners.guarded(lambda console: write_card(settings.dataset, console), settings.verbose)


def write_card(dataset: str, console: Console) -> int:
    """Writes it, says where, and returns 0. Raises BuildError or ManifestError."""
    from beam_pipelines.card import files
    from beam_pipelines.errors import BuildError
    from beam_pipelines.files import cloud, lease, storage
    from beam_pipelines.files.workspace import Workspace, read_manifest
    from beam_pipelines.report import readable
    from beam_pipelines.shards import ownership

    place = Workspace(dataset)
    cloud.check_login(place.root)
    manifest = read_manifest(place)
    if manifest is None:
        raise BuildError(_missing(place))
    ownership.claim(place, overwrite=False)
    with lease.hold(place.lease):
        unfinished = storage.exists(place.journal)
        files.write_again(manifest, place)
        if not unfinished:  # or else the command that builds it tidies up, and checks the shards first
            ownership.finish(place)
    console.print(f"{place.card_page} ({readable(storage.size_of(place.card_page) or 0)})", highlight=False)
    return 0


def _missing(place: Workspace) -> str:
    """Why there is no data set at `place`, and what helps."""
    from beam_pipelines.contract.manifest import FILE_NAME, not_built
    from beam_pipelines.files import storage

    if storage.exists(place.journal):
        return not_built(place.root)
    cure = "give the folder that `python -m beam_pipelines.build` wrote a data set to"
    if storage.is_local(place.root) and not storage.is_there(place.root):
        return f"{place.root} does not exist: {cure}"
    return f"{place.root} has no {FILE_NAME}: there is no data set; {cure}"


if __name__ == "__main__":
    stopping.command(main)
