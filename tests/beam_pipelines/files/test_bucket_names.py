"""Names of buckets and of folders in them: what is wrong is told by the rule and the value."""

from __future__ import annotations

import pytest

from beam_pipelines.files.bucket_names import broken_by_bucket, broken_by_folder

OF_BUCKET = {
    "runs": "it does not begin with gs://",
    "gs:": "it names no bucket",
    "gs://": "it names no bucket",
    "gs:///runs": "it names no bucket",
    "gs://x": "a bucket's name has 3 to 63 characters, and 'x' has 1",
    f"gs://{'a' * 64}/runs": f"a bucket's name has 3 to 63 characters, and '{'a' * 64}' has 64",
    f"gs://a.{'b' * 221}": f"a bucket's name has 3 to 222 characters, and 'a.{'b' * 221}' has 223",
    "gs://my bücket/runs": "a bucket's name has only a-z, 0-9, -, _ and ., and 'my bücket' has ' ' and 'ü'",
    "gs://-street/runs": "a bucket's name begins and ends with a letter or a digit, and '-street' does not",
    "gs://street_/runs": "a bucket's name begins and ends with a letter or a digit, and 'street_' does not",
}
OF_FOLDER = {
    "gs://street": "it names no folder in the bucket",
    "gs://street//": "it names no folder in the bucket",
    "gs://street/a\nb": "it has a line break, which no object of a bucket may have",
    "gs://my-bucket//runs//first/": "a folder between two slashes has no name; is it gs://my-bucket/runs/first?",
    "gs://street/runs//": "a folder between two slashes has no name; is it gs://street/runs?",
}


@pytest.mark.parametrize("path", OF_BUCKET)
def test_the_rule_that_a_bucket_breaks_is_told(path: str) -> None:
    assert broken_by_bucket(path) == broken_by_folder(path) == OF_BUCKET[path]


@pytest.mark.parametrize("path", OF_FOLDER)
def test_the_rule_that_a_folder_breaks_is_told(path: str) -> None:
    assert broken_by_folder(path) == OF_FOLDER[path]


@pytest.mark.parametrize("path", ["gs://abc/d", "gs://a.b-c_1/d e/f/", f"gs://{'a' * 63}/ü", "gs://1.com/x"])
def test_what_breaks_no_rule_is_taken(path: str) -> None:
    assert broken_by_bucket(path) is broken_by_folder(path) is None
