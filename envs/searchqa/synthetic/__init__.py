"""`searchqa-synthetic`: a generated encyclopedia and questions about it, for machines without any data."""

from stepcredit.envs.searchqa.synthetic.passages import synthetic_corpus
from stepcredit.envs.searchqa.synthetic.questions import synthetic_questions

__all__ = ["synthetic_corpus", "synthetic_questions"]
