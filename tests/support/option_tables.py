"""Tables of options in Markdown files, made from the parsers of the commands.

    python tests/support/option_tables.py

rewrites what stands between `<!-- options: NAME -->` and `<!-- end -->` in the README files of the project, for each
NAME in PARSERS. A new table is a row of PARSERS and a pair of markers in a README.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import beam_pipelines.options
import launch.dataflow.options
import launch.doctor.options
import launch.vertex.options
import trainer.config
import trainer.evaluate
import trainer.export
import trainer.predict

PROJECT = Path(__file__).parents[2]
Factory = Callable[[], argparse.ArgumentParser]
PARSERS: Mapping[str, Factory] = {
    "beam_pipelines.build": beam_pipelines.options.build_parser,
    "beam_pipelines.verify": beam_pipelines.options.verify_parser,
    "trainer.task": trainer.config.train_parser,
    "trainer.evaluate": trainer.evaluate.evaluate_parser,
    "trainer.predict": trainer.predict.predict_parser,
    "trainer.export": trainer.export.export_parser,
    "launch.dataflow": launch.dataflow.options.make_parser,
    "launch.vertex": launch.vertex.options.make_parser,
    "launch.doctor": launch.doctor.options.make_parser,
}
_SECTION = re.compile(r"<!-- options: (\S+) -->\n(.*?)<!-- end -->", re.DOTALL)
_DEFAULT = re.compile(r"\s*\(default:? (.*)\)$")  # at the end of a help text
_MARKER = re.compile(r"<!-- options: \S+ -->|<!-- end -->")


class MarkerError(ValueError):
    """A marker that names no parser, or that is not part of a pair."""


def readmes() -> list[Path]:
    """The Markdown files of the project and of its packages."""
    return sorted([*PROJECT.glob("*.md"), *PROJECT.glob("[!.]*/README.md")])


def rewrite(text: str, parsers: Mapping[str, Factory] = PARSERS) -> str:
    """`text` with all tables up to date.

    Raises:
      MarkerError: a marker names no parser, or has no partner.
    """

    def section(found: re.Match[str]) -> str:
        name = found[1]
        if name not in parsers:
            raise MarkerError(f"there is no parser {name}; PARSERS has {', '.join(parsers)}")
        return f"<!-- options: {name} -->\n{render(parsers[name]())}\n\n<!-- end -->"

    markers = len(_MARKER.findall(text))
    pairs = [found for found in _SECTION.finditer(text) if not _MARKER.search(found[2])]
    if markers != 2 * len(pairs):
        raise MarkerError(
            f"{markers} markers, {len(pairs)} pairs: a table needs <!-- options: NAME --> and <!-- end -->"
        )
    return _SECTION.sub(section, text)


def render(parser: argparse.ArgumentParser) -> str:
    """A table for each group of options that has any."""
    groups = [(group.title or "", [*rows(parser, group)]) for group in parser._action_groups]
    return "\n".join(_table(title, lines) for title, lines in groups if lines)


def rows(parser: argparse.ArgumentParser, group: argparse._ArgumentGroup) -> Iterator[tuple[str, str, str]]:
    """Yields (option, default, meaning) of each option of the group but --help."""
    for action in group._group_actions:
        if isinstance(action, argparse._HelpAction) or action.help == argparse.SUPPRESS:
            continue
        help_text = argparse.HelpFormatter(parser.prog)._expand_help(action) if action.help else ""
        meaning, default = _split(help_text)
        yield _option(action), default or _default(action), meaning


def _table(title: str, lines: list[tuple[str, str, str]]) -> str:
    head = ["", f"**{title[:1].upper()}{title[1:]}**", "", "| option | default | meaning |", "| --- | --- | --- |"]
    return "\n".join([*head, *(f"| {' | '.join(map(_escape, line))} |" for line in lines)])


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
