import gzip
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stepcredit.envs.contract import EnvError
from stepcredit.envs.searchqa import jsonl
from stepcredit.envs.searchqa.loaders import load_flashrag, load_questions
from stepcredit.envs.searchqa.questions import Dataset, Question

Rows = Sequence[Mapping[str, Any]]

INSTRUCTION = (
    "Answer the given question. You must conduct reasoning inside <think> and </think> first every time you get new "
    "information. You can search as many times as your want. Put the answer inside <answer> and </answer>. For "
    "example, <answer> Beijing </answer>. Question: "
)
OURS = [
    {"id": "nq-test-1", "dataset": "nq", "split": "test", "question": "who?", "answers": ["A b", "B"]},
    {
        "id": "musique-dev-1",
        "dataset": "musique",
        "split": "dev",
        "question": " what, naïve? ",
        "answers": ["C", "", "C"],
        "source": "somewhere",
        "supporting_titles": ["T", "U", "T"],
    },
]
OURS_READ = (
    Question("musique-dev-1", Dataset.MUSIQUE, "dev", "what, naïve?", ("C",), ("T", "U")),
    Question("nq-test-1", Dataset.NQ, "test", "who?", ("A b", "B")),
)
FLASHRAG = [
    {
        "id": "dev_0",
        "question": "which film?",
        "golden_answers": ["Alien"],
        "metadata": {"type": "bridge", "supporting_facts": {"title": ["Ridley", "Alien", "Ridley"], "sent_id": [0, 1]}},
    },
    {"id": "dev_1", "question": "which song?", "golden_answers": ["Help!", "Help"], "metadata": {}},
]


def search_r1_row(**changes: object) -> dict[str, Any]:
    row = {
        "data_source": "nq",
        "prompt": [{"role": "user", "content": f"{INSTRUCTION}who wrote it?\n"}],
        "ability": "fact-reasoning",
        "reward_model": {"style": "rule", "ground_truth": {"target": ["Li Bai", "Li Po"]}},
        "extra_info": {"split": "train", "index": 7},
    }
    return {name: value for name, value in (row | changes).items() if value is not None}


def write_jsonl(path: Path, rows: Rows) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    data = "".join(f"{json.dumps(row)}\n" for row in rows).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def write_parquet(path: Path, rows: Rows) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(list(rows)), path)
    return path


WRITERS: dict[str, Callable[[Path, Rows], Path]] = {
    "jsonl": write_jsonl,
    "jsonl.gz": write_jsonl,
    "parquet": write_parquet,
}


@pytest.fixture(params=WRITERS)
def write(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str, Rows], Path]:
    """Writes rows to a file of the given stem, once for each file format."""
    return lambda stem, rows: WRITERS[request.param](tmp_path / f"{stem}.{request.param}", rows)


def complaint(path: Path) -> str:
    with pytest.raises(EnvError) as caught:
        load_questions(path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


def test_our_layout_is_read_from_json_lines(tmp_path: Path) -> None:
    for name in ("questions.jsonl", "questions.jsonl.gz"):
        assert load_questions(write_jsonl(tmp_path / name, OURS)) == OURS_READ


def test_our_layout_is_read_from_parquet(tmp_path: Path) -> None:
    """Where one question has supporting titles, the others have a null in that column."""
    assert load_questions(write_parquet(tmp_path / "questions.parquet", OURS[::-1])) == OURS_READ


def test_flashrags_layout_is_read_whatever_the_file_format(write: Callable[[str, Rows], Path]) -> None:
    rows = [{**row, "metadata": {"type": "bridge", **row["metadata"]}} for row in FLASHRAG]
    assert load_questions(write("hotpotqa/dev", rows)) == (
        Question("hotpotqa-dev-dev_0", Dataset.HOTPOTQA, "dev", "which film?", ("Alien",), ("Ridley", "Alien")),
        Question("hotpotqa-dev-dev_1", Dataset.HOTPOTQA, "dev", "which song?", ("Help!", "Help")),
    )


def test_search_r1s_layout_is_read_whatever_the_file_format(write: Callable[[str, Rows], Path]) -> None:
    assert load_questions(write("train", [search_r1_row()])) == (
        Question("nq-train-7", Dataset.NQ, "train", "who wrote it?", ("Li Bai", "Li Po")),
    )


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"question": "who, exactly?"}, {"question": "who, exactly?"}),
        ({"id": "train_9"}, {"id": "nq-train-train_9"}),
        ({"golden_answers": ["Du Fu"]}, {"answers": ("Li Bai", "Li Po")}),
        ({"golden_answers": ["Du Fu"], "reward_model": {"style": "rule"}}, {"answers": ("Du Fu",)}),
        ({"reward_model": {"ground_truth": {"target": "Du Fu"}}}, {"answers": ("Du Fu",)}),
        ({"data_source": "searchR1_hotpotqa"}, {"id": "hotpotqa-train-7", "dataset": Dataset.HOTPOTQA}),
        (
            {
                "prompt": [{"role": "system", "content": "s"}],
                "extra_info": {"split": "test", "index": 0, "question": "?!"},
            },
            {"id": "nq-test-0", "split": "test", "question": "?!"},
        ),
        ({"metadata": {"supporting_facts": {"title": ["T"]}}}, {"supporting_titles": ("T",)}),
    ],
)
def test_variants_of_search_r1s_layout(tmp_path: Path, changes: dict[str, Any], expected: dict[str, Any]) -> None:
    (question,) = load_questions(write_parquet(tmp_path / "train.parquet", [search_r1_row(**changes)]))
    assert {name: getattr(question, name) for name in expected} == expected


