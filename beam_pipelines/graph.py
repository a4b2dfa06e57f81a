"""The pipeline: stages shards, combines their moments and statistics, normalizes the shards, publishes the data set."""

from __future__ import annotations

from collections.abc import Iterator

import apache_beam as beam
from apache_beam.metrics import Metrics

from beam_pipelines import machine
from beam_pipelines.card.indexes import statistics_of_shard
from beam_pipelines.card.statistics import CombineStatisticsFn
from beam_pipelines.card.statistics_file import to_json
from beam_pipelines.contract.manifest import Manifest
from beam_pipelines.contract.moments import Moments
from beam_pipelines.errors import BuildError
from beam_pipelines.files.workspace import Workspace
from beam_pipelines.pixels.conform import Sample
from beam_pipelines.pixels.measure import CombineClassPixelsFn, CombineMomentsFn
from beam_pipelines.recipe import Recipe
from beam_pipelines.rejects import Rejected
from beam_pipelines.shards import duplicate_search, plan
from beam_pipelines.shards.duplicate_search import LISTED, Duplicate, Findings, Picture
from beam_pipelines.shards.finish import finish_shard
from beam_pipelines.shards.plan import ShardPlan, ShardReference
from beam_pipelines.shards.publish import Limits, publish
from beam_pipelines.shards.receipts import StagedShard
from beam_pipelines.shards.stage import file_reader, stage_shard
from beam_pipelines.shards.written import WrittenShard

METRICS = "beam_pipelines"


def build_dataset(
    root: beam.Pipeline, recipe: Recipe, workspace: Workspace, limits: Limits, started: float
) -> beam.PCollection[Manifest]:
    """The whole graph. `started` is the time.time() at which the command began."""
    staged = root | "ListShards" >> ListShards(workspace.plan) | "StageShards" >> StageShards(recipe, workspace)
    moments = staged | "CombineMoments" >> CombineMoments(recipe)
    class_pixels = staged | "CombineClassPixels" >> CombineClassPixels()
    written = staged | "FinishShards" >> FinishShards(recipe, workspace, moments)
    statistics = written | "CombineStatistics" >> CombineStatistics(recipe, workspace)
    found = written | "FindDuplicates" >> FindDuplicates(workspace)
    publishing = PublishDataset(recipe, workspace, moments, class_pixels, statistics, found, limits, started)
    return written | "PublishDataset" >> publishing


class ListShards(beam.PTransform):
    """The plan's file -> ShardReference of every shard, spread over the workers. No path crosses a shuffle."""

    def __init__(self, plan_path: str) -> None:
        super().__init__()
        self._plan_path = plan_path

    def expand(self, root: beam.Pipeline) -> beam.PCollection[ShardReference]:
        paths = root | "PlanFile" >> beam.Create([self._plan_path])
        return paths | "ReadPlan" >> beam.FlatMap(plan.list_shards) | "Spread" >> beam.Reshuffle()


class StageShards(beam.PTransform):
    """ShardReference -> StagedShard: its pairs decoded once, conformed, counted, and written without normalization."""

    def __init__(self, recipe: Recipe, workspace: Workspace) -> None:
        super().__init__()
        self._recipe, self._workspace = recipe, workspace

    def expand(self, shards: beam.PCollection[ShardReference]) -> beam.PCollection[StagedShard]:
        return shards | "Stage" >> beam.ParDo(StageShardFn(self._recipe, self._workspace))


