"""Whether a run goes on, by its spec's rule on collapse and divergence."""

from __future__ import annotations

from stepcredit.harness.record.checkpoint import RunState
from stepcredit.harness.record.manifest import Stopped
from stepcredit.harness.record.vitals import vitals_of
from stepcredit.harness.spec import StopSpec
from stepcredit.harness.words import counted
from stepcredit.paper.health import SENTENCES, ongoing


def stop_before(rule: StopSpec, state: RunState) -> Stopped | None:
    """Why the next update is not made; None where it is. The same rows give the same answer."""
    if rule.after is None:
        return None
    spell = ongoing(vitals_of(state.updates, state.episodes), rule.conditions, rule.after)
    if spell is None:
        return None
    reason = f"{SENTENCES[spell.condition]}, for {counted(spell.updates, 'update')}"
    return Stopped(update=state.update, condition=spell.condition, reason=reason)
