"""What a causal LM knows of word problems: which token is of which kind, and a run."""

from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import next_tokens
from conv_dlm.word_problems import problem
from trainers.causal_to_diffusion import to_a2d
from trainers.from_scratch import StartArguments
from trainers.from_scratch import main as start


@pytest.mark.usefixtures("few_drills")
def test_kinds_and_a_run(tmp_path: Path, capsys: Any) -> None:
    size: dict[str, Any] = dict(vocab_size=700, tokenizer_rows=50, width=32, layers=1, heads=2, inner_width=48)
    start(StartArguments(output_dir=str(tmp_path), **size))
    tokenizer = next_tokens.AutoTokenizer.from_pretrained(tmp_path)
    asked = problem(99, 1, split="test", levels=(3, 3))
    prompt, solution = next_tokens.encode(asked, tokenizer)
    assert tokenizer.decode(prompt + solution).endswith(f"{asked.solution}<|eot_id|>")
    kinds = list(next_tokens.kinds(solution, tokenizer))
    by_kind = {
        kind: [tokenizer.decode([t]).strip() for t, k in zip(solution, kinds, strict=True) if k == kind]
        for kind in kinds
    }
    assert by_kind["final numbers"] == [str(asked.answer)]
    results = [word for kind in next_tokens.OPERATIONS.values() for word in by_kind.get(kind, [])]
    assert sorted(results) == sorted(str(step.result) for step in asked.steps)
    capsys.readouterr()
    assert next_tokens.main([str(tmp_path), "--problems", "3", "--level", "1-2"]) == 0
    assert "nats a token that is asked for: " in capsys.readouterr().out

    causal = next_tokens.AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    to_a2d(causal, tokenizer.mask_token_id).save_pretrained(tmp_path / "denoiser")
    tokenizer.save_pretrained(tmp_path / "denoiser")
    assert next_tokens.main([str(tmp_path / "denoiser"), "--problems", "3", "--level", "1-2"]) == 0
    shown = capsys.readouterr().out
    assert "operands" in shown and next_tokens.OTHER not in shown
    # Seen from left to right, the denoiser is the causal model, whatever is masked behind.
    same = to_a2d(causal, tokenizer.mask_token_id)
    same.config.attention_pattern = "causal"
    same = type(same)(same.config).eval()
    same.load_state_dict(causal.state_dict())
    with torch.no_grad():
        theirs = causal(input_ids=torch.tensor([prompt + solution])).logits[0, len(prompt) - 1 : -1]
    places = [0, 3, len(solution) - 1]
    ours = next_tokens.masked_logits(same, prompt, solution, places)
    theirs[:, tokenizer.mask_token_id] = -torch.inf
    torch.testing.assert_close(ours, theirs[places])
