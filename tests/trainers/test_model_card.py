"""The card that a trainer writes: true, complete, and its example runs."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from datasets import Dataset
from peft import LoraConfig

from tests.hub.test_push import CODE
from trainers import R2FTConfig, R2FTTrainer
from trainers.model_card import hub_link

TEXTS = Dataset.from_dict({"text": ["one two three", "four five"] * 4})


def card_of(trainer: Any) -> tuple[dict[str, Any], str]:
    """Metadata and text of the card in a trainer's output folder."""
    _, header, text = Path(trainer.args.output_dir, "README.md").read_text().split("---\n", 2)
    return yaml.safe_load(header), text


def run_example(text: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a reader would paste it, next to the model's folder."""
    [example] = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    monkeypatch.chdir(folder.parent)
    exec(compile(example, "card", "exec"), {"__name__": "__main__"})


@pytest.mark.parametrize(
    "settings",
    [
        dict(canvas_length=24, max_length=128),
        dict(canvas_length=64, max_length=64),
        dict(train_dataset=TEXTS),
        dict(trainer=R2FTTrainer, config=R2FTConfig, canvas_length=24, peft_config=LoraConfig(r=2)),
    ],
    ids=["chats", "prompts within the canvas", "plain text", "r2ft, adapter"],
)
def test_the_example_runs(make_trainer, tiny_checkpoint, monkeypatch, capsys, settings):
    trainer = make_trainer(model=str(tiny_checkpoint), max_steps=1, **settings)
    trainer.train()
    trainer.save_model()
    header, text = card_of(trainer)
    run_example(text, Path(trainer.args.output_dir), monkeypatch)
    assert capsys.readouterr().out
    assert ("apply_chat_template" in text) is ("train_dataset" not in settings)
    assert ("here that of training" in text) is (settings.get("canvas_length") == 24)
    assert header["pipeline_tag"] == "text-generation"
    assert header["library_name"] == ("peft" if "peft_config" in settings else "transformers")
    assert {"masked-diffusion", "conv-dlm", "trl"} <= set(header["tags"])
    assert str(tiny_checkpoint) not in str(header) + text  # whose folder it was is nobody's business
    assert "pipeline(" not in text
    assert "None" not in text


def test_the_card_tells_how_the_model_was_made(make_trainer, chats):
    trainer = make_trainer(
        trainer=R2FTTrainer,
        config=R2FTConfig,
        canvas_length=24,
        eval_dataset=chats,
        eval_strategy="steps",
        eval_steps=2,
        max_steps=2,
        gradient_accumulation_steps=2,
    )
    trainer.model.config._name_or_path = "GSAI-ML/LLaDA-8B-Base"
    trainer.train()
    trainer.create_model_card(model_name="My model", dataset_name="openai/gsm8k", tags="sums")
    header, text = card_of(trainer)
    assert header["base_model"] == "GSAI-ML/LLaDA-8B-Base"
    assert header["datasets"] == ["openai/gsm8k"]
    assert "sums" in header["tags"]
    assert "# My model\n" in text
    assert "(https://huggingface.co/datasets/openai/gsm8k), 16 rows." in text
    for row in ("steps | 2", "rows a step | 8", "`beta_a` | 0.1", "`corruption` | repeat", "`seed` | 42"):
        assert f"| {row} |" in text
    assert f"| tokens seen | {trainer.state.num_input_tokens_seen} |" in text
    assert "after 2 steps" in text
    assert re.search(r"\| eval_rewards/margins \| -?[\d.]+", text)
    assert "eval_runtime" not in text
    assert "@inproceedings{seo2025fast," in text


def test_both_papers_of_the_denoiser_are_cited(make_trainer):
    trainer = make_trainer()
    trainer.create_model_card()
    _, text = card_of(trainer)
    assert re.findall(r"@inproceedings{(\w+),", text) == ["sahoo2024simple", "seo2025fast"]


def test_an_autoregressive_baseline_is_not_called_a_denoiser(make_trainer):
    trainer = make_trainer()
    trainer._tag_names = ["trl", "conv-dlm"]
    trainer.create_model_card()
    _, text = card_of(trainer)
    assert "An autoregressive language model" in text
    assert "Trained from a model without a name with" in text
    assert not re.search("denoise|decode_type|import conv_dlm|canvas of masks", text)


def test_the_card_comes_with_each_checkpoint(make_trainer):
    trainer = make_trainer(max_steps=2, save_strategy="steps", save_steps=2)
    trainer.train()
    assert "conv_dlm" in card_of(trainer)[1]


@pytest.mark.parametrize(
    ("name", "link"),
    [
        ("openai/gsm8k", "[openai/gsm8k](https://huggingface.co/datasets/openai/gsm8k)"),
        ("imdb", "[imdb](https://huggingface.co/datasets/imdb)"),
        ("/home/me/data", "`data`"),
        ("outputs/sft/run", "`run`"),
        ("./run", "`run`"),
        (None, None),
    ],
)
def test_only_what_is_on_the_hub_is_linked(name, link):
    assert hub_link(name, "datasets/") == link


def test_what_is_pushed_loads_without_conv_dlm(make_trainer, hub):
    trainer = make_trainer(max_steps=1, hub_model_id="me/tuned")
    trainer.train()
    trainer.push_to_hub()
    files = hub.repos["model", "me/tuned"]
    assert CODE | {"README.md", "model.safetensors", "tokenizer.json"} <= files.keys()
    assert json.loads(files["config.json"])["auto_map"]["AutoConfig"] == "configuration_llada.LLaDAConfig"


def test_so_does_what_is_pushed_while_training(make_trainer, hub):
    settings = dict(push_to_hub=True, hub_model_id="me/tuned", hub_strategy="every_save", hub_always_push=True)
    trainer = make_trainer(max_steps=2, save_strategy="steps", save_steps=1, **settings)
    pushed = []
    push = trainer._push_from_checkpoint

    def look(checkpoint_folder):
        push(checkpoint_folder)
        trainer._finish_current_push()
        pushed.append(dict(hub.repos["model", "me/tuned"]))

    trainer._push_from_checkpoint = look
    trainer.train()
    assert len(pushed) == 2
    for files in pushed:
        assert CODE | {"README.md", "model.safetensors"} <= files.keys()
        assert "AutoModel" in json.loads(files["config.json"])["auto_map"]


def test_an_adapter_is_pushed_without_code(make_trainer, hub, tiny_checkpoint):
    trainer = make_trainer(model=str(tiny_checkpoint), max_steps=1, hub_model_id="me/lora", peft_config=LoraConfig(r=2))
    trainer.train()
    trainer.push_to_hub()
    files = hub.repos["model", "me/lora"]
    assert "adapter_model.safetensors" in files and not CODE & files.keys()
