"""`w4rl evaluate`."""

import dataclasses
import functools
import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from w4rl_fast.truth.failure import FailureFidelity

FOLDER = click.Path(path_type=Path)
RESPONSE_STEPS = 5
"""Steps over which the response to other actions is measured."""


@click.group()
def evaluate() -> None:
    """Judge a run on what it never saw."""


@evaluate.command()
@click.argument("run", type=FOLDER)
@click.option("--compare", is_flag=True, help="The refined policy beside the cloned one, on the same seeds.")
@click.option("--episodes", default=100, show_default=True)
@click.option("--workers", default=2, show_default=True)
@click.option("--first-seed", type=int, help="Seeds from here on; 2^30 or more.  [default: 2^30]")
@click.option("--json", "as_json", is_flag=True)
def policy(run: Path, compare: bool, episodes: int, workers: int, first_seed: int | None, as_json: bool) -> None:
    """Run the policy of RUN in the real simulator, on seeds that no recorded episode has."""
    from w4rl_fast.policy import policy_actor, policy_digest
    from w4rl_fast.report.sheet import write_sheet
    from w4rl_fast.run import task_of_run
    from w4rl_fast.truth.paired import paired
    from w4rl_fast.truth.success import FIRST_SEED, judge

    task = task_of_run(run)
    folders = {"before": run / "policy", "after": run / "refined" / "best"} if compare else {"policy": run}
    digests = {name: policy_digest(folder) for name, folder in folders.items()}
    verdicts = {
        name: judge(
            task,
            functools.partial(policy_actor, folder),
            episodes=episodes,
            workers=workers,
            first_seed=FIRST_SEED if first_seed is None else first_seed,
            keep=8,
        )
        for name, folder in folders.items()
    }
    last = list(verdicts.values())[-1]
    pictures = []
    if last.failures:
        still, moving = run / "policy-failures.png", run / "policy-failures-moving.png"
        write_sheet(last.failures, still, moving)
        pictures = [str(still), str(moving)]
    shares = {name: dataclasses.asdict(verdict.share) for name, verdict in verdicts.items()}
    summary = {"task": task.name, "policy": digests["policy"], **shares["policy"]} if not compare else {
        "task": task.name, "policies": digests, **shares
    }  # fmt: skip
    gain = paired(verdicts["before"].by_seed, verdicts["after"].by_seed) if compare else None
    if gain is not None:
        summary |= {"p_paired": gain.p, "paired": dataclasses.asdict(gain)}
    if as_json:
        click.echo(json.dumps({**summary, "pictures": pictures}))
        return
    for name, verdict in verdicts.items():
        click.echo(f"{task.name}, {name}: {verdict.share}" if compare else f"{task.name}: {verdict.share}")
    if gain is not None:
        click.echo(f"gain: {gain}")
    for picture in pictures:
        click.echo(f"failures: {picture}")


