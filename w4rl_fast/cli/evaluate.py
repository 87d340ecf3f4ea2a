"""`w4rl evaluate`."""

import dataclasses
import json
from pathlib import Path

import click

from w4rl_fast.cli.words import command_line, print_table

FOLDER = click.Path(path_type=Path)
RESPONSE_STEPS = 5
"""Steps over which the response to other actions is measured."""


@click.group()
def evaluate() -> None:
    """Judge a run on what it never saw."""


@evaluate.command()
@click.argument("run", type=FOLDER)
@click.option("--before", is_flag=True, help="The cloned policy.")
@click.option("--after", is_flag=True, help="The refined policy, without repair and after the last round of it.")
@click.option(
    "--controls", is_flag=True, help="Cloned, with as many steps, from every demonstration and every success."
)
@click.option("--episodes", default=200, show_default=True)
@click.option("--workers", default=2, show_default=True)
@click.option("--first-seed", type=int, help="Seeds from here on; 2^30 or more.  [default: 2^30]")
@click.option("--json", "as_json", is_flag=True)
def policy(
    run: Path, before: bool, after: bool, controls: bool, episodes: int, workers: int, first_seed: int | None,
    as_json: bool,
) -> None:  # fmt: skip
    """Run policies of RUN in the real simulator, on seeds that no recorded episode has, the same for all.

    Without --before, --after or --controls it is the cloned policy. Beside real success stands what the same policy
    dreams of. Writes RUN/policy-success.json, and pictures of failures.
    """
    from w4rl_fast.refine.proof import beyond_controls, chosen, earned, gains, keep_proof, prove, summary_of
    from w4rl_fast.report.policies import policy_rows
    from w4rl_fast.report.sheet import write_sheet
    from w4rl_fast.run import task_of_run
    from w4rl_fast.truth.success import FIRST_SEED

    policies = chosen(run, before=before or not (after or controls), after=after, controls=controls)
    seeds = FIRST_SEED if first_seed is None else first_seed
    judged = prove(run, policies, episodes=episodes, workers=workers, first_seed=seeds)
    dense = {
        name: {"return": float(each.returns.mean()), "score": float(each.scores.mean())}
        for name, each in earned(run, policies, episodes=episodes, first_seed=seeds).items()
    }
    compared = gains(judged) if "cloned" in judged else {}
    pictures = []
    for name, each in judged.items():
        if each.real.failures:
            stem = run / f"failures-{name.replace(' ', '-')}"
            still, moving = Path(f"{stem}.png"), Path(f"{stem}-moving.png")
            write_sheet(each.real.failures, still, moving)
            pictures += [str(still), str(moving)]
    beyond = beyond_controls(judged) if after else {}
    summary = {
        "task": task_of_run(run).name,
        "policies": summary_of(judged, compared),
        "earned": dense,
        "against_controls": {name: dataclasses.asdict(gain) for name, gain in beyond.items()},
        "pictures": pictures,
    }
    path = keep_proof(run, summary)
    if as_json:
        click.echo(json.dumps(summary))
        return
    click.echo(summary["task"])
    print_table(*policy_rows(judged, compared))
    for name, rewards in dense.items():
        click.echo(f"{name}: score {rewards['score']:.3f} at the end, return {rewards['return']:.2f}")
    for name, gain in compared.items():
        click.echo(f"{name} against cloned: {gain}")
    for name, gain in beyond.items():
        click.echo(f"the last refined policy against {name}: {gain}")
    for file in [str(path), *pictures]:
        click.echo(file)


@evaluate.command()
@click.argument("run", type=FOLDER)
@click.argument("store", type=FOLDER, required=False)
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
@click.option("--compare", is_flag=True, help="Beside its few-step students and naive samplers; asks their gate.")
@click.option("--json", "as_json", is_flag=True)
@click.pass_context
def world(
    ctx: click.Context,
    run: Path,
    store: Path | None,
    episodes: int,
    horizon: int | None,
    start: int | None,
    simulated: int,
    workers: int,
    feature_nets: tuple[str, ...],
    compare: bool,
    as_json: bool,
) -> None:
    """Roll the world of RUN out over held-out episodes of STORE, open loop, and say how far it can be believed.

    Writes RUN/world-fidelity.json, and RUN/world.html to look at. With --compare it judges the students in RUN/students
    against it instead, on whole episodes, and writes RUN/students.json and RUN/students.html.
    """
    if compare:
        from w4rl_fast.cli.distill import compare_worlds

        if horizon or start is not None or feature_nets:
            raise click.UsageError("--compare judges whole episodes: leave --horizon, --start and --feature-net out")
        compare_worlds(ctx, run, store, episodes=episodes, simulated=simulated, workers=workers, as_json=as_json)
        return
    from w4rl_fast.config import load_config
    from w4rl_fast.data import Store
    from w4rl_fast.report import world as report
    from w4rl_fast.report.failure import failure_figures, failure_section
    from w4rl_fast.report.response import action_response
    from w4rl_fast.run import store_of_run
    from w4rl_fast.truth.audit import AuditConfig, audit, missing_parts
    from w4rl_fast.truth.features import load_networks
    from w4rl_fast.truth.held_out import held_out
    from w4rl_fast.truth.open_loop import judge_world
    from w4rl_fast.truth.response import measure_response
    from w4rl_fast.world.checkpoint import load_world
    from w4rl_fast.world.train import TrainWorldConfig

    model, opened = load_world(run), Store(store_of_run(run, store))
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
    if not missing_parts(run):
        found, mistakes = audit(run, opened, AuditConfig())
        summary["failure_fidelity"] = dataclasses.asdict(found.fidelity)
        figures += failure_figures(found.fidelity)
        sections.append(failure_section(found.fidelity, mistakes))
    whole = report.write_world_report(run, verdict, figures, sections, summary, command_line(ctx))
    click.echo(json.dumps(whole) if as_json else report.in_words(verdict, response, run))


