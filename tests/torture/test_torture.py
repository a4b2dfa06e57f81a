"""Some damaged inputs for each reader that is quick; `make torture` tries a hundred thousand of all."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.torture.readers import READERS, Reader
from tests.torture.run import torture
from tests.torture.worker import damaged, tried

OWN = [name for name in READERS if name != "model"]  # which needs Keras
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
    assert [case for case, _ in result.failures] == [3]
    assert result.failures[0][1].startswith(told)
    assert (result.tried, result.equal) == (5, 4)


def test_every_reader_reads_its_own_samples(tmp_path_factory: pytest.TempPathFactory) -> None:
    for name in OWN:
        reader: Reader = READERS[name]()
        for sample in reader.samples:
            path = tmp_path_factory.mktemp("samples") / "input"
            assert reader.read(sample, path) == reader.read(sample, path)
