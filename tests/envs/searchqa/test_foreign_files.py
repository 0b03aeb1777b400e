"""Data as other people keep it: names, file formats and folders that were not made for us."""

import codecs
import gzip
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from stepcredit.envs.contract import EnvError
from stepcredit.envs.searchqa.corpus import Passage, read_corpus
from stepcredit.envs.searchqa.loaders import load_questions
from stepcredit.envs.searchqa.questions import Dataset, own_split

ROW = {"id": "t1", "question": "who?", "golden_answers": ["Ann"]}


def put(path: Path, *rows: Mapping[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows or (ROW,)))
    return path


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("train", "train"),
        ("Training", "train"),
        ("validation", "dev"),
        ("val", "dev"),
        ("valid", "dev"),
        ("DEV", "dev"),
        ("dev_500", "dev"),
        ("dev-500-sampled", "dev"),
        ("Test", "test"),
        ("test-00000-of-00002", "test"),
        ("train_0001", "train"),
        ("test_rest", "test_rest"),
        ("dev_distractor_v1", "dev"),
        ("holdout", None),
        ("traindev", None),
        ("train_dev", None),
        ("contest", None),
        ("", None),
        ("test rest rest of it", None),
        ("../test", None),
    ],
)
def test_names_of_splits(name: str, expected: str | None) -> None:
    assert own_split(name) == expected


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("hotpotqa/validation.jsonl", (Dataset.HOTPOTQA, "dev")),
        ("HotpotQA/dev_500.jsonl", (Dataset.HOTPOTQA, "dev")),
        ("hotpot_qa/data/Test-00000-of-00001.jsonl", (Dataset.HOTPOTQA, "test")),
        ("2wikimultihopqa_val.jsonl", (Dataset.WIKI2, "dev")),
        ("nq_open/test.JSONL", (Dataset.NQ, "test")),
        ("bamboogle/test.json", (Dataset.BAMBOOGLE, "test")),
        ("RUC-NLPIR/FlashRAG_datasets/musique/dev.jsonl", (Dataset.MUSIQUE, "dev")),
    ],
)
def test_names_of_files_and_folders(tmp_path: Path, file: str, expected: tuple[Dataset, str]) -> None:
    put(tmp_path / file)
    (question,) = load_questions(tmp_path)
    assert (question.dataset, question.split) == expected
    assert question.id == f"{expected[0].key}-{expected[1]}-t1"


@pytest.mark.parametrize("file", ["nq/holdout.jsonl", "nq/questions.jsonl", "nq_all.jsonl"])
def test_a_split_that_nobody_knows_is_refused_by_name(tmp_path: Path, file: str) -> None:
    put(tmp_path / "nq" / "test.jsonl")
    put(tmp_path / file)
    with pytest.raises(EnvError, match=r"has the split '.*', which is none of train, dev, test, test_rest; dev may be"):
        load_questions(tmp_path)


def test_a_dataset_whose_shard_is_missing_is_refused(tmp_path: Path) -> None:
    put(tmp_path / "nq" / "test-00000-of-00002.jsonl")
    with pytest.raises(EnvError, match="has 1 of its 2 parts, number 1 is missing"):
        load_questions(tmp_path)


def test_a_file_whose_folder_is_named_after_another_dataset_is_refused(tmp_path: Path) -> None:
    put(tmp_path / "nq" / "hotpotqa_test.jsonl")
    with pytest.raises(EnvError, match="named after HotpotQA and stands in a folder named after NQ"):
        load_questions(tmp_path)


def test_an_empty_file_of_a_dataset_is_refused(tmp_path: Path) -> None:
    put(tmp_path / "nq" / "test.jsonl")
    (tmp_path / "popqa").mkdir()
    (tmp_path / "popqa" / "test.jsonl").write_text("")
    with pytest.raises(EnvError, match=r"popqa/test.jsonl holds no questions"):
        load_questions(tmp_path)


