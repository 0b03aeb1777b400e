"""Train, kill, break, evaluate, report, verify in any order: what was finished stays, and a quiet run's end is reached.

With STEPCREDIT_KILLS (`make kills`) there is a walk of twelve steps for each ten kills, without it two short ones.
"""

import errno
import os
from collections.abc import Mapping
from pathlib import Path

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from stepcredit.harness.record import checkpoint, files
from stepcredit.harness.record.cell import EPISODES
from stepcredit.harness.record.rows import EpisodeRow, read_rows
from tests.harness.cells import bits, reached
from tests.harness.commands import Moment, Part, Victim, command
from tests.harness.faults import Call, Fault, run_with
from tests.harness.run.test_kills import KILLS, TRAIN, cells, undisturbed

LONG = "STEPCREDIT_KILLS" in os.environ
WALKS, STEPS = (max(1, KILLS // 10), 12) if LONG else (2, 3)
ONE_SEED = (*TRAIN, "--seed", "0")

early_shares = st.floats(0.0, 0.3)  # a run that goes on has fewer lines left
early = st.integers(1, 20_000) | st.integers(1, 300)


class Walk(RuleBasedStateMachine):
    """One study of one run, in a folder of its own.

    Args:
        root: where folders are made.
        expected: what the run is like when nothing disturbs it.
        counts: lines that its worker comes to.
        longest: the longest walk so far, to be added to.
    """

    def __init__(self, root: Path, expected: "Quiet", longest: list[str]) -> None:
        super().__init__()
        self.folder = root / f"walk-{len(list(root.iterdir()))}"
        self.folder.mkdir()
        (self.cell,) = cells(self.folder, Victim.WORKER)
        self.expected, self.longest, self.steps = expected, longest, list[str]()
        self.safe, self.kept = -1, dict[Path, str]()

    def run(self, *words: str, line: int | None = None, moment: Moment | None = None) -> None:
        """A command that is killed, or ends well; a worker's death is a sentence."""
        ended = command(self.folder, *words, line=line, moment=moment)
        killed = moment is not None or line is not None
        assert ended.code in ((0, 2, -9) if killed else (0,)), ended
        assert ended.code != 2 or "was killed by SIGKILL" in ended.said, ended
        self.steps.append(f"{words[0]}{' killed' if ended.code else ''}")

    @initialize()
    def begin(self) -> None:
        self.kill(Part.ROLLOUT, 0.9, Victim.WORKER)

    @precondition(lambda self: self.steps[-1:] != ["train"])
    @rule()
    def train(self) -> None:
        self.run(*ONE_SEED)

    @precondition(lambda self: not self.cell.ended())
    @rule(part=st.sampled_from(Part), share=early_shares, victim=st.sampled_from(Victim))
    def kill(self, part: Part, share: float, victim: Victim) -> None:
        nth = 1 + int(share * (self.expected.counts[part] - 1))
        self.run(*ONE_SEED, moment=Moment(part, nth, victim))

    @precondition(lambda self: not self.cell.ended())
    @rule(call=st.sampled_from(Call), nth=st.integers(1, 12))
    def break_down(self, call: Call, nth: int) -> None:
        broken = run_with(self.cell.study, Fault(call, nth, errno.EIO), self.cell.spec)
        assert broken.ended or "\n" not in broken.said, broken
        self.steps.append("fault")

    @precondition(lambda self: self.cell.ended())
    @rule(line=st.none() | early)
    def evaluate(self, line: int | None) -> None:
        self.run("evaluate", str(self.cell.folder), "--size", "4", line=line)

    @precondition(lambda self: LONG and self.cell.ended())
    @rule(line=st.none() | early)
    def paper(self, line: int | None) -> None:
        self.run("paper", "study", line=line)

    @precondition(lambda self: LONG and self.cell.ended())
    @rule(line=st.none() | early)
    def verify(self, line: int | None) -> None:
        self.run("verify", str(self.cell.folder), line=line)

    @invariant()
    def what_was_finished_stays(self) -> None:
        now = reached(self.cell)
        assert now >= self.safe, f"update {self.safe} was reached, and now it is {now}"
        self.safe = now
        for path in checkpoint.available(self.cell.folder):
            made = checkpoint.load(path, self.cell.spec.sha256)[0].episodes
            assert made == self.expected.episodes[: len(made)]
        if self.cell.ended():
            assert bits(self.cell) == self.expected.bits
        written = {path: files.sha256_of(path) for path in self.results()}
        assert self.kept.items() <= written.items()
        self.kept = written

    def results(self) -> list[Path]:
        """Files that are never written again."""
        runs = self.cell.folder.glob("*.parquet") if self.cell.ended() else ()
        return [*runs, *self.cell.folder.glob("evals/*.json")]

    def teardown(self) -> None:
        self.longest[:] = max(self.longest, self.steps, key=lambda steps: (len(steps), len(set(steps))))
        self.run(*ONE_SEED)
        assert bits(self.cell) == self.expected.bits
        self.run("evaluate", str(self.cell.folder), "--size", "4")
        (rows,) = (read_rows(path, EpisodeRow) for path in self.cell.folder.glob("evals/*.parquet"))
        assert rows == [row for row in self.expected.episodes if (row.phase, row.update) == ("eval", 2)]
        if LONG:
            self.same_paper_twice()
        assert not list(self.cell.folder.rglob("*.tmp"))

    def same_paper_twice(self) -> None:
        """After all that was killed, and made in one go somewhere else."""
        for words in (("paper", "study"), ("paper", "study", "--out", "other")):
            self.run(*words)
        assert contents(self.folder / "study" / "paper") == contents(self.folder / "other")


class Quiet:
    """The run that nothing disturbs."""

    def __init__(self, folder: Path) -> None:
        by_name, self.counts = undisturbed(folder)
        (cell,) = cells(folder, Victim.WORKER)
        self.bits = by_name[cell.name]
        self.episodes = read_rows(cell.folder / EPISODES, EpisodeRow)


def contents(folder: Path) -> Mapping[str, str]:
    return {str(path.relative_to(folder)): files.sha256_of(path) for path in folder.rglob("*") if path.is_file()}


def test_what_was_finished_stays_whatever_happens_next(tmp_path: Path) -> None:
    (tmp_path / "quiet").mkdir()
    quiet, longest = Quiet(tmp_path / "quiet"), list[str]()
    (tmp_path / "walks").mkdir()
    run_state_machine_as_test(
        lambda: Walk(tmp_path / "walks", quiet, longest),
        settings=settings(
            max_examples=WALKS,
            stateful_step_count=STEPS,
            deadline=None,
            derandomize=True,
            database=None,
            phases=(Phase.generate,),
            suppress_health_check=list(HealthCheck),
        ),
    )
    walks = len(list((tmp_path / "walks").iterdir()))
    print(f"\n{walks} walks, the longest of {len(longest)} steps: {', '.join(longest)}")
