import pytest
import torch
from safetensors.torch import load_file, save_file

from w4rl_fast.errors import UserError
from w4rl_fast.policy import GaussianPolicy, PolicyConfig, load_policy, policy_digest, save_policy

CONFIG = PolicyConfig(image_size=16, action_dim=4, proprio_dim=4, history=2, widths=(8, 8), hidden=16)


def make(seed, config=CONFIG):
    torch.manual_seed(seed)
    policy = GaussianPolicy(config)
    with torch.no_grad():
        for tensor in policy.state_dict().values():
            tensor.add_(0.1 * torch.randn_like(tensor))
    return policy.eval()


@pytest.mark.parametrize("inside", ["", "policy"])
def test_a_policy_comes_back_exactly(tmp_path, inside):
    policy = make(1)
    save_policy(tmp_path / inside, policy)
    again = load_policy(tmp_path)
    assert again.config == CONFIG
    assert not again.training
    state = again.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in policy.state_dict().items())
    frames, proprio = torch.rand(3, 2, 3, 16, 16), torch.rand(3, 2, 4)
    assert torch.equal(again(frames, proprio)[0], policy(frames, proprio)[0])
    assert sorted(path.name for path in (tmp_path / inside).iterdir()) == ["config.json", "policy.safetensors"]


def test_the_policy_of_a_run_comes_before_one_that_lies_beside_it(tmp_path):
    save_policy(tmp_path, make(1))
    save_policy(tmp_path / "policy", make(2))
    assert policy_digest(tmp_path) == policy_digest(tmp_path / "policy")


def test_equal_weights_have_one_digest_and_others_another(tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        save_policy(tmp_path / name, make(seed))
    digests = [policy_digest(tmp_path / name) for name in "abc"]
    assert digests[0] == digests[1] != digests[2]


def test_a_later_policy_replaces_the_earlier_one(tmp_path):
    save_policy(tmp_path, make(1))
    save_policy(tmp_path, make(2))
    assert torch.equal(load_policy(tmp_path).log_std, make(2).log_std)


@pytest.mark.parametrize(
    "other", [{"action_dim": 3}, {"history": 1}, {"hidden": 17}, {"widths": (8, 8, 8)}, {"proprio_dim": 5}]
)
def test_weights_of_another_policy_are_refused(tmp_path, other):
    settings = {name: getattr(CONFIG, name) for name in PolicyConfig.__slots__}
    save_policy(tmp_path / "one", make(1))
    save_policy(tmp_path / "other", make(1, PolicyConfig(**{**settings, **other})))
    (tmp_path / "other" / "policy.safetensors").replace(tmp_path / "one" / "policy.safetensors")
    with pytest.raises(UserError, match="another config"):
        load_policy(tmp_path / "one")


@pytest.mark.parametrize(
    "change", [lambda state: state.pop("log_std"), lambda state: state.update(more=torch.zeros(1))]
)
def test_a_tensor_too_few_or_too_many_is_refused(tmp_path, change):
    save_policy(tmp_path, make(1))
    state = load_file(tmp_path / "policy.safetensors")
    change(state)
    save_file(state, tmp_path / "policy.safetensors")
    with pytest.raises(UserError, match="another config"):
        load_policy(tmp_path)


@pytest.mark.parametrize("length", [0, 4, 100, -1])
def test_cut_weights_are_refused(tmp_path, length):
    save_policy(tmp_path, make(1))
    file = tmp_path / "policy.safetensors"
    file.write_bytes(file.read_bytes()[:length])
    with pytest.raises(UserError, match=r"policy\.safetensors"):
        load_policy(tmp_path)


def test_a_pickle_is_refused_unopened(tmp_path):
    save_policy(tmp_path, make(1))
    torch.save(make(1).state_dict(), tmp_path / "policy.safetensors")
    with pytest.raises(UserError, match=r"policy\.safetensors"):
        load_policy(tmp_path)


@pytest.mark.parametrize("call", [load_policy, policy_digest])
def test_a_run_without_a_policy_is_refused(tmp_path, call):
    for path in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(UserError, match="there is no policy in it"):
            call(path)


def test_weights_without_their_config_are_refused(tmp_path):
    save_policy(tmp_path, make(1))
    (tmp_path / "config.json").unlink()
    with pytest.raises(UserError, match=r"config\.json"):
        load_policy(tmp_path)
