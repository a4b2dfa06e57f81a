"""Vertex AI's machines by the accelerators that they have.

After https://cloud.google.com/vertex-ai/docs/training/configure-compute: most machine types come with a fixed number of
GPUs, and a request must name both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from launch.errors import LaunchError

CPU = "none"

# Accelerator -> how many of them a host has -> its machine type.
MACHINES: dict[str, dict[int, str]] = {
    CPU: {0: "n2-standard-16"},
    "NVIDIA_TESLA_T4": {1: "n1-standard-8", 2: "n1-standard-16", 4: "n1-standard-32"},
    "NVIDIA_L4": {1: "g2-standard-12", 2: "g2-standard-24", 4: "g2-standard-48", 8: "g2-standard-96"},
    "NVIDIA_TESLA_A100": {count: f"a2-highgpu-{count}g" for count in (1, 2, 4, 8)},
    "NVIDIA_A100_80GB": {count: f"a2-ultragpu-{count}g" for count in (1, 2, 4, 8)},
    "NVIDIA_H100_80GB": {count: f"a3-highgpu-{count}g" for count in (1, 2, 4, 8)},
    "TPU_V2": {8: "cloud-tpu"},
    "TPU_V3": {8: "cloud-tpu"},
    "TPU_V5_LITEPOD": {1: "ct5lp-hightpu-1t", 4: "ct5lp-hightpu-4t", 8: "ct5lp-hightpu-8t"},
}
# Accelerator -> what Vertex AI's quota for it in custom training is called, after custom_model_training_ (with spot
# machines custom_model_training_preemptible_). After common_util.py of Google's vertex-ai-samples.
QUOTAS = {
    "NVIDIA_TESLA_T4": "nvidia_t4_gpus",
    "NVIDIA_L4": "nvidia_l4_gpus",
    "NVIDIA_TESLA_A100": "nvidia_a100_gpus",
    "NVIDIA_A100_80GB": "nvidia_a100_80gb_gpus",
    "NVIDIA_H100_80GB": "nvidia_h100_gpus",
    "TPU_V2": "tpu_v2",
    "TPU_V3": "tpu_v3",
    "TPU_V5_LITEPOD": "tpu_v5e",
}
_V5E = "ct5lp-"
_TOPOLOGIES = {1: "1x1", 4: "2x2", 8: "2x4"}  # of the chips of a TPU_V5_LITEPOD


@dataclass(frozen=True, kw_only=True)
class Machine:
    """One host: its type, and `count` accelerators of one kind; `accelerator` is `CPU` for none."""

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
        """What TensorFlow needs to know of it."""
        if not self.is_tpu:
            return {}
        local = {"TPU_NAME": "local"}  # it belongs to the host that the program runs on
        if not self.type.startswith(_V5E):
            return local
        # https://cloud.google.com/vertex-ai/docs/training/training-with-tpu-vm; our image has the file there.
        return local | {
            "NEXT_PLUGGABLE_DEVICE_USE_C_API": "true",
            "TF_PLUGGABLE_DEVICE_LIBRARY_PATH": "/lib/libtpu.so",
        }

    def to_request(self) -> dict[str, Any]:
        """The request's MachineSpec."""
        if self.accelerator == CPU:
            return {"machineType": self.type}
        if self.type.startswith(_V5E):  # whose type and topology say it all
            return {"machineType": self.type, "tpuTopology": _TOPOLOGIES[self.count]}
        return {"machineType": self.type, "acceleratorType": self.accelerator, "acceleratorCount": self.count}

    def __str__(self) -> str:
        return self.type + (f" with {self.count} x {self.accelerator}" if self.count else " without accelerators")


def choose_machine(accelerator: str, count: int | None = None, machine_type: str | None = None) -> Machine:
    """The machine with `count` accelerators (None: the fewest that there are); `machine_type` overrides the table.

    Raises:
      LaunchError: there is no such machine in the table, and none was named, or the three do not fit together.
    """
    known = MACHINES.get(accelerator, {})
    count = min(known, default=1) if count is None else count
    if machine_type is not None:
        if accelerator.startswith("TPU_"):
            raise LaunchError(f"--machine_type={machine_type}: that of {accelerator} follows from --accelerator_count")
        if (accelerator == CPU) != (count == 0):
            raise LaunchError(f"--accelerator={accelerator} and --accelerator_count={count} do not go together")
        return Machine(type=machine_type, accelerator=accelerator, count=count)
    if not known:
        raise LaunchError(
            f"--accelerator={accelerator} is not one of {', '.join(MACHINES)}; for another give --machine_type, too"
        )
    if count not in known:
        raise LaunchError(
            f"--accelerator_count={count}: a machine has {', '.join(map(str, known))} of {accelerator}; for another "
            "number give --machine_type, too"
        )
    return Machine(type=known[count], accelerator=accelerator, count=count)
