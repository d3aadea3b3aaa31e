"""Training of heads: the filter on an oracle's runs, the policy by rewards; both commands, from data to decoding."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import TrlParser

from tests.trainers.launching import ROOT
from trainers import learn_filter, learn_policy, trajectories
from trainers.prompts import PromptArguments
from trainers.recorded_runs import record
from trainers.unmasking_filter import Examples, examples_of, filter_loss, judge, new_filter, oracle
from trainers.unmasking_policy import group_advantages, speed_rewards

RECIPES = sorted((ROOT / "configs" / "unmasking").glob("*.yaml"))
PROMPTS = [[1, 40, 50], [1, 60, 70, 80, 90]]
BLOCKS = dict(decode_type="threshold", block_length=8, max_new_tokens=16, eos_token_id=None)


@pytest.fixture(scope="module")
def folder(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of its own, since heads are written beside it."""
    copy = tmp_path_factory.mktemp("model")
    AutoModelForCausalLM.from_pretrained(tiny_checkpoint).save_pretrained(copy)
    AutoTokenizer.from_pretrained(tiny_checkpoint).save_pretrained(copy)
    return copy


def test_a_recorded_run_is_generates(tiny_llada: Any) -> None:
    run = record(tiny_llada, PROMPTS, [3, 4], 0, threshold=0.03, **BLOCKS)
    ids = torch.tensor([[0, 0, *PROMPTS[0]], PROMPTS[1]])
    options = {**BLOCKS, "threshold": 0.03, "pad_token_id": 0, "return_dict_in_generate": True}
    out = tiny_llada.generate(ids, attention_mask=(ids != 0).long(), **options)
    assert run.completion_ids == out.sequences[:, 5:].tolist() and run.forwards == out.forwards.tolist()
    written = torch.stack([step.commit_BC for step in run.steps])
    assert torch.equal(written.int().argmax(0), out.unmasked_at[:, 5:]) and (written.sum(0) == 1).all()
    assert all((step.commit_BC <= step.eligible_BC).all() for step in run.steps)


def test_an_oracle_writes_its_answer_and_says_what_was_final(tiny_llada: Any, monkeypatch: Any) -> None:
    """The model's own answer, one token at a time, comes back in fewer forwards; labels are by candidate and answer."""
    slow = record(tiny_llada, PROMPTS, [0, 0], 0, **{**BLOCKS, "decode_type": "llada", "steps": 16})
    answer_BC = torch.tensor(slow.completion_ids)
    monkeypatch.setattr(tiny_llada, "unmasking_heads", {"unmasking_filter": new_filter(8, 4, torch.Generator())}, False)
    run = record(tiny_llada, PROMPTS, [0, 0], 0, oracle(answer_BC), **{**BLOCKS, "decode_type": "learned_filter"})
    assert run.completion_ids == slow.completion_ids
    assert max(run.forwards) < max(slow.forwards) == 16
    examples = examples_of(run.steps, answer_BC, 8)
    first = run.steps[0]
    assert torch.equal(examples.confidence_NW[:2], first.confidence_BC[:, :8])
    assert torch.equal(examples.final_NW[:2], (first.token_BC == answer_BC)[:, :8]) and examples.open_NW[:2].all()
    assert examples.open_NW.any(1).all()
    last = run.steps[-1]
    assert last.block_BC[:, 8:].all(1).any() and not last.block_BC[:, :8].any()  # of the second block
    its_own = examples.confidence_NW[~examples.open_NW]  # of positions that have a token already
    assert len(its_own) > 8 and (its_own > 0).all() and (its_own < 1).all()