@pytest.mark.parametrize("nested", [False, True])
def test_musiques_supporting_titles_are_those_of_its_hops(tmp_path: Path, nested: bool) -> None:
    hops = {"question_decomposition": [{"support_paragraph": {"title": title}} for title in ("T", "U")]}
    row = {**FLASHRAG[1], "metadata": {"metadata": hops} if nested else hops}
    (question,) = load_questions(write_jsonl(tmp_path / "musique" / "dev.jsonl", [row]))
    assert question.supporting_titles == ("T", "U")


def test_dataset_and_split_of_flashrags_layout_can_be_given(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "x.jsonl", FLASHRAG)
    questions = load_flashrag(path, Dataset.WIKI2, "dev")
    assert [each.id for each in questions] == ["2wikimultihopqa-dev-dev_0", "2wikimultihopqa-dev-dev_1"]
    assert {each.dataset for each in questions} == {Dataset.WIKI2}


def test_a_folder_is_all_its_question_files_in_whatever_layout(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "questions.jsonl.gz", OURS)
    write_jsonl(tmp_path / "flashrag" / "hotpotqa" / "dev.jsonl", FLASHRAG)
    write_parquet(tmp_path / "search_r1" / "train.parquet", [search_r1_row()])
    write_jsonl(tmp_path / "corpus.jsonl.gz", [{"id": "1", "title": "T", "text": "t"}])
    (tmp_path / "SOURCES.md").write_text("notes")
    assert [each.id for each in load_questions(tmp_path)] == [
        "hotpotqa-dev-dev_0",
        "hotpotqa-dev-dev_1",
        "musique-dev-1",
        "nq-test-1",
        "nq-train-7",
    ]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("NQ", Dataset.NQ),
        ("natural_questions", Dataset.NQ),
        ("triviaqa", Dataset.TRIVIAQA),
        ("tqa", Dataset.TRIVIAQA),
        ("PopQA", Dataset.POPQA),
        ("hotpot_qa", Dataset.HOTPOTQA),
        ("2WikiMultiHopQA", Dataset.WIKI2),
        ("2wiki", Dataset.WIKI2),
        ("MuSiQue", Dataset.MUSIQUE),
        ("bamboogle", Dataset.BAMBOOGLE),
    ],
)
def test_the_names_of_a_dataset(name: str, expected: Dataset) -> None:
    assert Dataset.parse(name) is expected


@pytest.mark.parametrize("dataset", Dataset)
def test_a_dataset_is_found_by_each_name_it_is_given_here(dataset: Dataset) -> None:
    assert Dataset.parse(dataset.key) is Dataset.parse(dataset.value) is dataset


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"answers": []}, "line 2 (id 'musique-dev-1') has no gold answers"),
        ({"answers": ["", " "]}, "line 2 (id 'musique-dev-1') has no gold answers"),
        ({"answers": None}, "line 2 (id 'musique-dev-1') has the answers None, expected a list of texts"),
        ({"answers": [True]}, "line 2 (id 'musique-dev-1') has the answers [True], expected a list of texts"),
        ({"answers": "['C', 'D'"}, "line 2 (id 'musique-dev-1') has the answers \"['C', 'D'\", expected a list of te"),
        ({"split": "holdout"}, "line 2 (id 'musique-dev-1') has the split 'holdout', which is none of train, dev, te"),
        ({"answers": ["\ud800"]}, "line 2 (id 'musique-dev-1') has the answers '\\ud800', which is broken Unicode"),
        ({"question": "  "}, "line 2 (id 'musique-dev-1') has the question '  ', expected a text"),
        ({"question": None}, "line 2 (id 'musique-dev-1') has the question None, expected a text"),
        ({"split": ""}, "line 2 (id 'musique-dev-1') has the split '', expected a text"),
        (
            {"dataset": "musicue"},
            "line 2 (id 'musique-dev-1'): unknown Search-QA dataset 'musicue'; did you mean 'musi",
        ),
        ({"id": "nq-test-1"}, "line 2 repeats the id 'nq-test-1' of"),
        ({"id": [5]}, "line 2 has the id [5], expected a text"),
        ({"question": "q" * 10_000 + "\ud800"}, "which is broken Unicode"),
    ],
)
def test_a_bad_question_is_named(tmp_path: Path, changes: dict[str, Any], expected: str) -> None:
    message = complaint(write_jsonl(tmp_path / "questions.jsonl", [OURS[0], OURS[1] | changes]))
    assert expected in message
    assert len(message) < 400


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"data_source": "squad"}, "row 1: unknown Search-QA dataset 'squad'"),
        ({"extra_info": {"split": "train"}}, "row 1 has no id"),
        (
            {"extra_info": {"index": 3, "split": "holdout"}},
            "row 1 has the split 'holdout', which is none of train, dev",
        ),
        ({"prompt": [{"role": "user", "content": "who?"}]}, "row 1 has no column question, and its prompt has no 'Qu"),
        ({"prompt": None}, "row 1 has no column question"),
        ({"reward_model": None}, "has the answers None"),
        ({"reward_model": {"ground_truth": {"target": [""]}}}, "has no gold answers"),
    ],
)
def test_a_bad_row_of_search_r1s_layout_is_named(tmp_path: Path, changes: dict[str, Any], expected: str) -> None:
    assert expected in complaint(write_parquet(tmp_path / "train.parquet", [search_r1_row(**changes)]))


