"""Distillation for parallel decoding: trajectories that resume, masks, the loss, and the trainer."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from datasets import Dataset, load_dataset
from peft import LoraConfig, PeftModel
from transformers import AutoModelForCausalLM

from tests.models import families
from tests.trainers.launching import ROOT
from trainers import DistillConfig, DistillTrainer, distill, trajectories
from trainers.distillation import (
    Answers,
    Curriculum,
    active_blocks,
    certainty_loss,
    random_part,
    views_of,
    written_last,
)
from trainers.scripts import Arguments, finetune

RECIPES = sorted(path for path in (ROOT / "configs" / "distill").glob("*.yaml") if "trajectories" not in path.name)

# Masks


def answers() -> Answers:
    """Two rows: prompts of 2 and 4 tokens, answers of 7 and 2, canvases of 8 and 6."""
    place = torch.arange(10).expand(2, -1)
    start, end = torch.tensor([[2], [4]]), torch.tensor([[9], [6]])
    steps = torch.tensor([[-1, -1, 0, 3, 1, 2, 9, 5, 6, -1], [-1, -1, -1, -1, 4, 4, -1, -1, -1, -1]])
    return Answers(place.clone(), place >= start, (place >= start) & (place < end), steps)


def test_blocks_are_drawn_among_those_of_the_answer() -> None:
    blocks = {0: [2, 3, 4], 1: [5, 6, 7], 2: [8, 9]}
    for draw, which in ((0.0, 0), (0.4, 1), (0.99, 2)):
        block, behind = active_blocks(answers(), torch.tensor([draw, draw]), 3)
        assert block[0].nonzero().flatten().tolist() == blocks[which]
        assert behind[0].nonzero().flatten().tolist() == [n for later in range(which + 1, 3) for n in blocks[later]]
        assert block[1].nonzero().flatten().tolist() == [4, 5, 6]  # the only one with a part of the second answer
        assert behind[1].nonzero().flatten().tolist() == [7, 8, 9]


def test_the_last_written_are_masked() -> None:
    block, _ = active_blocks(answers(), torch.tensor([0.4, 0.0]), 4)
    uniform = torch.rand(2, 10)
    assert block[0].nonzero().flatten().tolist() == [2, 3, 4, 5]
    for ratio, expected in ((0.0, [3]), (0.5, [3, 5]), (1.0, [2, 3, 4, 5])):
        masked = written_last(block, answers(), uniform, ratio)
        assert masked[0].nonzero().flatten().tolist() == expected
        assert masked.sum(1).tolist() == [max(1, round(4 * ratio))] * 2
    assert written_last(block, answers(), uniform, 0.5)[1].nonzero().flatten().tolist() == [6, 7]  # behind the end


def test_complementary_views_read_every_token_once() -> None:
    block, behind = active_blocks(answers(), torch.tensor([0.4, 0.0]), 4)
    masked = random_part(block, torch.rand(2, 10), 0.5)
    views = views_of(block, behind, masked, complementary=True)
    assert torch.equal(views.read_RL[:2] ^ views.read_RL[2:], block)
    assert torch.equal(views.hidden_RL, views.read_RL | behind.repeat(2, 1))
    assert len(views_of(block, behind, masked, complementary=False).row_R) == 2


def test_the_curriculum() -> None:
    curriculum = Curriculum((16, 32), (0.0, 0.8))
    assert [curriculum.at(progress) for progress in (0.0, 0.5, 1.0)] == [(16, 0.0), (24, 0.4), (32, 0.8)]


def test_certainty_is_of_right_tokens_alone() -> None:
    logits = torch.randn(3, 6, dtype=torch.float64, requires_grad=True)
    targets = logits.detach()[:, :5].argmax(1)
    targets[1] = (targets[1] + 1) % 5
    found = certainty_loss(logits, targets, 5, 0.5)
    p = (logits.detach()[:, :5] / 0.5).softmax(1)
    expected = -(p * p.log()).sum(1) * torch.tensor([1, 0, 1])
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-6)
    found.sum().backward()
    assert logits.grad is not None and logits.grad[1].abs().max() == 0 and logits.grad.isfinite().all()


# Trajectories


@pytest.fixture(scope="module")
def words(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("prompts")
    rows = [{"question": f"What is {n} and 2?", "answer": n + 2} for n in range(10)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = {
        "model_name_or_path": tiny_checkpoint,
        "dataset_name": "json",
        "data_files": folder / "rows.jsonl",
        "prompt_column": "question",
        "generate_kwargs": '{"decode_type":"llada","block_length":8,"steps":16,"max_new_tokens":16}',
        "judge": "word_problem_answer",
        "device": "cpu",
    }
    return [word for name, value in options.items() for word in (f"--{name}", str(value))]


@pytest.fixture(scope="module")
def written(words: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten trajectories of the tiny model."""
    path = tmp_path_factory.mktemp("trajectories") / "written.jsonl"
    trajectories.main([*words, "--rows", "10", "--output", str(path), "--batch_size", "5"])
    return path


