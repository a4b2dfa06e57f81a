"""Mistakes in a label file."""

from __future__ import annotations

README = "beam_pipelines/README.md has an example"
FORMS = (
    "label files are YAML or JSON (a mapping with `classes`, a list of names, data.yaml of Ultralytics, the config of "
    "Mapillary, class_list.json of A2D2), CSV (class_dict.csv with name,r,g,b) and TXT (labelmap.txt of CVAT with "
    "label:color_rgb:parts:actions)"
)


class FileError(Exception):
    """What is wrong in which line of the file, counted from 1; 0: no certain line."""

    def __init__(self, line: int, problem: str) -> None:
        super().__init__(line, problem)
        self.line, self.problem = line, problem