class CombineMoments(beam.PTransform):
    """StagedShard -> the Moments of the recipe's `moments_split`, or those of another data set."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self._split, self._borrowed = recipe.moments_split, recipe.moments_from

    def expand(self, staged: beam.PCollection[StagedShard]) -> beam.PCollection[Moments]:
        if self._borrowed:
            return staged.pipeline | "Borrowed" >> beam.Create([self._borrowed.moments])
        of_split = staged | "OfSplit" >> beam.Filter(lambda shard, split: shard.split == split, self._split)
        return of_split | "Moments" >> beam.Map(lambda shard: shard.moments) | beam.CombineGlobally(CombineMomentsFn())


class CombineClassPixels(beam.PTransform):
    """StagedShard -> (split, int64[256] pixels of each train id)."""

    def expand(self, staged: beam.PCollection[StagedShard]) -> beam.PCollection:
        pixels = staged | "BySplit" >> beam.Map(lambda shard: (shard.split, shard.class_pixels))
        return pixels | beam.CombinePerKey(CombineClassPixelsFn())


class CombineStatistics(beam.PTransform):
    """WrittenShard -> the text of the card's `statistics.json`, from the indexes of the shards."""

    def __init__(self, recipe: Recipe, workspace: Workspace) -> None:
        super().__init__()
        self._classes, self._workspace = recipe.labels.num_classes, workspace

    def expand(self, written: beam.PCollection[WrittenShard]) -> beam.PCollection[str]:
        read = beam.Map(
            lambda shard, *place: (shard.split, statistics_of_shard(shard.shard.file, *place)),
            self._workspace,
            self._classes,
        )
        splits = written | "ReadIndexes" >> read | beam.CombinePerKey(CombineStatisticsFn(self._classes))
        return splits | beam.combiners.ToDict() | "Text" >> beam.Map(to_json)


class FinishShards(beam.PTransform):
    """StagedShard -> WrittenShard, normalized; without normalization the staged shard is the final one."""

    def __init__(self, recipe: Recipe, workspace: Workspace, moments: beam.PCollection[Moments]) -> None:
        super().__init__()
        self._recipe, self._workspace, self._moments = recipe, workspace, moments

    def expand(self, staged: beam.PCollection[StagedShard]) -> beam.PCollection[WrittenShard]:
        if not self._recipe.normalized:
            return staged | "AsWritten" >> beam.Map(lambda shard: WrittenShard.of(shard, shard.shard, shard.crc32c))
        finish = FinishShardFn(self._recipe, self._workspace)
        return staged | "Normalize" >> beam.ParDo(finish, beam.pvalue.AsSingleton(self._moments))


class FindDuplicates(beam.PTransform):
    """All WrittenShards -> the Findings. Keys, names and hashes from the indexes cross shuffles."""

    def __init__(self, workspace: Workspace) -> None:
        super().__init__()
        self._workspace = workspace

    def expand(self, written: beam.PCollection[WrittenShard]) -> beam.PCollection[Findings]:
        files = written | "Files" >> beam.Map(lambda shard: shard.shard.file)
        pictures = files | "ReadIndexes" >> beam.FlatMap(duplicate_search.read_pictures, self._workspace)
        return pictures | "PairDuplicates" >> PairDuplicates() | "Summarize" >> SummarizeDuplicates()


class PairDuplicates(beam.PTransform):
    """Picture -> Duplicate, once for two examples: compares those that share a digest, or a band of their hashes."""

    def expand(self, pictures: beam.PCollection[Picture]) -> beam.PCollection[Duplicate]:
        equal = pictures | "ByDigest" >> beam.WithKeys(lambda picture: picture.digest) | "Equal" >> beam.GroupByKey()
        exact = equal | "PairEqual" >> beam.FlatMapTuple(lambda _, group: duplicate_search.equal_pairs(group))
        others = equal | "OneOfEach" >> beam.FlatMapTuple(lambda _, group: duplicate_search.representatives(group))
        buckets = others | "Buckets" >> beam.FlatMap(duplicate_search.buckets_of) | "Alike" >> beam.GroupByKey()
        pairs = buckets | "PairNear" >> beam.FlatMapTuple(
            lambda key, bucket: duplicate_search.near_pairs(key[0], bucket)
        )
        by_keys = pairs | "ByKeys" >> beam.WithKeys(lambda pair: (pair.one.key, pair.other.key))
        near = by_keys | "Closest" >> beam.CombinePerKey(duplicate_search.closest) | "Near" >> beam.Values()
        return (exact, near) | "Pairs" >> beam.Flatten()