def test_an_interrupted_run_goes_on(words: list[str], written: Path, tmp_path: Path) -> None:
    path = tmp_path / "part" / "again.jsonl"
    trajectories.main([*words, "--rows", "3", "--output", str(path), "--batch_size", "2"])
    with path.open("a") as file:
        file.write('{"prompt_ids": [1, 2')  # cut off
    trajectories.main([*words, "--rows", "10", "--output", str(path), "--batch_size", "4"])
    assert path.read_text() == written.read_text()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert all(len(line["unmasked_at"]) == len(line["completion_ids"]) <= line["canvas_length"] == 16 for line in lines)
    assert {line["reward"] for line in lines} == {0.0}
    with pytest.raises(ValueError, match="other values of seed"):
        trajectories.main([*words, "--rows", "10", "--output", str(path), "--seed", "1"])
    with pytest.raises(ValueError, match="the data have only 10 prompts"):
        trajectories.main([*words, "--rows", "11", "--output", str(path)])


# The trainer


@pytest.fixture
def make(written: Path, tiny_llada: Any, tiny_tokenizer: Any, tmp_path: Path) -> Callable[..., DistillTrainer]:
    def build(rows: Any = None, model: Any = None, peft_config: Any = None, **settings: Any) -> DistillTrainer:
        defaults: dict[str, Any] = dict(
            output_dir=str(tmp_path / "out"), per_device_train_batch_size=5, max_steps=2, learning_rate=1e-2,
            block_lengths=[8, 8], use_cpu=True, bf16=False, gradient_checkpointing=False, report_to="none",
            save_strategy="no", disable_tqdm=True, logging_steps=1,
        )  # fmt: skip
        return DistillTrainer(
            model=model or copy.deepcopy(tiny_llada),
            args=DistillConfig(**(defaults | settings)),
            train_dataset=load_dataset("json", data_files=str(written))["train"] if rows is None else rows,
            processing_class=copy.deepcopy(tiny_tokenizer),
            peft_config=peft_config,
        )

    return build


def test_the_model_becomes_surer(make: Any) -> None:
    trainer = make(max_steps=12, learning_rate=3e-3)
    before = {name: weight.clone() for name, weight in trainer.model.named_parameters()}
    trainer.train()
    assert [name for name, weight in trainer.model.named_parameters() if torch.equal(weight, before[name])] == []
    logs = [entry for entry in trainer.state.log_history if "confidence" in entry]
    assert sum(log["confidence"] for log in logs[-3:]) > 1.3 * sum(log["confidence"] for log in logs[:3])
    total = logs[0]["loss/cross_entropy"] + 2 * logs[0]["loss/certainty"]
    assert logs[0]["loss"] == pytest.approx(total, rel=1e-4)


def test_an_adapter_is_saved_and_decodes_as_it_was_trained(make: Any, tiny_checkpoint: Path, tmp_path: Path) -> None:
    trainer = make(peft_config=LoraConfig(r=2), max_steps=4, learning_rate=0.1)
    trainer.train()
    trainer.save_model(str(tmp_path / "adapter"))
    base = AutoModelForCausalLM.from_pretrained(tiny_checkpoint)
    loaded = PeftModel.from_pretrained(base, tmp_path / "adapter").eval()
    settings = {"decode_type": "conv_threshold", "threshold": 0.2, "kernel_size": 6, "max_new_tokens": 16}
    ids = torch.tensor([[1, 40, 50, 60]])
    trained, again = (model.generate(input_ids=ids, **settings) for model in (trainer.model.eval(), loaded))
    assert torch.equal(trained, again)
    with loaded.disable_adapter():
        assert not torch.equal(loaded.generate(input_ids=ids, **settings), again)


