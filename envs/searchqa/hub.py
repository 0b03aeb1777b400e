"""Questions from the Hugging Face hub, under the datasets' public names; the network is used when asked for."""

from __future__ import annotations

from collections.abc import Iterable

from stepcredit.envs.contract import EnvError
from stepcredit.envs.proxies import HUB_FAULTS
from stepcredit.envs.searchqa.jsonl import Row
from stepcredit.envs.searchqa.layouts import from_flashrag
from stepcredit.envs.searchqa.placing import Naming
from stepcredit.envs.searchqa.questions import Dataset, Question, table_of

REPOSITORY = "RUC-NLPIR/FlashRAG_datasets"

_INSTEAD = "set STEPCREDIT_DATA to a folder that holds its questions instead"


def load_from_hub(dataset: Dataset, split: str, repository: str = REPOSITORY) -> tuple[Question, ...]:
    """The questions of one of the dataset's own splits (train, dev or test), sorted by id.

    Args:
        repository: on the hub, or a folder with a copy of it.

    Raises:
        EnvError: the package `datasets` is not installed, the hub cannot be reached, it has no such split, or a
            question cannot be used.
    """
    return questions_of(_download(dataset, split, repository), dataset, split, f"{repository}/{dataset.key}/{split}")


def questions_of(rows: Iterable[Row], dataset: Dataset, split: str, source: str) -> tuple[Question, ...]:
    """The hub's rows, which have FlashRAG's columns, as questions sorted by id.

    Args:
        source: as messages name it.

    Raises:
        EnvError: a question cannot be used, or an id occurs twice.
    """
    placed = ((f"{source} row {number}", row) for number, row in enumerate(rows, 1))
    naming = Naming(dataset.key, split)
    return table_of(((where, from_flashrag(where, row, naming)) for where, row in placed), source)


def _download(dataset: Dataset, split: str, repository: str) -> Iterable[Row]:
    try:
        from datasets import load_dataset
        from datasets.exceptions import DatasetsError
    except ImportError as error:
        raise EnvError(
            f"{dataset} from the hub needs the package `datasets` ({error}): install it, or {_INSTEAD}"
        ) from error
    try:
        rows: Iterable[Row] = load_dataset(repository, dataset.key, split=split)
    except (*HUB_FAULTS, DatasetsError) as error:
        reason = " ".join(str(error).split())
        raise EnvError(f"{dataset} ({split}) cannot be had from {repository}: {reason}; {_INSTEAD}") from error
    return rows
