from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from tests.support.builds import PROJECT
from trainer.cluster import STRATEGIES, Cluster
from trainer.training.devices import Batches, DeviceError, cut_cpu, describe, devices, input_pipelines, make_strategy
from trainer.training.devices import plan_batches as plan

COUNTS = st.integers(1, 64)

# On two logical CPUs each kind of strategy adds up what its replicas return; then the CPU is cut once more.
TWO_CPUS = """
import json
import tensorflow as tf
from trainer.cluster import Cluster
from trainer.training.devices import DeviceError, describe, devices, input_pipelines, make_strategy, plan_batches

found = {}
for kind in ("auto", "mirrored", "one"):
    strategy = make_strategy(kind, cluster=Cluster(), logical_devices=2)
    replicas = strategy.num_replicas_in_sync
    ids = strategy.run(lambda: tf.distribute.get_replica_context().replica_id_in_sync_group + 1)
    batches = plan_batches(replicas, per_replica=3, global_batch=None, accumulate=1)
    found[kind] = [
        int(strategy.reduce("SUM", ids, axis=None)), input_pipelines(strategy), describe(strategy, batches),
    ]
found["devices"] = [device.name for device in devices()]
make_strategy("one", logical_devices=2)
try:
    make_strategy("one", logical_devices=3)
except DeviceError as error:
    found["refusal"] = str(error)
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def two_cpus() -> dict[str, Any]:
    """What TWO_CPUS found."""
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "2"}
    command = [sys.executable, "-c", TWO_CPUS]
    done = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@given(replicas=COUNTS, per_replica=COUNTS, accumulate=COUNTS)
def test_a_batch_of_each_replica_gives_the_global_batch(replicas: int, per_replica: int, accumulate: int):
    found = plan(replicas, per_replica=per_replica, global_batch=None, accumulate=accumulate)
    assert found == Batches(replicas=replicas, per_replica=per_replica, accumulate=accumulate)
    assert found.global_batch == sum(per_replica for _ in range(replicas) for _ in range(accumulate))


@given(replicas=st.integers(1, 8), accumulate=st.integers(1, 8), global_batch=st.integers(1, 256))
def test_a_global_batch_is_shared_equally_or_refused(replicas: int, accumulate: int, global_batch: int):
    if global_batch % (replicas * accumulate) == 0:
        found = plan(replicas, per_replica=99, global_batch=global_batch, accumulate=accumulate)
        assert (found.global_batch, found.replicas, found.accumulate) == (global_batch, replicas, accumulate)
    else:
        with pytest.raises(DeviceError, match=f"set a multiple of {replicas * accumulate}, or --batch_per_replica "):
            plan(replicas, per_replica=99, global_batch=global_batch, accumulate=accumulate)


@pytest.mark.parametrize(
    ("accumulate", "factor", "multiple"), [(1, "4 replicas", 4), (2, "4 replicas x 2 accumulated batches", 8)]
)
def test_the_refusal_of_a_global_batch_says_what_would_do(accumulate: int, factor: str, multiple: int):
    with pytest.raises(DeviceError) as refused:
        plan(4, per_replica=1, global_batch=18, accumulate=accumulate)
    told = f"--global_batch=18 can't be divided equally by {factor}: set a multiple of {multiple}, or "
    assert str(refused.value).startswith(f"{told}--batch_per_replica")


def test_the_strategies_of_two_cpus(two_cpus: dict[str, Any]):
    mirrored = "MirroredStrategy, 2 replicas on CPU; global batch 6 = 2 x 3"
    assert two_cpus["devices"] == ["/device:CPU:0", "/device:CPU:1"]
    assert two_cpus["mirrored"] == [1 + 2, 1, mirrored]
    assert two_cpus["auto"] == [1 + 2, 1, mirrored]
    assert two_cpus["one"] == [1, 1, "OneDeviceStrategy, 1 replica on CPU; global batch 3 = 1 x 3"]


def test_cpus_that_are_in_use_are_not_cut_again(two_cpus: dict[str, Any]):
    assert two_cpus["refusal"].startswith("the CPU can no longer be split into 3 devices: ")
    tf.constant(1) + 1
    with pytest.raises(
        DeviceError, match=r"^the CPU can no longer be split into 7 devices: .*cannot be modified after"
    ):
        cut_cpu(7)


def test_auto_takes_all_devices_of_this_host():
    strategy = make_strategy()
    assert strategy.num_replicas_in_sync == len(devices())
    assert input_pipelines(strategy) == 1


def test_one_device_is_named():
    strategy = make_strategy("one")
    assert isinstance(strategy, tf.distribute.OneDeviceStrategy)
    line = describe(strategy, Batches(replicas=1, per_replica=4, accumulate=8))
    kind = devices()[0].device_type
    assert line == f"OneDeviceStrategy, 1 replica on {kind}; global batch 32 = 1 x 4 x 8 accumulated"


@pytest.mark.parametrize("cluster", [None, Cluster()])
def test_several_hosts_must_know_of_each_other(cluster: Cluster | None):
    with pytest.raises(DeviceError) as refused:
        make_strategy("multiworker", cluster=cluster)
    assert "TF_CONFIG" in str(refused.value)


def test_a_tpu_must_be_there(monkeypatch: pytest.MonkeyPatch):
    for name in ("TPU_NAME", "KUBE_GOOGLE_CLOUD_TPU_ENDPOINTS"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(DeviceError, match=r"^no TPU was found \(.+\); on a TPU VM set TPU_NAME=local$"):
        make_strategy("tpu")


def test_every_kind_that_can_be_asked_for_is_tried_here():
    assert set(STRATEGIES) == {"auto", "one", "mirrored", "multiworker", "tpu"}
