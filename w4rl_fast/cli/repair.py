"""`w4rl repair`."""

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from w4rl_fast.refine.repair import Round

FOLDER = click.Path(path_type=Path)


@click.command()
@click.argument("run", type=FOLDER)
@click.option("--rollouts", type=int, help="Real episodes of the refined policy in each round.  [default: 100]")
@click.option("--recorded", type=FOLDER, help="A store of `w4rl control`: what the policy did on an arm, instead.")
@click.option("--rounds", type=click.IntRange(1), default=1, show_default=True, help="So many rounds in all.")
@click.option("--set", "settings", multiple=True, help="A setting, such as share=0.4 or refine.ppo.iterations=40.")
@click.option("--workers", type=int, help="Processes that run the simulator.  [default: one a core]")
@click.option("--threads", type=int, help="Threads of torch.  [default: physical cores]")
@click.option("--json", "as_json", is_flag=True)
def repair(
    run: Path, rollouts: int | None, recorded: Path | None, rounds: int, settings: tuple[str, ...],
    workers: int | None, threads: int | None, as_json: bool,
) -> None:  # fmt: skip
    """Roll the refined policy of RUN out for real, learn from where its world was wrong, and refine again.

    Each round is a folder, RUN/repair-1 and so on, and a run of its own; its episodes are added to the store of RUN.
    Interrupted, a round goes on where it was. Where the policy hardly ever fails for real, nothing is repaired.
    """
    import torch

    from w4rl_fast.config import load_config, override
    from w4rl_fast.refine.imagined import REFINED, SETTINGS, RefineConfig
    from w4rl_fast.refine.repair import RepairConfig
    from w4rl_fast.refine.repair import repair as do_round
    from w4rl_fast.run import latest
    from w4rl_kernels.threads import physical_cores

    torch.set_num_threads(threads or physical_cores())
    named = ("rollouts", rollouts), ("workers", workers), ("recorded", recorded)
    given = [f"{name}={value}" for name, value in named if value is not None]
    done = []
    for number in range(1, rounds + 1):
        last = latest(run) / REFINED / SETTINGS
        refine = load_config(last, RefineConfig) if last.exists() else RefineConfig()
        refine = dataclasses.replace(refine, student=None)  # the repaired world has none yet
        config = override(RepairConfig(refine=refine), [*given, *settings])
        done.append(do_round(run, config, number))
        if not as_json:
            click.echo(in_words(done[-1]))
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(each) for each in done]))
    else:
        click.echo(f"Go on with:\n  w4rl evaluate policy {run} --before --after --controls --episodes 200")


def in_words(each: "Round") -> str:
    said = f"round {each.number}: {each.real_steps:,} real steps. The refined policy succeeds in {each.real}.\n"
    said += f"  its world before: {each.before}\n"
    if not each.repaired:
        return said + "  Nothing to repair: it hardly ever fails."
    assert each.earlier is not None and each.imagined is not None
    return said + (
        f"  repaired: {each.after}\n"
        f"  in the repaired world the policy before dreams of {each.earlier}, the new one of {each.imagined}"
    )
