"""Search-QA's warm start: demonstrations of a solver on the generated world."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import count, islice
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from stepcredit.envs.contract import Benchmark
from stepcredit.envs.panel import Panel, Task
from stepcredit.envs.searchqa.benchmark import SearchQaBenchmark
from stepcredit.envs.searchqa.env import Rules, SearchQaEnv
from stepcredit.envs.searchqa.questions import Dataset, Question
from stepcredit.envs.searchqa.retrieval.bm25 import Bm25Retriever
from stepcredit.envs.searchqa.retrieval.contract import Retriever
from stepcredit.envs.searchqa.synthetic import synthetic_corpus
from stepcredit.envs.searchqa.synthetic.expert import Habits, Solver, Turn, solution
from stepcredit.envs.searchqa.synthetic.phrases import kinds, phrases
from stepcredit.envs.searchqa.synthetic.questions import drafts, endless_drafts, solutions
from stepcredit.envs.searchqa.synthetic.shapes import Draft, Hop, Subjects, facts_of
from stepcredit.envs.searchqa.synthetic.world import VERSION, make_world
from stepcredit.envs.searchqa.text import information
from stepcredit.harness.model.policy import Policy, fresh_policy
from stepcredit.harness.model.tokenizer import phrase_tokenizer, token_bytes_table
from stepcredit.harness.model.transcript import Transcript
from stepcredit.harness.setup.settings import build_spec
from stepcredit.harness.spec import RolloutSpec
from stepcredit.harness.warmstart.cloning import CloningSpec
from stepcredit.harness.warmstart.demonstrations import Demonstration, Tape, hint_turn
from stepcredit.harness.warmstart.embeddings import word_embeddings
from stepcredit.harness.warmstart.measure import Measurement, measure
from stepcredit.harness.warmstart.reading import Actions, Lesson, ReadingSpec, Tutor
from stepcredit.methods.contract import Step

_SAMPLED = 4000
_READ_WORLDS = 10_001


@dataclass(frozen=True, slots=True)
class SearchDemonstrationSpec:
    """What the demonstrator does.

    Attributes:
        habits: how it errs, with a hint as without one.
        wrong: probability of a malformed or misdirected turn, shown but not imitated.
        hinted: share of episodes with a hindsight block.
        observation_weight: loss weight of observation tokens; response tokens weigh 1.
        per_world: demonstrations in each world.
        drills: share of demonstrations that are reading drills: several searches, and all that each passage says.
        searches: searches of a drill.
    """

    habits: Habits = Habits(guess=0.2, careless=0.1)
    wrong: float = 0.05
    hinted: float = 0.35
    observation_weight: float = 0.3
    per_world: int = 350
    drills: float = 0.5
    searches: int = 3


class SearchDemonstrator:
    """Plays questions and writes them down as the policy would see them."""

    def __init__(self, spec: SearchDemonstrationSpec, transcript: Transcript) -> None:
        self._spec, self._transcript = spec, transcript
        self._guesses = values_by_slot()

    def stream(self, rng: random.Random) -> Iterator[Demonstration]:
        """Endless demonstrations, in one world after the other, so that reading pays and remembering does not.

        None of them is the benchmark's.
        """
        for number in count(1):
            with TemporaryDirectory() as folder:
                retriever = Bm25Retriever(synthetic_corpus(number), cache=Path(folder))
                facts = facts_of(Subjects(make_world(number), "train"))
                for draft in islice(endless_drafts(number, rng), self._spec.per_world):
                    if rng.random() < self._spec.drills:
                        yield self.drill(rng.sample(facts, self._spec.searches), retriever, rng)
                    else:
                        yield self.episode(draft, retriever, rng)

    def episode(self, draft: Draft, retriever: Retriever, rng: random.Random) -> Demonstration:
        """One episode."""
        spec, tape = self._spec, Tape()
        env = SearchQaEnv(question_of(draft), retriever, Rules())
        solver = Solver(draft, spec.habits, self._guesses, rng)
        tape.write(self._transcript.first(env.reset().text), spec.observation_weight)
        hint = solution(draft) if rng.random() < spec.hinted else []
        hint_at = hint_turn(len(hint), rng)
        for number in range(Rules().searches + 1):
            if number == hint_at:
                tape.show(self._transcript, "\n".join(hint))
                solver = solver.informed_by(hint, rng)
            turn, imitated = shown_turn(solver, spec.wrong, rng)
            result = env.step(turn.action)
            tape.write(self._transcript.response(response_of(turn)), float(imitated))
            if result.done:
                break
            tape.write(self._transcript.following(result.observation.text), spec.observation_weight)
            if imitated:
                solver.read(result.observation.text)
        return tape.demonstration()

    def drill(self, entities: Sequence[Sequence[Hop]], retriever: Retriever, rng: random.Random) -> Demonstration:
        """One search an entity, then each of its facts; only what stands in the passages is learned."""
        tape, transcript = Tape(), self._transcript
        tape.write(transcript.first(""), 0.0)
        for facts in entities:
            query = rng.choice(facts).query
            tape.write(transcript.response(f"<search> {query}</search>"), 0.0)
            hits = retriever.search([query], Rules().topk)[0]
            tape.write(transcript.following(information([hit.passage for hit in hits])), 0.0)
            for fact in rng.sample(facts, len(facts)):
                tape.write(transcript.response(f"<think> {fact.slot} is"), 0.0)
                tape.write(transcript.response(f" {fact.value}</think>"), 1.0)
        return tape.demonstration()


def shown_turn(solver: Solver, wrong: float, rng: random.Random) -> tuple[Turn, bool]:
    """What the solver does next, and whether it is to be imitated: a slip, of that probability, is not."""
    intended = solver.decide()
    return (_slip(intended, rng), False) if rng.random() < wrong else (intended, True)


def response_of(turn: Turn) -> str:
    """The text of a turn."""
    return f"<think>{turn.thought}</think>{turn.action}"


def _slip(intended: Turn, rng: random.Random) -> Turn:
    """What a young policy does: say nothing, or ask about somebody else."""
    if rng.random() < 0.5:
        return Turn(intended.thought, "<search></search>")
    return Turn(intended.thought, f"<search> {rng.choice(synthetic_corpus().passages).title}</search>")


class SearchTutor:
    """See `stepcredit.harness.warmstart.reading.Tutor`: the solver, with its habits."""

    def __init__(self, draft: Draft, habits: Habits, guesses: Mapping[str, Sequence[str]], rng: random.Random) -> None:
        self._rng, self._solver = rng, Solver(draft, habits, guesses, rng)

    def observe(self, step: Step) -> None:
        if step.valid:
            self._solver.read(step.observation)

    def answer(self, told: Actions) -> tuple[str, str]:
        turn = self._solver.informed_by(told, self._rng).decide()
        return f"<think>{turn.thought}</think>", turn.action

    def straight(self, told: Actions) -> str:
        return self._solver.informed_by(told, self._rng, faultless=True).decide().sent


def search_lessons(spec: SearchWarmstartSpec, demonstrator: SearchDemonstrator) -> Iterator[Lesson]:
    """Questions about one world after the other; none of them is the benchmark's."""
    guesses, rng = values_by_slot(), random.Random(f"reading:{spec.seed}")
    for number in count(_READ_WORLDS):
        habits = replace(spec.habits, hasty=number < _READ_WORLDS + spec.hasty_worlds)
        with TemporaryDirectory() as folder:
            retriever = Bm25Retriever(synthetic_corpus(number), cache=Path(folder))
        for place, draft in enumerate(islice(endless_drafts(number, rng), spec.demonstrations.per_world)):
            yield Lesson(
                Task(f"reading/{number}/{place}", "nq", "0" * 64),
                partial(SearchQaEnv, question_of(draft), retriever, Rules()),
                partial(SearchTutor, draft, habits, guesses),
                partial(_solved, draft),
                partial(demonstrator.episode, draft, retriever),
            )