def test_ids_that_occur_in_two_files_are_refused(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "one.jsonl", OURS)
    write_jsonl(tmp_path / "two.jsonl", OURS[:1])
    message = complaint(tmp_path)
    assert f"two.jsonl line 1 repeats the id 'nq-test-1' of {tmp_path / 'one.jsonl'} line 1" in message


def test_a_flashrag_file_that_names_no_dataset_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "downloads"
    assert "unknown Search-QA dataset 'downloads'" in complaint(write_jsonl(folder / "dev.jsonl", FLASHRAG))


def test_unknown_columns_are_shown_beside_those_that_are_known(tmp_path: Path) -> None:
    message = complaint(write_jsonl(tmp_path / "x.jsonl", [{"q": "who?", "a": "me"}]))
    assert "line 1 has the columns a, q; expected ours" in message


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def _append(text: bytes) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(path.read_bytes() + text)


@pytest.mark.parametrize(
    ("name", "harm", "expected"),
    [
        ("x.jsonl", _cut, "line 2 is not JSON"),
        ("x.jsonl", _append(b"\n{oops\n"), "line 4 is not JSON"),
        ("x.jsonl", _append(b"[1]\n"), "line 3 is not a JSON object: b'[1]"),
        ("x.jsonl", _append(b'{"id": "\xff"}\n'), "line 3 is not JSON"),
        ("x.jsonl", lambda path: path.write_bytes(b"\n"), "holds no questions"),
        ("x.jsonl.gz", _cut, "is truncated or damaged"),
        ("x.jsonl.gz", lambda path: path.write_bytes(b"plain text"), "is truncated or damaged"),
        ("x.parquet", _cut, "cannot be read as parquet"),
        ("x.parquet", lambda path: path.write_bytes(b""), "cannot be read as parquet"),
        ("x.jsonl", Path.unlink, "cannot be read (No such file"),
        ("x.jsonl.gz", Path.unlink, "cannot be read (No such file"),
        ("x.parquet", Path.unlink, "cannot be read as parquet"),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, name: str, harm: Callable[[Path], None], expected: str) -> None:
    path = WRITERS[name.partition(".")[2]](tmp_path / name, OURS)
    harm(path)
    assert expected in complaint(path)


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    assert "has the suffix '.csv'; questions are .jsonl, .jsonl.gz, .json, .json.gz, .parquet" in complaint(
        tmp_path / "x.csv"
    )


def test_a_folder_without_questions_is_refused(tmp_path: Path) -> None:
    assert "holds no questions; put them there as .jsonl" in complaint(tmp_path)


def test_reading_json_lines_loads_neither_arrow_nor_datasets(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "questions.jsonl", OURS)
    code = (
        "import sys, pathlib, stepcredit.envs.searchqa.hub\n"
        "from stepcredit.envs.searchqa.loaders import load_questions\n"
        f"assert len(load_questions(pathlib.Path({str(path)!r}))) == 2\n"
        "assert not {'pyarrow', 'datasets'} & set(sys.modules), 'loaded'\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {"PYTHONPATH": os.getcwd()})


@pytest.mark.parametrize("name", ["questions.jsonl", "questions.jsonl.gz"])
def test_written_questions_are_read_again(tmp_path: Path, name: str) -> None:
    question = Question("nq-test-1", Dataset.NQ, "test", "who is “Ada”", ("Ada", "A."), ("Ada (poet)",))
    rows = [asdict(question) | {"dataset": question.dataset.key}]
    jsonl.write_jsonl(tmp_path / "nq" / name, rows)
    assert load_questions(tmp_path) == (question,)
    before = (tmp_path / "nq" / name).read_bytes()
    jsonl.write_jsonl(tmp_path / "nq" / name, rows)
    assert (tmp_path / "nq" / name).read_bytes() == before


def test_questions_that_cannot_be_written_say_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EnvError, match="cannot be written"):
        jsonl.write_jsonl(tmp_path / "file" / "questions.jsonl", [])
