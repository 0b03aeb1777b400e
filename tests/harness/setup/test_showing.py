"""What `stepcredit transcript` shows is what rollouts and teachers read."""

import json
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from stepcredit.envs import load_benchmark
from stepcredit.harness.cli.app import run
from stepcredit.harness.errors import UserError
from stepcredit.harness.model.policy import load_policy
from stepcredit.harness.setup.settings import build_spec
from stepcredit.harness.setup.showing import Arm, Role, ShownToken, shown_turns
from stepcredit.harness.spec import RunSpec
from tests.harness.hub import put_qwen

ALFWORLD = load_benchmark("alfworld", "mini")
FIRST = ALFWORLD.panel("train").tasks[0].id
ACTIONS = ALFWORLD.solution(FIRST)


def spec(*overrides: str, model: str = "tiny") -> RunSpec:
    return build_spec(model=model, benchmark="alfworld", suite="mini", method="grpo", seed=0, overrides=overrides)


def ids(tokens: tuple[ShownToken, ...], *roles: Role) -> list[int]:
    return [token.id for token in tokens if not roles or token.role in roles]


def test_a_running_transcript_is_put_together_as_in_a_rollout() -> None:
    transcript, env = load_policy("tiny", ALFWORLD).transcript, ALFWORLD.make(FIRST)
    expected = transcript.first(env.reset().text)
    name, turns = shown_turns(spec(), None, 3)
    assert name == FIRST
    assert len(turns) == 3
    for turn, action in zip(turns, ACTIONS, strict=False):
        assert ids(turn.prompt) == expected
        response = transcript.response(f"<action>{action}</action>")
        assert ids(turn.response) == (response if turn is not turns[-1] else [])
        expected = [*expected, *response, *transcript.following(env.step(action).observation.text)]
    responses = [token for turn in turns for token in ids(turn.response)]
    assert ids(turns[-1].prompt, Role.WRITTEN) == responses
    assert turns[1].news(turns[0]) == turns[1].prompt[len(turns[0].prompt) + len(turns[0].response) :]


@pytest.mark.parametrize("window", [(), ("rollout.window=1",), ("rollout.window=1", "rollout.history=actions")])
def test_a_teacher_reads_the_hint_right_before_the_words_that_ask_for_a_response(window: tuple[str, ...]) -> None:
    transcript = load_policy("tiny", ALFWORLD).transcript
    hint, suffix = transcript.hindsight("\n".join(ACTIONS)), len(transcript.generation_suffix)
    _, own = shown_turns(spec(*window), FIRST, 4)
    _, taught = shown_turns(spec(*window), FIRST, 4, Arm.GOLDEN)
    for student, teacher in zip(own, taught, strict=True):
        plain = ids(student.prompt)
        assert ids(teacher.prompt) == [*plain[:-suffix], *hint, *plain[-suffix:]]
        assert ids(teacher.response) == ids(student.response)
        assert not ids(student.prompt, Role.HINT)


def test_a_window_shows_its_turns_anew() -> None:
    _, turns = shown_turns(spec("rollout.window=1"), FIRST, 4)
    assert turns[3].news(turns[2]) == turns[3].prompt
    assert ids(turns[3].prompt, Role.WRITTEN) == ids(turns[2].response)


def test_a_chat_model_needs_no_weights_and_reads_its_template(tmp_path: Path) -> None:
    put_qwen(tmp_path)
    folder = next(tmp_path.glob("hub/*/snapshots/*"))
    (folder / "model.safetensors").unlink()
    limits = ("rollout.show_actions=false", "rollout.max_context_tokens=8192")
    running = ("rollout.window=null", "rollout.history=turns", *limits)
    _, (first, _) = shown_turns(spec(*running, model=str(folder)), FIRST, 2)
    messages = [
        {"role": "system", "content": ALFWORLD.turn_format.instructions},
        {"role": "user", "content": ALFWORLD.make(FIRST).reset().text},
    ]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert "".join(token.text for token in first.prompt) == text
    control = [token.text for token in first.prompt if token.role is Role.CONTROL]
    assert control == ["<|im_start|>", "<|im_end|>"] * 2 + ["<|im_start|>"]


def test_the_command_prints_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["transcript", "tiny", FIRST, "--turns", "2", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["task"] == FIRST
    assert [len(turn["response"]) > 0 for turn in shown["turns"]] == [True, False]
    assert run(["transcript", "--arm", "golden"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(FIRST)
    assert f"[written] <action>{ACTIONS[0]}</action>" in lines
    assert f"[hint] {ACTIONS[0]}" in lines


def test_a_task_that_is_not_there_is_one_sentence() -> None:
    with pytest.raises(UserError, match="split train of alfworld-mini has no task 'nobody'; `stepcredit panel"):
        shown_turns(spec(), "nobody", 1)
