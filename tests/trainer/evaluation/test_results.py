"""The file with the results of each image, and the reader that faces its writer."""

from __future__ import annotations

import io

import numpy as np
import pytest

from beam_pipelines.contract.labels import BUILTIN_TABLES
from tests.support.results import results_of
from trainer.evaluation.calibration import BINS
from trainer.evaluation.results import ImageResults, ResultsError, read_results

CAMVID = BUILTIN_TABLES["camvid11"]()


def confusions(images: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 2**40, (images, 11, 11))


def test_what_is_written_is_read():
    written = results_of(confusions())
    found, names = read_results(written.to_bytes(CAMVID))
    assert names == tuple(row.name for row in CAMVID.classes)
    assert found.filenames == written.filenames
    for name in vars(written).keys() - {"filenames"}:
        np.testing.assert_array_equal(getattr(found, name), getattr(written, name), strict=True)


def test_results_of_the_rows_of_images():
    row = {
        "confusions": np.eye(3, dtype=np.int64),
        "near": np.zeros((3, 3), np.int64),
        "boundary": np.zeros((3, 3), np.int64),
        "calibration": np.ones((BINS, 3), np.int64),
        "suspects": np.int64(5),
        "color": np.array([180, 40, 200], np.float32),
    }
    found = ImageResults.of_rows(["a", "ü/b"], [row, row])
    assert found.filenames == ("a", "ü/b")
    assert found.calibration.shape == (2, BINS, 3)
    np.testing.assert_allclose(found.brightness, 0.299 * 180 + 0.587 * 40 + 0.114 * 200, rtol=1e-6)


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "flipped"])
def test_a_damaged_file_is_refused(damage: str):
    whole = results_of(confusions()).to_bytes(CAMVID)
    middle = len(whole) // 3
    content = {
        "cut": whole[:-100],
        "empty": b"",
        "text": b"filenames",
        "flipped": whole[:middle] + bytes([whole[middle] ^ 0xFF]) + whole[middle + 1 :],
    }[damage]
    with pytest.raises(ResultsError, match=r"not a whole file of results .*: run trainer.evaluate again"):
        read_results(content)


def test_a_file_of_pickles_is_not_loaded():
    file = io.BytesIO()
    np.savez(file, class_names=np.array([{"a": 1}], object), filenames=np.array(["a"]))
    with pytest.raises(ResultsError, match="allow_pickle"):
        read_results(file.getvalue())


def test_arrays_that_do_not_fit_each_other_are_refused():
    results = results_of(confusions())
    wrong = ImageResults(**{**vars(results), "near": results.near[:2]})
    with pytest.raises(ResultsError, match=r"near has shape \[2, 11, 11\] for 3 images of 11 classes"):
        read_results(wrong.to_bytes(CAMVID))
