"""Samplers as pure functions: f(denoise, x, sigmas) -> x, for any denoise(x, sigma) -> the clean picture.

Sigmas are Python floats, so that a loop over them is unrolled when it is compiled, and nothing waits for the host.
"""

import inspect
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from w4rl_fast.errors import MissingExtra, UserError
from w4rl_fast.world.config import SamplingConfig

Denoise = Callable[[Tensor, float], Tensor]
Sampler = Callable[[Denoise, Tensor, Sequence[float]], Tensor]


def karras_sigmas(steps: int, *, sigma_min: float, sigma_max: float, rho: float = 7.0) -> tuple[float, ...]:
    """`steps` noise levels from sigma_max down to sigma_min, then 0."""
    if steps == 1:
        return (sigma_max, 0.0)
    high, low = sigma_max ** (1 / rho), sigma_min ** (1 / rho)
    return (*((high + i / (steps - 1) * (low - high)) ** rho for i in range(steps)), 0.0)


def euler(denoise: Denoise, x: Tensor, sigmas: Sequence[float]) -> Tensor:
    """First order: along the slope at the start of each interval. x has the noise of sigmas[0]."""
    for sigma, after in itertools.pairwise(sigmas):
        x = x + (x - denoise(x, sigma)) / sigma * (after - sigma)
    return x


def heun(denoise: Denoise, x: Tensor, sigmas: Sequence[float]) -> Tensor:
    """Second order: along the mean of the slopes at both ends of each interval, except the last."""
    for sigma, after in itertools.pairwise(sigmas):
        slope = (x - denoise(x, sigma)) / sigma
        ahead = x + slope * (after - sigma)
        if after > 0:
            slope = (slope + (ahead - denoise(ahead, after)) / after) / 2
            ahead = x + slope * (after - sigma)
        x = ahead
    return x


SAMPLERS: dict[str, Sampler] = {"euler": euler, "heun": heun}

DECIDED = {
    "sigma_min", "sigma_max", "sigma_data", "sigma_schedule", "rho", "num_train_timesteps", "prediction_type",
    "final_sigmas_type",
}  # fmt: skip
"""Arguments of a scheduler that the noise levels and the denoiser already say."""


@dataclass(frozen=True)
class Scheduled:
    """A scheduler of diffusers as a sampler: it steps from our clean pictures along our noise levels.

    Where it draws noise, each row draws from a generator seeded by its own start, so that a row comes out the same
    whatever the batch around it. It keeps tables on the host, and is not meant to be compiled.
    """

    name: str
    arguments: Mapping[str, Any]

    def __call__(self, denoise: Denoise, x: Tensor, sigmas: Sequence[float]) -> Tensor:
        scheduler = scheduler_class(self.name)(**self.arguments)
        scheduler.set_timesteps(len(sigmas) - 1)
        scheduler.set_begin_index(0)
        scheduler.sigmas = torch.tensor(sigmas, device="cpu")
        scheduler.precondition_outputs = clean_already
        scheduler.is_scale_input_called = True  # our denoiser scales what it is given; the scheduler would warn
        generators = [torch.Generator().manual_seed(seed) for seed in seeds(x)]
        for sigma, time in zip(sigmas, scheduler.timesteps, strict=False):
            x = scheduler.step(denoise(x, sigma), time, x, generator=generators).prev_sample
        return x


def clean_already(_sample: Tensor, model_output: Tensor, _sigma: Tensor) -> Tensor:
    """Stands where a scheduler turns the network's raw output into the clean picture."""
    return model_output


def seeds(x: Tensor) -> list[int]:
    """One number for each row of a start (B, ...): the bits of its first value, since a seed has 32 that count."""
    return x.reshape(len(x), -1)[:, 0].float().contiguous().view(torch.int32).tolist()


def scheduler_class(name: str) -> Any:
    try:
        return getattr(import_module("diffusers"), name)
    except ModuleNotFoundError as error:
        raise MissingExtra("diffusers", extra="diffusers") from error


def sampler_of(config: SamplingConfig) -> Sampler:
    """The sampler that a config names; a scheduler is tried on one number, so that one that cannot run fails here."""
    if config.sampler in SAMPLERS:
        return SAMPLERS[config.sampler]
    known = [name for name in inspect.signature(scheduler_class(config.sampler)).parameters if name not in DECIDED]
    sampler = Scheduled(config.sampler, config.scheduler)
    try:
        if unknown := [name for name in config.scheduler if name not in known]:
            raise ValueError(f"{', '.join(unknown)} is not among its arguments")
        with torch.device("cpu"):  # even where a model is built without memory
            sampler(lambda x, _: x, torch.zeros(1), (5.0, 4.0, 3.0, 2.0, 1.0, 0.0))
    except Exception as error:
        raise UserError(
            f"scheduler={dict(config.scheduler)}",
            rule=f"{config.sampler} of diffusers does not take it: {error}",
            remedy=f"Its arguments are {', '.join(known) or 'fixed'}",
        ) from error
    return sampler
