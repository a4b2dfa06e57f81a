"""The devices of a run: the distribution strategy, and how a global batch is divided."""

from __future__ import annotations

from dataclasses import dataclass

import keras
import tensorflow as tf

from beam_pipelines.contract.errors import UserError
from trainer.cluster import Cluster

OLDEST_KERAS = (3, 5)  # sums gradients over replicas: keras-team/keras pull request 19969


class DeviceError(UserError, ValueError):
    """Devices that do not exist, or batches that do not fit them; the message says how to fix it."""


@dataclass(frozen=True, kw_only=True)
class Batches:
    """Each update takes `per_replica` images on each of `replicas` devices, `accumulate` times."""

    replicas: int
    per_replica: int
    accumulate: int = 1

    @property
    def global_batch(self) -> int:
        return self.replicas * self.per_replica * self.accumulate


def make_strategy(
    kind: str = "auto", *, cluster: Cluster | None = None, logical_devices: int | None = None
) -> tf.distribute.Strategy:
    """The strategy of a kind of `trainer.cluster.STRATEGIES`; `auto` chooses one for the cluster and the devices.

    Call it before TensorFlow computes anything.

    Args:
      logical_devices: split the CPU into this many devices, to try several replicas on a machine without GPUs.

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
    """Splits the CPU into `parts` logical devices. Raises DeviceError if TensorFlow has already initialized it."""
    (cpu,) = tf.config.list_physical_devices("CPU")
    if len(tf.config.get_logical_device_configuration(cpu) or [None]) == parts:
        return
    try:
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * parts)
    except RuntimeError as error:
        raise DeviceError(f"the CPU can no longer be split into {parts} devices: {error}; split it first") from error


def devices() -> list[tf.config.LogicalDevice]:
    """The GPUs of this host, or its CPUs if it has none."""
    return list(tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU"))


def input_pipelines(strategy: tf.distribute.Strategy) -> int:
    """The number of hosts on which the strategy reads data."""
    seen: list[int] = []

    def pipeline(context: tf.distribute.InputContext) -> tf.data.Dataset:
        seen.append(context.num_input_pipelines)
        return tf.data.Dataset.range(1)

    strategy.distribute_datasets_from_function(pipeline)
    return seen[0]


def plan_batches(replicas: int, *, per_replica: int, global_batch: int | None, accumulate: int) -> Batches:
    """Divides `global_batch` equally, or if it is None, gives each device `per_replica` images.

    Raises:
      DeviceError: `global_batch` can't be divided equally.
    """
    if global_batch is None:
        return Batches(replicas=replicas, per_replica=per_replica, accumulate=accumulate)
    share, rest = divmod(global_batch, replicas * accumulate)
    if rest or not share:
        factor = f"{replicas} replicas" + (f" x {accumulate} accumulated batches" if accumulate > 1 else "")
        raise DeviceError(
            f"--global_batch={global_batch} can't be divided equally by {factor}: set a multiple of "
            f"{replicas * accumulate}, or --batch_per_replica instead"
        )
    return Batches(replicas=replicas, per_replica=share, accumulate=accumulate)


def describe(strategy: tf.distribute.Strategy, batches: Batches) -> str:
    """The devices and the parts of a global batch, in one line."""
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
        raise DeviceError("--strategy=multiworker needs TF_CONFIG: set it on each host, as Vertex AI does")
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