def test_experts_are_balanced_over_the_text_of_both_views(make: Any) -> None:
    row = {"completion_ids": [9, 5], "unmasked_at": [1, 0], "canvas_length": 8}
    rows = [row | {"prompt_ids": [7, 8, 11][:length]} for length in (3, 1, 2, 3, 1)]
    trainer = make(Dataset.from_list(rows), families.tiny("LLaDAMoEModelLM"), router_aux_loss_coef=0.5)
    trainer.model.train()
    seen = []
    trainer.model.register_forward_hook(lambda _, args, given, out: seen.append((given, out)), with_kwargs=True)
    trainer.compute_loss(trainer.model, dict(next(iter(trainer.get_train_dataloader()))))
    ((given, out),) = seen
    text = given["attention_mask"].flatten().bool()
    assert len(given["input_ids"]) == 10 and not text.all()
    p = out.router_logits[0].detach().softmax(-1)[text]
    chosen = torch.zeros_like(p).scatter(1, p.topk(2, dim=-1).indices, 1.0)
    by_hand = p.shape[1] * (chosen.mean(0) * p.mean(0)).sum()
    logged = trainer._ratios["train"].read(trainer.accelerator)["router_aux_loss"]
    assert len(out.router_logits) == 1 and logged == pytest.approx(float(by_hand), rel=1e-5)


def test_the_curriculum_of_trajectories(make: Any) -> None:
    trainer = make(
        mask_order="trajectory", complementary=False, block_lengths=[4, 16], mask_ratios=[0.0, 1.0], max_steps=3,
        peft_config=LoraConfig(r=2),
    )  # fmt: skip
    shown = []
    trainer.model.register_forward_pre_hook(
        lambda module, args, kwargs: shown.append(kwargs["logits_to_keep"].sum(1).tolist()), with_kwargs=True
    )
    trainer.train()
    assert shown[0] == [1] * 5 and shown[2] == [16] * 5  # one of 4; 16 of 16
    assert set(shown[1]) <= {5, 3}  # half of 10, or of the other 6 of the canvas


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"unmasked_at": [0]}, "Row 0 of the `train` data: it has 2 `completion_ids` and 1 `unmasked_at`"),
        ({"canvas_length": 1}, "`canvas_length=1` is shorter than its answer"),
        ({"completion_ids": [3, 5]}, "holds the mask token"),
        ({"completion_ids": [9999, 5]}, "another model wrote it"),
        ({"canvas_length": 500}, "the model 256"),
        ({"prompt_ids": []}, "an empty prompt"),
    ],
)
def test_bad_trajectories_are_named(make: Any, change: dict[str, Any], message: str) -> None:
    row = {"prompt_ids": [7, 8], "completion_ids": [9, 5], "unmasked_at": [1, 0], "canvas_length": 4} | change
    with pytest.raises(ValueError, match=message):
        make(rows=Dataset.from_list([row]))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mask_order": "last"}, "mask_order='last'"),
        ({"block_lengths": [0, 8]}, r"block_lengths=\[0, 8\]"),
        ({"mask_ratios": [0.5, 1.5]}, "at most 1"),
        ({"certainty_temperature": 0.0}, "certainty_temperature=0.0"),
        ({"canvas_length": 64}, "rows come with their canvases"),
    ],
)
def test_wrong_values_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DistillConfig("out", use_cpu=True, bf16=False, **settings)


# The script


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipes_can_be_read(path: Path) -> None:
    data, training, model, _ = distill.make_parser().parse_args_and_config(["--config", str(path), "--bf16", "false"])
    assert data.least_reward == 1.0 and training.curriculum.at(0) == (32, 0.5) and model.model_name_or_path
    assert yaml.safe_load(path.read_text())["output_dir"].startswith("outputs/")


def test_from_trajectories_to_a_model(words: list[str], written: Path, tiny_checkpoint: Path, tmp_path: Path) -> None:
    options = {
        "config": ROOT / "configs" / "distill" / "embedded.yaml",
        "model_name_or_path": tiny_checkpoint,
        "data_files": written,
        "least_reward": 0.0,
        "held_out_rows": 2,
        "max_steps": 2,
        "eval_steps": 2,
        "save_steps": 2,
        "block_lengths": "8 8",
        "output_dir": tmp_path / "out",
        "disable_tqdm": True,
    }
    told = [word for name, value in options.items() for word in (f"--{name}", *str(value).split())]
    finetune(DistillTrainer, Arguments(*distill.make_parser().parse_args_and_config(told)))
    assert (tmp_path / "out" / "model.safetensors").is_file()
    state = json.loads((tmp_path / "out" / "checkpoint-2" / "trainer_state.json").read_text())
    assert [entry["step"] for entry in state["log_history"] if "eval_confidence" in entry] == [0, 2]
    with pytest.raises(ValueError, match="have no rows"):
        told = [*told, "--least_reward", "1.0", "--output_dir", str(tmp_path / "other")]
        finetune(DistillTrainer, Arguments(*distill.make_parser().parse_args_and_config(told)))
