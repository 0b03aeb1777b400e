"""A toy environment, policies with random weights and rollouts with them, for tests of the engine and the update."""

from collections.abc import Callable, Mapping, Sequence
from typing import Self, cast

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from stepcredit.envs.contract import Benchmark, Env, EnvFailure, Observation, StepResult, TurnFormat
from stepcredit.envs.panel import Task
from stepcredit.harness.episodes.player import Player
from stepcredit.harness.episodes.rollout import rollout
from stepcredit.harness.model.policy import Policy, fresh_policy
from stepcredit.harness.model.tokenizer import TAGS, phrase_tokenizer
from stepcredit.harness.seeds import Draws
from stepcredit.harness.spec import RolloutSpec
from stepcredit.methods.contract import Group

DRAWS = Draws(0, update=0)
PHRASES = ("the mug is on shelf ", "nothing happens.", "look", "go to ", "shelf ", "you see ", "think about it")
TURNS = TurnFormat(("action",), "Act.")
TASKS = tuple(Task(f"toy/{number}", "Pick", "0" * 64) for number in range(3))
SPEC = RolloutSpec(tasks=3, group=4, max_turns=4, max_response_tokens=12, max_context_tokens=256)


class ToyEnv:
    """Answers every command with a text of varying length; an even hash of two commands in a row ends it well."""

    def __init__(self, name: str, fails_at: int | None = None) -> None:
        self._name, self._fails_at = name, fails_at
        self._commands: tuple[str, ...] = ()

    def reset(self) -> Observation:
        return Observation(f"{self._name}: the mug is on shelf {len(self._name)}", ("look",))

    def step(self, action: str) -> StepResult:
        if self._fails_at == len(self._commands):
            raise EnvFailure("the toy broke")
        self._commands = (*self._commands, action)
        size = sum(action.encode()) % 7
        done = len(self._commands) >= 2 and size % 2 == 0 and action != ""
        text = "you see " + "shelf " * size if action else "nothing happens."
        return StepResult(Observation(text, ("look",)), done, done, bool(action))

    def clone(self) -> Self:
        twin = type(self)(self._name, self._fails_at)
        twin._commands = self._commands
        return twin

    @property
    def state_key(self) -> str:
        return repr(self._commands)

    @property
    def metrics(self) -> Mapping[str, float]:
        return {}


def toy_policy(seed: int = 0) -> Policy:
    """Two layers; a bias on the language head makes tags likely and single bytes rare, so that many turns are whole."""
    policy = fresh_policy("toy", phrase_tokenizer(PHRASES), TURNS, layers=2, hidden=64, seed=seed)
    sharpen(policy.model, seed)
    bias = torch.full((len(policy.tokenizer),), -9.0)
    bias[policy.tokenizer.convert_tokens_to_ids([*TAGS, *PHRASES, "a", "z"])] = 0.0
    bias[policy.tokenizer.convert_tokens_to_ids(["<action>", "</action>"])] = 1.5
    policy.model.lm_head.bias = torch.nn.Parameter(bias)
    return policy


def without_bias(model: PreTrainedModel) -> PreTrainedModel:
    """With a head as models have it."""
    model.lm_head.bias = None
    return model


def sharpen(model: PreTrainedModel, seed: int) -> None:
    """Larger weights, so that distributions are far from uniform and contexts matter."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)


def llama(seed: int = 0) -> PreTrainedModel:
    """Another architecture: no query-key norm, four query heads a key-value head, untied embeddings."""
    config = LlamaConfig(
        vocab_size=96,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=8,
        head_dim=32,
        num_key_value_heads=2,
        max_position_embeddings=512,
        bos_token_id=None,
        eos_token_id=None,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config).eval()
    sharpen(model, seed)
    return model


class Toys:
    """What rollouts ask of a benchmark; remembers the actions that it was told of."""

    def __init__(self, make: Callable[[str], Env] = ToyEnv) -> None:
        self.make = make
        self.announced: list[list[str]] = []

    def prefetch(self, actions: Sequence[str]) -> None:
        self.announced.append(list(actions))


def toy_player(policy: Policy, make: Callable[[str], Env] = ToyEnv) -> Player:
    return Player.of(policy, cast(Benchmark, Toys(make)))


def toy_groups(policy: Policy, run_seed: int = 0, spec: RolloutSpec = SPEC) -> list[Group]:
    return rollout(toy_player(policy), TASKS, spec, Draws(run_seed, update=0))


@torch.no_grad()
def plain_logprobs(
    model: PreTrainedModel, ids: Sequence[int] | NDArray[np.int64], count: int, temperature: float = 1.0
) -> Tensor:
    """Log-probabilities of the last `count` tokens by the model's own forward pass over the whole sequence."""
    token_T = torch.as_tensor(np.asarray(ids))
    logits_TV = model(input_ids=token_T[None], use_cache=False).logits[0].double() / temperature
    return logits_TV.log_softmax(-1)[:-1].gather(1, token_T[1:, None])[-count:, 0]


def merged_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE in which tags span several tokens and share tokens with their neighbours."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=330, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    corpus = ["<think> a mug é </think><action> go to shelf 1 </action>", "thinking>< actions", "/action think"] * 5
    tokenizer.train_from_iterator(corpus, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)
