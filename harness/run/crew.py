"""Processes that share a run's updates: this one does everything else, and tells its helpers what all do next.

Starting, meeting, scattering and adding are torch.multiprocessing's and torch.distributed's; the division is FSDP2's.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from multiprocessing import connection, parent_process
from typing import Any, Self

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import TCPStore  # torch.distributed has it, but does not say so to type checkers
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.multiprocessing.spawn import start_processes
from transformers import PreTrainedModel
from transformers.utils.logging import disable_progress_bar

from stepcredit.envs import load_benchmark
from stepcredit.harness import determinism
from stepcredit.harness.engine.rescore import Drawn
from stepcredit.harness.engine.sequences import micro_batches
from stepcredit.harness.errors import UserError
from stepcredit.harness.model.frozen import Frozen
from stepcredit.harness.model.policy import load_policy
from stepcredit.harness.run.loss import Item, logprobs
from stepcredit.harness.run.optimizer import with_adapters
from stepcredit.harness.run.sharded import Pass, Share, shapes
from stepcredit.harness.run.trainer import Sums
from stepcredit.harness.spec import RunSpec

Work = Callable[[Share], Any]

PATIENCE = timedelta(days=30)
"""Processes wait so long for each other: helpers have nothing to do while episodes are drawn."""
_HOST = "127.0.0.1"
_LOOK_S = 0.2
_LAST_WORDS_S = 10.0
_ALONE = 3


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a process stands."""

    rank: int
    processes: int
    threads: int
    device: str
    port: int = 0

    def store(self) -> TCPStore:
        """Where all meet; the first process has it, at a free port."""
        return TCPStore(_HOST, self.port, self.processes, self.rank == 0, timeout=PATIENCE, wait_for_workers=False)

    def join(self, store: TCPStore) -> DeviceMesh:
        """Meet the others."""
        backend = "cpu:gloo,cuda:nccl" if self.device == "cuda" else "gloo"
        dist.init_process_group(backend, store=store, rank=self.rank, world_size=self.processes, timeout=PATIENCE)
        return init_device_mesh(self.device, (self.processes,))


class Crew:
    """This process and its helpers, which end with it; leaving the block ends them."""

    def __init__(self, spec: RunSpec, processes: int, threads: int, device: str) -> None:
        self._spec, self._place = spec, _Place(0, processes, threads, device)

    def __enter__(self) -> Self:
        """Start the helpers, and wait until all have loaded their model.

        Raises:
            UserError: one was killed meanwhile.
        """
        store = self._place.store()
        place, spec = replace(self._place, port=store.port), self._spec.model_dump(mode="json")
        self._helpers = start_processes(
            _help, (place, spec), self.processes - 1, join=False, daemon=True, start_method="spawn"
        )
        try:
            while not store.check([_ready(rank) for rank in range(1, self.processes)]):
                self._require_alive(_LOOK_S)
            with self._explained():
                self._mesh = place.join(store)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *details: object) -> None:
        self._end()
        dist.destroy_process_group()

    @property
    def processes(self) -> int:
        """How many there are, this one among them."""
        return self._place.processes

    def trainer(self, model: PreTrainedModel, reference: Frozen | None, drawn: Drawn) -> SpreadTrainer:
        """Divide a copy of the policy's model, adapters and all; the policy itself follows each step."""
        live = [weight for weight in model.parameters() if weight.requires_grad]
        self._share = Share(deepcopy(model), self._spec, self._mesh, live)
        return SpreadTrainer(self, reference, self._spec, drawn)

    def do(self, own: Work, *others: Work) -> Any:
        """All do their work at the same time; what this process' own comes to.

        Raises:
            UserError: of the work; or a helper was killed.
        """
        with self._explained():
            dist.scatter_object_list([None], [own, *others], src=0)
            return own(self._share)

    def _end(self) -> None:
        for helper in self._helpers.processes:
            helper.terminate()
            helper.join()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """What a helper's end looks like from here."""
        try:
            yield
        except RuntimeError:
            self._require_alive(_LAST_WORDS_S)
            raise

    def _require_alive(self, patience_s: float) -> None:
        """Wait so long for a helper's end.

        Raises:
            UserError: one was killed; where others failed for want of it, this is why.
            ProcessRaisedException: one failed, and how.
        """
        helpers = self._helpers.processes
        ended = connection.wait([helper.sentinel for helper in helpers], patience_s)
        for rank, helper in enumerate(helpers, start=1):
            if helper.sentinel in ended:
                helper.join()  # its sentinel is a moment earlier than its exit code
                if helper.exitcode < 0:
                    raise UserError(
                        f"process {rank + 1} of the {self.processes} that share the updates was killed by "
                        f"{signal.Signals(-helper.exitcode).name} (out of memory, perhaps); run the same command again "
                        "to resume"
                    )
        self._helpers.join(timeout=0.0)


