"""A few toy sums as prompt-completion data, and a trainer of a tiny LLaDA on them."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset

from tests.hub.conftest import hub as hub
from trainers import MDLMTrainer, MDLMTrainingConfig

ROWS = [(f"What is {a} and {b}?", f"It is {a + b}. #### {a + b}") for a in range(1, 5) for b in range(1, 5)]


def turns(prompt: str, completion: str) -> dict[str, list[dict[str, str]]]:
    return {
        "prompt": [{"role": "user", "content": prompt}],
        "completion": [{"role": "assistant", "content": completion}],
    }


@pytest.fixture
def chats() -> Dataset:
    """16 rows in TRL's conversational prompt-completion format."""
    return Dataset.from_list([turns(*row) for row in ROWS])


@pytest.fixture
def questions_file(tmp_path: Path) -> Path:
    """The same 16 rows as JSON lines with GSM8K's columns."""
    path = tmp_path / "questions.jsonl"
    path.write_text("".join(json.dumps({"question": q, "answer": a}) + "\n" for q, a in ROWS))
    return path


@pytest.fixture
def make_trainer(tmp_path: Path, tiny_llada: Any, tiny_tokenizer: Any, chats: Dataset) -> Callable[..., MDLMTrainer]:
    """Builds a trainer of a copy of the tiny LLaDA; keywords go to its config, some to the trainer."""

    def make(
        model: Any = None,
        train_dataset: Any = None,
        eval_dataset: Any = None,
        trainer: type[MDLMTrainer] = MDLMTrainer,
        config: type[MDLMTrainingConfig] = MDLMTrainingConfig,
        peft_config: Any = None,
        quantization_config: Any = None,
        **settings: Any,
    ) -> MDLMTrainer:
        defaults: dict[str, Any] = dict(
            output_dir=str(tmp_path / "out"),
            per_device_train_batch_size=4,
            max_steps=3,
            learning_rate=1e-2,
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            report_to="none",
            save_strategy="no",
            disable_tqdm=True,
            logging_steps=1,
        )
        return trainer(
            model=copy.deepcopy(tiny_llada) if model is None else model,
            args=config(**(defaults | settings)),
            train_dataset=chats if train_dataset is None else train_dataset,
            eval_dataset=eval_dataset,
            processing_class=copy.deepcopy(tiny_tokenizer),
            peft_config=copy.deepcopy(peft_config),
            quantization_config=quantization_config,
        )

    return make
