"""Runs a reference in this process, and prints what it took as a line of JSON."""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import json
import os
from pathlib import Path

from tests.benchmarks.references import ENCODINGS, Taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("reference", choices=ENCODINGS)
    parser.add_argument("--source", required=True, type=Path)
    parser.add_argument("--scratch", required=True, type=Path)
    parser.add_argument("--image_size", required=True)
    parser.add_argument("--image_encoding", required=True)
    args = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    height, width = map(int, args.image_size.split("x"))
    module = importlib.import_module(f"tests.benchmarks.references.{args.reference}")
    taken: Taken = module.build(args.source, (height, width), args.image_encoding, args.scratch)
    print(json.dumps(dataclasses.asdict(taken)))


if __name__ == "__main__":
    main()
