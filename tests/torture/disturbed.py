"""Builds that something comes in the way of: a full disk, another builder, a damaged archive, a bucket with faults.

Each may end with a typed error; started again without what disturbed it, it has to give what an undisturbed one gives.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random

import pytest

from tests.support.buckets import emulated
from tests.support.builds import digests, download, upload
from tests.support.faulty_storage import Fault, serve
from tests.support.small_disks import small_disk
from tests.torture import mutations, pictures
from tests.torture.run import WRONG, Failure, Result
from tests.torture.sandbox import Ended, Sandbox

# Someone else takes the space when a file of this name is about to be written.
_LESS_SPACE = """
import os, re, sys
from pathlib import Path
from beam_pipelines.build import main
from beam_pipelines.files import storage

ballast, stage, room, *arguments = sys.argv[1:]
writing = storage.writing

def write_without_space(path, *more):
    if re.search(stage, path) and not os.path.exists(ballast):
        disk = os.statvfs(Path(ballast).parent)
        Path(ballast).write_bytes(bytes(max(0, disk.f_bavail * disk.f_frsize - int(room))))
    return writing(path, *more)

storage.writing = write_without_space
sys.exit(main([*arguments, "--direct_num_workers=1"]))
"""
# A build that gives up requests after seconds instead of minutes, and whose lease lapses as soon in proportion.
_IMPATIENT = """
import sys
from google.api_core.retry import retry_base

initialize = retry_base._BaseRetry.__init__

def hurry(self, *arguments, **options):
    initialize(self, *arguments, **options)
    self._initial, self._maximum, self._timeout = 0.1, 1.0, 6.0

retry_base._BaseRetry.__init__ = hurry
from beam_pipelines.build import main
from beam_pipelines.files import lease

