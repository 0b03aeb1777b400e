"""Texts about types of tasks, which a user's folder holds and a teacher is shown."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from stepcredit.harness.errors import UserError

_ENDINGS = (".txt", ".md")


def load_skills(folder: str | None, subsets: Sequence[str]) -> dict[str, str]:
    """The text for each subset, from a file of its name; empty without a folder.

    Raises:
        UserError: a subset has no file, an empty one or one that is not UTF-8 text.
    """
    return {} if folder is None else {subset: _text(Path(folder), subset) for subset in subsets}


def fingerprint(skills: Mapping[str, str]) -> str:
    """Hash of the texts."""
    return hashlib.sha256(json.dumps(dict(skills), sort_keys=True).encode()).hexdigest()


def _text(folder: Path, subset: str) -> str:
    path = next((folder / f"{subset}{end}" for end in _ENDINGS if (folder / f"{subset}{end}").is_file()), None)
    if path is None:
        raise UserError(f"{folder} has no {subset}.txt or {subset}.md: hindsight 'skills' needs a text for each subset")
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read as UTF-8 text ({error}); mend it") from error
    if not text:
        raise UserError(f"{path} is empty; write what a teacher is to be shown about tasks of {subset}")
    return text