def test_a_filter_learns_what_a_confidence_cannot_say() -> None:
    """Final is what stands before the first doubt: it depends on the whole block."""
    draws = torch.Generator().manual_seed(0)
    confidence = torch.rand(4096, 8, generator=draws)
    final = (confidence > 0.3).cumprod(1).bool()
    examples = Examples(confidence, final, torch.ones_like(final))
    arguments = learn_filter.FilterArguments(".", "-", block_length=8, updates=200, learning_rate=1e-2)
    head = learn_filter.train(examples[:3072], arguments)
    held_out = examples[3072:]
    before = float(filter_loss(new_filter(8, 32, draws), held_out))
    assert float(filter_loss(head, held_out)) < 0.5 * before
    share, right = judge(learn_filter.filter_logits(head, held_out.confidence_NW).sigmoid(), held_out, 0.5)
    _, plain = judge(held_out.confidence_NW, held_out, 0.3)
    assert share > 0.2 and right > plain + 0.2


def write_answers(model: Any, path: Path) -> None:
    """Eight trajectories, of a canvas that is longer than the answers."""
    run = record(model, [[1, 40 + n, 50] for n in range(8)], [0] * 8, 0, **{**BLOCKS, "eos_token_id": 2})
    rows = []
    for n, ids in enumerate(run.completion_ids):
        answer = {"completion_ids": ids or [9], "unmasked_at": [0] * max(1, len(ids)), "canvas_length": 16}
        rows.append({"prompt_ids": [1, 40 + n, 50], **answer})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def words_of(path: Path, **options: Any) -> list[str]:
    return ["--config", str(path), *(word for name, value in options.items() for word in (f"--{name}", str(value)))]


def test_from_answers_to_a_filter(folder: Path, tiny_llada: Any, tmp_path: Path, capsys: Any) -> None:
    """The recipe on the tiny model: the file lies beside it, and `generate` decodes by it."""
    write_answers(tiny_llada, tmp_path / "rows.jsonl")
    recipe = ROOT / "configs" / "unmasking" / "embedded_filter.yaml"
    options = dict(
        model_name_or_path=folder, output_dir=folder, trajectories=tmp_path / "rows.jsonl", rows=8, held_out_rows=2,
        block_length=8, updates=20, batch_size=4,
    )  # fmt: skip
    assert learn_filter.run(words_of(recipe, **options)) == 0
    said = capsys.readouterr().out
    assert "held-out blocks" in said and "threshold 0.9: unmasks" in said and "552 weights saved" in said
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    settings = {**BLOCKS, "decode_type": "learned_filter", "filter_threshold": 0.3, "return_dict_in_generate": True}
    assert int(model.generate(torch.tensor([PROMPTS[1]]), **settings).forwards[0]) < 16
    assert learn_filter.run(words_of(recipe, **options | {"rows": 2})) == 2
    assert "`rows=2` must be more than `held_out_rows=2`" in capsys.readouterr().err
    (tmp_path / "bad.jsonl").write_text('{"prompt_ids": [1]}\n')
    assert learn_filter.run(words_of(recipe, **options | {"trajectories": tmp_path / "bad.jsonl"})) == 2
    assert "has no completion_ids, unmasked_at, canvas_length" in capsys.readouterr().err
    nowhere = ["--model_name_or_path", "org/name", "--trajectories", str(tmp_path / "rows.jsonl")]
    assert learn_filter.run(nowhere) == 2 and "name one as `output_dir`" in capsys.readouterr().err


def test_rewards_and_advantages() -> None:
    rewards = speed_rewards([1.0, 1.0, 0.0, None], [4, 12, 4, 4], 16, 1.0)
    assert rewards.tolist() == [0.75, 0.25, 0.0, 0.0]
    assert speed_rewards([1.0], [12], 16, 0.0).tolist() == [1.0]
    assert group_advantages(rewards, 2).tolist() == pytest.approx([0.7069, -0.7069, 0.0, 0.0], abs=1e-3)