@dataclass(slots=True)
class SpreadTrainer:
    """Implements `stepcredit.harness.run.trainer.Trainer`: the micro-batches of a step are dealt out in turn.

    What the KL term compares with is found here, before the items are given away.
    """

    crew: Crew
    reference: Frozen | None
    spec: RunSpec
    drawn: Drawn
    lr: float = 0.0

    def set_rate(self, lr: float) -> None:
        """See `Trainer`."""
        self.lr = lr

    def step(self, items: Sequence[Item], total: int) -> tuple[Sums, float]:
        """See `Trainer`."""
        tokens, processes = sum(item.tokens for item in items), self.crew.processes
        batches = list(self._batches(items))
        moved: tuple[Sums, float] = self.crew.do(
            *(
                partial(Share.step, passes=passes, lr=self.lr, tokens=tokens, total=total, drawn=self.drawn)
                for passes in _dealt(batches, processes)
            )
        )
        return moved

    def optimizer_state(self) -> dict[str, Any]:
        """See `Trainer`."""
        state: dict[str, Any] = self.crew.do(*[Share.optimizer_state] * self.crew.processes)
        return state

    def load(self, optimizer: Mapping[str, Any] | None) -> None:
        """See `Trainer`."""
        others = partial(Share.load, optimizer=shapes(optimizer))
        self.crew.do(partial(Share.load, optimizer=optimizer), *[others] * (self.crew.processes - 1))

    def _batches(self, items: Sequence[Item]) -> Iterator[list[Item]]:
        for batch in micro_batches([len(item.sequence.ids) for item in items], self.spec.optim.token_budget):
            own = [_in_host_memory(items[index]) for index in batch]
            yield own if self.spec.objective.kl == 0.0 else self._compared(own)

    def _compared(self, items: Sequence[Item]) -> list[Item]:
        assert self.reference is not None, "a positive objective.kl needs the reference policy"
        with self.reference.active() as earlier:
            reference_K = logprobs(earlier, [item.sequence for item in items], self.spec).cpu()
        parts = reference_K.split([item.tokens for item in items])
        return [replace(item, reference_T=own_T) for item, own_T in zip(items, parts, strict=True)]


def _in_host_memory(item: Item) -> Item:
    """To be given to a process with a GPU of its own."""
    return item if item.before_T is None else replace(item, before_T=item.before_T.cpu())


def _dealt(batches: Sequence[Sequence[Item]], processes: int) -> list[list[Pass]]:
    """What each process passes: the same number of micro-batches, as all meet in every layer of a pass.

    The shortest is passed again where one is lacking.
    """
    rounds = -(-len(batches) // processes)
    lacking = [Pass(batches[-1], counts=False)] * (rounds * processes - len(batches))
    passes = [*(Pass(batch, counts=True) for batch in batches), *lacking]
    return [passes[rank::processes] for rank in range(processes)]


def _help(place: int, first: _Place, spec: dict[str, Any]) -> None:
    """A helper's life."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    own, chosen = replace(first, rank=place + 1), RunSpec.model_validate(spec)
    if own.device == "cuda":
        torch.cuda.set_device(own.rank)
    determinism.switch_on(own.threads, own.device)
    disable_progress_bar()
    benchmark = load_benchmark(chosen.benchmark, chosen.suite, chosen.env_options)
    policy = load_policy(chosen.model, benchmark, own.device, thinking=chosen.rollout.thinking)
    store = own.store()
    store.set(_ready(own.rank), "")
    mesh = own.join(store)
    share = Share(with_adapters(policy.model, chosen), chosen, mesh)
    try:
        while True:
            _next_work()(share)
    except UserError:
        return  # the first process says it


def _next_work() -> Work:
    given: list[Any] = [None]
    dist.scatter_object_list(given, src=0)
    work: Work = given[0]
    return work


def _ready(rank: int) -> str:
    return f"ready {rank}"


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(_ALONE)