def _solved(draft: Draft, _: random.Random) -> list[str]:
    return solution(draft)


@dataclass(frozen=True, slots=True)
class SearchWarmstartSpec:
    """Everything that determines the shipped weights.

    Attributes:
        demonstrations: of the first lesson, in which few guesses stand in the way of what is found out by searching.
        cloning: of that lesson.
        habits: how the policy is to err, so that training has something to teach: taken on in a lesson of its own, and
            had by the expert of the last one.
        erring: optimisation of that lesson.
        reading: the last lesson, see `stepcredit.harness.warmstart.reading`.
        hasty_worlds: of the last lesson, in which the expert answers at once where it is told the answer: a reader
            finds out what a block is good for. In those after, it searches all the same.
    """

    seed: int = 0
    layers: int = 3
    hidden: int = 128
    demonstrations: SearchDemonstrationSpec = SearchDemonstrationSpec()
    cloning: CloningSpec = CloningSpec(steps=6000)
    habits: Habits = Habits(guess=0.4, careless=0.1)
    erring: CloningSpec = CloningSpec(steps=1000, lr=1e-3, matrix_lr=1e-2)
    reading: ReadingSpec | None = ReadingSpec(shown=0)
    hasty_worlds: int = 14

    @property
    def clonings(self) -> tuple[CloningSpec, ...]:
        return self.cloning, self.erring