class SummarizeDuplicates(beam.PTransform):
    """Duplicate -> the Findings: exact counts, and the first pairs in their order."""

    def expand(self, pairs: beam.PCollection[Duplicate]) -> beam.PCollection[Findings]:
        kinds = pairs | "Kinds" >> beam.Map(lambda pair: (pair.place, pair.kind)) | beam.combiners.Count.PerElement()
        leaks = pairs | "Leaks" >> beam.FlatMap(duplicate_search.leaked_examples) | "Once" >> beam.CombinePerKey(max)
        examples = leaks | "Examples" >> beam.Values() | "Sum" >> beam.CombineGlobally(sum)
        first = pairs | "First" >> beam.combiners.Top.Of(LISTED, key=lambda pair: pair.rank, reverse=True)
        return first | "Findings" >> beam.Map(
            lambda listed, kinds, leaks: Findings.of(kinds, leaks, listed),
            beam.pvalue.AsDict(kinds),
            beam.pvalue.AsSingleton(examples),
        )


class PublishDataset(beam.PTransform):
    """All WrittenShards -> the Manifest, written last."""

    def __init__(
        self,
        recipe: Recipe,
        workspace: Workspace,
        moments: beam.PCollection[Moments],
        class_pixels: beam.PCollection,
        statistics: beam.PCollection[str],
        findings: beam.PCollection[Findings],
        limits: Limits,
        started: float,
    ) -> None:
        super().__init__()
        self._recipe, self._workspace = recipe, workspace
        self._moments, self._class_pixels = moments, class_pixels
        self._statistics, self._findings = statistics, findings
        self._limits, self._started = limits, started

    def expand(self, written: beam.PCollection[WrittenShard]) -> beam.PCollection[Manifest]:
        everything = written | "Gather" >> beam.combiners.ToList()
        return everything | "Publish" >> beam.Map(
            publish,
            beam.pvalue.AsSingleton(self._moments),
            beam.pvalue.AsDict(self._class_pixels),
            beam.pvalue.AsSingleton(self._statistics),
            beam.pvalue.AsSingleton(self._findings),
            recipe=self._recipe,
            workspace=self._workspace,
            limits=self._limits,
            started=self._started,
        )


class StageShardFn(beam.DoFn):
    """Decodes, conforms and counts a shard's pairs; counts images, rejects by reason, bytes and milliseconds."""

    def __init__(self, recipe: Recipe, workspace: Workspace) -> None:
        self._recipe, self._workspace = recipe, workspace

    def setup(self) -> None:
        machine.keep_freed_memory()
        self._reader = file_reader(self._recipe)
        self._images = Metrics.counter(METRICS, "images")
        self._bytes = Metrics.counter(METRICS, "staged_bytes")
        self._milliseconds = Metrics.distribution(METRICS, "decode_milliseconds")

    def process(self, reference: ShardReference) -> Iterator[StagedShard]:
        staged = stage_shard(self._planned(reference), self._recipe, self._workspace, self._reader, self._count)
        self._bytes.inc(staged.shard.bytes)
        yield staged

    def teardown(self) -> None:
        self._reader.close()

    def _planned(self, reference: ShardReference) -> ShardPlan:
        try:
            return plan.read_shard(reference)
        except (BuildError, FileNotFoundError):
            self._workspace.check()  # the plan may be that of another build
            raise

    def _count(self, sample: Sample | Rejected, seconds: float) -> None:
        self._milliseconds.update(round(seconds * 1000))
        if isinstance(sample, Rejected):
            Metrics.counter(METRICS, f"rejected_{sample.reason}").inc()
        else:
            self._images.inc()


class FinishShardFn(beam.DoFn):
    """Normalizes staged shards into their final files; counts images and bytes."""

    def __init__(self, recipe: Recipe, workspace: Workspace) -> None:
        self._recipe, self._workspace = recipe, workspace

    def setup(self) -> None:
        machine.keep_freed_memory()
        self._images = Metrics.counter(METRICS, "normalized_images")
        self._bytes = Metrics.counter(METRICS, "written_bytes")

    def process(self, staged: StagedShard, moments: Moments) -> Iterator[WrittenShard]:
        written = finish_shard(staged, moments, self._recipe, self._workspace)
        self._images.inc(written.shard.examples)
        self._bytes.inc(written.shard.bytes)
        yield written
