"""Published recipes: numbers as in their sources, specs that run, and how two of them differ."""

import json
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from stepcredit.harness.cli.recipe import diff, show
from stepcredit.harness.cli.study import Choice
from stepcredit.harness.errors import UserError
from stepcredit.harness.recipes import RECIPES, recipe_named
from stepcredit.harness.recipes.places import OURS, PLACES, places_of
from stepcredit.harness.record import manifest
from stepcredit.harness.setup.comparison import Difference, described, deviation_differences, differences
from stepcredit.harness.setup.parts import assemble
from stepcredit.harness.setup.published import published_spec
from stepcredit.harness.setup.settings import build_spec
from stepcredit.harness.spec import Penalised, Reference, RunSpec
from stepcredit.methods.contract import MethodError
from stepcredit.methods.registry import build

ROOT = Path(__file__).resolve().parents[3]
REFERENCES = sorted(path.parent for path in ROOT.glob("results/reference*/*/manifest.json"))
NAMES = list(RECIPES)


def value_of(spec: Any, path: str) -> Any:
    for name in path.split("."):
        spec = spec[name] if isinstance(spec, dict) else getattr(spec, name)
    return spec


@pytest.mark.parametrize("name", NAMES)
def test_every_field_arrives_in_a_valid_spec(name: str) -> None:
    recipe = recipe_named(name)
    spec = published_spec(recipe, seed=3)
    assert spec.seed == 3
    assert {path: value_of(spec, path) for path in recipe.fields} == {p: f.value for p, f in recipe.fields.items()}
    assert type(spec).model_validate_json(spec.canonical_json()) == spec


@pytest.mark.parametrize("name", NAMES)
def test_every_field_and_deviation_says_where_it_was_read(name: str) -> None:
    recipe = recipe_named(name)
    for item in (*recipe.fields.values(), *recipe.deviations.values()):
        assert item.source == OURS or any(place in item.source for place in PLACES)
    for deviation in recipe.deviations.values():
        assert deviation.published
        assert deviation.here
        assert deviation.published != deviation.here


@pytest.mark.parametrize("name", NAMES)
def test_what_is_shown_is_the_whole_run(name: str) -> None:
    fields = described(name).fields
    assert all(item.source for item in fields.values())
    dumped = json.loads(published_spec(recipe_named(name)).canonical_json())
    assert {"rollout.tasks", "method", "evaluation.size", "optim.token_budget"} <= fields.keys()
    assert {f"rollout.{field}" for field in dumped["rollout"]} <= fields.keys()
    assert {f"method_options.{option}" for option in dumped["method_options"]} <= fields.keys()
    assert not {"seed", "checkpoint_every"} & fields.keys()


