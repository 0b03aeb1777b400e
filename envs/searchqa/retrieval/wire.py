"""What goes over the wire: requests and answers as Search-R1's and verl-agent's clients and servers write them."""

from __future__ import annotations

import hashlib
import json
import reprlib
from collections.abc import Sequence
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from stepcredit.envs import plain_json
from stepcredit.envs.searchqa.corpus import Passage, contents, title_and_text
from stepcredit.envs.searchqa.retrieval.contract import Hit

RETRIEVE, HEALTH, INFO = "/retrieve", "/health", "/info"
HOST, PORT = "127.0.0.1", 8000

MAX_BODY_BYTES = 16 * 2**20
MAX_QUERIES = 4096
MAX_QUERY_CHARACTERS = 20_000
MAX_TOPK = 100

_SHOWN = 40


class WireError(ValueError):
    """A request or an answer is not what it should be: one clause that says where and what was seen."""


def encodable(text: str) -> str:
    """The text with half surrogate pairs, which UTF-8 cannot hold, replaced."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _clean(value: object) -> object:
    return encodable(value) if isinstance(value, str) else value


def _not_empty(query: str) -> str:
    if not query.strip():
        raise PydanticCustomError("empty", "the query is empty")
    return query


Query = Annotated[str, Field(max_length=MAX_QUERY_CHARACTERS), BeforeValidator(_clean), AfterValidator(_not_empty)]


class Request(BaseModel):
    """The body of POST /retrieve: many queries, or one."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)

    queries: list[Query] | None = Field(None, min_length=1, max_length=MAX_QUERIES)
    """What to search for."""
    query: Query | None = None
    """The same as `queries` with this one in it."""
    topk: int = Field(3, ge=1, le=MAX_TOPK)
    """Passages per query."""
    return_scores: bool = False
    """Whether each document comes with its score."""

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.queries is None) == (self.query is None):
            raise PydanticCustomError("which", "the request must have either 'queries' or 'query'")
        return self

    @classmethod
    def parse(cls, body: bytes) -> Request:
        """The request in the body.

        Raises:
            WireError: it breaks a rule.
        """
        try:
            return cls.model_validate(parse_json(body))
        except ValidationError as error:
            raise WireError(_first_fault(error)) from error

    @property
    def texts(self) -> list[str]:
        """The queries, in whichever field they came."""
        return [self.query] if self.query is not None else self.queries or []


def request_body(queries: Sequence[str], topk: int) -> bytes:
    """A request for scored passages."""
    fields = {"queries": [encodable(query) for query in queries], "topk": topk, "return_scores": True}
    return json.dumps(fields).encode()


def parse_json(body: bytes) -> Any:
    """The value in the body.

    Raises:
        WireError: it is not JSON.
    """
    try:
        return plain_json.parse(body)
    except plain_json.JsonError as error:
        raise WireError(f"the body is not JSON ({error}): {body[:_SHOWN]!r}") from error


def answer_body(hits: Sequence[Sequence[Hit]], *, with_scores: bool) -> bytes:
    """The answer to a request: for each query its documents, best first."""
    result = [[_entry(hit, with_scores=with_scores) for hit in found] for found in hits]
    return json.dumps({"result": result}).encode()


def parse_answer(body: bytes, queries: int) -> list[list[Hit]]:
    """The hits for that many queries; 0 is the score of documents that came without one.

    Raises:
        WireError: the body is not such an answer.
    """
    answer = parse_json(body)
    result = answer.get("result") if isinstance(answer, dict) else None
    if not isinstance(result, list) or not all(isinstance(found, list) for found in result):
        raise WireError(f"the answer has no list of lists called 'result': {body[:_SHOWN]!r}")
    if len(result) != queries:
        raise WireError(f"the answer has {len(result)} results for {queries} queries")
    return [[_hit(entry) for entry in found] for found in result]


def _entry(hit: Hit, *, with_scores: bool) -> dict[str, Any]:
    document = _document(hit.passage)
    return {"document": document, "score": hit.score} if with_scores else document


def _document(passage: Passage) -> dict[str, str]:
    return {"id": passage.id, "title": passage.title, "text": passage.text, "contents": contents(passage)}


def _hit(entry: object) -> Hit:
    match entry:
        case {"document": document, "score": int() | float() as score}:
            return Hit(_passage(document), float(score))
    return Hit(_passage(entry), 0.0)


def _passage(document: object) -> Passage:
    """The passage of a document; Search-R1's have no title or text, some have no id."""
    match document:
        case {"id": str() as name, "title": str() as title, "text": str() as text}:
            return Passage(name, title, text)
        case {"contents": str() as whole, **others}:
            made_up = f"sha256:{hashlib.sha256(encodable(whole).encode()).hexdigest()}"
            return Passage(str(others.get("id", made_up)), *title_and_text(whole))
    raise WireError(f"the answer has the document {reprlib.repr(document)}, expected its contents")


def _first_fault(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return f"unknown field {place[:_SHOWN]!r}; known are {', '.join(Request.model_fields)}"
    seen = "" if first["type"] == "which" else f", the value is {reprlib.repr(first['input'])[: 2 * _SHOWN]}"
    message = first["msg"][0].lower() + first["msg"][1:]
    return f"{place}: {message}{seen}" if place else f"{message}{seen}"
