"""The diagnostic benchmark's warm start: an expert that knows the task and often does not care."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import count

from stepcredit.envs import family_of, load_benchmark
from stepcredit.envs.contract import Benchmark
from stepcredit.envs.diagnostic.benchmark import SOONER, VERSION, DiagnosticBenchmark, DiagnosticEnv
from stepcredit.envs.diagnostic.process import Process, State, best_actions, best_values
from stepcredit.envs.diagnostic.puzzles import THINGS, Puzzle, drawn
from stepcredit.envs.panel import Panel, Task
from stepcredit.harness.model.policy import Policy, fresh_policy
from stepcredit.harness.model.tokenizer import phrase_tokenizer
from stepcredit.harness.model.transcript import Transcript
from stepcredit.harness.spec import RolloutSpec
from stepcredit.harness.warmstart.cloning import CloningSpec
from stepcredit.harness.warmstart.demonstrations import Demonstration, Tape, hint_turn
from stepcredit.harness.warmstart.measure import Measurement, measure
from stepcredit.harness.warmstart.reading import Actions, Block, Lesson, Place, ReadingSpec, Tutor
from stepcredit.methods.contract import Step

_LIMITS = RolloutSpec(max_turns=10, max_context_tokens=1024)
_WORD = re.compile(r" ?[A-Za-z]+|\d|[.,:;]")
_SAMPLED, _TRIES = 60, 500
_HABITS: Mapping[Puzzle, float] = {
    Puzzle.CRITICAL_STEP: 0.3,
    Puzzle.DELAYED_KEY: 0.4,
    Puzzle.CHAIN_OF_NEEDS: 0.2,
    Puzzle.BANDIT_TREE: 0.2,
    Puzzle.NULL_CAUSAL: 0.0,
}


"""How often the expert does what is best."""

_READING = ReadingSpec(
    blocks=((Block.PEER, 0.5), (Block.FOREIGN, 0.3), (Block.OUTCOME, 0.2)),
    places=((Place.RESPONSE, 0.45), (Place.TAG, 0.4), (Place.ACTION, 0.15)),
    opening=0.5,
    cloning=CloningSpec(steps=800, warmup=30),
)


@dataclass(frozen=True, slots=True)
class PuzzleWarmstartSpec:
    """Everything that determines the shipped weights.

    Attributes:
        wrong: probability of an action that is not admitted, shown but not imitated.
        trust: how often the expert does what a block says was done at that turn.
        hinted: share of demonstrations with another's episode shown at one turn.
        observation_weight: loss weight of observation tokens.
    """

    seed: int = 0
    layers: int = 3
    hidden: int = 128
    wrong: float = 0.03
    trust: float = 0.85
    hinted: float = 0.35
    observation_weight: float = 0.1
    cloning: CloningSpec = CloningSpec(steps=1500, batch=24)
    reading: ReadingSpec | None = _READING

    @property
    def clonings(self) -> tuple[CloningSpec, ...]:
        return (self.cloning,)


class PuzzleExpert:
    """Takes the best action now and then, as often as is its habit with the puzzle, and any other time any action."""

    def __init__(self, process: Process, puzzle: Puzzle, rng: random.Random) -> None:
        self._process, self._skill, self._rng = process, _HABITS[puzzle], rng
        self._best = best_values(process, SOONER)

    def decide(self, state: State) -> str:
        """What it does there."""
        if self._rng.random() < self._skill:
            return self.best(state)
        return self._rng.choice(self._process.actions(state))

    def best(self, state: State) -> str:
        """What is best there, one of several that are."""
        return self._rng.choice(best_actions(self._process, state, self._best))


class PuzzleTutor:
    """See `stepcredit.harness.warmstart.reading.Tutor`."""

    def __init__(self, process: Process, puzzle: Puzzle, trust: float, rng: random.Random) -> None:
        self._expert, self._trust, self._rng = PuzzleExpert(process, puzzle, rng), trust, rng
        self._process, self._env = process, DiagnosticEnv(process)

    def observe(self, step: Step) -> None:
        self._env.chance(step.seed)
        self._env.step(step.action_text)

    def answer(self, told: Actions) -> tuple[str, str]:
        return _said(self.action(self._env.state, told))

    def straight(self, told: Actions) -> str:
        return self._told(self._env.state, told) or self._expert.best(self._env.state)

    def action(self, state: State, told: Actions) -> str:
        """What it does in a state; mostly what it is told was done there, where that can be done."""
        copied = self._told(state, told) if self._rng.random() < self._trust else None
        return copied or self._expert.decide(state)

    def _told(self, state: State, told: Actions) -> str | None:
        number = state[0]
        return told[number] if number < len(told) and told[number] in self._process.actions(state) else None


@dataclass(frozen=True, slots=True)
class _Drawn:
    """A task that no panel holds."""

    puzzle: Puzzle
    name: str

    @property
    def process(self) -> Process:
        return drawn(self.puzzle, self.name)

    def make(self) -> DiagnosticEnv:
        return DiagnosticEnv(self.process)

    def tutor(self, trust: float, rng: random.Random) -> PuzzleTutor:
        return PuzzleTutor(self.process, self.puzzle, trust, rng)

    def solve(self, rng: random.Random) -> Actions:
        """An expert's actions that succeeded."""
        played = (self._played(rng) for _ in range(_TRIES))
        return next((actions for actions, won in played if won), [])

    def show(
        self, spec: PuzzleWarmstartSpec, transcript: Transcript, hinted: float, rng: random.Random
    ) -> Demonstration:
        """An expert's episode, with slips, and of that share with another's actions shown at some turn."""
        env, tutor, tape = self.make(), self.tutor(spec.trust, rng), Tape()
        told = self.solve(rng) if rng.random() < hinted else []
        tape.write(transcript.first(env.reset().text), spec.observation_weight)
        hint_at = hint_turn(len(told), rng)
        for turn in range(_LIMITS.max_turns):
            if turn == hint_at:
                tape.show(transcript, "\n".join(told))
            env.chance(rng.getrandbits(60))
            slips, read = rng.random() < spec.wrong, hint_at is not None and turn >= hint_at
            action = f"open {rng.choice(THINGS)}" if slips else tutor.action(env.state, told if read else ())
            tape.write(transcript.response("".join(_said(action))), float(not slips))
            result = env.step(action)
            tape.write(transcript.following(result.observation.text), spec.observation_weight)
            if result.done:
                break
        return tape.demonstration()

    def _played(self, rng: random.Random) -> tuple[list[str], bool]:
        env, expert, actions = self.make(), PuzzleExpert(self.process, self.puzzle, rng), list[str]()
        env.reset()
        while True:
            env.chance(rng.getrandbits(60))
            actions.append(expert.decide(env.state))
            result = env.step(actions[-1])
            if result.done:
                return actions, result.success