def policy_words(folder: Path, data: Path, **more: Any) -> list[str]:
    return words_of(
        ROOT / "configs" / "unmasking" / "embedded_policy.yaml",
        **dict(
            model_name_or_path=folder, dataset_name="json", data_files=data, prompt_column="question", updates=4,
            prompts_per_update=2, num_generations=4, save_steps=2, width=16, middle=0.02, slope=50.0,
            learning_rate=1e-2, judge="tests.trainers.test_learned_samplers.always",
            generate_kwargs='{"block_length": 8, "max_new_tokens": 16}',
        ) | more,
    )  # fmt: skip


def always(completions: list[Any], **columns: Any) -> list[float]:
    return [1.0] * len(completions)


def test_a_policy_learns_to_be_fast_and_goes_on_where_it_stopped(folder: Path, tmp_path: Path, capsys: Any) -> None:
    """Where every answer is right, only forwards count. Half a run and the other half are one run."""
    rows = [{"question": f"What is {n} and 2?", "answer": f"#### {n + 2}"} for n in range(12)]
    (data := tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    assert learn_policy.run(policy_words(folder, data, output_dir=whole)) == 0
    log = [json.loads(line) for line in (whole / "unmasking_policy.jsonl").read_text().splitlines()]
    assert [entry["update"] for entry in log] == [1, 2, 3, 4] and {entry["judged"] for entry in log} == {1.0}
    assert log[-1]["forwards"] < log[0]["forwards"]
    for updates in (2, 4):
        assert learn_policy.run(policy_words(folder, data, output_dir=halves, updates=updates)) == 0
    for name in ("unmasking_policy.jsonl", "unmasking_policy.safetensors"):
        assert (halves / name).read_bytes() == (whole / name).read_bytes(), name
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    settings = {**BLOCKS, "decode_type": "learned_policy", "unmasking_head": str(whole)}
    settings["return_dict_in_generate"] = True
    assert int(model.generate(torch.tensor([PROMPTS[1]]), **settings).forwards[0]) < 16
    capsys.readouterr()
    assert learn_policy.run(policy_words(folder, data, output_dir=halves, speed_weight=2.0)) == 2
    assert "other values of speed_weight" in capsys.readouterr().err
    assert learn_policy.run(policy_words(folder, data, output_dir=tmp_path / "new", prompts_per_update=13)) == 2
    assert "the data have prompts for 0 only" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"num_generations": 1}, "`num_generations=1` must be 2 or more"),
        ({"width": 12}, "`width=12` must be a multiple of 8"),
        ({"generate_kwargs": '{"decode_type": "llada"}'}, "'decode_type', which the policy is"),
    ],
)
def test_wrong_values_are_named(folder: Path, more: dict[str, Any], message: str, capsys: Any) -> None:
    assert learn_policy.run(policy_words(folder, Path("rows.jsonl"), **more)) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (learn_filter.FilterArguments, {"trajectories": "rows.jsonl"}),
        (learn_policy.PolicyArguments, {"judge": "word_problem_answer"}),
        (trajectories.TrajectoryArguments, {"output": "rows.jsonl"}),
    ],
)
def test_a_recipe_with_half_a_count(kind: Any, words: dict[str, str], tmp_path: Path) -> None:
    """TRL's parser takes numbers of YAML as they are."""
    count = "rows" if kind is trajectories.TrajectoryArguments else "updates"
    with pytest.raises(ValueError, match=f"`{count}=2.5` must be a whole number"):
        kind(model_name_or_path=str(tmp_path), **words, **{count: 2.5})


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_the_recipes_can_be_read(path: Path) -> None:
    """Those of the small model start from the one in the package."""
    arguments = learn_filter.FilterArguments if "filter" in path.stem else learn_policy.PolicyArguments
    kinds = [arguments] if "filter" in path.stem else [PromptArguments, arguments]
    *_, its = TrlParser(kinds).parse_args_and_config(["--config", str(path)], fail_with_unknown_args=True)
    assert its.output_dir.startswith("outputs/") and its.output_dir.endswith("heads")
    assert not path.stem.startswith("embedded") or (ROOT / its.model_name_or_path / "config.json").is_file()