class SearchCourse:
    """See `stepcredit.harness.warmstart.build.Course`."""

    command = "stepcredit warmstart --benchmark searchqa --out FOLDER"

    def __init__(self, spec: SearchWarmstartSpec | None = None) -> None:
        self.spec = spec or SearchWarmstartSpec()

    @property
    def limits(self) -> RolloutSpec:
        return build_spec(model="tiny", benchmark="searchqa", suite=None, method="grpo", seed=0).rollout

    def held_out(self) -> tuple[Benchmark, Panel]:
        benchmark = SearchQaBenchmark("synthetic")
        return benchmark, benchmark.panel("test")

    def lessons(self, policy: Policy) -> Iterator[Lesson]:
        shown = replace(self.spec.demonstrations, hinted=1.0, observation_weight=0.0)
        return search_lessons(self.spec, SearchDemonstrator(shown, policy.transcript))

    def tutor(self, task_id: str) -> Tutor:
        return SearchTutor(drafts()[task_id], self.spec.habits, values_by_slot(), random.Random(f"tutor:{task_id}"))

    def fresh(self) -> Policy:
        spec, tokenizer = self.spec, phrase_tokenizer(phrases())
        policy = fresh_policy(
            "tiny", tokenizer, SearchQaBenchmark.turn_format, layers=spec.layers, hidden=spec.hidden, seed=spec.seed
        )
        scale = policy.model.config.initializer_range
        rows_VD = word_embeddings(token_bytes_table(tokenizer), spec.hidden, kinds(), scale=scale, seed=spec.seed)
        with torch.no_grad():
            policy.model.get_parameter("model.embed_tokens.weight").copy_(rows_VD)
        return policy

    def streams(self, policy: Policy) -> list[Iterator[Demonstration]]:
        spec, name = self.spec, f"warmstart:{self.spec.seed}"
        first = SearchDemonstrator(spec.demonstrations, policy.transcript)
        erring = SearchDemonstrator(replace(spec.demonstrations, habits=spec.habits, hinted=0.0), policy.transcript)
        return [first.stream(random.Random(name)), erring.stream(random.Random(f"{name}:habits"))]

    def data(self) -> Mapping[str, object]:
        return {"generator_version": VERSION, **SearchQaBenchmark("synthetic").provenance()}

    def measure(self, policy: Policy) -> list[Measurement]:
        benchmark, panel = self.held_out()
        hints = {task: "\n".join(actions) for task, actions in solutions().items()}
        return measure(policy, benchmark, panel, self.limits, hints)


def values_by_slot() -> dict[str, Sequence[str]]:
    """What solvers guess from."""
    values: defaultdict[str, set[str]] = defaultdict(set)
    for draft in islice(endless_drafts(0, random.Random("searchqa guesses")), _SAMPLED):
        for hop in draft.hops:
            values[hop.slot].add(hop.value)
    return {slot: sorted(found) for slot, found in values.items()}


def question_of(draft: Draft) -> Question:
    """As the environment takes it."""
    return Question("demonstration", Dataset.NQ, "warmstart", draft.text, draft.answers)
