"""ResNet-18 (He et al. 2016) with one output, under the parameter names that public weights have."""

import torch
from torch import Tensor, nn

from w4rl_fast.errors import UserError
from w4rl_fast.hub import misfits

WIDTHS = (64, 128, 256, 512)


class Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        self.downsample = (
            nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))
            if before != after
            else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))
        out: Tensor = self.downsample(x) + hidden
        return out.relu()


class ResNet18(nn.Module):
    """Pictures (B, inputs, S, S) to (B, outputs)."""

    def __init__(self, inputs: int = 3, outputs: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        befores = (WIDTHS[0], *WIDTHS[:-1])
        layers = [
            nn.Sequential(Block(before, after, 1 if before == after else 2), Block(after, after, 1))
            for before, after in zip(befores, WIDTHS, strict=True)
        ]
        self.layer1, self.layer2, self.layer3, self.layer4 = layers
        self.fc = nn.Linear(WIDTHS[-1], outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.bn1(self.conv1(x)).relu())
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        out: Tensor = self.fc(x.mean((2, 3)))
        return out


@torch.no_grad()
def adopt(network: ResNet18, state: dict[str, Tensor]) -> None:
    """Start from public weights: the first layer is shared out over all pictures, the last layer stays ours."""
    mine = network.state_dict()
    state = {name: value for name, value in state.items() if not name.startswith("fc.")}
    copies = network.conv1.in_channels // 3
    if "conv1.weight" in state:
        state["conv1.weight"] = state["conv1.weight"].repeat(1, copies, 1, 1) / copies
    missing, unknown = misfits(state, {name: value for name, value in mine.items() if not name.startswith("fc.")})
    if missing or unknown:
        raise UserError(
            f"ResNet-18 weights (missing or misshapen {missing[:3]}, unknown {unknown[:3]})",
            rule="they carry the usual names: conv1, bn1, layer1.0.conv1 and so on",
            remedy="Give the state dict of a ResNet-18 for 3 channels, as safetensors",
        )
    network.load_state_dict(state, strict=False)
