"""`w4rl doctor`: what works here, and the commands that fix the rest."""

import dataclasses
import itertools
import json
from typing import TYPE_CHECKING

import click

from w4rl_fast.doctor import Finding, examine, is_usable

if TYPE_CHECKING:
    from rich.table import Table


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
def doctor(as_json: bool) -> None:
    """Show what works on this machine, and the command that fixes what does not."""
    findings = examine()
    if as_json:
        click.echo(json.dumps(_report(findings), indent=2))
    else:
        _show(findings)
    if not is_usable(findings):
        raise SystemExit(1)


def _report(findings: list[Finding]) -> dict[str, object]:
    from w4rl_fast.measure import environment_card

    return {"environment": environment_card(), "findings": [dataclasses.asdict(finding) for finding in findings]}


def _show(findings: list[Finding]) -> None:
    from rich.console import Console

    console = Console()
    marks = ("ok", "no") if console.options.ascii_only else ("✓ ok", "✗ no")
    for room, group in itertools.groupby(findings, key=lambda finding: finding.room):
        console.print(_table(room, list(group), marks), markup=False)


def _table(room: str, findings: list[Finding], marks: tuple[str, str]) -> "Table":
    from rich.table import Table
    from rich.text import Text

    table = Table(title=room, title_style="bold", title_justify="left", box=None, show_header=False, expand=True)
    table.add_column(width=14)
    table.add_column(width=4)
    table.add_column(ratio=1)
    for finding in findings:
        mark = Text(marks[0], "green") if finding.ok else Text(marks[1], "red")
        text = Text(finding.detail)
        if finding.remedy:
            text.append(f"\n{finding.remedy}", "cyan")
        table.add_row(Text(finding.name), mark, text)
    return table
