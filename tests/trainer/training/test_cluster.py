from __future__ import annotations

import json
from typing import Any

import pytest

from trainer.cluster import Cluster, ClusterError, parse_cluster

# As Vertex AI writes it, with the addresses that its machines have.
POOLS = {
    "workerpool0": ["cmle-training-workerpool0-ab-0:2222"],
    "workerpool1": ["cmle-training-workerpool1-ab-0:2222", "cmle-training-workerpool1-ab-1:2222"],
}
HOSTS = {"chief": tuple(POOLS["workerpool0"]), "worker": tuple(POOLS["workerpool1"])}
CHIEF_AND_WORKERS = {"chief": ["a:2222"], "worker": ["b:2222", "c:2222"]}


def of_tf_config(cluster: Any, kind: str = "worker", index: Any = 0) -> Cluster:
    return parse_cluster({"TF_CONFIG": json.dumps({"cluster": cluster, "task": {"type": kind, "index": index}})})


def of_cluster_spec(pools: dict[str, list[str]], kind: str, index: int) -> Cluster:
    value = {
        "cluster": pools,
        "environment": "cloud",
        "task": {"type": kind, "index": index, "trial": "TRIAL_ID"},
        "job": '{"worker_pool_specs": []}',
    }
    return parse_cluster({"CLUSTER_SPEC": json.dumps(value)})


def refusal_of(text: str, name: str = "TF_CONFIG") -> str:
    with pytest.raises(ClusterError) as refused:
        parse_cluster({name: text})
    return str(refused.value)


@pytest.mark.parametrize(
    "environment",
    [{}, {"TF_CONFIG": ""}, {"TF_CONFIG": "{}"}, {"CLUSTER_SPEC": '{"cluster": {}, "task": {}}'}, {"PATH": "/bin"}],
)
def test_without_a_description_this_host_is_alone(environment: dict[str, str]):
    found = parse_cluster(environment)
    assert found == Cluster()
    assert (found.workers, found.is_chief) == (1, True)


@pytest.mark.parametrize(("kind", "index", "chief"), [("chief", 0, True), ("worker", 0, False), ("worker", 1, False)])
def test_the_chief_is_chief_where_there_is_one(kind: str, index: int, chief: bool):
    found = of_tf_config(CHIEF_AND_WORKERS, kind, index)
    assert found == Cluster(hosts={"chief": ("a:2222",), "worker": ("b:2222", "c:2222")}, kind=kind, index=index)
    assert (found.workers, found.is_chief) == (3, chief)


@pytest.mark.parametrize("index", [0, 1])
def test_the_first_worker_is_chief_where_there_is_none(index: int):
    found = of_tf_config({"worker": ["b:2222", "c:2222"]}, "worker", index)
    assert (found.workers, found.is_chief) == (2, index == 0)


def test_parameter_servers_and_evaluators_do_not_count():
    pools = {**CHIEF_AND_WORKERS, "ps": ["d:2222"], "evaluator": ["e:2222"], "worker": []}
    found = of_tf_config(pools, "chief")
    assert found.hosts == {"chief": ("a:2222",)}
    assert (found.workers, found.is_chief) == (1, True)


@pytest.mark.parametrize("kind", ["ps", "evaluator"])
def test_parameter_servers_and_evaluators_have_nothing_to_do(kind: str):
    text = json.dumps({"cluster": {"chief": ["a:1"], kind: ["d:1"]}, "task": {"type": kind, "index": 0}})
    found = refusal_of(text)
    assert f"has the task {kind} 0, but its cluster is {{'chief': ('a:1',)}}" in found
    assert "set the same cluster on each host" in found


@pytest.mark.parametrize(
    ("pool", "index", "kind", "chief"),
    [("workerpool0", 0, "chief", True), ("workerpool1", 0, "worker", False), ("workerpool1", 1, "worker", False)],
)
def test_the_pools_of_vertex_are_chief_and_workers(pool: str, index: int, kind: str, chief: bool):
    found = of_cluster_spec(POOLS, pool, index)
    assert found == Cluster(hosts=HOSTS, kind=kind, index=index)
    assert (found.workers, found.is_chief) == (3, chief)


def test_one_replica_on_vertex_is_a_single_host():
    found = of_cluster_spec({"workerpool0": POOLS["workerpool0"]}, "workerpool0", 0)
    assert (found.workers, found.is_chief) == (1, True)


def test_pools_of_parameter_servers_and_evaluators_do_not_count():
    pools = {**POOLS, "workerpool2": ["ps:2222"], "workerpool3": ["evaluator:2222"]}
    assert of_cluster_spec(pools, "workerpool1", 1).hosts == HOSTS
    with pytest.raises(ClusterError, match="CLUSTER_SPEC has the task workerpool3 0, but its cluster is"):
        of_cluster_spec(pools, "workerpool3", 0)


def test_tf_config_wins_over_cluster_spec():
    tf_config = {"cluster": {"worker": ["b:1", "c:1"]}, "task": {"type": "worker", "index": 1}}
    cluster_spec = {"cluster": POOLS, "task": {"type": "workerpool0", "index": 0}}
    found = parse_cluster({"TF_CONFIG": json.dumps(tf_config), "CLUSTER_SPEC": json.dumps(cluster_spec)})
    assert (found.kind, found.index, found.workers) == ("worker", 1, 2)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "Expecting property name"),
        ("[]", "'list' object has no attribute 'get'"),
        ('{"cluster": 5}', "'int' object is not iterable"),
        ('{"cluster": {"worker": "b:1"}}', "worker is 'b:1', not a list of addresses"),
        ('{"cluster": {"worker": 2}}', "worker is 2, not a list of addresses"),
        ('{"cluster": {"worker": ["b:1"]}, "task": {"index": "first"}}', "invalid literal for int()"),
        ('{"cluster": {"worker": ["b:1"]}, "task": {"index": null}}', "int() argument must be"),
    ],
)
@pytest.mark.parametrize("name", ["TF_CONFIG", "CLUSTER_SPEC"])
def test_what_is_no_description_is_shown(name: str, text: str, reason: str):
    found = refusal_of(text, name)
    assert found.startswith(f"{name} is not a description of a cluster ({reason}")
    assert found.endswith(f": {text}")


@pytest.mark.parametrize("index", [2, -1])
def test_a_task_must_be_in_the_cluster(index: int):
    hosts = "{'chief': ('a:2222',), 'worker': ('b:2222', 'c:2222')}"
    with pytest.raises(ClusterError) as refused:
        of_tf_config(CHIEF_AND_WORKERS, "worker", index)
    assert f"has the task worker {index}, but its cluster is {hosts}" in str(refused.value)
    assert "set the same cluster on each host" in str(refused.value)


def test_there_is_one_chief_at_most():
    with pytest.raises(ClusterError, match=r"^TF_CONFIG has 2 chiefs: "):
        of_tf_config({"chief": ["a:1", "b:1"]}, "chief", 1)
