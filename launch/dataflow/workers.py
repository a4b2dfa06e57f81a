"""Dataflow's workers: machine types, and the memory that a build needs."""

from __future__ import annotations

from dataclasses import dataclass

from launch.errors import LaunchError

# Memory in GB of a worker process, of which each vCPU has one, and of a pixel of the image that a thread processes;
# measured with a PNG of 98 million pixels, which takes 0.8 GB.
_PROCESS_GB = 0.5
_PIXEL_GB = 8.2e-9
_GB_PER_VCPU = {"e2-standard-4": 4.0, "e2-highmem-4": 8.0}  # by machine type, the cheapest first
DEFAULT_TYPE = next(iter(_GB_PER_VCPU))


@dataclass(frozen=True, kw_only=True)
class Workers:
    """The workers that a job may use: at most `limit` machines of one type, with `vcpus` vCPUs each."""

    machine_type: str
    vcpus: int
    limit: int


def choose_type(image_pixels: int, threads: int) -> str:
    """The cheapest machine type on which each of a vCPU's threads can hold an image of `image_pixels` pixels.

    Raises:
      LaunchError: no machine type has enough memory.
    """
    needed = _PROCESS_GB + threads * image_pixels * _PIXEL_GB
    for machine_type, available in _GB_PER_VCPU.items():
        if needed <= available:
            return machine_type
    raise LaunchError(
        f"{threads} threads with images of {image_pixels:,} pixels need {needed:.1f} GB per vCPU: lower "
        "--number_of_worker_harness_threads or --max_image_pixels, or set a --worker_machine_type with enough memory"
    )