@evaluate.command()
@click.argument("run", type=FOLDER)
@click.argument("store", type=FOLDER, required=False)
@click.option("--json", "as_json", is_flag=True)
@click.pass_context
def reward(ctx: click.Context, run: Path, store: Path | None, as_json: bool) -> None:
    """Read held-out episodes of STORE with the classifier of RUN, as they were and as its world imagines them.

    Writes RUN/reward-quality.json, and RUN/reward.html to look at.
    """
    from w4rl_fast.config import load_config
    from w4rl_fast.data import Store
    from w4rl_fast.report import classifier as report
    from w4rl_fast.reward import load_reward
    from w4rl_fast.reward.rows import RealRows
    from w4rl_fast.reward.train import TrainRewardConfig, windows_of
    from w4rl_fast.run import store_of_run
    from w4rl_fast.truth.audit import AuditConfig, audit, missing_parts
    from w4rl_fast.truth.classifier import judge_reading

    (model, rule), opened = load_reward(run), Store(store_of_run(run, store))
    config = load_config(run / "reward" / "train.json", TrainRewardConfig)
    quality = judge_reading(model, rule, RealRows(windows_of(opened, config, "held-out")))
    summary = dataclasses.asdict(quality)
    sections = [report.calibration_section(quality.calibration, rule)]
    found = None
    if not missing_parts(run):
        found, mistakes = audit(run, opened, AuditConfig())
        summary["failure_fidelity"] = dataclasses.asdict(found.fidelity)
        sections.append(report.audit_section(found.fidelity, mistakes))
    whole = report.write_reward_report(run, quality, sections, summary, command_line(ctx))
    if as_json:
        click.echo(json.dumps(whole))
        return
    click.echo(f"{quality.frames} held-out frames: precision {quality.precision:.3f}, recall {quality.recall:.3f}")
    click.echo(f"failing episodes called success: {quality.false_positives}\nsuccesses found: {quality.found}")
    if found is not None:
        click.echo(str(found))
    click.echo(str(whole["page"]))


@evaluate.command()
@click.argument("run", type=FOLDER)
@click.argument("store", type=FOLDER, required=False)
@click.option("--set", "settings", multiple=True, help="A setting, such as cases=128, steps=16 or width=0.05.")
@click.option("--no-simulator", is_flag=True, help="Compare with the world alone.")
@click.option("--threads", type=int, help="Threads of torch.  [default: physical cores]")
@click.option("--json", "as_json", is_flag=True)
def surrogate(
    run: Path, store: Path | None, settings: tuple[str, ...], no_simulator: bool, threads: int | None, as_json: bool
) -> None:
    """Compare RUN/surrogate with the world and the real simulator: where it goes, and where its gradients point.

    Held-out recorded stretches are taken, and, if RUN/fog is there, what the refined policy does, before and after the
    surrogate was refreshed. The gradients of the truth are finite differences of returns by actions.
    """
    import torch

    import w4rl_fast
    from w4rl_fast.config import override, to_json_dict
    from w4rl_fast.refine.fog import FOG
    from w4rl_fast.report.surrogate import cosine_rows, write_surrogate_report
    from w4rl_fast.surrogate.agreement import AgreementConfig
    from w4rl_fast.surrogate.examine import examine
    from w4rl_kernels.threads import physical_cores

    torch.set_num_threads(threads or physical_cores())
    refined = run / FOG if (run / FOG / "surrogate").exists() else None
    config = override(AgreementConfig(), settings)
    found = examine(w4rl_fast.load(run), config, refined=refined, store=store, simulator=not no_simulator)
    path = write_surrogate_report(run, found, command_line(click.get_current_context()))
    if as_json:
        click.echo(json.dumps({**to_json_dict(found), "page": str(path)}))
        return
    click.echo("Cosine of the surrogate's action gradients with finite differences:")
    print_table(["stretches", "truth", "cases", "steps", "decoupled", "own rollout", "n"], cosine_rows(found))
    for part in found.parts:
        for each in part.errors:
            off = {**{name: f"{values[-1]:.2f}" for name, values in each.task.items()},
                   "correlation of the reward": f"{each.correlation[-1]:.3f}"}  # fmt: skip
            said = "; ".join(f"{name}: {value}" for name, value in off.items())
            click.echo(f"{part.stretches}, {part.surrogate}, {each.of} after {config.steps} steps: {said}")
    click.echo(path)
