"""A policy: weights, tokenizer and the format of its transcripts."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from huggingface_hub import try_to_load_from_cache
from huggingface_hub.utils import logging as hub_logging
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
)
from transformers.utils.logging import disable_progress_bar

from stepcredit.envs import plain_json
from stepcredit.envs.contract import Benchmark, TurnFormat
from stepcredit.envs.proxies import HUB_FAULTS
from stepcredit.harness.errors import UserError
from stepcredit.harness.model.chat import ChatTranscript
from stepcredit.harness.model.packaged import packaged
from stepcredit.harness.model.presets import Preset, Source, preset_named
from stepcredit.harness.model.shape import ModelShape
from stepcredit.harness.model.tokenizer import PAD, is_byte_level
from stepcredit.harness.model.transcript import PhraseTranscript, Transcript


@dataclass(frozen=True)
class Policy:
    """What rollouts, scoring and training share. The model's weights change in place during training."""

    preset: str
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerFast
    transcript: Transcript
    turn_format: TurnFormat
    provenance: str
    """Hash of the shipped manifest, or the hub id and revision the weights came from."""

    @property
    def parameters(self) -> int:
        """Number of trained parameters."""
        return sum(parameter.numel() for parameter in self.model.parameters())


def load_policy(name: str, benchmark: Benchmark, device: str = "cpu", *, thinking: bool | None = None) -> Policy:
    """The policy of a preset, made for a benchmark, in evaluation mode; `thinking` as in `ChatTranscript`.

    Raises:
        UserError: unknown preset, none for this benchmark, missing or damaged weights, or a hub that does not answer.
    """
    preset = preset_named(name)
    if preset.source is Source.EMBEDDED:
        _require_silence(name, thinking)
        policy = load_directory(preset.name, _embedded_folder(preset, benchmark), benchmark.turn_format)
    else:
        policy = _load_from_hub(preset, benchmark.turn_format, thinking)
    policy.model.to(torch.device(device)).eval()  # type: ignore[arg-type]
    return policy


def load_directory(name: str, folder: Path, turn_format: TurnFormat) -> Policy:
    """A phrase-tokenized policy from a folder that `stepcredit warmstart` wrote.

    Raises:
        UserError: the folder is incomplete or its weights are not those of its manifest.
    """
    manifest_path, weights = folder / "manifest.json", folder / "model.safetensors"
    missing = [path.name for path in (manifest_path, weights, folder / "tokenizer.json") if not path.is_file()]
    if missing:
        raise UserError(f"policy {name!r} in {folder} lacks {', '.join(missing)}; make it with `stepcredit warmstart`")
    text = manifest_path.read_bytes()
    expected = _expected_sha256(manifest_path, text)
    found = hashlib.sha256(weights.read_bytes()).hexdigest()
    if found != expected:
        raise UserError(
            f"{weights} has sha256 {found[:12]}, its manifest says {expected[:12]}: the file is damaged; restore it"
        )
    disable_progress_bar()  # a few milliseconds of loading need none; a download from the hub keeps its own
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
    provenance = f"sha256:{hashlib.sha256(text).hexdigest()}"
    return Policy(name, model, tokenizer, PhraseTranscript(tokenizer), turn_format, provenance)


def _expected_sha256(path: Path, text: bytes) -> str:
    try:
        return str(plain_json.parse(text)["files"]["model.safetensors"])
    except (plain_json.JsonError, KeyError, TypeError) as error:
        raise UserError(f"{path} does not say the hash of model.safetensors ({error}); restore it") from error


