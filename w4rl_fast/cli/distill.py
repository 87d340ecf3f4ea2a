"""`w4rl distill`, and the comparison of students with their teacher."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from w4rl_fast.cli.words import command_line

if TYPE_CHECKING:
    from w4rl_fast.data.episode import Schema
    from w4rl_fast.world.config import WorldConfig

FOLDER = click.Path(path_type=Path)


@click.command()
@click.argument("run", type=FOLDER)
@click.argument("store", type=FOLDER, required=False)
@click.option("--steps", type=click.Choice(["1", "2", "4"]), default="1", show_default=True, help="Of the student.")
@click.option("--method", type=click.Choice(["consistency", "own-rollout"]), default="own-rollout", show_default=True)
@click.option(
    "--student",
    type=click.Choice(["nano", "tiny", "tiny-dit", "small", "paper"]),
    help="The preset whose backbone the student has.  [default: the teacher's backbone]",
)
@click.option("--name", help="Of the folder in RUN/students.  [default: method, steps and backbone]")
@click.option(
    "--set", "settings", multiple=True, help="A setting, such as own.length=4 or student.backbone.widths=16,48."
)
@click.option("--threads", type=int, help="Threads of torch.  [default: physical cores]")
def distill(
    run: Path, store: Path | None, steps: str, method: str, student: str | None, name: str | None,
    settings: tuple[str, ...], threads: int | None,
) -> None:  # fmt: skip
    """Make a student of the world of RUN that draws a frame in fewer steps (RUN/students/NAME, a run of its own).

    STORE is by default the one that RUN was trained on. Interrupted, it goes on exactly where it was.
    """
    import torch

    from w4rl_fast.cli.train import previewer
    from w4rl_fast.config import load_config, override
    from w4rl_fast.data import Store
    from w4rl_fast.distill import DistillConfig, distill_run
    from w4rl_fast.distill.folder import STUDENTS
    from w4rl_fast.run import store_of_run
    from w4rl_fast.world.checkpoint import load_world
    from w4rl_fast.world.train import TrainWorldConfig
    from w4rl_kernels.threads import physical_cores

    torch.set_num_threads(threads or physical_cores())
    taught = load_world(run).config
    opened = Store(store_of_run(run, store))
    world = student_of(taught, student, int(steps), opened.schema)
    usual = DistillConfig(student=world) if student is None else DistillConfig.from_new_weights(world)
    config = override(usual, [f"method={method}", *settings])
    chosen = name or "-".join([config.method, str(config.student.sampling.steps), *([student] if student else [])])
    trained = load_config(run / "world" / "train.json", TrainWorldConfig)
    folder = run / STUDENTS / chosen

    def preview(step: int, model: "torch.nn.Module") -> None:
        previewer(opened, trained, folder / "world")(step, model)

    distill_run(run, opened, config, chosen, preview)
    click.echo(f"{folder}: distilled. Go on with:\n  w4rl evaluate world {run} --compare")


def student_of(teacher: "WorldConfig", preset: str | None, steps: int, schema: "Schema") -> "WorldConfig":
    """The world of a student: the teacher's in so many steps, with its backbone or that of a preset."""
    import dataclasses

    from w4rl_fast.distill.student import with_steps
    from w4rl_fast.presets import WORLDS

    world = with_steps(teacher, steps)
    if preset is None:
        return world
    model = WORLDS[preset](schema).world
    return dataclasses.replace(world, backbone=model.backbone, transformer=model.transformer)


def compare_worlds(
    ctx: click.Context, run: Path, store: Path | None, *, episodes: int, simulated: int, workers: int, as_json: bool
) -> None:
    """What `w4rl evaluate world RUN --compare` does."""
    from w4rl_fast.data import Store
    from w4rl_fast.distill.compare import CompareConfig, compare
    from w4rl_fast.report.students import in_words, write_students_report
    from w4rl_fast.run import store_of_run

    config = CompareConfig(episodes=episodes, simulated=simulated, workers=workers)
    found = compare(run, Store(store_of_run(run, store)), config)
    summary = write_students_report(run, found, command_line(ctx))
    click.echo(json.dumps(summary) if as_json else in_words(found, run))
