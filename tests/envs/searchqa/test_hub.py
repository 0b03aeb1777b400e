import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from stepcredit.envs.contract import EnvError
from stepcredit.envs.searchqa.hub import load_from_hub, questions_of
from stepcredit.envs.searchqa.questions import Dataset, Question

CARD = """---
configs:
- config_name: hotpotqa
  data_files:
  - split: train
    path: hotpotqa/train.jsonl
  - split: dev
    path: hotpotqa/dev.jsonl
---
"""
ASK = """
import json, sys
from stepcredit.envs.contract import EnvError
from stepcredit.envs.searchqa.hub import load_from_hub
from stepcredit.envs.searchqa.questions import Dataset
for dataset, split, *repository in json.loads(sys.argv[1]):
    try:
        print(json.dumps([each.id for each in load_from_hub(Dataset.parse(dataset), split, *repository)]))
    except EnvError as error:
        print(json.dumps(str(error)))
"""


def row(number: int, **changes: object) -> dict[str, Any]:
    facts = {"title": ["Ridley", "Alien", "Ridley"], "sent_id": [0, 1, 2]}
    metadata = {"type": "bridge", "supporting_facts": facts}
    return {"id": f"dev_{number}", "question": f"q{number}?", "golden_answers": ["x"], "metadata": metadata} | changes


def ask(tmp_path: Path, *requests: tuple[str, ...]) -> list[Any]:
    """What `load_from_hub` gives in a process that is told to stay offline."""
    environ = os.environ | {"HF_HOME": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "1", "PYTHONPATH": os.getcwd()}
    done = subprocess.run(
        [sys.executable, "-c", ASK, json.dumps(requests)], env=environ, capture_output=True, text=True, check=True
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_rows_of_the_hub_become_questions() -> None:
    assert questions_of([row(1), row(0, metadata=None)], Dataset.HOTPOTQA, "dev", "hub") == (
        Question("hotpotqa-dev-dev_0", Dataset.HOTPOTQA, "dev", "q0?", ("x",)),
        Question("hotpotqa-dev-dev_1", Dataset.HOTPOTQA, "dev", "q1?", ("x",), ("Ridley", "Alien")),
    )


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        ([row(0), row(1, golden_answers=[])], r"hub row 2 \(id 'hotpotqa-dev-dev_1'\) has no gold answers"),
        ([row(0), row(0)], "hub row 2 repeats the id 'hotpotqa-dev-dev_0' of hub row 1"),
        ([], "hub holds no questions"),
    ],
)
def test_a_bad_row_of_the_hub_is_named(rows: list[dict[str, Any]], complaint: str) -> None:
    with pytest.raises(EnvError, match=complaint):
        questions_of(rows, Dataset.HOTPOTQA, "dev", "hub")


def test_offline_and_from_a_copy_of_the_repository(tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    (copy / "hotpotqa").mkdir(parents=True)
    (copy / "README.md").write_text(CARD)
    for split in ("train", "dev"):
        lines = "".join(f"{json.dumps(row(number))}\n" for number in range(3))
        (copy / "hotpotqa" / f"{split}.jsonl").write_text(lines)

    offline, copied, no_split, no_dataset = ask(
        tmp_path,
        ("nq", "test"),
        ("hotpotqa", "dev", str(copy)),
        ("hotpotqa", "tset", str(copy)),
        ("nq", "dev", str(copy)),
    )

    assert offline.startswith("NQ (test) cannot be had from RUC-NLPIR/FlashRAG_datasets: Couldn't reach")
    assert offline.endswith("set STEPCREDIT_DATA to a folder that holds its questions instead")
    assert copied == ["hotpotqa-dev-dev_0", "hotpotqa-dev-dev_1", "hotpotqa-dev-dev_2"]
    assert no_split.startswith(f"HotpotQA (tset) cannot be had from {copy}: Unknown split")
    assert no_dataset.startswith(f"NQ (dev) cannot be had from {copy}: BuilderConfig 'nq' not found")


def test_without_the_package_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(EnvError, match="NQ from the hub needs the package `datasets`"):
        load_from_hub(Dataset.NQ, "test")
