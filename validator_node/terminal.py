"""The one place that writes to a person's terminal: lines, tables, JSON.

Rules:

1. What is written may come from strangers: it is made `printable`, and no markup is read in it.
2. A terminal that cannot show a character gets another one in its place.
3. A reader that goes away (`| head`) raises `BrokenPipeError`; an output that cannot be written
   raises `OutputError`. The command line turns both into an exit code (`cli.exit_codes`).
"""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, NoReturn

import typer
from rich.console import Console, RenderableType
from rich.text import Text

from protocol.text import printable
from validator_node.errors import OutputError


class Terminal(Console):
    """A console on which nothing that it is given is obeyed: neither markup nor control codes."""

    def __init__(self, *, stderr: bool = False, soft_wrap: bool = False) -> None:
        super().__init__(
            stderr=stderr, soft_wrap=soft_wrap, markup=False, emoji=False, highlight=False
        )

    def render_str(self, text: str, **options: Any) -> Text:  # noqa: ANN401 - rich's options
        """Return a string of a table or a line as it is shown."""
        return super().render_str(printable(text, lines=True), **options)

    def on_broken_pipe(self) -> NoReturn:
        """Leave it to the command line."""
        raise BrokenPipeError


def prepare_streams() -> None:
    """Let standard output and error replace what they cannot show (rule 2)."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def say(line: str, *, err: bool = False) -> None:
    """Write one line, to standard error with `err`. A line break in it is shown as an escape."""
    with _written():
        typer.echo(printable(line), err=err)


def say_lines(text: str, *, err: bool = False) -> None:
    """Write a text of several lines, such as a compiler's."""
    with _written():
        typer.echo(printable(text, lines=True), err=err)


def say_json(value: object, *, indent: int | None = 2) -> None:
    """Write `value` as JSON, which is ASCII with escapes."""
    with _written():
        typer.echo(json.dumps(value, indent=indent))


def say_table(what: RenderableType, *, soft_wrap: bool = False) -> None:
    """Write a table."""
    with _written():
        Terminal(soft_wrap=soft_wrap).print(what)


def finish_streams() -> None:
    """Write what waits in the streams. Raises like `say`."""
    with _written():
        for stream in (sys.stdout, sys.stderr):
            if stream is not None and not stream.closed:
                stream.flush()


def abandon_streams() -> None:
    """Send what is still written nowhere, so that the interpreter does not complain at its end."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()
            continue
        with suppress(OSError, ValueError, AttributeError):
            os.dup2(nothing, stream.fileno())
    os.close(nothing)


@contextmanager
def _written() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(f"the output cannot be written: {error.strerror or error}") from error
