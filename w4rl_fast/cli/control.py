"""`w4rl control`."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from w4rl_fast.errors import UserError

if TYPE_CHECKING:
    from w4rl_fast.control import Told

FOLDER = click.Path(path_type=Path)


@click.command()
@click.argument("run", type=FOLDER)
@click.option("--arm", default="sim", show_default=True, help="sim, virtual (sim in simulated time) or fci://HOST.")
@click.option("--model", type=click.Choice(["panda", "fr3"]), default="panda", show_default=True, help="Whose limits.")
@click.option("--rate", type=float, help="Decisions a second; the policy has its own, another one is refused.")
@click.option("--policy", default="last", show_default=True, help="cloned, refined, repair-1, ... or last.")
@click.option("--camera", help="A device's number, an address such as rtsp://..., or scene:NAME.  [default: drawn]")
@click.option("--limits", type=FOLDER, help="A TOML file that tightens limits, workspace and watchdog.")
@click.option("--record", type=FOLDER, help="The store to record into.  [default: RUN/robot]")
@click.option("--no-record", is_flag=True, help="Record nothing.")
@click.option("--episodes", default=1, show_default=True)
@click.option("--seed", default=0, show_default=True, help="Of the first episode: where things lie in a scene.")
@click.option("--turns", type=click.IntRange(1), help="Decisions in an episode.  [default: the task's horizon]")
@click.option("--dry-run", is_flag=True, help="Look, decide and say, but let nothing move.")
@click.option("--recover", is_flag=True, help="Make a robot ready again that stopped itself earlier.")
@click.option("--hand/--no-hand", default=True, help="Whether a robot has a hand to open and close.")
@click.option("--allow-non-realtime", is_flag=True, help="Go on where the system grants no real-time priority.")
@click.option("--no-compensation", is_flag=True, help="Act as if an observation were of the moment it was decided on.")
@click.option("--core", type=click.IntRange(0), help="Bind the servo to this core.")
@click.option("--json", "as_json", is_flag=True)
def control(
    run: Path, record: Path | None, no_record: bool, no_compensation: bool, as_json: bool,
    **settings: Any,
) -> None:  # fmt: skip
    """Let the policy of RUN drive an arm.

    Ctrl-C is a controlled stop. Every episode is recorded into a store, from which `w4rl train` and `w4rl repair`
    learn; one that was cut off by a crash is put there by the next call.
    """
    from w4rl_fast.control import ROBOT_STORE, ControlConfig
    from w4rl_fast.control import control as go

    store = None if no_record else record or run / ROBOT_STORE
    config = ControlConfig(record=store, compensate=not no_compensation, **settings)
    all_told = []
    for told in go(run, config, quiet=as_json):
        all_told.append(told)
        if not as_json:
            click.echo(in_words(told, dry=config.dry_run))
    if as_json:
        click.echo(json.dumps({"run": str(run), "arm": config.arm, "episodes": [facts(told) for told in all_told]}))
    elif len(all_told) > 1:
        known = [told.succeeded for told in all_told if told.succeeded is not None]
        if known:
            click.echo(f"{sum(known)} of {len(known)} succeeded")
    if store is not None and not as_json and any(told.recorded for told in all_told):
        click.echo(f"recorded in {store}")
    last = all_told[-1].drive
    if last.error is not None:
        raise last.error
    if last.ended == "interrupted":
        click.get_current_context().exit(130)
    if last.ended.startswith("fault"):
        raise UserError(
            f"the last episode ended by a {last.ended}",
            rule="the servo stopped the arm and latched it",
            remedy="Look at the arm and at what the servo refused (above), then start again",
        )


def facts(told: "Told") -> dict[str, Any]:
    import numpy as np

    drive = told.drive
    delays = {f"p{q}": float(np.percentile(drive.delays, q)) for q in (50, 99)} if drive.delays else {}
    return {
        "seed": told.seed,
        "ended": drive.ended,
        "succeeded": told.succeeded,
        "turns": drive.turns,
        "overruns": drive.overruns,
        "refused": drive.refused,
        "delay_ms": delays,
        "tracking_error_mrad": max(drive.errors, default=0.0),
        "missed_ticks": told.missed,
        "missed_in_a_row": told.longest,
        "tick_us": told.ticks,
        "step_us": told.steps,
        "recorded": told.recorded,
        "error": None if drive.error is None else str(drive.error),
    }


def in_words(told: "Told", *, dry: bool) -> str:
    said = facts(told)
    drive = told.drive
    verdict = {None: "nobody says whether it succeeded", True: "succeeded", False: "did not succeed"}[told.succeeded]
    lines = [f"seed {told.seed}: {verdict}; {drive.turns} turns in {told.seconds:.1f} s, ended by {drive.ended}"]
    if dry:
        lines.append("  nothing moved (--dry-run)")
    if said["delay_ms"]:
        delay = said["delay_ms"]
        lines.append(f"  from seeing to moving {delay['p50']:.0f} ms (p50), {delay['p99']:.0f} ms (p99)")
    if drive.refused:
        lines.append(f"  {drive.refused} messages refused ({drive.flags.name or drive.flags})")
    lines.append(f"  tracking error at most {said['tracking_error_mrad']:.1f} mrad; {drive.overruns} late turns")
    if told.ticks:
        ticks, steps = told.ticks, told.steps
        lines.append(
            f"  ticks missed: {told.missed}, at most {told.longest} in a row; servo step {steps['p99.9']} us (p99.9)"
        )
        lines.append("  time between ticks: " + ", ".join(f"{name} {value:,.0f} us" for name, value in ticks.items()))
        lines += [f"  {line}" for line in told.picture]
    lines += [f"  {lost}" for event in told.events for lost in event.get("lost", ())]
    lines += [f"  {event['event']}: {event.get('why', '')}" for event in told.events if event["event"] == "reflex"]
    return "\n".join(lines)
