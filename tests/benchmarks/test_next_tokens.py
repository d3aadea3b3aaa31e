"""What a causal LM knows of word problems: which token is of which kind, and a run."""

from pathlib import Path
from typing import Any

from benchmarks import next_tokens
from conv_dlm.word_problems import problem
from trainers.from_scratch import StartArguments
from trainers.from_scratch import main as start


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
    assert "nats a token of the solution: " in capsys.readouterr().out
