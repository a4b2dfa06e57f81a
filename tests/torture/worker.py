"""Tries the cases of one reader, in a process of its own: `python -m tests.torture.worker READER SEED START STOP`.

A case is a function of (reader, seed, number). The number that is being tried stands in a file, so that the one who
started this process knows which case killed or stopped it; results go to stdout, a JSON line every `FLUSH` cases.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random

from tests.torture.readers import ALL, Reader
from tests.torture.run import OUTSIDE, UNTYPED, peak_mb

FLUSH = 250
MEMORY = 2**30  # bytes of address space that reading may take on top of what the process has when it starts


def damaged(reader: Reader, name: str, seed: int, case: int) -> tuple[int, bytes]:
    """-> the number of the sample, and its damaged bytes."""
    random = Random(f"{name}:{seed}:{case}")
    index = random.randrange(len(reader.samples))
    return index, reader.damage(reader.samples[index], random)


def outcome(reader: Reader, expected: object, data: bytes, path: Path) -> str:
    try:
        found = reader.read(data, path)
    except reader.refusals:
        return "refused"
    except Exception as error:
        return f"{type(error).__name__}: {str(error)[:150]}"
    return "equal" if found == expected else "other"


def tried(reader: Reader, name: str, seed: int, cases: int, path: Path) -> dict:
    """What came of the first cases, tried in this process."""
    expected = [reader.read(sample, path) for sample in reader.samples]
    tally = _empty()
    for case in range(cases):
        _try(reader, expected, name, seed, case, path, tally)
    return tally


def _try(reader: Reader, expected: Sequence[object], name: str, seed: int, case: int, path: Path, tally: dict) -> None:
    began = time.perf_counter()
    index, data = damaged(reader, name, seed, case)
    result = outcome(reader, expected[index], data, path)
    _count(tally, result, case, time.perf_counter() - began)


def main(arguments: Sequence[str]) -> None:
    name, progress, *numbers = arguments
    seed, start, stop, *skipped = map(int, numbers)
    reader = ALL[name]()
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        path = _place(Path(folder))
        expected = [reader.read(sample, path) for sample in reader.samples]
        _limit_memory()
        at = os.open(progress, os.O_WRONLY)
        tally = _empty()
        for case in range(start, stop):
            os.pwrite(at, case.to_bytes(8, "little"), 0)
            if case not in skipped:
                _try(reader, expected, name, seed, case, path, tally)
            if (case + 1 - start) % FLUSH == 0 or case + 1 == stop:
                tally["next"] = case + 1
                tally["failures"] += [[case, OUTSIDE, f"{name} was written"] for name in _outside(Path(folder))]
                tally["peak_mb"] = peak_mb()
                print(json.dumps(tally), flush=True)
                tally = _empty()


def _place(folder: Path) -> Path:
    """-> what a reader may write to, with any suffix. Its temporary files are looked at, too."""
    scratch = folder / "deep" / "scratch"
    scratch.mkdir(parents=True)
    tempfile.tempdir = str(scratch)
    return folder / "deep" / "input"


def _outside(folder: Path) -> list[str]:
    """The files below `folder` that are not the input, and deletes them."""
    found = [path for path in folder.rglob("*") if path.is_file()]
    names = {path: str(path.relative_to(folder)) for path in found}
    outside = [path for path in found if not names[path].startswith("deep/input")]
    for path in outside:
        path.unlink()
    return [names[path] for path in outside]


def _empty() -> dict:
    return {"tried": 0, "equal": 0, "other": 0, "refused": 0, "failures": [], "worst_s": 0.0, "worst_case": 0}


def _count(tally: dict, result: str, case: int, seconds: float) -> None:
    tally["tried"] += 1
    if result in tally:
        tally[result] += 1
    else:
        tally["failures"].append([case, UNTYPED, result])
    if seconds > tally["worst_s"]:
        tally |= {"worst_s": seconds, "worst_case": case}


def _limit_memory() -> None:
    with open("/proc/self/statm") as file:
        size = int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, size + MEMORY))


if __name__ == "__main__":
    main(sys.argv[1:])
