"""`python -m beam_pipelines.card DATASET`: writes the card of a data set again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from beam_pipelines import stopping  # imports nothing slow: signals are handled after this

if TYPE_CHECKING:
    from rich.console import Console


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 if the card is written, 1 if there is no data set or an error, 2 (SystemExit) if the
    arguments are wrong.

    As a command it also exits with 128 + the number of the signal that stopped it.
    """
    from beam_pipelines.options import parse_card

    settings = parse_card(argv)
    # Beam takes a second to import; --help exits before that.
    from beam_pipelines import runners

    return runners.guarded(lambda console: write_card(settings.dataset, console), settings.verbose)


def write_card(dataset: str, console: Console) -> int:
    """Writes it, says where, and returns 0. Raises BuildError or ManifestError."""
    from beam_pipelines.card import files
    from beam_pipelines.contract.manifest import not_built
    from beam_pipelines.errors import BuildError
    from beam_pipelines.files import cloud, lease, storage
    from beam_pipelines.files.workspace import Workspace, read_manifest
    from beam_pipelines.report import readable
    from beam_pipelines.shards import ownership

    place = Workspace(dataset)
    cloud.check_login(place.root)
    manifest = read_manifest(place)
    if manifest is None:
        raise BuildError(not_built(dataset))
    ownership.claim(place, overwrite=False)
    with lease.hold(place.lease):
        unfinished = storage.exists(place.journal)
        files.write_again(manifest, place)
        if not unfinished:  # or else the command that builds it tidies up, and checks the shards first
            ownership.finish(place)
    console.print(f"{place.card_page} ({readable(storage.size_of(place.card_page) or 0)})", highlight=False)
    return 0


if __name__ == "__main__":
    stopping.command(main)