# Typed by hand from the sources: GiGPO's appendix E.1, SDAR's run_*_3b.sh, StepOPSD's paper and train_grpo_4.sh.
GOLDEN: dict[str, dict[str, Any]] = {
    "gigpo-alfworld": {
        "method_options.omega": 1.0,
        "method_options.gamma": 0.95,
        "rollout.group": 8,
        "rollout.tasks": 16,
        "optim.lr": 1e-6,
        "objective.kl": 0.01,
        "objective.invalid_penalty": 0.1,
        "updates": 150,
        "rollout.max_turns": 50,
        "rollout.window": 2,
        "rollout.show_actions": True,
        "rollout.max_response_tokens": 512,
        "rollout.max_context_tokens": 2048 + 512,
        "rollout.temperature": 1.0,
        "evaluation.temperature": 0.4,
    },
    "gigpo-searchqa": {
        "rollout.group": 5,
        "rollout.max_turns": 4,
        "objective.kl": 0.001,
        "objective.invalid_penalty": 0.01,
        "updates": 200,
        "evaluation.temperature": 0.0,
    },
    "sdar-alfworld": {
        "method_options.beta": 5.0,
        "method_options.lambda_distill": 0.01,
        "rollout.tasks": 16,
        "rollout.group": 8,
        "objective.kl": 0.01,
    },
    "sdar-searchqa": {"method_options.lambda_distill": 0.01, "rollout.tasks": 128, "rollout.group": 8, "updates": 150},
    "stepopsd-alfworld": {
        "rollout.tasks": 16,
        "rollout.group": 8,
        "rollout.max_response_tokens": 512,
        "method_options.alpha_clip": 0.2,
        "method_options.lambda_mix": 0.2,
        "method_options.decay_updates": 50,
        "method_options.refresh": 10,
        "method_options.target": "action_only",
    },
    "stepopsd-searchqa": {
        "rollout.tasks": 128,
        "rollout.group": 5,
        "rollout.max_response_tokens": 1024,
        "rollout.max_observation_tokens": 512,
        "optim.lr": 1e-6,
        "objective.kl": 0.001,
        "method_options.target": "clean_step_no_observation",
        "method_options.taught": "losers",
        "method_options.block": "target",
        "objective.reference": "teacher",
        "env_options.topk": 3,
    },
    "stepopsd-searchqa-script": {
        "rollout.tasks": 64,
        "method_options.hindsight": "outcome",
        "method_options.weight": "sigmoid",
        "objective.reference": "teacher",
    },
    "sdar-opsd-alfworld": {
        "method_options.base": "none",
        "method_options.beta": 5.0,
        "method_options.lambda_distill": 0.01,
        "objective.kl": 0.01,
    },
    "opsd": {
        "method_options.teacher": "initial",
        "method_options.divergence": "jsd",
        "method_options.beta": 0.5,
        "optim.rank": 64,
        "optim.lr": 2e-4,
    },
    "rlsd": {
        "method_options.teacher": "stale",
        "method_options.refresh": 20,
        "method_options.decay_updates": 60,
        "objective.clip_high": 0.28,
    },
    "rlsd-frozen": {"method_options.teacher": "initial", "method_options.decay_updates": None},
    "rlcsd": {"method_options.tau": 0.02, "method_options.beta": 1.0, "method_options.largest": 2.0},
    "agentopsd-alfworld": {
        "method_options.gamma": 1.0,
        "method_options.least_prior": 1e-4,
        "method_options.belief_eps": 1e-6,
        "method_options.rows": True,
        "objective.reward_scale": 10.0,
    },
    "vineppo": {"method_options.continuations": 9, "method_options.whiten": True},
}


@pytest.mark.parametrize("name", NAMES)
def test_numbers_of_the_sources(name: str) -> None:
    spec = published_spec(recipe_named(name))
    assert {path: value_of(spec, path) for path in GOLDEN[name]} == GOLDEN[name]


def test_a_recipe_does_not_differ_from_itself() -> None:
    for name in NAMES:
        assert differences(described(name), described(name)) == []
        assert deviation_differences(described(name), described(name)) == []


def turned(found: list[Difference]) -> dict[str, Difference]:
    return {item.field: Difference(item.field, item.b, item.a) for item in found}


@pytest.mark.parametrize(("first", "second"), list(combinations(NAMES, 2)))
def test_differences_turn_round(first: str, second: str) -> None:
    a, b = described(first), described(second)
    for compare in (differences, deviation_differences):
        there, back = compare(a, b), compare(b, a)
        assert turned(there) == {item.field: item for item in back}
        assert all(item.a.value != item.b.value for item in there)
    assert {item.field for item in differences(a, b)}


def test_a_difference_carries_both_sources() -> None:
    found = {item.field: item for item in differences(described("stepopsd-alfworld"), described("stepopsd-searchqa"))}
    group = found["rollout.group"]
    assert (group.a.value, group.b.value) == (8, 5)
    assert (group.a.source, group.b.source) == ("StepOPSD's paper", "StepOPSD's train_grpo_4.sh")
    assert "optim.lr" not in found  # 1e-6 in both