@evaluate.command()
@click.argument("run", type=FOLDER)
@click.argument("store", type=FOLDER)
@click.option("--episodes", type=click.IntRange(1), default=100, show_default=True, help="Held-out episodes, at most.")
@click.option("--horizon", type=click.IntRange(1), help="Steps to imagine.  [default: as in training]")
@click.option("--start", type=click.IntRange(0), help="Row of the present.  [default: 1, or 0 in short episodes]")
@click.option(
    "--simulated",
    type=click.IntRange(1),
    default=24,
    show_default=True,
    help="Held-out episodes whose starts are given other actions, in the world and in the simulator.",
)
@click.option("--workers", type=click.IntRange(1), default=2, show_default=True, help="Processes of the simulator.")
@click.option(
    "--feature-net",
    "feature_nets",
    multiple=True,
    metavar="NAME=PATH",
    help="A network for fid, fvd or lpips: TorchScript or .pt2. Such a file is code: give what you trust.",
)
@click.option("--json", "as_json", is_flag=True)
@click.pass_context
def world(
    ctx: click.Context,
    run: Path,
    store: Path,
    episodes: int,
    horizon: int | None,
    start: int | None,
    simulated: int,
    workers: int,
    feature_nets: tuple[str, ...],
    as_json: bool,
) -> None:
    """Roll the world of RUN out over held-out episodes of STORE, open loop, and say how far it can be believed.

    Writes RUN/world-fidelity.json, and RUN/world.html to look at.
    """
    from w4rl_fast.config import load_config
    from w4rl_fast.data import Store
    from w4rl_fast.report import world as report
    from w4rl_fast.report.failure import failure_figures, failure_section
    from w4rl_fast.report.response import action_response
    from w4rl_fast.truth.failure import failures_of
    from w4rl_fast.truth.features import load_networks
    from w4rl_fast.truth.held_out import held_out
    from w4rl_fast.truth.open_loop import judge_world
    from w4rl_fast.truth.response import measure_response
    from w4rl_fast.world.checkpoint import load_world
    from w4rl_fast.world.train import TrainWorldConfig

    model, opened = load_world(run), Store(store)
    config = load_config(run / "world" / "train.json", TrainWorldConfig)
    steps = horizon or config.horizon
    networks = load_networks(feature_nets)
    held = held_out(opened, config, horizon=steps, episodes=episodes, start=start)
    starts = held_out(opened, config, horizon=min(RESPONSE_STEPS, steps), episodes=simulated, start=0)
    if steps > config.horizon:
        click.echo(f"warning: horizon {steps} is beyond the {config.horizon} steps of training", err=True)
    verdict = judge_world(model, held, networks=networks)
    response, imagined, real = measure_response(model, starts, opened, workers=workers)
    summary = {
        **dataclasses.asdict(verdict.overall),
        **verdict.features,
        "start": held.start,
        "by_source": {source: dataclasses.asdict(each) for source, each in verdict.by_source.items()},
        "action_response": dataclasses.asdict(response),
    }
    figures = report.headline_figures(verdict.overall, response)
    obeying = action_response(response, imagined, real, starts.infos)
    sections = [report.curves(verdict), obeying, report.by_source(verdict)]
    if (judged := failures_of(run, opened)) is not None:
        fidelity, mistakes = judged
        summary["failure_fidelity"] = dataclasses.asdict(fidelity)
        figures += failure_figures(fidelity)
        sections.append(failure_section(fidelity, mistakes))
    whole = report.write_world_report(run, verdict, figures, sections, summary, command_line(ctx))
    click.echo(json.dumps(whole) if as_json else report.in_words(verdict, response, run))


@evaluate.command()
@click.argument("run", type=FOLDER)
@click.argument("store", type=FOLDER)
@click.option("--json", "as_json", is_flag=True)
@click.pass_context
def reward(ctx: click.Context, run: Path, store: Path, as_json: bool) -> None:
    """Read held-out episodes of STORE with the classifier of RUN, as they were and as its world imagines them.

    Writes RUN/reward-quality.json, and RUN/reward.html to look at.
    """
    from w4rl_fast.config import load_config
    from w4rl_fast.data import Store
    from w4rl_fast.report import classifier as report
    from w4rl_fast.reward import load_reward
    from w4rl_fast.reward.rows import RealRows
    from w4rl_fast.reward.train import TrainRewardConfig, windows_of
    from w4rl_fast.truth.classifier import judge_reading
    from w4rl_fast.truth.failure import failures_of

    (model, rule), opened = load_reward(run), Store(store)
    config = load_config(run / "reward" / "train.json", TrainRewardConfig)
    quality = judge_reading(model, rule, RealRows(windows_of(opened, config, "held-out")))
    summary = dataclasses.asdict(quality)
    sections = [report.calibration_section(quality.calibration, rule)]
    if (audit := failures_of(run, opened)) is not None:
        fidelity, mistakes = audit
        summary["failure_fidelity"] = dataclasses.asdict(fidelity)
        sections.append(report.audit_section(fidelity, mistakes))
    whole = report.write_reward_report(run, quality, sections, summary, command_line(ctx))
    if as_json:
        click.echo(json.dumps(whole))
        return
    click.echo(f"{quality.frames} held-out frames: precision {quality.precision:.3f}, recall {quality.recall:.3f}")
    click.echo(f"failing episodes called success: {quality.false_positives}\nsuccesses found: {quality.found}")
    if audit is not None:
        click.echo(in_words(audit[0]))
    click.echo(str(whole["page"]))


def in_words(fidelity: "FailureFidelity") -> str:
    each = fidelity.imagined
    return (
        f"outcomes of {each.n} replays ({fidelity.over}) agree in {each.agreement:.1%}: {each.false_successes} of"
        f" {each.true_failures + each.false_successes} failures read as success,"
        f" {each.false_failures} of {each.true_successes + each.false_failures} successes as failure"
    )


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