lease.HEARTBEAT_SECONDS, lease.LAPSE_SECONDS = 3, 15
sys.exit(main(sys.argv[1:]))
"""
# What a build writes, from the first file to the last.
STAGES = (
    "_build/token/",
    "_build/journal.json",
    "_build/recipe.json",
    "_build/pairing.jsonl",
    "_build/plan.jsonl",
    "_build/staged/train-0",
    "_build/staged/val-0",
    "out/train-0",
    "out/val-0",
    "out/index/",
    "out/rejected.jsonl",
    "out/plan.jsonl",
    "out/card/",
    "out/croissant.json",
    "out/metadata_files.json",
    "_build/published.json",
    "out/dataset.json",
)
_WHOLE_S = 8  # of a build of these pictures, about
_ROOMS = (0, 4096, 65536)  # bytes that are left
_KINDS: tuple[int | str, ...] = (429, 503, 403, 404, "cut request", "cut answer", "lose answer")
_REQUESTS = (
    "GET /storage/.*/o[?].*prefix",
    "GET /download/.*/images/",
    "GET /download/.*/masks/",
    "(POST|PUT) /upload/.*/_build/lease",
    "(POST|PUT) /upload/.*/plan.jsonl",
    "(POST|PUT) /upload/.*/_build/token/",
    "GET /storage/.*/_build/token/",
    "GET /download/.*/plan.jsonl",
    "(POST|PUT) /upload/.*/staged/",
    "GET /download/.*/staged/",
    "(POST|PUT) /upload/.*/temporary/",
    "(?s)POST /batch/.*/copyTo/",
    "(?s)POST /batch/.*DELETE",
    "(POST|PUT) /upload/.*/dataset.json",
    "GET /storage/.*/out/dataset.json",
)


def torture_disks(seed: int, cases: int, folder: Path) -> Result:
    """The disk fills up at each of `STAGES`, in their order, as often as there are cases."""
    sandbox = _prepared(folder, "disk/out")
    size = sum(path.stat().st_size for path in (folder / pictures.UNDISTURBED).rglob("*") if path.is_file())
    result, random = Result(), Random(seed)
    ballast, arguments = folder / "disk" / "ballast", _arguments(sandbox)
    with small_disk(folder / "disk", 4 * size):
        for stage in itertools.islice(itertools.cycle(STAGES), cases):
            sandbox.begin()
            room = str(random.choice(_ROOMS))
            disturbed = sandbox.run(["-c", _LESS_SPACE, str(ballast), stage, room, *arguments[2:]])
            ballast.unlink()  # else the stage is none
            _settle(sandbox, result, arguments, disturbed)
        shutil.rmtree(sandbox.output)
    return result


def torture_two_builders(seed: int, cases: int, folder: Path) -> Result:
    """The second one comes at any moment of the first one."""
    sandbox = _prepared(folder, "out")
    result, random, arguments = Result(), Random(seed), _arguments(sandbox)
    for _ in range(cases):
        sandbox.begin()
        first = sandbox.start(arguments)
        first.wait(random.uniform(0, _WHOLE_S))
        second = sandbox.run(arguments)
        first.wait(60)
        _settle(sandbox, result, arguments, first.end(), second)
    return result


def torture_archives(seed: int, cases: int, folder: Path) -> Result:
    """The pictures come in a zip archive that is damaged. What is built of it may have less, and then says so."""
    sandbox = _prepared(folder, "out")
    result, random = Result(), Random(seed)
    sound = Path(shutil.make_archive(str(folder / "sound"), "zip", sandbox.source)).read_bytes()
    archive = folder / "in.zip"
    for _ in range(cases):
        sandbox.begin()
        archive.write_bytes(mutations.mutate_zip(sound, random))
        sandbox.close()
        ended = sandbox.run(pictures.command(archive, sandbox.output, *pictures.UNEVEN, "--max_rejects=50%"))
        result.tried += 1
        if ended.code == 0:
            same = digests(sandbox.output) == digests(folder / pictures.UNDISTURBED)
            result.equal, result.other = result.equal + same, result.other + (not same)
        elif ended.is_typed_error:
            result.refused += 1
        else:
            result.failures.append(ended.failure(result.tried))
        sandbox.check(result, ended)
    return result


def torture_storage(seed: int, cases: int, folder: Path) -> Result:
    """Requests of a build in a bucket fail in each way, once or for good."""
    few = ("--shards=train=3,val=1",)  # each pair takes a dozen requests, and a request some ten milliseconds
    sandbox = _prepared(folder, "out", *few, train=12, val=4)
    result, random = Result(), Random(seed)
    (folder / "tls").mkdir()
    with contextlib.ExitStack() as held:
        bucket = held.enter_context(emulated("street", folder / "tls"))
        front = held.enter_context(serve(os.environ["STORAGE_EMULATOR_HOST"].removeprefix("http://"), folder / "tls"))
        held.enter_context(pytest.MonkeyPatch.context()).setenv("STORAGE_EMULATOR_HOST", f"http://{front.address}")
        upload(sandbox.source, f"{bucket}/in")
        sandbox.close()
        for case in range(cases):
            sandbox.begin()
            faults = [
                Fault(
                    random.choice(_REQUESTS),
                    random.choice(_KINDS),
                    times=random.choice((1, 1, 2, None)),
                    skip=random.choice((0, 0, 1, 3)),
                )
                for _ in range(random.choice((1, 1, 3)))
            ]
            output = f"{bucket}/{case}/out"
            arguments = ["-c", _IMPATIENT, f"--input={bucket}/in", f"--output={output}", *pictures.UNEVEN, *few]
            with front.making(*faults):
                disturbed = sandbox.run(arguments)
            again = _run_when_lapsed(sandbox, arguments)
            if again.code == 0:
                download(output, sandbox.output)
            _judge(sandbox, result, again, disturbed)
    return result


def _run_when_lapsed(sandbox: Sandbox, arguments: Sequence[str]) -> Ended:
    """A lease that could not be deleted holds for a while, and the build says for how long."""
    ended = sandbox.run(arguments)
    if wait := re.search(r"run the same command again in (\d+) s", ended.errors):
        time.sleep(int(wait[1]) + 1)
        ended = sandbox.run(arguments)
    return ended


def _prepared(folder: Path, output: str, *options: str, train: int = 120, val: int = 24) -> Sandbox:
    sandbox = Sandbox(folder, (output,))
    if not (folder / pictures.UNDISTURBED).exists():
        pictures.prepare(sandbox, *pictures.UNEVEN, *options, uneven=True, train=train, val=val)
    sandbox.close()
    return sandbox


def _arguments(sandbox: Sandbox) -> list[str]:
    return pictures.command(sandbox.source, sandbox.output, *pictures.UNEVEN)


def _settle(sandbox: Sandbox, result: Result, arguments: Sequence[str], *disturbed: Ended) -> None:
    """Runs the command once more, undisturbed, and judges the case."""
    _judge(sandbox, result, sandbox.run(arguments), *disturbed)


def _judge(sandbox: Sandbox, result: Result, again: Ended, *disturbed: Ended) -> None:
    result.tried += 1
    sandbox.check(result, *disturbed, again)
    strange = [each for each in disturbed if each.code != 0 and not each.is_typed_error]
    if strange or again.code != 0:
        result.failures.append((strange or [again])[0].failure(result.tried))
        return
    try:
        _assert_same_shards(sandbox)
    except AssertionError as error:
        result.failures.append(Failure(result.tried, WRONG, " ".join(str(error).split())[:300]))
        return
    if any(each.code for each in disturbed):
        result.refused += 1
    else:
        result.equal += 1


def _assert_same_shards(sandbox: Sandbox) -> None:
    assert digests(sandbox.output) == digests(sandbox.folder / pictures.UNDISTURBED), "other bytes than undisturbed"