class PuzzleCourse:
    """See `stepcredit.harness.warmstart.build.Course`."""

    command = "stepcredit warmstart --benchmark diagnostic --out FOLDER"
    limits = _LIMITS

    def __init__(self, spec: PuzzleWarmstartSpec | None = None) -> None:
        self.spec = spec or PuzzleWarmstartSpec()

    def held_out(self) -> tuple[Benchmark, Panel]:
        return _held_out(Puzzle.CRITICAL_STEP)

    def lessons(self, policy: Policy) -> Iterator[Lesson]:
        for task in self._tasks("reading"):
            yield Lesson(
                Task(f"{task.puzzle}/{task.name}", task.puzzle, "0" * 64),
                task.make,
                partial(task.tutor, self.spec.trust),
                task.solve,
                partial(task.show, self.spec, policy.transcript, 1.0),
            )

    def tutor(self, task_id: str) -> Tutor:
        return _Drawn(Puzzle.CRITICAL_STEP, task_id).tutor(self.spec.trust, random.Random(f"tutor:{task_id}"))

    def fresh(self) -> Policy:
        spec = self.spec
        return fresh_policy(
            "tiny",
            phrase_tokenizer(phrases()),
            DiagnosticBenchmark.turn_format,
            layers=spec.layers,
            hidden=spec.hidden,
            seed=spec.seed,
        )

    def streams(self, policy: Policy) -> list[Iterator[Demonstration]]:
        rng = random.Random(f"warmstart:{self.spec.seed}")
        spec, transcript = self.spec, policy.transcript
        return [(task.show(spec, transcript, spec.hinted, rng) for task in self._tasks("cloning"))]

    def data(self) -> Mapping[str, object]:
        return {"generator_version": VERSION}

    def measure(self, policy: Policy) -> list[Measurement]:
        """Held-out tasks of every puzzle."""
        return [found for puzzle in Puzzle for found in self._measured(policy, puzzle)]

    def _measured(self, policy: Policy, puzzle: Puzzle) -> list[Measurement]:
        benchmark, panel = _held_out(puzzle)
        solved = {task.id: _Drawn(puzzle, task.id).solve(random.Random(f"hint:{task.id}")) for task in panel.tasks}
        return measure(policy, benchmark, panel, self.limits, {task: "\n".join(told) for task, told in solved.items()})

    def _tasks(self, lesson: str) -> Iterator[_Drawn]:
        """The puzzles in turn."""
        return (_Drawn(puzzle, f"{lesson}-{self.spec.seed}-{n}") for n in count() for puzzle in Puzzle)


def phrases() -> list[str]:
    """Every word of the tasks' texts, as it stands there."""
    texts = (text for puzzle in Puzzle for n in range(_SAMPLED) for text in _texts(drawn(puzzle, f"phrases-{n}")))
    return sorted({word for text in texts for word in _WORD.findall(text)})


def _texts(process: Process) -> Iterator[str]:
    yield f" Your task is to: {process.task}"
    for state in best_values(process):
        yield process.text(state)
        yield from process.actions(state)


def _said(action: str) -> tuple[str, str]:
    """A response, in two halves."""
    return "<think></think>", f"<action>{action}</action>"


def _held_out(puzzle: Puzzle) -> tuple[Benchmark, Panel]:
    benchmark = load_benchmark("diagnostic", puzzle)
    return benchmark, benchmark.panel(family_of("diagnostic").held_out)
