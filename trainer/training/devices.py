"""On what a run computes: the strategy, and the arithmetic of its batches."""

from __future__ import annotations

from dataclasses import dataclass

import keras
import tensorflow as tf

from beam_pipelines.contract.errors import UserError
from trainer.cluster import Cluster

OLDEST_KERAS = (3, 5)  # that trains several replicas as one: keras-team/keras pull request 19969


class DeviceError(UserError, ValueError):
    """Devices or batches that do not fit what was asked for; the message says what to do."""


@dataclass(frozen=True, kw_only=True)
class Batches:
    """`global_batch` images make an update: on each of `replicas` `per_replica` images, `accumulate` times."""

    replicas: int
    per_replica: int
    accumulate: int = 1

    @property
    def global_batch(self) -> int:
        return self.replicas * self.per_replica * self.accumulate


def make_strategy(
    kind: str = "auto", *, cluster: Cluster | None = None, logical_devices: int | None = None
) -> tf.distribute.Strategy:
    """The strategy of that kind, or with `auto` the one that fits what is there.

    To be called before anything else computes. `logical_devices` splits the CPU into so many, to try several replicas
    on a machine without GPUs.

    Raises:
      DeviceError: there is no such device, or no cluster.
    """
    if logical_devices:
        cut_cpu(logical_devices)
    strategy = _make(_fitting(cluster) if kind == "auto" else kind, cluster)
    if strategy.num_replicas_in_sync > 1 and tuple(map(int, keras.__version__.split(".")[:2])) < OLDEST_KERAS:
        raise DeviceError(f"Keras {keras.__version__} does not sum gradients over replicas: install Keras 3.5 or newer")
    return strategy


def _make(kind: str, cluster: Cluster | None) -> tf.distribute.Strategy:
    if kind == "multiworker":
        return _multiworker(cluster)
    if kind == "tpu":
        return _tpu()
    if kind == "mirrored":
        return tf.distribute.MirroredStrategy([device.name for device in devices()])
    return tf.distribute.OneDeviceStrategy(devices()[0].name)


def cut_cpu(parts: int) -> None:
    """Makes `parts` logical CPUs of the CPU. Raises DeviceError where TensorFlow has already computed on it."""
    (cpu,) = tf.config.list_physical_devices("CPU")
    if len(tf.config.get_logical_device_configuration(cpu) or [None]) == parts:
        return
    try:
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * parts)
    except RuntimeError as error:
        raise DeviceError(f"the CPU can't be split into {parts} devices any more: {error}") from error


def devices() -> list[tf.config.LogicalDevice]:
    """This host's GPUs, or without one its CPUs."""
    return list(tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU"))


def input_pipelines(strategy: tf.distribute.Strategy) -> int:
    """On how many hosts the strategy reads data."""
    seen: list[int] = []

    def pipeline(context: tf.distribute.InputContext) -> tf.data.Dataset:
        seen.append(context.num_input_pipelines)
        return tf.data.Dataset.range(1)

    strategy.distribute_datasets_from_function(pipeline)
    return seen[0]


def plan_batches(replicas: int, *, per_replica: int, global_batch: int | None, accumulate: int) -> Batches:
    """`per_replica` images on each device at a time, or what each gets of `global_batch`.

    Raises:
      DeviceError: `global_batch` can't be shared equally.
    """
    if global_batch is None:
        return Batches(replicas=replicas, per_replica=per_replica, accumulate=accumulate)
    share, rest = divmod(global_batch, replicas * accumulate)
    if rest or not share:
        factor = f"{replicas} replicas" + (f" x {accumulate} accumulated batches" if accumulate > 1 else "")
        raise DeviceError(
            f"--global_batch={global_batch} can't be shared equally by {factor}: give a multiple of "
            f"{replicas * accumulate}, or --batch_per_replica"
        )
    return Batches(replicas=replicas, per_replica=share, accumulate=accumulate)


def describe(strategy: tf.distribute.Strategy, batches: Batches) -> str:
    """One line: the devices, and the parts of a global batch."""
    kind = "TPU" if isinstance(strategy, tf.distribute.TPUStrategy) else devices()[0].device_type
    replicas = f"{batches.replicas} replica{'s' if batches.replicas > 1 else ''}"
    parts = f"{batches.replicas} x {batches.per_replica}" + (
        f" x {batches.accumulate} accumulated" if batches.accumulate > 1 else ""
    )
    name = type(strategy).__name__.replace("CollectiveAllReduceStrategy", "MultiWorkerMirroredStrategy")  # two names
    return f"{name}, {replicas} on {kind}; global batch {batches.global_batch} = {parts}"


def _fitting(cluster: Cluster | None) -> str:
    if cluster is not None and cluster.workers > 1:
        return "multiworker"
    if tf.config.list_physical_devices("TPU"):
        return "tpu"
    return "mirrored" if len(devices()) > 1 else "one"


def _multiworker(cluster: Cluster | None) -> tf.distribute.Strategy:
    if cluster is None or not cluster.hosts:
        raise DeviceError("several hosts need TF_CONFIG: set it on each of them, as Vertex AI does")
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
        tf.train.ClusterSpec({kind: list(addresses) for kind, addresses in cluster.hosts.items()}),
        task_type=cluster.kind,
        task_id=cluster.index,
        rpc_layer="grpc",
    )
    return tf.distribute.MultiWorkerMirroredStrategy(cluster_resolver=resolver)


def _tpu() -> tf.distribute.Strategy:
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver()
    except ValueError as error:
        raise DeviceError(f"no TPU was found ({error}); on a TPU VM set TPU_NAME=local") from error
    tf.config.experimental_connect_to_cluster(resolver)
    tf.tpu.experimental.initialize_tpu_system(resolver)
    return tf.distribute.TPUStrategy(resolver)