def test_runs_and_presets_can_be_compared() -> None:
    run = described(str(ROOT / "results/reference/alfworld-mini-tiny-grpo-s0"))
    assert differences(run, described("tiny@alfworld")) == []
    found = {item.field: item for item in differences(described("stepopsd-alfworld"), run)}
    assert (found["rollout.window"].a.value, found["rollout.window"].b.value) == (2, None)


def test_another_method_under_a_recipe_has_its_own_options() -> None:
    recipe = recipe_named("stepopsd-searchqa")
    own, other = published_spec(recipe), published_spec(recipe, method="grpo")
    assert (
        other.method_options
        == build_spec(model="tiny", benchmark="searchqa", suite=None, method="grpo", seed=0).method_options
    )
    followed = own.objective.model_copy(update={"reference": Reference.INITIAL})  # GRPO has no teacher to follow
    assert (own.objective.reference, other.objective) == (Reference.TEACHER, followed)
    apart = {"method", "method_options", "objective"}
    assert own.model_dump(exclude=apart) == other.model_dump(exclude=apart)


def test_models_that_chat_are_shown_whole_episodes_unless_something_else_is_said() -> None:
    def text(model: str, method: str, *overrides: str) -> object:
        spec = build_spec(model=model, benchmark="alfworld", suite="mini", method=method, seed=0, overrides=overrides)
        return spec.method_options.get("hindsight_text")

    for method in ("opd", "stepopsd", "rlcsd", "sdar"):
        assert text("tiny", method) == "actions"
        assert text("qwen2.5-3b", method) == "full"
        assert text("qwen2.5-3b", method, "method_options.hindsight_text=actions") == "actions"
    assert text("qwen2.5-3b", "opd", "method_options.hindsight=none", "method_options.teacher=stale") == "actions"


def test_a_reference_that_follows_a_teacher_needs_one() -> None:
    def chosen(*overrides: str, method: str = "grpo") -> RunSpec:
        return build_spec(model="tiny", benchmark="alfworld", suite=None, method=method, seed=0, overrides=overrides)

    follows = "objective.reference=teacher"
    with pytest.raises(UserError, match="'grpo' with these options keeps no snapshot"):
        assemble(chosen(follows, "objective.kl=0.1"), "cpu")
    with pytest.raises(UserError, match=r"no effect while objective\.kl is 0"):
        assemble(chosen(follows, "objective.kl=0", method="stepopsd"), "cpu")


def test_steps_that_pay_need_a_method_that_scores_them() -> None:
    def chosen(*overrides: str, method: str = "grpo") -> RunSpec:
        return build_spec(model="tiny", benchmark="alfworld", suite=None, method=method, seed=0, overrides=overrides)

    pays, costs = "objective.penalised=step", "objective.invalid_penalty=0.1"
    assemble(chosen(pays, costs, "method_options.rows=true"), "cpu")
    with pytest.raises(UserError, match="'grpo' with these options gives all steps one score"):
        assemble(chosen(pays, costs), "cpu")
    with pytest.raises(UserError, match="'stepopsd' with these options gives all steps one score"):
        assemble(chosen(pays, costs, method="stepopsd"), "cpu")
    with pytest.raises(UserError, match=r"no effect while objective\.invalid_penalty is 0"):
        assemble(chosen(pays, "method_options.rows=true"), "cpu")


@pytest.mark.parametrize("name", NAMES)
def test_steps_pay_where_the_method_scores_them(name: str) -> None:
    recipe = recipe_named(name)
    for method in (recipe.value("method"), "grpo", "opd", "gigpo"):
        spec = published_spec(recipe, method=method, seed=0)
        scored = build(spec.method, spec.method_options).scores_steps
        assert spec.objective.penalised is Penalised.EPISODE or scored
    kept = published_spec(recipe, seed=0).objective.penalised
    assert kept == recipe.settings.get("objective.penalised", Penalised.EPISODE), "its own method keeps what it says"


