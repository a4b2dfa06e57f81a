"""What the names of buckets and of folders in them must be like: cloud.google.com/storage/docs/buckets#naming and
/objects#naming.
"""

from __future__ import annotations

import re

_LEAST, _MOST, _MOST_WITH_DOTS = 3, 63, 222


def broken_by_bucket(path: str) -> str | None:
    """The rule of bucket names that `path`, gs://BUCKET or below it, breaks, with the value; None if it breaks none."""
    found = re.match(r"gs:(?://)?([^/]*)", path)
    if not found or not path.startswith("gs://") or not found[1]:
        return "it names no bucket" if found else "it does not begin with gs://"
    bucket = found[1]
    most = _MOST_WITH_DOTS if "." in bucket else _MOST
    if strange := sorted(set(re.findall(r"[^-_.a-z0-9]", bucket))):
        shown = " and ".join(map(repr, strange[:3]))
        return f"a bucket's name has only a-z, 0-9, -, _ and ., and {bucket!r} has {shown}"
    if not _LEAST <= len(bucket) <= most:
        return f"a bucket's name has {_LEAST} to {most} characters, and {bucket!r} has {len(bucket)}"
    if not bucket[0].isalnum() or not bucket[-1].isalnum():
        return f"a bucket's name begins and ends with a letter or a digit, and {bucket!r} does not"
    return None


def broken_by_folder(path: str) -> str | None:
    """The rule that `path`, gs://BUCKET/FOLDER, breaks, with the value; None if it breaks none."""
    if rule := broken_by_bucket(path):
        return rule
    folder = path.removeprefix("gs://").partition("/")[2]
    if not folder.strip("/"):
        return "it names no folder in the bucket"
    if re.search(r"[\r\n]", folder):
        return "it has a line break, which no object of a bucket may have"
    if "//" in f"/{folder}":
        return f"a folder between two slashes has no name; is it {re.sub(r'(?<!:)//+', '/', path).rstrip('/')}?"
    return None
