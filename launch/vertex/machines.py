"""The machines of Vertex AI by accelerator.

From https://cloud.google.com/vertex-ai/docs/training/configure-compute: most machine types have a fixed number of GPUs,
and a request must name both.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from launch.errors import LaunchError
from launch.vertex import machine_types

CPU = "none"
DEFAULT_ACCELERATOR = "NVIDIA_L4"


@dataclass(frozen=True)
class Accelerator:
    """The hosts with an accelerator, and its quota.

    Attributes:
      machine_types: number of accelerators in a host -> the machine type of the host.
      quota: suffix of the quota for custom training, after `custom_model_training_` (on spot machines
        `custom_model_training_preemptible_`), as in common_util.py of Google's vertex-ai-samples; None for no quota.
    """

    machine_types: Mapping[int, str]
    quota: str | None


ACCELERATORS = {
    CPU: Accelerator({0: "n2-standard-16"}, None),
    "NVIDIA_TESLA_T4": Accelerator({1: "n1-standard-8", 2: "n1-standard-16", 4: "n1-standard-32"}, "nvidia_t4_gpus"),
    "NVIDIA_L4": Accelerator({n: f"g2-standard-{12 * n}" for n in (1, 2, 4, 8)}, "nvidia_l4_gpus"),
    "NVIDIA_TESLA_A100": Accelerator({n: f"a2-highgpu-{n}g" for n in (1, 2, 4, 8)}, "nvidia_a100_gpus"),
    "NVIDIA_A100_80GB": Accelerator({n: f"a2-ultragpu-{n}g" for n in (1, 2, 4, 8)}, "nvidia_a100_80gb_gpus"),
    "NVIDIA_H100_80GB": Accelerator({n: f"a3-highgpu-{n}g" for n in (1, 2, 4, 8)}, "nvidia_h100_gpus"),
    "TPU_V2": Accelerator({8: "cloud-tpu"}, "tpu_v2"),
    "TPU_V3": Accelerator({8: "cloud-tpu"}, "tpu_v3"),
    "TPU_V5_LITEPOD": Accelerator({n: f"ct5lp-hightpu-{n}t" for n in (1, 4, 8)}, "tpu_v5e"),
}
# Those of the table, and others that a machine type can have.
_OTHERS = (*machine_types.ATTACHED, *(name for name, _ in machine_types.FIXED.values()), "NVIDIA_RTX_PRO_6000")
_NAMES = tuple(dict.fromkeys((*ACCELERATORS, *_OTHERS)))
_V5E = "ct5lp-"
_TOPOLOGIES = {1: "1x1", 4: "2x2", 8: "2x4"}  # chips of a TPU_V5_LITEPOD -> their arrangement


@dataclass(frozen=True, kw_only=True)
class Machine:
    """One host: its machine type, and `count` accelerators of one kind; `accelerator` is `CPU` for none."""

    type: str
    accelerator: str
    count: int

    @property
    def is_tpu(self) -> bool:
        return self.accelerator.startswith("TPU_")

    @property
    def has_gpus(self) -> bool:
        return self.accelerator != CPU and not self.is_tpu

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables that TensorFlow needs on this machine."""
        if not self.is_tpu:
            return {}
        local = {"TPU_NAME": "local"}  # the TPU belongs to the host that runs the program
        if not self.type.startswith(_V5E):
            return local
        # https://cloud.google.com/vertex-ai/docs/training/training-with-tpu-vm; launch/Dockerfile.trainer has the file.
        return local | {
            "NEXT_PLUGGABLE_DEVICE_USE_C_API": "true",
            "TF_PLUGGABLE_DEVICE_LIBRARY_PATH": "/lib/libtpu.so",
        }

    def to_request(self) -> dict[str, Any]:
        """The MachineSpec of a request."""
        if self.accelerator == CPU:
            return {"machineType": self.type}
        if self.type.startswith(_V5E):  # type and topology determine the accelerators
            return {"machineType": self.type, "tpuTopology": _TOPOLOGIES[self.count]}
        return {"machineType": self.type, "acceleratorType": self.accelerator, "acceleratorCount": self.count}

    def __str__(self) -> str:
        return self.type + (f" with {self.count} x {self.accelerator}" if self.count else " without accelerators")


def choose_machine(accelerator: str, count: int | None = None, machine_type: str | None = None) -> Machine:
    """The machine with `count` accelerators; `machine_type` overrides the table.

    None is as many as `machine_type` has, or the smallest number.

    Raises:
      LaunchError: the table has no such machine and `machine_type` is None, or the three contradict each other.
    """
    if machine_type is not None:
        return _named_machine(machine_type, accelerator, count)
    known = ACCELERATORS[accelerator].machine_types if accelerator in ACCELERATORS else {}
    if not known:
        raise LaunchError(_not_in_the_table(accelerator))
    count = min(known) if count is None else count
    if count not in known:
        types = [name for name, row in machine_types.FIXED.items() if row == (accelerator, count)]
        more = f"; for {count} set --machine_type={types[0]} as well" if types else ": set one of these numbers"
        raise LaunchError(
            f"--accelerator_count={count}: machines have {', '.join(map(str, known))} of {accelerator}{more}"
        )
    return Machine(type=known[count], accelerator=accelerator, count=count)


def _not_in_the_table(accelerator: str) -> str:
    """The message about an accelerator that has no usual machine: its machine types, or that there is none."""
    if accelerator in machine_types.ATTACHED:
        return f"--accelerator={accelerator} has no usual machine: set --machine_type as well, such as n1-standard-8"
    types = [name for name, (found, _) in machine_types.FIXED.items() if found == accelerator]
    if accelerator in _OTHERS:
        such = f", {' or '.join(types)}" if types else ""
        return f"--accelerator={accelerator} has no usual machine: set --machine_type as well{such}"
    model = accelerator.rpartition("_")[2]  # V100 of NVIDIA_V100
    near = [name for name in _NAMES if model in name.split("_")] or difflib.get_close_matches(accelerator, _NAMES, 1)
    hint = f"; did you mean {near[0]}?" if near else ""
    return f"--accelerator={accelerator} is not one of {', '.join(_NAMES)}{hint}"


def _named_machine(machine_type: str, accelerator: str, count: int | None) -> Machine:
    if accelerator.startswith("TPU_"):
        raise LaunchError(
            f"--machine_type={machine_type}: the machine type of {accelerator} follows from --accelerator_count; leave "
            "out --machine_type"
        )
    if count is not None and (accelerator == CPU) != (count == 0):
        raise LaunchError(
            f"--accelerator={accelerator} and --accelerator_count={count} contradict each other; leave out one of them"
        )
    if accelerator == CPU:
        machine_types.check_without(machine_type)
        return Machine(type=machine_type, accelerator=CPU, count=0)
    if accelerator not in _NAMES:
        raise LaunchError(_not_in_the_table(accelerator))
    count = machine_types.count_on(machine_type, accelerator, count)
    return Machine(type=machine_type, accelerator=accelerator, count=count)
