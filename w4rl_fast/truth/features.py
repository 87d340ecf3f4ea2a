"""FID, FVD and LPIPS with feature networks that the user brings; there is no default, and nothing stands in for one.

A TorchScript file or an exported program is code: loading it runs it. Only give one that you trust.
"""

from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from torch import Tensor

from w4rl_fast.errors import UserError, near

Network = Callable[..., Tensor]

WANTED = {
    "fid": "frames (N, 3, S, S) in [-1, 1] -> features (N, D)",
    "fvd": "clips (N, 3, H, S, S) in [-1, 1] -> features (N, D)",
    "lpips": "two sets of frames (N, 3, S, S) in [-1, 1] -> one distance each, N values",
}
"""What each network is given and gives; it resizes and normalises by itself."""


class FeatureDistances:
    """Gathers features slice by slice; `result` has the keys of the given networks and no others."""

    def __init__(self, networks: dict[str, Network]) -> None:
        self.networks = networks
        self._real: dict[str, list[Tensor]] = {name: [] for name in networks}
        self._imagined: dict[str, list[Tensor]] = {name: [] for name in networks}

    @torch.inference_mode()
    def add(self, real: Tensor, imagined: Tensor) -> None:
        """One slice of real and imagined futures (B, H, 3, S, S)."""
        for name, network in self.networks.items():
            if name == "lpips":
                distances = ask(name, network, real.flatten(0, 1), imagined.flatten(0, 1))
                self._imagined[name].append(distances.view(real.shape[:2]))
                continue
            for frames, kept in ((real, self._real), (imagined, self._imagined)):
                given = frames.flatten(0, 1) if name == "fid" else frames.transpose(1, 2)
                kept[name].append(ask(name, network, given))

    def result(self) -> dict[str, object]:
        """`fid` and `fvd` as numbers, beside how many features each rests on; `lpips` by step."""
        results: dict[str, object] = {}
        for name in self.networks:
            imagined = torch.cat(self._imagined[name])
            if name == "lpips":
                results[name] = imagined.mean(0).tolist()
                continue
            real = torch.cat(self._real[name])
            results[name] = frechet_distance(*moments(name, real), *moments(name, imagined))
            results[f"{name}_samples"], results[f"{name}_dimensions"] = len(real), real.shape[1]
        return results


def ask(name: str, network: Network, *given: Tensor) -> Tensor:
    """Call a feature network, refusing an answer of another shape than its kind has."""
    try:
        answer = network(*(tensor.contiguous() for tensor in given))
    except Exception as error:
        last = str(error).strip().splitlines()[-1:] or [type(error).__name__]
        raise misfit(name, f"it failed on {[tuple(tensor.shape) for tensor in given]}: {last[0]}") from error
    if name == "lpips" and answer.numel() == len(given[0]):
        return answer.flatten().float()
    if name != "lpips" and answer.ndim == 2 and len(answer) == len(given[0]):
        return answer.double()
    raise misfit(name, f"it gave {tuple(answer.shape)} for {[tuple(tensor.shape) for tensor in given]}")


def misfit(name: str, what: str) -> UserError:
    return UserError(
        f"feature network {name}", rule=f"it takes and gives {WANTED[name]}; {what}", remedy="Wrap it and save it again"
    )


def moments(name: str, features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (D,) and covariance (D, D) of features (N, D)."""
    if len(features) < 2:
        raise UserError(f"{len(features)} sample for {name}", rule="it needs two", remedy="Use more --episodes")
    return features.mean(0), features.T.cov().reshape(features.shape[1], features.shape[1])


def frechet_distance(mean1: Tensor, cov1: Tensor, mean2: Tensor, cov2: Tensor) -> float:
    """Squared Wasserstein distance of two Gaussians; means (D,), covariances (D, D)."""
    root = matrix_root(cov1.double())
    cross = torch.linalg.eigvalsh(root @ cov2.double() @ root).clamp_min(0).sqrt().sum()
    apart = (mean1.double() - mean2.double()).square().sum()
    return float((apart + cov1.double().trace() + cov2.double().trace() - 2 * cross).clamp_min(0))


def matrix_root(matrix: Tensor) -> Tensor:
    """The symmetric root of a covariance."""
    values, vectors = torch.linalg.eigh(matrix)
    root: Tensor = (vectors * values.clamp_min(0).sqrt()) @ vectors.T
    return root


def load_networks(settings: Iterable[str]) -> dict[str, Network]:
    """Networks given as NAME=PATH: an exported program (.pt2) or else TorchScript. Loading a file runs its code."""
    networks: dict[str, Network] = {}
    for setting in settings:
        name, _, path = setting.partition("=")
        if name not in WANTED or not path:
            raise UserError(
                f"feature network {setting!r}",
                rule=f"it is NAME=PATH, the name being one of {', '.join(WANTED)}",
                remedy=near(name, list(WANTED)),
            )
        networks[name] = load_network(Path(path))
    return networks


def load_network(path: Path) -> Network:
    try:
        if path.suffix == ".pt2":
            exported: Network = torch.export.load(path).module()
            return exported
        scripted: Network = torch.jit.load(str(path), map_location="cpu").eval()  # type: ignore[no-untyped-call]
    except Exception as error:
        raise UserError(
            f"feature network {path}",
            rule=f"it is a TorchScript file or an exported program (.pt2): {str(error).splitlines()[0]}",
            remedy="Save it with torch.jit.save or torch.export.save",
        ) from error
    return scripted
