"""What the name of a machine type says about its accelerators.

Numbers of GPUs from https://cloud.google.com/compute/docs/accelerator-optimized-machines, and for N1 from
https://cloud.google.com/compute/docs/gpus.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping

from launch.errors import LaunchError

# Machine type -> its accelerator, and how many it has: always these.
FIXED: Mapping[str, tuple[str, int]] = {
    **{f"g2-standard-{vcpus}": ("NVIDIA_L4", 1) for vcpus in (4, 8, 12, 16, 32)},
    **{f"g2-standard-{24 * count}": ("NVIDIA_L4", 2 * count) for count in (1, 2, 4)},
    **{f"a2-highgpu-{count}g": ("NVIDIA_TESLA_A100", count) for count in (1, 2, 4, 8)},
    "a2-megagpu-16g": ("NVIDIA_TESLA_A100", 16),
    **{f"a2-ultragpu-{count}g": ("NVIDIA_A100_80GB", count) for count in (1, 2, 4, 8)},
    **{f"a3-highgpu-{count}g": ("NVIDIA_H100_80GB", count) for count in (1, 2, 4, 8)},
    "a3-edgegpu-8g": ("NVIDIA_H100_80GB", 8),
    "a3-megagpu-8g": ("NVIDIA_H100_MEGA_80GB", 8),
    "a3-ultragpu-8g": ("NVIDIA_H200_141GB", 8),
    "a4-highgpu-8g": ("NVIDIA_B200", 8),
    "a4x-highgpu-4g": ("NVIDIA_GB200", 4),
}
# Accelerators that are attached to machines of the family N1 -> how many of them.
ATTACHED: Mapping[str, tuple[int, ...]] = {
    "NVIDIA_TESLA_T4": (1, 2, 4),
    "NVIDIA_TESLA_V100": (1, 2, 4, 8),
    "NVIDIA_TESLA_P100": (1, 2, 4),
    "NVIDIA_TESLA_P4": (1, 2, 4),
    "NVIDIA_TESLA_K80": (1, 2, 4, 8),
}
_N1 = "n1"
_OPTIMIZED = {name.partition("-")[0] for name in FIXED}
_PLAIN = (
    _N1,
    "e2",
    "n2",
    "n2d",
    "n4",
    "c2",
    "c2d",
    "c3",
    "c3d",
    "c4",
    "c4d",
    "h3",
    "t2d",
    "m1",
    "m2",
    "m3",
)  # families
_CLASSES = ("standard", "highmem", "highcpu", "megamem", "ultramem")
_SHAPE = re.compile(r"([a-z]\d+[a-z]?)-([a-z]+)-(\d+)[a-z]*")


def is_known(machine_type: str) -> bool:
    """Whether this module knows what the machine type has."""
    return machine_type in FIXED or machine_type.partition("-")[0] in (*_PLAIN, "ct5lp", "cloud")


def count_on(machine_type: str, accelerator: str, count: int | None) -> int:
    """How many of the `accelerator` a machine of that type has; `count` if it is given and possible.

    Of a family that this module does not know, any is possible.

    Raises:
      LaunchError: there is no such machine type, or it has other accelerators.
    """
    if machine_type.startswith(("cloud-tpu", "ct")):
        raise LaunchError(
            f"--machine_type={machine_type} has TPUs: leave it out, and set --accelerator and --accelerator_count"
        )
    _check_name(machine_type)
    if machine_type in FIXED:
        return _fixed_count(machine_type, accelerator, count)
    if not is_known(machine_type):
        return 1 if count is None else count
    if accelerator not in ATTACHED or not machine_type.startswith(f"{_N1}-"):
        is_n1 = machine_type.startswith(f"{_N1}-")
        have = f"only {', '.join(ATTACHED)}: set one of these" if is_n1 else "none: set --accelerator=none"
        raise LaunchError(
            f"--machine_type={machine_type} can't have --accelerator={accelerator}; of accelerators, its family has "
            f"{have}, or leave out --machine_type"
        )
    possible = ATTACHED[accelerator]
    if count is not None and count not in possible:
        raise LaunchError(
            f"--accelerator_count={count}: machines of N1 have {', '.join(map(str, possible))} of {accelerator}; set "
            "one of these"
        )
    return min(possible) if count is None else count


def check_without(machine_type: str) -> None:
    """Raises LaunchError if there is no such machine type, or if it has accelerators."""
    _check_name(machine_type)
    if machine_type in FIXED:
        accelerator, count = FIXED[machine_type]
        raise LaunchError(
            f"--machine_type={machine_type} has {count} x {accelerator}, and --accelerator is none: set "
            f"--accelerator={accelerator}, or a machine type without accelerators, such as n2-standard-16"
        )


def _fixed_count(machine_type: str, accelerator: str, count: int | None) -> int:
    there, number = FIXED[machine_type]
    if accelerator != there:
        raise LaunchError(
            f"--machine_type={machine_type} has {number} x {there}, not --accelerator={accelerator}: set "
            f"--accelerator={there}, or leave out --machine_type"
        )
    if count is not None and count != number:
        raise LaunchError(
            f"--machine_type={machine_type} has {number} x {there}, not --accelerator_count={count}: leave out one of "
            "them"
        )
    return number


def _check_name(machine_type: str) -> None:
    """Raises LaunchError if no machine type has such a name, as far as its family is known."""
    found = _SHAPE.fullmatch(machine_type)
    family = found[1] if found else machine_type.partition("-")[0]
    if machine_type in FIXED or (found and family not in _OPTIMIZED and not _misspelt_class(family, found[2])):
        return
    plain = [f"{name}-{kind}-{machine_type.rpartition('-')[2]}" for name in _PLAIN for kind in _CLASSES]
    near = difflib.get_close_matches(machine_type, [*FIXED, *plain], 1)
    own = sorted((name for name in FIXED if name.partition("-")[0] == family), key=lambda name: (len(name), name))
    cure = f"did you mean {near[0]}?" if near else "set one such as g2-standard-12 or n1-standard-8"
    listed = f" ({', '.join(own)})" if own else ""
    raise LaunchError(f"--machine_type={machine_type} is not a machine type{listed}; {cure}")


def _misspelt_class(family: str, kind: str) -> bool:
    return family in _PLAIN and kind not in _CLASSES
