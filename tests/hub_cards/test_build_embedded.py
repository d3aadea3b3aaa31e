"""The script that writes the embedded checkpoint."""

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from conv_dlm.answering.embedded import embedded_checkpoint
from hub_cards.build_embedded import DECODING, main, phase


def test_it_loads_with_its_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = AutoModelForCausalLM.from_pretrained(embedded_checkpoint(), dtype=torch.float32)
    model.generation_config = GenerationConfig(eos_token_id=0)
    model.save_pretrained(tmp_path / "trained")
    AutoTokenizer.from_pretrained(embedded_checkpoint()).save_pretrained(tmp_path / "trained")
    monkeypatch.setattr("sys.argv", ["build_embedded", str(tmp_path / "trained"), "--target", str(tmp_path / "out")])
    main()

    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    written = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype="auto")
    assert written.dtype == torch.bfloat16
    assert DECODING.items() <= written.generation_config.to_dict().items()
    ends = tokenizer.convert_ids_to_tokens(written.generation_config.eos_token_id)
    assert ends == ["<|endoftext|>", "<|eot_id|>"]
    assert "local" not in (tmp_path / "out" / "tokenizer_config.json").read_text()


def test_a_resumed_runs_tokens_are_counted_on(tmp_path: Path) -> None:
    log = [{"num_tokens": 5.0}, {"num_tokens": 9.0}, {"eval_loss": 1.0}, {"num_tokens": 4.0}, {"num_tokens": 7.0}]
    (tmp_path / "trainer_state.json").write_text(json.dumps({"global_step": 40, "log_history": log}))
    assert phase("first", tmp_path) == {"name": "first", "steps": 40, "tokens": 16}
