"""What commands say."""

import shlex
from collections.abc import Iterable, Sequence

import click


def command_line(ctx: click.Context) -> str:
    """The command as it was given, without what was left at its default."""
    words = ctx.command_path.split()
    for parameter in ctx.command.params:
        given, name = ctx.params.get(parameter.name or ""), parameter.opts[-1]
        if ctx.get_parameter_source(parameter.name or "") is not click.core.ParameterSource.COMMANDLINE:
            continue
        for value in given if isinstance(given, tuple) else [given]:
            option = [name] if isinstance(parameter, click.Option) else []
            words += option if value is True else [*option, str(value)]
    return shlex.join(words)


def print_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table, as wide as the terminal."""
    from rich.console import Console
    from rich.table import Table

    table = Table(*head)
    for row in rows:
        table.add_row(*row)
    Console().print(table)