@pytest.mark.parametrize("benchmark", ["alfworld", "searchqa"])
@pytest.mark.parametrize("model", ["qwen2.5-3b", "qwen2.5-7b", "qwen3-1.7b"])
@pytest.mark.parametrize("method", ["stepopsd", "grpo"])
def test_the_presets_of_hub_models_are_stepopsds_recipes(model: str, benchmark: str, method: str) -> None:
    usual = build_spec(model=model, benchmark=benchmark, suite=None, method=method, seed=1)
    here = [f"optim.offload={json.dumps(usual.optim.offload)}"]  # where moments rest is the machine's affair
    recipe = recipe_named(f"stepopsd-{benchmark}")
    assert usual == published_spec(recipe, model=model, method=method, seed=1, overrides=here)
    assert usual.optim.offload == (model == "qwen2.5-7b")


def test_train_starts_from_a_recipe_and_goes_on_with_what_is_given() -> None:
    given = ("rollout.tasks=2", "method_options.alpha_clip=0.1")
    choice = Choice("tiny", None, "mini", (), (0, 1), given, recipe="stepopsd-alfworld")
    first, second = choice.specs()
    assert (first.model, first.suite, first.method, first.seed, second.seed) == ("tiny", "mini", "stepopsd", 0, 1)
    assert (first.rollout.tasks, first.rollout.group, first.rollout.window) == (2, 8, 2)
    assert (first.method_options["alpha_clip"], first.method_options["lambda_mix"]) == (0.1, 0.2)


def test_wrong_names_are_one_sentence() -> None:
    with pytest.raises(UserError, match="did you mean 'gigpo-alfworld'"):
        recipe_named("gigpo-alfword")
    with pytest.raises(UserError, match="did you mean 'tiny'"):
        described("tinny@alfworld")
    with pytest.raises(UserError, match="is for benchmark 'alfworld', but 'searchqa' was asked for"):
        Choice(None, "searchqa", None, (), (0,), (), recipe="stepopsd-alfworld").specs()
    with pytest.raises(MethodError, match="did you mean 'grpo'"):
        published_spec(recipe_named("stepopsd-alfworld"), method="grop")


@pytest.mark.parametrize("folder", REFERENCES, ids=lambda folder: folder.name)
def test_recorded_runs_keep_their_hashes(folder: Path) -> None:
    found = manifest.read(folder)
    assert found is not None
    spec = found.spec
    again = build_spec(model=spec.model, benchmark=spec.benchmark, suite=None, method=spec.method, seed=spec.seed)
    assert again.sha256 == found.spec_sha256


@pytest.mark.parametrize("name", NAMES)
def test_shown_at_80_columns_nothing_is_cut(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    show(name)
    out = capsys.readouterr().out
    table, _, places = out.partition("\nSources:\n")
    assert all(len(line) <= 80 for line in table.splitlines())
    shown = described(name)
    assert {path.rpartition(".")[2] for path in shown.fields} | set(places_of(shown.sources)) <= words_of(out)
    assert set(places_of(shown.sources).values()) <= words_of(places)


def words_of(text: str) -> set[str]:
    """Each line without its indent, up to the first double space or colon, and what follows a colon."""
    parts: set[str] = set()
    for line in text.splitlines():
        head, _, tail = line.strip().partition(": ")
        parts |= {head.split("  ")[0], tail}
    return parts


def test_diff_as_json_is_what_was_compared(capsys: pytest.CaptureFixture[str]) -> None:
    diff("stepopsd-alfworld", "stepopsd-searchqa", as_json=True)
    printed = json.loads(capsys.readouterr().out)
    tasks = next(item for item in printed["fields"] if item["field"] == "rollout.tasks")
    assert tasks["a"] == {"value": 16, "source": "StepOPSD's paper"}
    assert tasks["b"] == {"value": 128, "source": "StepOPSD's paper"}
    assert "start" in {item["field"] for item in printed["deviations"]}
