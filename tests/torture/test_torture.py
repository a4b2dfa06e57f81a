"""Some damaged inputs for each reader that is quick; `make torture` tries a hundred thousand of all."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.small_disks import NoRightToMountError
from tests.torture import kills, tortures
from tests.torture.__main__ import main
from tests.torture.models import MODELS
from tests.torture.readers import READERS, Reader
from tests.torture.run import KINDS, LOST, OUTSIDE, TIMEOUT, UNTYPED, WRONG, Failure, Result, torture
from tests.torture.sandbox import Sandbox
from tests.torture.trained import OF_RUNS
from tests.torture.worker import damaged, tried

OWN = [name for name in READERS if name not in {**OF_RUNS, **MODELS} or name == "results"]  # the others need TensorFlow
CASES = 1000


@pytest.mark.parametrize("name", OWN)
def test_damage_is_refused_or_read_and_nothing_else_happens(name: str, tmp_path: Path) -> None:
    found = tried(READERS[name](), name, seed=1, cases=CASES, path=tmp_path / "input")
    assert found["failures"] == []
    assert found["tried"] == found["equal"] + found["other"] + found["refused"] == CASES
    assert found["refused"] > CASES / 4 or (name == "sealed lists" and found["other"] > CASES / 2)
    assert found["worst_s"] < 10


def test_a_process_of_its_own_tells_the_same(tmp_path: Path) -> None:
    here = tried(READERS["tfrecord"](), "tfrecord", seed=1, cases=CASES, path=tmp_path / "input")
    result = torture("tfrecord", seed=1, start=0, stop=CASES)
    assert (result.tried, result.equal, result.other, result.refused) == tuple(
        here[name] for name in ("tried", "equal", "other", "refused")
    )
    assert 0 < result.peak_mb < 1000


def test_a_case_is_the_same_whenever_it_is_tried() -> None:
    reader, again = READERS["image"](), READERS["image"]()
    assert [damaged(reader, "image", 0, case) for case in range(50)] == [
        damaged(again, "image", 0, case) for case in range(50)
    ]
    assert damaged(reader, "image", 0, 7) != damaged(reader, "image", 1, 7)


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("raise KeyError('width')", "KeyError: 'width'"),
        ("bytes(2**34)", "MemoryError: "),
        ("os.abort()", "died of SIGABRT"),
        ("time.sleep(99)", "hung for 2 s"),
    ],
)
def test_the_harness_tells_errors_memory_deaths_and_hangs(
    fault: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker reads this from the environment, in place of a reader."""
    monkeypatch.setenv("TORTURE_FAULT", fault)
    result = torture("fault", seed=0, start=0, stop=5, timeout=2)
    assert [failure.case for failure in result.failures] == [3]
    assert result.failures[0].told.startswith(told)
    assert result.failures[0].kind == (TIMEOUT if "sleep" in fault else UNTYPED)
    assert (result.tried, result.equal) == (5, 4)


def test_the_harness_tells_files_beside_the_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORTURE_FAULT", "(path.parent.parent / 'escaped').write_bytes(b'')")
    result = torture("fault", seed=0, start=0, stop=5)
    assert [(failure.kind, failure.told) for failure in result.failures] == [(OUTSIDE, "escaped was written")]


# Writes a file as a whole, after a while, and what FAULT says.
WRITER = """
import os, sys, time
from pathlib import Path
folder = Path(sys.argv[1])
time.sleep(0.2)
exec(sys.argv[2], {"folder": folder})
(folder / "new").write_text("whole")
os.replace(folder / "new", folder / "made")
"""


def killed_writer(folder: Path, fault: str) -> Result:
    """Of 2 kills of a program that does what `fault` says before it writes."""
    folder.mkdir()
    (folder / "undisturbed").mkdir()
    (folder / "in").mkdir()
    (folder / "in" / "picture").write_text("mine")

    def assert_same(output: Path, _: Path) -> None:
        assert (output / "made").read_text() == "whole", "not whole"

    def command(output: Path) -> list[str]:
        return ["-c", WRITER, str(output), fault]

    victim = kills.Victim(command, None, folder / "undisturbed", 0.2, assert_same, lambda *_: [])
    return kills.torture(victim, Sandbox(folder), seed=0, kills=2)


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("", None),
        ("raise KeyError('width')", UNTYPED),
        ("folder = folder / 'made'; folder.mkdir()", UNTYPED),
        ("(folder / 'made').write_text(''); raise SystemExit", WRONG),
        ("(folder.parent / 'beside').write_text('')", OUTSIDE),
        ("(folder / 'notes.txt').unlink(missing_ok=True)", LOST),
        ("(folder.parent / 'in' / 'picture').unlink(missing_ok=True)", LOST),
    ],
)
def test_the_harness_tells_what_kills_did(fault: str, kind: str | None, tmp_path: Path) -> None:
    result = killed_writer(tmp_path / "sandbox", fault)
    assert {failure.kind for failure in result.failures} == ({kind} if kind else set())
    assert result.tried == 2
    assert kind or result.equal == 2


def run_main(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr("sys.argv", ["torture", *arguments])
    return main()


def test_the_table_has_a_row_of_each_torture(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_main(monkeypatch, "--only=tfrecord", "--only=manifest", "--cases=20") == 0
    rows = [line.split("│")[1:-1] for line in capsys.readouterr().out.splitlines() if line.startswith("│")]
    assert [row[0].strip() for row in rows[-2:]] == ["tfrecord", "manifest"]
    for row in rows[-2:]:
        tried, equal, other, refused, *failed = map(int, row[1:11])
        assert tried == equal + other + refused == 20
        assert failed == [0] * len(KINDS)
        assert re.fullmatch(r"0:\d\d", row[-1].strip())


@pytest.mark.parametrize("kind", KINDS)
def test_what_may_not_be_is_told_and_is_the_exit_code(
    kind: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    result = Result(tried=2, equal=1, failures=[Failure(2, kind, "a: the first"), Failure(3, kind, "a: the second")])
    row = tortures.Torture(lambda *_: result, tortures.KILLS)
    monkeypatch.setattr("tests.torture.tortures.TORTURES", {**tortures.TORTURES, "plan": row})
    assert run_main(monkeypatch, "--only=plan") == 1
    assert f"plan: 2 x {kind}: a: the first (case 2)\n" in capsys.readouterr().out


ALWAYS = ("two builders",)


@pytest.mark.slow
@pytest.mark.timeout(900)
# Connections that were reset, which Google's client leaves to the garbage collector.
@pytest.mark.filterwarnings("ignore:.*<socket.socket:pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in ALWAYS else pytest.mark.torture)
        for name in tortures.TORTURES
        if name not in OWN
    ],
)
def test_nothing_comes_of_disturbance_but_what_may(name: str) -> None:
    """The short form of each row of `make torture` that takes whole commands or TensorFlow."""
    try:
        result = tortures.result_of(name, seed=1, options={tortures.CASES: 1000, tortures.KILLS: 1})
    except NoRightToMountError as error:
        pytest.skip(str(error))
    assert result.failures == []
    assert result.tried >= 1
    assert result.tried == result.equal + result.other + result.refused


def test_every_reader_reads_its_own_samples(tmp_path_factory: pytest.TempPathFactory) -> None:
    for name in OWN:
        reader: Reader = READERS[name]()
        for sample in reader.samples:
            path = tmp_path_factory.mktemp("samples") / "input"
            assert reader.read(sample, path) == reader.read(sample, path)
