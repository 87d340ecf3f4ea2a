"""`w4rl data`."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from w4rl_fast.errors import UserError

if TYPE_CHECKING:
    from w4rl_fast.data.episode import Episode, Schema
    from w4rl_fast.data.store import Episodes

STORE = click.Path(path_type=Path)
FORMATS = click.Choice(["diffusion-policy", "robomimic"])


@click.group()
def data() -> None:
    """Look at, check, import and export a store."""


@data.command()
@click.argument("store", type=STORE)
@click.option("--json", "as_json", is_flag=True)
def info(store: Path, as_json: bool) -> None:
    """What is in a store: tasks, sources, successes, frames, settings."""
    from w4rl_fast.data.foreign import open_store

    opened = open_store(store)
    summary = summarise(opened)
    if as_json:
        click.echo(json.dumps(summary))
        return
    click.echo(f"{store}: {summary['episodes']} episodes, {summary['frames']} frames, {summary['shape']}")
    for line in summary["sources"]:
        click.echo(f"  {line['task']} {line['source']}: {line['succeeded']} of {line['episodes']} succeeded")


def summarise(opened: "Episodes") -> dict[str, Any]:
    from w4rl_fast.data.index import describe

    episodes = Counter((info.task, info.source) for info in opened.infos)
    succeeded = Counter((info.task, info.source) for info in opened.infos if info.succeeded)
    return {
        "episodes": len(opened),
        "frames": sum(opened.lengths),
        "shape": describe(opened.schema),
        "image_size": opened.schema.image_size,
        "action_low": opened.schema.action_low,
        "action_high": opened.schema.action_high,
        "proprio_dim": opened.schema.proprio_dim,
        "landmark_dim": opened.schema.landmark_dim,
        "digest": opened.digest,
        "sources": [
            {"task": task, "source": source, "episodes": count, "succeeded": succeeded[task, source]}
            for (task, source), count in sorted(episodes.items())
        ],
    }


@data.command()
@click.argument("store", type=STORE)
@click.option("--json", "as_json", is_flag=True)
def check(store: Path, as_json: bool) -> None:
    """Read every byte of a store and compare it with its checksums; exit 2 if any differs."""
    import dataclasses

    from w4rl_fast.data.check import check_store

    report = check_store(store)
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(report)))
    else:
        for damage in report.damage:
            click.echo(f"damaged: {damage.file}: {damage.what}", err=True)
            if damage.episodes:
                click.echo(f"  episodes: {', '.join(damage.episodes)}", err=True)
        for note in report.notes:
            click.echo(f"note: {note}")
        verdict = f"{len(report.damage)} damaged file(s)" if report.damage else "every checksum fits"
        click.echo(f"{store}: {report.episodes} episodes, {report.rows} frames, {report.files} files, {verdict}")
    if report.damage:
        raise SystemExit(2)


@data.command()
@click.argument("store", type=STORE)
@click.option("--episodes", type=click.IntRange(min=1), help="How many, spread over tasks, sources and outcomes.")
@click.option("--json", "as_json", is_flag=True)
def replay(store: Path, episodes: int | None, as_json: bool) -> None:
    """Give the simulator the recorded actions, and say how far it goes astray from what was recorded."""
    import dataclasses

    from w4rl_fast.data.store import Store
    from w4rl_fast.truth.replayed import replay_store

    opened = Store(store)
    astray = replay_store(opened, spread(opened, len(opened) if episodes is None else episodes))
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(astray)))
        return
    click.echo(f"{store}: {astray.agreed} of {astray.episodes} replayed episodes end as they were recorded")
    for error in astray.errors:
        step = "last step" if error.step is None else f"step {error.step}"
        spreads = f"median {error.median:.3g}, 95 % below {error.p95:.3g} {error.unit}".rstrip()
        click.echo(f"  {error.of} at {step}: {spreads} ({error.episodes} episodes)")


@data.command()
@click.argument("store", type=STORE)
@click.option("--episodes", default=8, show_default=True, help="How many, spread over tasks, sources and outcomes.")
@click.option("--out", type=STORE, help="Name of the pictures, without suffix.  [default: STORE-sheet beside it]")
@click.option("--fps", default=10.0, show_default=True)
@click.option("--scale", default=2, show_default=True, help="Enlarges the frames.")
def sheet(store: Path, episodes: int, out: Path | None, fps: float, scale: int) -> None:
    """Write a contact sheet and an animation (both PNG) of some episodes."""
    from w4rl_fast.data.foreign import open_store

    base = out or store.with_name(f"{store.resolve().name}-sheet")
    still, moving = write_pictures(open_store(store), base, episodes=episodes, fps=fps, scale=scale)
    click.echo(f"{still}\n{moving}")


def write_pictures(opened: "Episodes", base: Path, *, episodes: int, fps: float, scale: int) -> tuple[Path, Path]:
    """Write `base`.png and `base`-moving.png of episodes spread over tasks, sources and outcomes."""
    from w4rl_fast.report.sheet import write_sheet

    if episodes < 1:
        raise UserError(f"episodes {episodes}", rule="a sheet shows at least one", remedy="Use --episodes 8")
    chosen = [opened.read(number) for number in spread(opened, episodes)]
    still, moving = base.with_name(base.name + ".png"), base.with_name(base.name + "-moving.png")
    write_sheet(chosen, still, moving, fps=fps, scale=scale)
    return still, moving


def spread(opened: "Episodes", count: int) -> list[int]:
    """Episodes taken in turn from each task, source and outcome."""
    groups: dict[tuple[str, str, bool], list[int]] = {}
    for number, info in enumerate(opened.infos):
        groups.setdefault((info.task, info.source, not info.succeeded), []).append(number)
    ranked = sorted((turn, group, number) for group, members in groups.items() for turn, number in enumerate(members))
    return [number for _, _, number in sorted(ranked[:count], key=lambda entry: entry[1:])]


@data.command("import")
@click.argument("source", type=STORE)
@click.option("--format", "kind", type=FORMATS, required=True)
@click.option("--task", required=True, help="The name these episodes get, such as pusht or myrobot/open-drawer.")
@click.option("--out", type=STORE, required=True, help="The store to make or to add to.")
@click.option("--set", "settings", multiple=True, help="A setting of the format, such as image=agentview_image.")
def import_(source: Path, kind: str, task: str, out: Path, settings: tuple[str, ...]) -> None:
    """Add the episodes of a file of others to a store."""
    from w4rl_fast.data.store import writing
    from w4rl_fast.progress import Progress

    schema, recorded, episodes = read_foreign(source, kind, task, settings)
    added, there = 0, 0
    with writing(out, schema, {task: recorded}) as writer, Progress("import", unit="episodes") as bar:
        for episode in episodes:
            if writer.add(episode):
                added += 1
            else:
                there += 1
            bar.advance()
    click.echo(f"{out}: {added} episodes imported from {source}")
    if there:
        click.echo(f"{there} were left out: {out} holds episodes of that name ({source.name} and the number) already")


def read_foreign(
    source: Path, kind: str, task: str, settings: tuple[str, ...]
) -> tuple["Schema", dict[str, Any], Iterator["Episode"]]:
    """Schema, the settings of the task if they are known, and episodes."""
    from w4rl_fast.config import override
    from w4rl_fast.data.importers import diffusion_policy, robomimic

    if kind == "robomimic":
        schema, episodes = robomimic.read_episodes(source, override(robomimic.RobomimicConfig(task=task), settings))
        return schema, {}, episodes
    config = override(diffusion_policy.DiffusionPolicyConfig(task=task), settings)
    schema, episodes = diffusion_policy.read_episodes(source, config)
    return schema, diffusion_policy.task_settings(source, config), episodes


@data.command()
@click.argument("store", type=STORE)
@click.option("--format", "kind", type=FORMATS, required=True)
@click.option("--out", type=STORE, required=True)
def export(store: Path, kind: str, out: Path) -> None:
    """Write the episodes of a store in a format of others."""
    from w4rl_fast.data.foreign import open_store
    from w4rl_fast.data.importers import diffusion_policy, robomimic
    from w4rl_fast.progress import Progress

    opened = open_store(store)

    def episodes() -> Iterator["Episode"]:
        with Progress("export", total=len(opened), unit="episodes") as bar:
            for number in range(len(opened)):
                yield opened.read(number)
                bar.advance()

    module = robomimic if kind == "robomimic" else diffusion_policy
    written = module.write_episodes(out, opened.schema, episodes())
    click.echo(f"{out}: {written.episodes} episodes, {written.rows} rows. {written.note}")
