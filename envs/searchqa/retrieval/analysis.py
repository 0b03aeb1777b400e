"""From text to index terms, as Lucene's English analyser makes them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import lru_cache

import regex
import Stemmer

_LUCENE_STOP_WORDS = """
a an and are as at be but by for if in into is it no not of on or such that the their then there these they this to was
will with
"""
STOP_WORDS = frozenset(_LUCENE_STOP_WORDS.split())

_LONGEST = 255
_SHORTEST_STEMMED = 3
_REMEMBERED = 1 << 18
_WORTH_REMEMBERING = 40
_POSSESSIVES = ("'s", "'S", "’s", "’S", "＇s", "＇S")


def _word_pattern() -> str:
    """Words by the word boundaries of UAX #29; ideographs, hiragana and pictographs one by one."""
    extend = r"[\p{WB=Extend}\p{WB=Format}\p{WB=ZWJ}]*+"
    joiner = rf"(?:\p{{WB=ExtendNumLet}}{extend})"
    letter = rf"(?:[\p{{WB=ALetter}}\p{{WB=Hebrew_Letter}}]{extend})"
    digit = rf"(?:[\p{{WB=Numeric}}０-９]{extend})"
    katakana = rf"(?:\p{{WB=Katakana}}{extend})"
    in_word = rf"(?:[\p{{WB=MidLetter}}\p{{WB=MidNumLet}}\p{{WB=Single_Quote}}]{extend})"
    in_number = rf"(?:[\p{{WB=MidNum}}\p{{WB=MidNumLet}}\p{{WB=Single_Quote}}]{extend})"
    letters = rf"{letter}(?:(?:{in_word}|{joiner}*){letter})*"
    digits = rf"{digit}(?:(?:{in_number}|{joiner}*){digit})*"
    run = rf"(?:{katakana}(?:{joiner}*{katakana})*|(?:{letters}|{digits})+)"
    # Joiners that lead to nothing are tried once, not from each of them: a row of underscores stays linear.
    word = rf"(?:(?<!\p{{WB=ExtendNumLet}}){joiner}++)?+{run}(?:{joiner}+{run})*{joiner}*"
    return rf"{word}|[\p{{Thai}}\p{{Lao}}\p{{Khmer}}\p{{Myanmar}}]+|[\p{{Han}}\p{{Hiragana}}\p{{ExtPict}}♩-♯]{extend}"


_WORD = regex.compile(_word_pattern())


def analyzer() -> Callable[[str], list[str]]:
    """A function from text to terms, safe to call from many threads; it remembers the words that it met last.

    The steps are those of Lucene's EnglishAnalyzer: words, possessives cut, lower case, stop words dropped, Porter's
    stemmer for words of three letters and more.
    """
    stemmer = Stemmer.Stemmer("porter", 0)
    lock = threading.Lock()

    def stem(word: str) -> str:
        with lock:
            return str(stemmer.stemWord(word))

    def terms_of(chunk: str) -> list[str]:
        words = (word for word in _words(chunk) if word not in STOP_WORDS)
        return [word if len(word) < _SHORTEST_STEMMED else stem(word) for word in words]

    remembered = lru_cache(_REMEMBERED)(terms_of)

    def analyze(text: str) -> list[str]:
        return [
            term
            for chunk in text.split()
            for term in (remembered if len(chunk) <= _WORTH_REMEMBERING else terms_of)(chunk)
        ]

    return analyze


def _words(chunk: str) -> Iterator[str]:
    for match in _WORD.findall(chunk):
        for start in range(0, len(match), _LONGEST):
            word = match[start : start + _LONGEST]
            yield _lower(word[:-2] if word.endswith(_POSSESSIVES) else word)


def _lower(word: str) -> str:
    """Lower case code point by code point, as Java does it: no final sigma, no letter that becomes two."""
    return word.lower() if word.isascii() else "".join(letter.lower()[0] for letter in word)
