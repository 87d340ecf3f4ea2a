"""FID, FVD and LPIPS with networks of the user's; the distance itself against Gaussians with known answers."""

import pytest
import torch

from w4rl_fast.errors import UserError
from w4rl_fast.truth.features import FeatureDistances, frechet_distance, load_networks


def covariance(seed, size=6):
    root = torch.randn(size, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return root @ root.T


def test_the_distance_of_gaussians_with_a_known_answer():
    mean1, mean2 = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([0.0, 2.0, 5.0])
    cov1, cov2 = torch.diag(torch.tensor([1.0, 4.0, 9.0])), torch.diag(torch.tensor([4.0, 4.0, 1.0]))
    apart = (1 + 0 + 4) + (1 - 2) ** 2 + 0 + (3 - 1) ** 2
    assert frechet_distance(mean1, cov1, mean2, cov2) == pytest.approx(apart)
    turn, _ = torch.linalg.qr(covariance(3, 3))
    turned = [part.double() for part in (mean1, cov1, mean2, cov2)]
    turned = [turn @ part if part.ndim == 1 else turn @ part @ turn.T for part in turned]
    assert frechet_distance(*turned) == pytest.approx(apart)


def test_covariances_that_do_not_commute():
    zero, cov1, cov2 = torch.zeros(6), covariance(1), covariance(2)
    root = torch.linalg.eigvals(cov1 @ cov2).real.sqrt().sum()
    expected = float(cov1.trace() + cov2.trace() - 2 * root)
    assert frechet_distance(zero, cov1, zero, cov2) == pytest.approx(expected)
    assert frechet_distance(zero, cov2, zero, cov1) == pytest.approx(expected)
    assert frechet_distance(zero, cov1, zero, cov1) == pytest.approx(0, abs=1e-6)


class Means(torch.nn.Module):
    """Mean colour, whatever follows the channels."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(2).mean(2)


class Gap(torch.nn.Module):
    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return (a - b).square().mean([1, 2, 3], keepdim=True)


@pytest.fixture
def files(tmp_path):
    """TorchScript and an exported program."""
    torch.jit.save(torch.jit.script(Means()), tmp_path / "means.ts")
    torch.jit.save(torch.jit.script(Gap()), tmp_path / "gap.ts")
    size = torch.export.Dim("n", min=2)
    exported = torch.export.export(Means(), (torch.zeros(4, 3, 5, 8, 8),), dynamic_shapes=({0: size},))
    torch.export.save(exported, tmp_path / "means.pt2")
    return tmp_path


def test_networks_from_files_give_their_keys_and_no_others(files):
    given = [f"fid={files / 'means.ts'}", f"fvd={files / 'means.pt2'}", f"lpips={files / 'gap.ts'}"]
    real = torch.rand(6, 5, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    shift = torch.tensor([0.1, -0.2, 0.3]).view(3, 1, 1)
    distances = FeatureDistances(load_networks(given))
    for rows in (slice(0, 4), slice(4, 6)):
        distances.add(real[rows], real[rows] + shift)
    result = distances.result()
    assert result["fid"] == pytest.approx(0.14, abs=1e-5)
    assert result["fvd"] == pytest.approx(0.14, abs=1e-5)
    assert (result["fid_samples"], result["fvd_samples"], result["fid_dimensions"]) == (30, 6, 3)
    assert result["lpips"] == pytest.approx([0.14 / 3] * 5, abs=1e-5)
    assert FeatureDistances(load_networks(given[:1])).networks.keys() == {"fid"}
    assert FeatureDistances({}).result() == {}


def test_what_is_no_network_is_refused(tmp_path):
    (tmp_path / "text.ts").write_text("hello")
    for setting, said in (
        ("fud=x", "Did you mean .*fid"), ("fid", "NAME=PATH"), (f"fid={tmp_path / 'text.ts'}", "TorchScript"),
        (f"fid={tmp_path / 'none.pt2'}", "torch.export.save"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=said):
            load_networks([setting])


def test_an_answer_of_another_shape_is_refused():
    frames = torch.zeros(2, 3, 3, 8, 8)
    for networks in ({"lpips": Means()}, {"fid": lambda x: x}, {"fvd": Gap()}):
        with pytest.raises(UserError, match="it takes and gives"):
            FeatureDistances(networks).add(frames, frames)
