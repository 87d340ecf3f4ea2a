"""The one training loop: AdamW with warm-up and decay, a moving average of the weights, exact resume after a kill."""

import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from w4rl_fast.config import to_json_dict
from w4rl_fast.errors import UserError
from w4rl_fast.files import publish
from w4rl_fast.metrics import MetricsLog
from w4rl_fast.progress import Progress

CHECKPOINT = "training.safetensors"

Loss = Callable[[int], Tensor]
Preview = Callable[[int, nn.Module], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class FitConfig:
    """`steps` batches of `batch`; the learning rate warms up over `warm_up` steps and decays to zero by a cosine.

    `ema` is the decay of the averaged weights, 0 for none; `bf16` computes in bfloat16 where torch deems it safe.
    A checkpoint is written every `save_seconds`, a line of metrics every `log_every` steps.
    """

    steps: int
    batch: int = 32
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    beta2: float = 0.99
    warm_up: int = 100
    clip: float = 1.0
    ema: float = 0.999
    bf16: bool = False
    seed: int = 0
    save_seconds: float = 60.0
    log_every: int = 50

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch < 1:
            raise ValueError(f"steps={self.steps}, batch={self.batch}: at least one of each")
        if not 0 <= self.ema < 1:
            raise ValueError(f"ema={self.ema}: a decay from 0 up to but not 1")


class Fit:
    """A training that can be left at any step and taken up again; everything it draws depends on the step alone."""

    def __init__(self, model: nn.Module, config: FitConfig, folder: Path, *, stage: str) -> None:
        self.model, self.config, self.folder, self.stage = model, config, folder, stage
        self.named = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.average = {name: p.detach().clone() for name, p in self.named.items()}
        self.optimizer = torch.optim.AdamW(
            self.named.values(),
            config.learning_rate,
            betas=(0.9, config.beta2),
            weight_decay=config.weight_decay,
            fused=True,
        )
        self.step, self._total = 0, 0.0
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / CHECKPOINT).exists():
            self._load()

    def run(self, loss_at: Loss, preview: Preview | None = None, *, until: int | None = None) -> None:
        """Train to the end (or to step `until`), then put the averaged weights into the model."""
        config, last = self.config, min(until or self.config.steps, self.config.steps)
        started = saved = time.monotonic()
        with (
            MetricsLog(self.folder, resume_step=self.step) as log,
            Progress(self.stage, total=last, unit="steps", completed=self.step) as bar,
        ):
            while self.step < last:
                loss = self._one_step(loss_at)
                self._total += loss
                bar.advance(loss=f"{loss:.4f}")
                if self.step % config.log_every == 0:
                    log.scalars(self.step, {f"{self.stage}/loss": self._total / config.log_every})
                    self._total = 0.0
                if time.monotonic() - saved > config.save_seconds:
                    self.save()
                    saved = time.monotonic()
                    if preview is not None:
                        preview(self.step, self.model)
        self.save()
        self.seconds = time.monotonic() - started
        if self.step == config.steps and config.ema:
            self.adopt_average()

    def _one_step(self, loss_at: Loss) -> float:
        config = self.config
        for group in self.optimizer.param_groups:
            group["lr"] = config.learning_rate * rate_at(self.step, config)
        with torch.autocast("cpu", torch.bfloat16) if config.bf16 else nullcontext():
            loss = loss_at(self.step)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise UserError(
                f"{self.stage}: loss {value} at step {self.step}",
                rule=f"a loss is finite; the checkpoint in {self.folder} is from before",
                remedy=f"Look at batch {self.step} of the data, or lower learning_rate",
            )
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.named.values(), config.clip)
        self.optimizer.step()
        self.step += 1
        self._average_weights()
        return value

    @torch.no_grad()
    def _average_weights(self) -> None:
        decay = min(self.config.ema, self.step / (self.step + 9)) if self.config.ema else 0.0
        for name, parameter in self.named.items():
            self.average[name].lerp_(parameter, 1 - decay)

    @torch.no_grad()
    def adopt_average(self) -> None:
        for name, parameter in self.named.items():
            parameter.copy_(self.average[name])

    def save(self) -> None:
        """Publish everything that the rest of the training depends on."""
        from safetensors.torch import save

        metadata = {
            "step": str(self.step),
            "total": repr(self._total),
            "config": json.dumps(to_json_dict(self.config), sort_keys=True),
        }
        publish(self.folder / CHECKPOINT, save(dict(self._state()), metadata=metadata))

    def _state(self) -> Iterator[tuple[str, Tensor]]:
        for name, parameter in self.named.items():
            yield f"weight/{name}", parameter.detach().contiguous()
            yield f"average/{name}", self.average[name].contiguous()
            for key, value in self.optimizer.state.get(parameter, {}).items():
                yield f"{key}/{name}", value.contiguous()
        for name, buffer in self.model.named_buffers():
            yield f"buffer/{name}", buffer.contiguous()

    def _load(self) -> None:
        from safetensors import safe_open

        path = self.folder / CHECKPOINT
        with safe_open(path, "pt") as file:
            metadata = file.metadata()
            there, wanted = set(file.keys()), {f"weight/{name}" for name in self.named}
            missing, foreign = wanted - there, {k for k in there if k.startswith("weight/")} - wanted
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in there}
            misshapen = [
                f"{name} is {shapes[key]} and not {tuple(values.shape)}"
                for kind, named in (("weight", self.named), ("buffer", dict(self.model.named_buffers())))
                for name, values in named.items()
                if shapes.get(key := f"{kind}/{name}", values.shape) != values.shape
            ]
            other = metadata["config"] != json.dumps(to_json_dict(self.config), sort_keys=True)
            if other or missing or foreign or misshapen:
                raise UserError(
                    f"checkpoint {path}",
                    rule="it belongs to a training with other settings or another model (missing"
                    f" {sorted(missing)[:3]}, unknown {sorted(foreign)[:3]}, of another shape {misshapen[:3]})",
                    remedy="Train with the settings it was made with, or delete the folder to start again",
                )
            self.step, self._total = int(metadata["step"]), float(metadata["total"])
            with torch.no_grad():
                for name, buffer in self.model.named_buffers():
                    buffer.copy_(file.get_tensor(f"buffer/{name}"))
                for name, parameter in self.named.items():
                    parameter.copy_(file.get_tensor(f"weight/{name}"))
                    self.average[name].copy_(file.get_tensor(f"average/{name}"))
                    self.optimizer.state[parameter] = {
                        key: laid_out(file.get_tensor(f"{key}/{name}"), parameter)
                        for key in ("step", "exp_avg", "exp_avg_sq")
                        if f"{key}/{name}" in there
                    }


def laid_out(value: Tensor, parameter: Tensor) -> Tensor:
    """A loaded moment in the memory format of its parameter; counts stay as they are."""
    return value.to(parameter.device) if value.ndim == 0 else torch.empty_like(parameter).copy_(value)


def rate_at(step: int, config: FitConfig) -> float:
    """Share of the learning rate at a step."""
    return min(1.0, (step + 1) / config.warm_up) * 0.5 * (1 + math.cos(math.pi * step / config.steps))


def generator_at(seed: int, step: int) -> torch.Generator:
    """Random numbers of one step, whatever was drawn before."""
    return torch.Generator().manual_seed((seed * 1_000_003 + step) % 2**63)