def weights_sha256(model: torch.nn.Module) -> str:
    """Hash over names, shapes and bits of all parameters, in name order."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name}:{tuple(tensor.shape)}:{tensor.dtype}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def fresh_policy(
    name: str, tokenizer: PreTrainedTokenizerFast, turn_format: TurnFormat, *, layers: int, hidden: int, seed: int
) -> Policy:
    """A Qwen3-architecture policy with seeded random weights, head size 32, two key-value heads, tied embeddings."""
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=3 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=hidden // 32,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=4096,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.encode(PAD)[0],
        bos_token_id=None,
        eos_token_id=None,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Qwen3ForCausalLM(config)
    return Policy(name, model, tokenizer, PhraseTranscript(tokenizer), turn_format, f"random:{seed}")


def load_transcript(
    name: str, benchmark: Benchmark, *, thinking: bool | None = None
) -> tuple[PreTrainedTokenizerFast, Transcript]:
    """A policy's tokenizer and format, without its weights.

    Raises:
        UserError: as of `load_policy`.
    """
    preset = preset_named(name)
    if preset.source is not Source.EMBEDDED:
        return _hub_format(preset, _Place.of(preset), benchmark.turn_format, thinking)
    _require_silence(name, thinking)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(_embedded_folder(preset, benchmark), local_files_only=True)
    return tokenizer, PhraseTranscript(tokenizer)


def _require_silence(name: str, thinking: bool | None) -> None:
    if thinking is not None:
        raise UserError(f"rollout.thinking has no effect on {name!r}, which has no chat template; leave it out")


def load_shape(name: str) -> ModelShape:
    """The sizes of a model from the hub, without its weights.

    Raises:
        UserError: as of `load_policy`; or an embedded policy, which fits everywhere.
    """
    preset = preset_named(name)
    if preset.source is Source.EMBEDDED:
        raise UserError(f"model {name!r} is an embedded policy and fits everywhere; ask about a model from the hub")
    place = _Place.of(preset)
    with _explained(preset):
        return ModelShape.of(AutoConfig.from_pretrained(place.location, revision=place.revision))


def _embedded_folder(preset: Preset, benchmark: Benchmark) -> Path:
    return Path(__file__).parents[1] / "policies" / preset.recipe(benchmark.name).folder


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a model's files are: a folder or a hub id, with the revision that was asked for."""

    location: str
    revision: str | None = None
    provenance: str = ""

    @classmethod
    def of(cls, preset: Preset) -> _Place:
        if preset.source is Source.PACKAGE:
            found = packaged(preset.name, preset.location)
            return cls(str(found.folder), provenance=found.provenance)
        if Path(preset.location).is_dir():
            return cls(preset.location, provenance=f"{preset.location}@folder")
        location, _, revision = preset.location.partition("@")
        return cls(location, revision or None)

    def origin(self) -> str:
        """Once the files are there: a hub model's is its id and the commit, which names their folder in the cache."""
        if self.provenance:
            return self.provenance
        found = try_to_load_from_cache(self.location, "config.json", revision=self.revision)
        return f"{self.location}@{Path(found).parent.name if isinstance(found, str) else 'unknown'}"


def _load_from_hub(preset: Preset, turn_format: TurnFormat, thinking: bool | None) -> Policy:
    place = _Place.of(preset)
    tokenizer, transcript = _hub_format(preset, place, turn_format, thinking)
    with _explained(preset):
        model = AutoModelForCausalLM.from_pretrained(place.location, revision=place.revision, dtype=torch.bfloat16)
    _end_at(model, transcript.end_of_turn)
    _score_known_tokens(preset.name, model, len(tokenizer))
    return Policy(preset.name, model, tokenizer, transcript, turn_format, place.origin())


def _hub_format(
    preset: Preset, place: _Place, turn_format: TurnFormat, thinking: bool | None = None
) -> tuple[PreTrainedTokenizerFast, ChatTranscript]:
    with _explained(preset):
        tokenizer = AutoTokenizer.from_pretrained(place.location, revision=place.revision, use_fast=True)
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise UserError(f"model {preset.name!r} has no fast tokenizer, whose byte alphabet exact spans need")
    if not is_byte_level(tokenizer):
        raise UserError(f"model {preset.name!r} has a tokenizer without the byte alphabet that exact spans need")
    return tokenizer, ChatTranscript(tokenizer, turn_format.instructions, thinking)


@contextmanager
def _explained(preset: Preset) -> Iterator[None]:
    hub_logging.set_verbosity_error()
    try:
        yield
    except HUB_FAULTS as error:
        raise UserError(
            f"model {preset.name!r} needs {preset.location} from the Hugging Face hub or its cache, and neither "
            f"answered ({' '.join(str(error).split())}); download it first or use --model tiny"
        ) from error


def _score_known_tokens(name: str, model: PreTrainedModel, tokens: int) -> None:
    """Ids beyond the tokenizer's have no logit: none is drawn, trained on or scored. Their rows fill up the matrix."""
    head = model.get_output_embeddings()
    rows = head.weight.shape[0]
    if rows < tokens:
        raise UserError(f"model {name!r} scores {rows} ids and its tokenizer has {tokens}: they belong to two models")
    if rows > tokens:
        head.register_forward_hook(partial(_first_logits, tokens))


def _first_logits(tokens: int, head: torch.nn.Module, inputs: tuple[Tensor, ...], logits: Tensor) -> Tensor:
    return logits[..., :tokens]


def _end_at(model: PreTrainedModel, token: int | None) -> None:
    """Responses end at the template's end of turn, also where the generation config names other tokens alone."""
    config = model.generation_config
    if config is None or token is None:
        return
    ends = config.eos_token_id
    known = [ends] if isinstance(ends, int) else list(ends or [])
    config.eos_token_id = known if token in known else [*known, token]