FOREIGN: dict[str, Callable[[Path], object]] = {
    "fever/dev.jsonl": put,
    "wow/deep/er/train.jsonl": lambda path: put(path, {"id": 1, "text": "x"}),
    "squad/damaged.jsonl": lambda path: put(path).write_text("{oops"),
    "nq/.ipynb_checkpoints/test-checkpoint.jsonl": put,
    "nq/._test.jsonl": lambda path: path.write_bytes(b"\0\5\26\7"),
    ".cache/huggingface/download/x.json": lambda path: put(path, {"etag": "x"}),
    "nq/dataset_info.json": lambda path: put(path, {"features": {"id": {"dtype": "string"}}, "splits": {}}),
    "predictions.jsonl": lambda path: put(path, {"qid": "1", "prediction": "Ann"}),
    "truthful_qa/dev.parquet": lambda path: put(path).write_bytes(b"version https://git-lfs.github.com/spec/v1\n"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_what_is_not_ours_is_left_alone_and_named_once(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    put(tmp_path / "nq" / "test.jsonl")
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    FOREIGN[name](tmp_path / name)
    assert [load_questions(tmp_path), load_questions(tmp_path)] == [load_questions(tmp_path / "nq" / "test.jsonl")] * 2
    said = capsys.readouterr().err
    assert said.count(name) == 1
    assert said == f"stepcredit: {name} in {tmp_path} left alone: no questions of the seven Search-QA datasets\n"


def test_a_whole_flashrag_download_can_be_pointed_at(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ours = {"nq": "train dev test", "hotpotqa": "train dev", "2wikimultihopqa": "train dev", "popqa": "test"}
    ours |= {"triviaqa": "train dev test", "musique": "train dev", "bamboogle": "test"}
    for name in ("arc", "boolq", "fever", "msmarco-qa", "wikiasp", "zero-shot_re"):
        put(tmp_path / name / "dev.jsonl", ROW | {"choices": ["a", "b"]})
    for name, splits in ours.items():
        for split in splits.split():
            put(tmp_path / name / f"{split}.jsonl", ROW, ROW | {"id": "t2", "metadata": {"any": [1, None, "x"]}})
    (tmp_path / "README.md").write_text("# FlashRAG")
    (tmp_path / ".gitattributes").write_text("*.zip lfs")
    put(tmp_path / "retrieval-corpus" / "wiki18_100w.jsonl", {"id": "0", "contents": "T\nx"})
    found = load_questions(tmp_path)
    assert {question.dataset for question in found} == set(Dataset)
    assert len(found) == 2 * sum(len(splits.split()) for splits in ours.values())
    assert "arc/dev.jsonl, boolq/dev.jsonl, fever/dev.jsonl, msmarco-qa/dev.jsonl, wikiasp/dev.jsonl and 1 more" in (
        capsys.readouterr().err
    )


@pytest.mark.parametrize("metadata", [None, "", "text", 7, [], ["x"], {"supporting_facts": [["T", 0]]}, '{"a": 1}'])
def test_metadata_of_any_type_are_optional(tmp_path: Path, metadata: object) -> None:
    (question,) = load_questions(put(tmp_path / "nq" / "test.jsonl", ROW | {"metadata": metadata}))
    assert question.supporting_titles == ()


LAYOUTS: dict[str, Mapping[str, Any]] = {
    "search-r1": {
        "id": "test_0",
        "question": "who?",
        "golden_answers": ["Ann"],
        "data_source": "nq",
        "prompt": [{"role": "user", "content": "Answer. Question: who?\n"}],
        "ability": "fact-reasoning",
        "reward_model": {"style": "rule", "ground_truth": {"target": ["Ann"]}},
        "extra_info": {"split": "test", "index": 0},
    },
    "verl": {
        "data_source": "searchR1_nq",
        "prompt": [{"role": "system", "content": "S"}, {"role": "user", "content": "Question: who?"}],
        "ability": "fact-reasoning",
        "reward_model": {"style": "rule", "ground_truth": {"target": ["Ann"]}},
        "extra_info": {"index": 0, "need_tools_kwargs": True, "question": "who?", "split": "test", "tools_kwargs": {}},
        "metadata": None,
        "agent_name": "tool_agent",
    },
    "verl, ground truth as text": {
        "data_source": "searchr1_NQ",
        "prompt": "Question: who?",
        "reward_model": {"style": "rule", "ground_truth": '{"target": ["Ann"]}'},
        "extra_info": {"index": 0.0, "split": "test"},
    },
    "skyrl": {
        "data_source": "searchR1_nq",
        "prompt": [{"role": "user", "content": "Question: who?"}],
        "env_class": "search",
        "reward_spec": {"method": "rule", "ground_truth": {"target": ["Ann"]}},
        "extra_info": {"index": 0, "question": "who?", "split": "test"},
    },
    "flashrag": {"id": 0, "question": "who?", "golden_answers": ["Ann"], "metadata": {}},
    "flashrag, one answer": {"id": "0", "question": "who?", "golden_answers": "Ann"},
    "hub": {"_id": "0", "question": "who?", "answer": ["Ann"]},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_question(tmp_path: Path, layout: str) -> None:
    (question,) = load_questions(put(tmp_path / "nq" / "test.jsonl", LAYOUTS[layout]))
    assert (question.dataset, question.split, question.question, question.answers) == (
        Dataset.NQ,
        "test",
        "who?",
        ("Ann",),
    )


@pytest.mark.parametrize(
    "written",
    [
        json.dumps([ROW]),
        json.dumps({"data": [ROW]}),
        json.dumps({"t1": {"question": "who?", "golden_answers": ["Ann"]}}),
        json.dumps({"id": ["t1"], "question": ["who?"], "golden_answers": [["Ann"]]}),
        json.dumps(ROW, indent=2),
        f"{json.dumps(ROW)}\n{json.dumps(ROW | {'id': 't2'})}\n",
    ],
)
def test_json_documents(tmp_path: Path, written: str) -> None:
    path = tmp_path / "nq" / "test.json"
    path.parent.mkdir()
    path.write_text(written)
    assert load_questions(path)[0].answers == ("Ann",)


ENCODINGS = {
    "CR LF": lambda text: text.replace("\n", "\r\n").encode(),
    "mark": lambda text: codecs.BOM_UTF8 + text.encode(),
    "blank lines": lambda text: f"\n\n{text}\n \n".encode(),
    "no end of line": lambda text: text.rstrip("\n").encode(),
}


@pytest.mark.parametrize("suffix", ["jsonl", "jsonl.gz"])
@pytest.mark.parametrize("name", ENCODINGS)
def test_line_ends_and_marks_do_not_matter(tmp_path: Path, name: str, suffix: str) -> None:
    path = tmp_path / f"nq_test.{suffix}"
    data = ENCODINGS[name](f"{json.dumps(ROW)}\n")
    path.write_bytes(gzip.compress(data) if suffix.endswith("gz") else data)
    assert load_questions(path)[0].answers == ("Ann",)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (json.dumps(ROW).encode("utf-16"), "is in UTF-16"),
        (json.dumps(ROW).encode("utf-16-le"), "is in UTF-16"),
        (json.dumps(ROW).encode("utf-32"), "is in UTF-16 or UTF-32"),
        (json.dumps(ROW).encode().replace(b"who", b"w\0o"), "holds NUL bytes"),
        (json.dumps(ROW).encode().replace(b"who", b"w\xe9"), "is not JSON in UTF-8"),
        (b"[" * 100_000, "is not JSON"),
        (b'{"id": ' + b"[" * 5000 + b"]" * 5000 + b"}", "line 1"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "is a placeholder that Git LFS has not filled"),
    ],
)
def test_what_is_no_json_in_utf_8_is_one_sentence(tmp_path: Path, data: bytes, reason: str) -> None:
    for name in ("test.jsonl", "test.json"):
        path = tmp_path / "nq" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
        with pytest.raises(EnvError) as caught:
            load_questions(path)
        assert "\n" not in str(caught.value)
        assert reason.replace("line 1", "") in str(caught.value)


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"id": 0, "contents": '"T"\ntext'}, ("0", "T", "text")),
        ({"id": "0", "contents": "T\ntext"}, ("0", "T", "text")),
        ({"id": "0", "contents": '""\ntext'}, ("0", "", "text")),
        ({"id": "0", "contents": '"T"\r\ntext'}, ("0", "T", "text")),
        ({"id": "0", "contents": '"Weird Al" Yankovic\ntext'}, ("0", '"Weird Al" Yankovic', "text")),
        ({"id": "0", "contents": '""Heroes""\ntext'}, ("0", '"Heroes"', "text")),
        ({"id": "0", "title": "", "text": "text"}, ("0", "", "text")),
        ({"id": "0", "title": '"T"', "text": "text", "contents": "other"}, ("0", '"T"', "text")),
    ],
)
def test_titles_of_passages(tmp_path: Path, row: Mapping[str, Any], expected: tuple[str, str, str]) -> None:
    (passage,) = read_corpus(put(tmp_path / "corpus.jsonl", row)).passages
    assert passage == Passage(*expected)
