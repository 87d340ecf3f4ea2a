"""A network and what makes it learn."""

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from w4rl_fast.fit import laid_out


class Learner:
    """A network with Adam on those of its weights that want a gradient."""

    def __init__(self, network: nn.Module, learning_rate: float, max_grad_norm: float) -> None:
        self.network, self.learning_rate, self.max_grad_norm = network, learning_rate, max_grad_norm
        self.named = {name: p for name, p in network.named_parameters() if p.requires_grad}
        self.optimizer = torch.optim.Adam(self.named.values(), learning_rate, eps=1e-5, fused=True)

    def differentiate(self, loss: Tensor) -> float:
        """Fill the gradients, clip their norm, and return what it was."""
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        return float(nn.utils.clip_grad_norm_(self.named.values(), self.max_grad_norm))

    def adopt(self, gradients: Sequence[Tensor]) -> float:
        """Take gradients that were made elsewhere, clip their norm, and return what it was."""
        for weight, gradient in zip(self.named.values(), gradients, strict=True):
            weight.grad = gradient
        return float(nn.utils.clip_grad_norm_(self.named.values(), self.max_grad_norm))

    def step(self, share: float) -> None:
        """Follow the gradients at a share of the learning rate."""
        for group in self.optimizer.param_groups:
            group["lr"] = share * self.learning_rate
        self.optimizer.step()

    def weights(self) -> list[Tensor]:
        """A copy of those that learn, as they are now."""
        return [weight.detach().clone() for weight in self.named.values()]

    @torch.no_grad()
    def draw_back(self, start: list[Tensor], share: float) -> None:
        """Keep a share of the way that the weights have come from where they were at the start."""
        for weight, origin in zip(self.named.values(), start, strict=True):
            weight.copy_(origin.lerp(weight, share))

    def state(self) -> Iterator[tuple[str, Tensor]]:
        """All weights, and the moments of those that learn, by name."""
        for name, tensor in self.network.state_dict().items():
            yield f"weight/{name}", tensor.contiguous()
        for name, parameter in self.named.items():
            for key, moment in self.optimizer.state.get(parameter, {}).items():
                yield f"{key}/{name}", moment.contiguous()

    @torch.no_grad()
    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take up what `state` gave."""
        for name, tensor in self.network.state_dict().items():
            tensor.copy_(state[f"weight/{name}"])
        for name, parameter in self.named.items():
            self.optimizer.state[parameter] = {
                key: laid_out(state[f"{key}/{name}"], parameter).to(parameter.device)
                for key in ("step", "exp_avg", "exp_avg_sq")
                if f"{key}/{name}" in state
            }
