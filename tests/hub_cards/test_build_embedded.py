"""Rounding the embedded checkpoint: GPTQ loses less than rounding to nearest, and the folder it writes is complete."""

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from conv_dlm.models.compact import dequantize, quantize
from hub_cards.build_embedded import gptq, main


def test_gptq_changes_the_outputs_less_than_rounding_to_nearest():
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(400, 32, generator=generator) @ torch.randn(32, 32, generator=generator)  # correlated
    weight = torch.randn(24, 32, generator=generator)

    def error(integers: torch.Tensor, scale: torch.Tensor) -> float:
        return float(((dequantize(integers, scale) - weight) @ inputs.T).square().sum())

    integers, scale = gptq(weight, inputs.T @ inputs, 16)
    assert integers.dtype == torch.int8
    assert (int(integers.min()), int(integers.max())) >= (-8, -8)
    assert int(integers.max()) <= 7
    assert scale.shape == (24, 2)
    assert error(integers, scale) < 0.6 * error(*quantize(weight, 4, 16))


def test_the_folder_loads_and_speaks_the_same_tokens(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    data = tmp_path / "train.jsonl"
    data.write_text("".join(json.dumps({"question": f"{i} + 1?", "answer": f"#### {i + 1}"}) + "\n" for i in range(12)))
    folders = [str(tiny_checkpoint), str(tmp_path / "out")]
    options = ["--data", str(data), "--calibration-rows", "8", "--held-out-rows", "4", "--group-size", "16"]
    monkeypatch.setattr("sys.argv", ["build_embedded.py", *folders, *options])
    main()
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert report["bytes"] == sum(file.stat().st_size for file in (tmp_path / "out").iterdir())
    assert 0 < report["nelbo_after"] < 2 * report["nelbo_before"]

    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32)
    original = AutoModelForCausalLM.from_pretrained(tiny_checkpoint, dtype=torch.float32)
    ids = torch.arange(20, 60)[None]
    similarity = torch.cosine_similarity(model(ids).logits, original(ids).logits, dim=-1)
    assert similarity.mean() > 0.6  # random weights take rounding hard
    question = [{"role": "user", "content": "1 + 1?"}]
    tokens = [
        AutoTokenizer.from_pretrained(p).apply_chat_template(question) for p in (tmp_path / "out", tiny_checkpoint)
    ]
    assert tokens[0] == tokens[1]
