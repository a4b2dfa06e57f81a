"""What this project asks of the machine that it runs on."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource, sys, threading
from beam_pipelines.machine import keep_freed_memory
def work():
    for _ in range(50):
        picture = [b"x" * size for size in (6_300_000, 2_100_000, 8_400_000, 6_300_000)]
        del picture
if sys.argv[1] == "kept":
    keep_freed_memory()
for _ in range(2):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library keeps memory by its own rules")
def test_memory_that_is_freed_is_kept_for_the_next_picture() -> None:
    def faults(how: str) -> int:
        command = [sys.executable, "-c", FAULTS, how]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    kept, given_back = faults("kept"), faults("given back")
    assert kept < given_back / 4, (kept, given_back)
