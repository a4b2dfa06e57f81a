"""The arguments that the build does not know: checks them, and turns them into Beam's options."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from beam_pipelines import runners
from beam_pipelines.contract.errors import unknown_option
from beam_pipelines.errors import first_line
from beam_pipelines.options.parser import Parser, build_parser

if TYPE_CHECKING:
    from apache_beam.options.pipeline_options import PipelineOptions


def pipeline_options(beam_args: Sequence[str], known: Sequence[str] = ()) -> PipelineOptions:
    """Beam's options: the defaults of the runner, then the arguments.

    Raises:
      SystemExit: 2, after a message, if neither this project nor Beam knows an argument. The message suggests a similar
        option of the build, of Beam, or of `known`.
    """
    from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions
    from apache_beam.runners.runner import create_runner

    parser = Parser(allow_abbrev=False, add_help=False)
    for view in PipelineOptions.__subclasses__():
        view._add_argparse_args(parser)
    _, unknown = parser.parse_known_args(list(beam_args))
    if unknown:
        options_of_all = [*known, *build_parser()._option_string_actions, *parser._option_string_actions]
        raise _wrong(unknown_option(unknown[0], options_of_all))
    if problem := runners.missing_program(beam_args):
        raise _wrong(problem)
    options = PipelineOptions([*runners.runner_in(beam_args).defaults(), *beam_args])
    name = options.view_as(StandardOptions).runner
    try:
        create_runner(name)
    except (ValueError, ImportError, AttributeError) as error:
        raise _wrong(_no_runner(name, error)) from error
    return options


def _no_runner(name: str, error: Exception) -> str:
    if "." in name or isinstance(error, ImportError):
        return f"--runner={name} can't be loaded: {first_line(error)}"
    found = re.search(r"Valid values are (.*?),? or ", str(error))
    known = [row.names[0] for row in runners.RUNNERS]
    others = [each for each in found[1].split(", ") if each not in known] if found else []
    beams = f", another of Beam's ({', '.join(others)})," if others else ""
    return f"--runner={name} is no runner: give {', '.join(known)}{beams} or the full name of a class of one"


def _wrong(message: str) -> SystemExit:
    """Prints the message. -> SystemExit with code 2; Python would exit with 1 after a message."""
    print(f"error: {message}", file=sys.stderr)
    stopped = SystemExit(message)
    stopped.code = 2
    return stopped
