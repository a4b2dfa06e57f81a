"""The hosts of a run and this process's task, as TF_CONFIG and Vertex AI's CLUSTER_SPEC describe them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from beam_pipelines.contract.errors import UserError

ONE_HOST_STRATEGIES = ("auto", "one", "mirrored", "tpu")  # of trainer.training.devices
STRATEGIES = (*ONE_HOST_STRATEGIES, "multiworker")

_KINDS = {"chief": "chief", "worker": "worker", "workerpool0": "chief", "workerpool1": "worker"}


class ClusterError(UserError, ValueError):
    """An invalid description of a cluster."""


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """The hosts of a run.

    Attributes:
      hosts: "chief" (at most one) and "worker" -> addresses; empty for a single host.
      kind, index: the task of this process.
    """

    hosts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    kind: str = "worker"
    index: int = 0

    @property
    def workers(self) -> int:
        return max(1, sum(map(len, self.hosts.values())))

    @property
    def is_chief(self) -> bool:
        """Whether this task writes files: the chief does, or the first worker if there is no chief."""
        return self.kind == "chief" or ("chief" not in self.hosts and self.index == 0)


def parse_cluster(environment: Mapping[str, str]) -> Cluster:
    """The cluster in TF_CONFIG, else in CLUSTER_SPEC, whose pools 0 and 1 are the chief and the workers.

    Parameter servers and evaluators are ignored: they take no part in synchronous training.

    Raises:
      ClusterError: the value is not JSON, or names a task that the cluster does not have.
    """
    for name in ("TF_CONFIG", "CLUSTER_SPEC"):
        if environment.get(name):
            return _cluster_of(name, environment[name])
    return Cluster()


def _cluster_of(name: str, text: str) -> Cluster:
    try:
        value: dict[str, Any] = json.loads(text)
        pools = dict(value.get("cluster") or {})
        task = dict(value.get("task") or {})
        kind, index = str(task.get("type", "worker")), int(task.get("index", 0))
        hosts = {_KINDS[pool]: _addresses(pool, pools[pool]) for pool in pools if pool in _KINDS and pools[pool]}
    except (ValueError, TypeError, AttributeError) as error:
        raise ClusterError(f"{name} is not a description of a cluster ({error}): {text}") from error
    if not hosts:
        return Cluster()
    kind = _KINDS.get(kind, kind)
    if not 0 <= index < len(hosts.get(kind, ())):
        raise ClusterError(
            f"{name} has the task {kind} {index}, but its cluster is {hosts}: set the same cluster on each host, with "
            "one of its tasks"
        )
    if len(hosts.get("chief", ())) > 1:
        raise ClusterError(f"{name} has {len(hosts['chief'])} chiefs: name at most one")
    return Cluster(hosts=hosts, kind=kind, index=index)


def _addresses(pool: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise TypeError(f"{pool} is {value!r}, not a list of addresses")
    return tuple(map(str, value))
