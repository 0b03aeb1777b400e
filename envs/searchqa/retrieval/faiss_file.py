"""A FAISS file that somebody else built, mapped into memory and held against corpus and encoder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from stepcredit.envs.searchqa.corpus import Corpus, contents
from stepcredit.envs.searchqa.jsonl import require_data
from stepcredit.envs.searchqa.retrieval.contract import RetrievalError
from stepcredit.envs.searchqa.retrieval.fingerprints import fingerprint
from stepcredit.envs.searchqa.retrieval.prebuilt import called, compared, require_size

if TYPE_CHECKING:
    from stepcredit.envs.searchqa.retrieval.dense import SentenceEncoder

NPROBE = 16

_INVERTED = b"Iw"
_FARTHEST = 0.04
"""Distance of two unit vectors that count as one.

Over 128 passages MiniLM's vectors in float32 and float16 are up to 0.0016 apart, float32 and bfloat16 0.0135, and what
FAISS keeps in 8 bits 0.006. With a prefix too many they are 0.059 apart and more, those of two passages 0.28 and more.
"""


@dataclass(frozen=True, slots=True)
class FaissFile:
    """A FAISS file, such as Search-R1's `e5_Flat.index`: the vectors of a corpus's passages in their order.

    Attributes:
        nprobe: lists that a query looks into, if the file has inverted lists.
    """

    path: Path
    nprobe: int = NPROBE


def open_file(
    file: FaissFile, corpus: Corpus, encoder: SentenceEncoder, cache: Path | None = None
) -> tuple[Any, dict[str, str]]:
    """The index, and what identifies it: its content, wherever it lies.

    Args:
        cache: where its hash is remembered; None takes the user's cache directory.

    Raises:
        RetrievalError: FAISS is missing, the file is no such index or truncated, or it is another corpus's or
            encoder's.
    """
    index, stored = _fitting(file, corpus)
    _require_dimensions(file.path, stored, encoder)
    _require_same_vectors(file.path, stored, corpus, encoder)
    shape = {"index": "prebuilt", "index_sha256": fingerprint([file.path], cache)}
    lists = load_faiss().try_extract_index_ivf(index)
    if lists is not None:
        lists.nprobe = file.nprobe
        shape["nprobe"] = str(file.nprobe)
    return index, shape


def require_fit(file: FaissFile, corpus: Corpus) -> None:
    """All that can be seen of the file without its encoder; to be asked before one is loaded.

    Raises:
        RetrievalError: as `open_file`, but for the encoder.
    """
    _fitting(file, corpus)


def load_faiss() -> Any:
    """The module.

    Raises:
        RetrievalError: it is not installed.
    """
    try:
        import faiss
    except ImportError as error:
        raise RetrievalError("dense retrieval needs FAISS; install it with `pip install faiss-cpu`") from error
    return faiss


def faiss_version() -> Mapping[str, str]:
    """For a retriever's info; conda's and the GPU's packages have other names than PyPI's."""
    try:
        return {"faiss": version("faiss-cpu")}
    except PackageNotFoundError:
        return {"faiss": str(load_faiss().__version__)}


def map_index(path: Path) -> Any:
    """FAISS's index in the file, its vectors mapped.

    Raises:
        RetrievalError: FAISS is missing, or the file cannot be read, is no such index or truncated.
        EnvError: it is a placeholder that Git LFS has not filled.
    """
    faiss, kind = load_faiss(), _first_bytes(path)
    try:
        return faiss.read_index(str(path), _mapping(faiss, kind))
    except RuntimeError as error:
        if "not recognized" in str(error):
            raise RetrievalError(f"{path} is no FAISS index (it begins with {kind!r}); choose another file") from error
        reason = str(error).rpartition("Error: ")[2].splitlines()[0]
        raise RetrievalError(f"index {path} is truncated or damaged (FAISS: {reason}); copy it again") from error


def _first_bytes(path: Path) -> bytes:
    """What FAISS calls the kind of the index."""
    if path.is_dir():
        raise RetrievalError(
            f"index {path} is a folder, and FAISS's are files; choose engine lucene for a Lucene index"
        )
    require_data(path)
    try:
        with path.open("rb") as file:
            return file.read(len(_INVERTED))
    except OSError as error:
        raise RetrievalError(f"index {path} cannot be read ({error.strerror}); check that it is readable") from error


def _mapping(faiss: Any, kind: bytes) -> int:
    """The flag under which FAISS maps the vectors: IO_FLAG_MMAP does so for inverted lists alone, and checks their end,
    which the newer flag does not.
    """
    if kind == _INVERTED:
        return int(faiss.IO_FLAG_MMAP)
    if not hasattr(faiss, "IO_FLAG_MMAP_IFC"):
        raise RetrievalError(
            f"FAISS {faiss.__version__} would read the whole index into memory; update it with"
            " `pip install --upgrade faiss-cpu`"
        )
    return int(faiss.IO_FLAG_MMAP_IFC)


def _fitting(file: FaissFile, corpus: Corpus) -> tuple[Any, npt.NDArray[np.float32]]:
    """The index, and its vectors at the places that are compared."""
    index = map_index(file.path)
    lists = load_faiss().try_extract_index_ivf(index)
    require_size(file.path, index.ntotal, corpus)
    require_inner_product(file.path, index)
    if lists is None and file.nprobe != NPROBE:
        raise RetrievalError(f"index {file.path} has no inverted lists, so nprobe has no effect; leave it out")
    return index, _stored(index, lists, compared(len(corpus)), file.path)


def require_inner_product(path: Path, index: Any) -> None:
    """Refuse an index that ranks otherwise.

    Raises:
        RetrievalError: it does.
    """
    if index.metric_type != load_faiss().METRIC_INNER_PRODUCT:
        raise RetrievalError(f"index {path} does not rank by inner product; build it with that metric")


def _stored(index: Any, lists: Any, positions: list[int], path: Path) -> npt.NDArray[np.float32]:
    """The vectors at these positions."""
    if lists is not None:
        lists.make_direct_map()
    try:
        return np.stack([index.reconstruct(position) for position in positions])
    except RuntimeError as error:
        raise RetrievalError(
            f"index {path} does not give its vectors back, so nobody can see whether it belongs to the corpus; choose"
            " a flat, IVF or HNSW index"
        ) from error
    finally:
        if lists is not None:
            lists.set_direct_map_type(load_faiss().DirectMap.NoMap)


def _require_dimensions(path: Path, stored: npt.NDArray[np.float32], encoder: SentenceEncoder) -> None:
    dimensions = stored.shape[1]
    if dimensions != encoder.dimensions:
        raise RetrievalError(
            f"index {path} has vectors of {dimensions} dimensions, and the encoder's have {encoder.dimensions};"
            " choose the encoder that it was built with"
        )


def _require_same_vectors(
    path: Path, stored: npt.NDArray[np.float32], corpus: Corpus, encoder: SentenceEncoder
) -> None:
    """Whether the stored vectors are those of the passages, written as ours or, with quotes, as Search-R1's are."""
    positions = compared(len(corpus))
    passages = [corpus[position] for position in positions]
    written = (encoder.encode_passages(passages), encoder.encode_passages(passages, contents))
    distances = min(
        (np.linalg.norm(stored - vectors, axis=1) for vectors in written), key=lambda them: float(them.max())
    )
    farthest = int(distances.argmax())
    if not distances[farthest] <= _FARTHEST:
        raise RetrievalError(
            f"index {path} has another vector for passage {passages[farthest].id!r} of {called(corpus)} than the"
            f" encoder ({distances[farthest]:.2g} apart, where {_FARTHEST} is allowed); choose the corpus, encoder,"
            " pooling, passage_prefix and max_tokens that it was built with"
        )
