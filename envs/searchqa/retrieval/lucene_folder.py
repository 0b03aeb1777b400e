"""A Lucene index that somebody else built, held against the corpus."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stepcredit.envs import plain_json
from stepcredit.envs.contract import EnvError
from stepcredit.envs.searchqa.corpus import Corpus, Passage, contents, title_and_text
from stepcredit.envs.searchqa.retrieval.contract import RetrievalError
from stepcredit.envs.searchqa.retrieval.jvm import Machine
from stepcredit.envs.searchqa.retrieval.prebuilt import called, compared, foreign, require_size

_LUCENES = re.compile(r"segments_\w+|_\w.*")
_NO_FOLDER = "FAISS's are files, which engine dense takes"


def lucene_files(path: Path) -> list[Path]:
    """The files of a Lucene index; what else lies in its folder, such as a download's notes, is none of it.

    Raises:
        RetrievalError: the path is no such folder.
    """
    if not path.is_dir():
        raise RetrievalError(f"index {path} is a file, and Lucene's are folders ({_NO_FOLDER}); choose its folder")
    try:
        files = sorted(file for file in path.iterdir() if _LUCENES.fullmatch(file.name) and file.is_file())
    except OSError as error:
        raise RetrievalError(f"index {path} cannot be read ({error.strerror}); check that it is readable") from error
    if not any(file.name.startswith("segments_") for file in files):
        raise RetrievalError(f"{path} is no Lucene index (it has no file segments_N); choose the folder that has it")
    return files


@contextmanager
def explained(machine: Machine, path: Path) -> Iterator[None]:
    """Java's exceptions as one sentence about the index.

    Raises:
        RetrievalError: Lucene cannot read it.
    """
    try:
        yield
    except machine.jnius.JavaException as error:
        name = str(error.classname).rpartition(".")[2]
        said = " ".join(str(error.innermessage or "nothing").split())
        raise RetrievalError(
            f"index {path} cannot be read: Lucene's {name} says {said[:200]!r}; copy it again, or build it with the"
            " Lucene of pyserini 1.6.0"
        ) from error


def require_fit(path: Path, searcher: Any, corpus: Corpus) -> None:
    """Refuse an index of other passages: by their number, by the ids of some, and by what is stored of those.

    Args:
        searcher: Anserini's, over the index.

    Raises:
        RetrievalError: it is of another corpus.
    """
    require_size(path, searcher.get_total_num_docs(), corpus)
    for number in compared(len(corpus)):
        docid = searcher.doc(number).get("id")
        passage = passage_of(path, corpus, docid)
        stored = _stored(searcher, number)
        if stored is not None and _words(*title_and_text(stored)) != _words(*title_and_text(contents(passage))):
            raise foreign(path, f"has other contents for passage {docid!r} than {called(corpus)}")


def passage_of(path: Path, corpus: Corpus, docid: str) -> Passage:
    """The passage with the document's id.

    Raises:
        RetrievalError: there is none.
    """
    try:
        return corpus.by_id(docid)
    except EnvError as error:
        raise foreign(path, f"holds a passage {docid!r}, which {called(corpus)} does not") from error


def _stored(searcher: Any, number: int) -> str | None:
    """A document's contents, where the index keeps them or the JSON that they came from."""
    found: str | None = searcher.doc_contents(number)
    if found is not None:
        return found
    try:
        row = plain_json.parse(searcher.doc_raw(number) or "null")
    except plain_json.JsonError:
        return None
    match row:
        case {"contents": str() as whole}:
            return whole
        case {"title": str() as title, "text": str() as text}:
            return contents(Passage("", title, text))
    return None


def _words(title: str, text: str) -> list[str]:
    return f"{title} {text}".encode("utf-16", "surrogatepass").decode("utf-16", "replace").split()
