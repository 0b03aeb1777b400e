"""Models whose weights a Python package carries, converted once into the cache."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from stepcredit.envs.contract import EnvError
from stepcredit.envs.notice import say_once
from stepcredit.envs.places import cache_root
from stepcredit.harness.errors import UserError


@dataclass(frozen=True, slots=True)
class Packaged:
    """A model in a package, and where it is in the hub's layout."""

    folder: Path
    provenance: str


def packaged(name: str, package: str) -> Packaged:
    """The model in bfloat16, in a folder of the cache that is made at the first call.

    Args:
        name: of the preset.
        package: distribution with one GGUF file in it; its module has the same name with underscores.

    Raises:
        UserError: the package, or what reads its format, is not installed; or the cache cannot be written.
    """
    source = _gguf(name, package)
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    try:
        folder = cache_root(os.environ) / "models" / f"{name}-{digest[:12]}"
        if not (folder / "config.json").is_file():
            say_once(f"converting {source.name} into {folder}, once")
            _convert(source, folder)
    except ImportError as error:
        raise UserError(
            f"model {name!r} is a GGUF file, and {error.name or error} is not installed; {_ADVICE}"
        ) from error
    except (EnvError, OSError) as error:
        raise UserError(f"model {name!r} cannot be converted into the cache: {error}") from error
    return Packaged(folder, f"{package} {version(package)}, sha256:{digest}")


_ADVICE = "`make smollm2` installs what it needs"


def _gguf(name: str, package: str) -> Path:
    module = find_spec(package.replace("-", "_"))
    if module is None or module.origin is None:
        raise UserError(f"model {name!r} needs the package {package}, which is not installed; {_ADVICE}")
    (file,) = Path(module.origin).parent.glob("*.gguf")
    return file


def _convert(source: Path, folder: Path) -> None:
    """Into a folder beside it first: one that is there is whole."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        tokenizer = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
        read = AutoModelForCausalLM.from_pretrained(source.parent, gguf_file=source.name, dtype=torch.float32)
        config = read.config
        del config.quantization_config  # the weights are plain numbers now; with it, saving is refused
        model = type(read)(config)
        model.load_state_dict(read.state_dict())
        whole = Path(scratch) / "whole"
        model.bfloat16().save_pretrained(whole)
        tokenizer.save_pretrained(whole)
        if not folder.exists():
            shutil.move(whole, folder)
