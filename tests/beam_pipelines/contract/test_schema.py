"""Types of JSON are looked at once, whatever threads do."""

from __future__ import annotations

import subprocess
import sys

from tests.support.builds import PROJECT

_THREADS = """
import sys, threading
from typing import Annotated
import msgspec
from beam_pipelines.contract import schema

if sys.argv[1] == "unprepared":
    schema._prepare = lambda kind: None
sys.setswitchinterval(1e-6)
for number in range(400):
    fields = [(f"f{place}", Annotated[int, msgspec.Meta(ge=0)]) for place in range(30)]
    kind = msgspec.defstruct(f"Kind{number}", fields)
    text = "{" + ", ".join(f'"f{place}": 1' for place in range(30)) + "}"
    barrier = threading.Barrier(4)

    def decode():
        barrier.wait()
        schema.decode(kind, text, "text")

    threads = [threading.Thread(target=decode) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
"""


def test_threads_that_meet_a_type_for_the_first_time_do_not_end_the_process() -> None:
    """As they do without `_prepare`, in most tries, with msgspec 0.22."""
    done = subprocess.run([sys.executable, "-c", _THREADS, "prepared"], cwd=PROJECT, check=False, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
