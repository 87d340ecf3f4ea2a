"""A step as an ONNX file, for the runtimes that read it."""

import ast
import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch

from w4rl_engines.export import exported
from w4rl_engines.protocol import Job

OPSET = 20
SCOPES = "pkg.torch.onnx.name_scopes"


def write_onnx(job: Job, path: Path) -> None:
    """Export the job's module, weights inside, inputs and outputs named as the spec names them."""
    program = exported(job)
    with silence():
        made = torch.onnx.export(
            program,
            dynamo=True,
            optimize=True,
            opset_version=OPSET,
            input_names=[port.name for port in job.spec.inputs],
            output_names=[port.name for port in job.spec.outputs],
        )
    assert made is not None
    made.save(path, external_data=False)


def layer_nodes(path: Path, layers: frozenset[str]) -> frozenset[str]:
    """The nodes of a file in which the layers of these names are."""
    import onnx

    found = set()
    for node in onnx.load(path).graph.node:
        scopes = {entry.key: entry.value for entry in node.metadata_props}.get(SCOPES, "[]")
        if layers & set(ast.literal_eval(scopes)):
            found.add(node.name)
    return frozenset(found)


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Exporters print their progress and warn of libraries that nobody asked for."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
