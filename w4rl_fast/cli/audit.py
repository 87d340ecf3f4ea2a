"""`w4rl audit`."""

import dataclasses
import json
from pathlib import Path

import click

from w4rl_fast.cli.words import command_line

FOLDER = click.Path(path_type=Path)


@click.command()
@click.argument("run", type=FOLDER)
@click.argument("store", type=FOLDER, required=False)
@click.option("--set", "settings", multiple=True, help="A limit, such as least_agreement=0.9.")
@click.option("--json", "as_json", is_flag=True)
@click.pass_context
def audit(ctx: click.Context, run: Path, store: Path | None, settings: tuple[str, ...], as_json: bool) -> None:
    """Replay real episodes in the world of RUN, and see whether they end as they really did.

    Writes RUN/audit.json, and RUN/audit.html with a picture of every mistake. Ends with 1 if the world breaks a limit.
    """
    import w4rl_fast
    from w4rl_fast.config import override
    from w4rl_fast.report.audit import write_audit_report
    from w4rl_fast.truth.audit import AuditConfig
    from w4rl_fast.truth.audit import audit as judge

    limits = override(AuditConfig(), settings)
    found, mistakes = judge(run, w4rl_fast.load(run).open_store(store), limits)
    page = write_audit_report(run, found, mistakes, command_line(ctx))
    if as_json:
        click.echo(json.dumps({**dataclasses.asdict(found), "passes": found.passes, "page": str(page)}))
    else:
        click.echo(f"{found}\n{'passes' if found.passes else 'fails: ' + '; '.join(found.complaints)}\n{page}")
    ctx.exit(0 if found.passes else 1)
