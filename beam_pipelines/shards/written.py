"""What publishing needs to know of a final shard."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from beam_pipelines.contract import index
from beam_pipelines.contract.manifest import Shard
from beam_pipelines.shards.receipts import StagedShard


@dataclass(frozen=True)
class WrittenShard:
    """A final shard with what publishing needs: `rejected` counts its rejected pairs by reason, and `minus_ones` and
    `repairs` are the sums over its samples. `crc32c` is None if the shard is that of the data set before an update.
    """

    split: str
    shard: Shard
    crc32c: int | None
    heights: tuple[int, int]
    widths: tuple[int, int]
    rejected: Mapping[str, int]
    index_bytes: int
    index_crc32c: int
    minus_ones: int = 0
    repairs: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, staged: StagedShard, shard: Shard, crc32c: int | None) -> WrittenShard:
        return cls(
            split=staged.split,
            shard=shard,
            crc32c=crc32c,
            heights=staged.heights,
            widths=staged.widths,
            rejected=dict(Counter(rejected.reason for rejected in staged.rejected)),
            index_bytes=staged.index_bytes,
            index_crc32c=staged.index_crc32c,
            minus_ones=staged.minus_ones,
            repairs=staged.repairs,
        )

    @property
    def files(self) -> dict[str, tuple[int, int | None]]:
        """Name below the data set's folder -> (bytes, CRC-32C) of the shard and its index."""
        name = index.file_name(self.shard.file)
        return {self.shard.file: (self.shard.bytes, self.crc32c), name: (self.index_bytes, self.index_crc32c)}
