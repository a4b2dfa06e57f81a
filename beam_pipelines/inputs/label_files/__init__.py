"""Label tables by name: built-in, or read from the label file of a user or of a data set.

`forms` tells the form of a file from its content, and reads those of other tools; `rows` reads the form of this
project, to which most others are brought.
"""

from __future__ import annotations

import os

from beam_pipelines.contract.labels import BUILTIN_TABLES, LabelTable, LabelTableError
from beam_pipelines.inputs.label_files.errors import README, FileError
from beam_pipelines.inputs.label_files.forms import table_of
from beam_pipelines.inputs.label_files.text import check_letters, text_of


def load_labels(name: str, called: str | None = None) -> LabelTable:
    """The built-in table called `name`, or the table in the file `name`: a local path, gs:// or ARCHIVE.zip!/MEMBER.

    Args:
      called: what messages call the file; --labels=NAME if it is not given.

    Raises:
      LabelTableError: there is no such file, or it can't be read as a table.
    """
    called = called or f"--labels={name}"
    if name in BUILTIN_TABLES:
        return BUILTIN_TABLES[name]()
    stem, extension = os.path.splitext(os.path.basename(name))
    text = text_of(name, called)
    try:
        check_letters(text)
        return table_of(text, stem, extension.lower())
    except LabelTableError as error:
        raise LabelTableError(f"{called}: {error}") from error
    except FileError as error:
        line = f", line {error.line}" if error.line else ""
        raise LabelTableError(f"{called}{line}: {error.problem}; {README}") from error
