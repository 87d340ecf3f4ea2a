"""The command line: parse, call, print."""

import importlib
import logging
import warnings
from typing import Any

import click

from w4rl_engines.errors import EngineError
from w4rl_fast import __version__
from w4rl_fast.errors import UserError

COMMANDS = {
    "quickstart": "The main job on one task, from nothing.",
    "tasks": "List the tasks, with camera, actions and horizon.",
    "collect": "Record episodes of a task into a store.",
    "data": "Look at, check, import and export a store.",
    "train": "Train the parts of a run from a store.",
    "distill": "Make a student of the world of a run that draws a frame in fewer steps.",
    "refine": "Make the policy of a run better in its imagined world.",
    "audit": "See whether a policy may be refined in the world of a run.",
    "repair": "Let the refined policy show for real where its world is wrong, and learn from that.",
    "export": "Build engines of a run, proven against eager torch.",
    "engines": "Say which engines work here, and which ones a run has.",
    "control": "Let the policy of a run drive an arm.",
    "bench": "Measure a run on this machine.",
    "evaluate": "Judge a run on what it never saw.",
    "doctor": "Show what works on this machine, and what to do about the rest.",
}


class Commands(click.Group):
    """Loads a command when it is called, and turns user errors into one line and exit code 2."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(importlib.import_module(f"w4rl_fast.cli.{cmd_name}"), cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (UserError, EngineError, ValueError, OSError) as error:
            if ctx.params.get("debug") or not is_expected(error):
                raise
            click.echo(f"error: {error}", err=True)
            ctx.exit(2)
        except KeyboardInterrupt:
            click.echo("interrupted; what was finished is kept", err=True)
            ctx.exit(130)


def is_expected(error: BaseException) -> bool:
    """A UserError or one of engines, or the rule of a config class that a value breaks."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    is_rule = trace is not None and trace.tb_frame.f_code.co_name == "__post_init__"
    return is_rule or isinstance(error, UserError | EngineError)


@click.command(cls=Commands)
@click.version_option(__version__, prog_name="w4rl")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def main(debug: bool) -> None:
    """Diffusion world models fast enough to train robots in."""
    warnings.formatwarning = lambda message, *_, **__: f"warning: {message}\n"
    if not debug:
        # zarr writes in several tasks at once: the first failure is our error, the others would add tracebacks.
        logging.getLogger("asyncio").setLevel(logging.CRITICAL)
