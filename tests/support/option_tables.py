"""Tables in Markdown files, made from the parsers of the commands and from tables of the code.

    python tests/support/option_tables.py

rewrites what is between `<!-- options: NAME -->` and `<!-- end -->` in the README files of the project, for each NAME
in SOURCES. A new table is a row of SOURCES and a pair of markers in a README.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import beam_pipelines.options
import launch.dataflow.options
import launch.doctor.options
import launch.pipeline.options
import launch.vertex.options
import trainer.comparison.options
import trainer.config
import trainer.evaluation.options
import trainer.inference.request
from trainer.evaluation.report import FILES
from trainer.models import MODELS

PROJECT = Path(__file__).parents[2]
Lines = Sequence[tuple[str, ...]]  # the head of a table, then its rows
Source = Callable[[], argparse.ArgumentParser | Lines]


def report_files() -> Lines:
    """The files of a report."""
    return [("file", "content"), *((f"`{name}`", file.about) for name, file in FILES.items())]


def model_options() -> Lines:
    """The architectures with the options that not all of them have."""
    shared = set.intersection(*(set(row.options) for row in MODELS.values()))
    own = {name: [each for each in row.options if each not in shared] for name, row in MODELS.items()}
    rows = [(f"`{name}`", ", ".join(f"`--{each}`" for each in options)) for name, options in own.items()]
    return [("`--model`", "options that others do not have"), *rows]


SOURCES: Mapping[str, Source] = {
    "beam_pipelines.build": beam_pipelines.options.build_parser,
    "beam_pipelines.verify": beam_pipelines.options.verify_parser,
    "beam_pipelines.card": beam_pipelines.options.card_parser,
    "beam_pipelines.labels": beam_pipelines.options.labels_parser,
    "trainer.task": trainer.config.train_parser,
    "trainer.evaluate": trainer.evaluation.options.evaluate_parser,
    "trainer.compare": trainer.comparison.options.compare_parser,
    "trainer.predict": trainer.inference.request.predict_parser,
    "trainer.export": trainer.inference.request.export_parser,
    "trainer.convert": trainer.inference.request.convert_parser,
    "trainer.report": report_files,
    "trainer.models": model_options,
    "launch.dataflow": launch.dataflow.options.make_parser,
    "launch.vertex": launch.vertex.options.make_parser,
    "launch.pipeline": launch.pipeline.options.make_parser,
    "launch.doctor": launch.doctor.options.make_parser,
}
_SECTION = re.compile(r"<!-- options: (\S+) -->\n(.*?)<!-- end -->", re.DOTALL)
_DEFAULT = re.compile(r"\s*\(default:? (.*)\)$")  # at the end of a help text
_MARKER = re.compile(r"<!-- options: \S+ -->|<!-- end -->")


class MarkerError(ValueError):
    """A marker that names no source, or that is not part of a pair."""


def readmes() -> list[Path]:
    """The Markdown files of the project and of its packages."""
    return sorted([*PROJECT.glob("*.md"), *PROJECT.glob("[!.]*/README.md")])


def rewrite(text: str, sources: Mapping[str, Source] = SOURCES) -> str:
    """`text` with all tables up to date.

    Raises:
      MarkerError: a marker names no source, or has no partner.
    """

    def section(found: re.Match[str]) -> str:
        name = found[1]
        if name not in sources:
            raise MarkerError(f"there is no source {name}; SOURCES has {', '.join(sources)}")
        return f"<!-- options: {name} -->\n{render(sources[name]())}\n\n<!-- end -->"

    markers = len(_MARKER.findall(text))
    pairs = [found for found in _SECTION.finditer(text) if not _MARKER.search(found[2])]
    if markers != 2 * len(pairs):
        raise MarkerError(
            f"{markers} markers, {len(pairs)} pairs: a table needs <!-- options: NAME --> and <!-- end -->"
        )
    return _SECTION.sub(section, text)


def render(source: argparse.ArgumentParser | Lines) -> str:
    """A table for each group of options that has any; one table of lines."""
    if not isinstance(source, argparse.ArgumentParser):
        return "\n".join(["", *_table(source)])
    groups = [(group.title or "", [*rows(source, group)]) for group in source._action_groups]
    return "\n".join(_titled(title, lines) for title, lines in groups if lines)


def rows(parser: argparse.ArgumentParser, group: argparse._ArgumentGroup) -> Iterator[tuple[str, str, str]]:
    """Yields (option, default, meaning) of each option of the group but --help."""
    for action in group._group_actions:
        if isinstance(action, argparse._HelpAction) or action.help == argparse.SUPPRESS:
            continue
        help_text = argparse.HelpFormatter(parser.prog)._expand_help(action) if action.help else ""
        meaning, default = _split(help_text)
        yield _option(action), default or _default(action), meaning


def _titled(title: str, lines: list[tuple[str, str, str]]) -> str:
    table = _table([("option", "default", "meaning"), *lines])
    return "\n".join(["", f"**{title[:1].upper()}{title[1:]}**", "", *table])


def _table(lines: Lines) -> Iterator[str]:
    for number, line in enumerate(lines):
        yield f"| {' | '.join(map(_escape, line))} |"
        if number == 0:
            yield f"|{' --- |' * len(line)}"


def _option(action: argparse.Action) -> str:
    """The option strings, the longest first, with their argument; the name of a positional argument."""
    name = action.dest.upper() if action.option_strings else action.dest
    value = argparse.HelpFormatter("")._format_args(action, name)
    if not action.option_strings:
        return f"`{value}`"
    first, *others = sorted(action.option_strings, key=len, reverse=True)
    shown = ", ".join([f"`{f'{first} {value}'.strip()}`", *(f"`{other}`" for other in others)])
    return shown + (" (required)" if action.required else "")


def _split(help_text: str) -> tuple[str, str]:
    """The help without `(default: ...)` at its end -> the help, and that default: as code if it is one word."""
    found = _DEFAULT.search(help_text)
    if not found:
        return help_text, ""
    return help_text[: found.start()], found[1] if " " in found[1] else f"`{found[1]}`"


def _default(action: argparse.Action) -> str:
    """Empty if there is none, or if it is what an option that was not set stands for anyway."""
    value = action.default
    if value in (None, False, 0, "", argparse.SUPPRESS) or value == []:
        return ""
    values = value if isinstance(value, tuple) else (value,)
    return f"`{','.join(f'{each:g}' if isinstance(each, float) else str(each) for each in values)}`"


def _escape(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def main() -> None:
    """Rewrites the files whose tables are out of date."""
    for path in readmes():
        before = path.read_text(encoding="utf-8")
        after = rewrite(before)
        if after != before:
            path.write_text(after, encoding="utf-8")
            print(f"updated {path.relative_to(PROJECT)}")


if __name__ == "__main__":
    main()
