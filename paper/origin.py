"""`study.json`: the commands that filled a study's folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal, Self

from pydantic import ConfigDict, Field, ValidationError

from stepcredit.paper.errors import PaperError
from stepcredit.paper.manifest import Section

NAME = "study.json"


class Origin(Section):
    """What filled a study's folder.

    Attributes:
        folder: the study's folder, as the last of the commands named it.
        commands: what was typed, in order, each once.
    """

    model_config = ConfigDict(populate_by_name=True)

    schema_: Literal[1] = Field(1, alias="schema")
    folder: str
    commands: tuple[str, ...] = Field(min_length=1)

    def followed_by(self, command: str, folder: str) -> Self:
        """The record after one more command; a command that is in it already keeps its place."""
        return self.model_copy(update={"folder": folder, "commands": tuple(dict.fromkeys((*self.commands, command)))})


def read_origin(study: Path) -> Origin | None:
    """What filled the folder; None where it was not recorded.

    Raises:
        PaperError: the record is damaged.
    """
    path = study / NAME
    try:
        return Origin.model_validate(json.loads(path.read_bytes()))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise PaperError(f"cannot read {path}: {error.strerror}; make it readable or delete this one file") from error
    except (ValidationError, ValueError, RecursionError) as error:
        reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error).splitlines()[0]
        raise PaperError(
            f"{path} is no record of a study's commands ({reason}); restore it or delete this one file"
        ) from error
