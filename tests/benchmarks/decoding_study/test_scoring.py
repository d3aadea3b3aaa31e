"""Perplexities of samples under a tiny random causal LM, kept and gone on with."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.decoding_study import scoring
from benchmarks.decoding_study.grid import KEY
from benchmarks.decoding_study.scoring import Scorer, score_samples
from conv_dlm.evaluation import text_losses

TEXTS, REFERENCES = ["ab", "", "some words", "x"], ["a reference", "", "another"]


@pytest.fixture(scope="module")
def scorer_folder(tiny_llama: Any, tiny_tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scorers") / "tiny-llama"
    tiny_llama.save_pretrained(folder)
    tiny_tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def samples(tiny_tokenizer: Any) -> list[dict[str, Any]]:
    def ids(text: str) -> list[int]:
        return list(tiny_tokenizer(text, add_special_tokens=False).input_ids)

    keys = [dict(zip(KEY, ("conv", 8, 16, "", 0, index), strict=True)) for index in range(len(TEXTS))]
    return [key | {"ids": ids(text)} for key, text in zip(keys, TEXTS, strict=True)]


def no_scorer() -> Scorer:
    return Scorer("nowhere/tiny-llama", "cpu")


def test_samples_and_references_are_scored(
    samples: list[dict[str, Any]], scorer_folder: Path, tiny_llama: Any, tiny_tokenizer: Any, tmp_path: Path
) -> None:
    scorer = Scorer(str(scorer_folder), "cpu")
    scores, of_references = score_samples(samples, REFERENCES, tiny_tokenizer, scorer, tmp_path, batch_size=2)
    expected = text_losses(tiny_llama, tiny_tokenizer, TEXTS + REFERENCES, batch_size=1)
    assert list(scores) == [("conv", 8, 16, "", 0, index) for index in range(4)]
    for found, wanted in zip([*scores.values(), *of_references], expected, strict=True):
        assert found == pytest.approx(wanted, rel=1e-5)
    assert scores["conv", 8, 16, "", 0, 1] == of_references[1] == (0.0, 0)
    assert json.loads((tmp_path / "scores-tiny-llama" / "settings.json").read_text())["scorer"] == "tiny-llama"
    assert score_samples(samples, None, tiny_tokenizer, scorer, tmp_path, batch_size=2) == (scores, [])


def test_what_is_scored_is_not_scored_again(
    samples: list[dict[str, Any]],
    scorer_folder: Path,
    tiny_tokenizer: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scored: list[str] = []

    def watched(model: Any, tokenizer: Any, texts: list[str], *args: Any, **options: Any) -> Any:
        if len(scored) == 4:
            raise KeyboardInterrupt
        scored.extend(texts)
        return text_losses(model, tokenizer, texts, *args, **options)

    monkeypatch.setattr(scoring, "text_losses", watched)
    monkeypatch.setattr(scoring, "CHUNK", 2)
    scorer = Scorer(str(scorer_folder), "cpu")
    with pytest.raises(KeyboardInterrupt):
        score_samples(samples, REFERENCES, tiny_tokenizer, scorer, tmp_path, batch_size=2)
    assert scored == TEXTS
    scored[:] = ["before"]
    shown: list[int] = []

    def progress(chunks: list[Any]) -> Any:
        shown.extend(map(len, chunks))
        return chunks

    first = score_samples(samples, REFERENCES, tiny_tokenizer, scorer, tmp_path, 2, progress)
    assert scored == ["before", *REFERENCES] and shown == [2, 1]

    without_a_scorer = Scorer(str(scorer_folder), "cpu")
    monkeypatch.setattr(Scorer, "loaded", property(lambda self: pytest.fail("nothing is left to score")))
    assert score_samples(samples, REFERENCES, tiny_tokenizer, without_a_scorer, tmp_path, batch_size=2) == first


def test_scores_of_another_scorer_are_refused(
    samples: list[dict[str, Any]], scorer_folder: Path, tiny_tokenizer: Any, tmp_path: Path
) -> None:
    score_samples(samples, None, tiny_tokenizer, Scorer(str(scorer_folder), "cpu"), tmp_path, batch_size=2)
    with pytest.raises(ValueError, match=r"scorer: 'tiny-llama', now 'nowhere/tiny-llama'"):
        score_samples(samples, None, tiny_tokenizer, no_scorer(), tmp_path, batch_size=2)


def test_of_a_long_text_as_much_is_scored_as_the_scorer_reads(
    tiny_llama: Any, tiny_tokenizer: Any, tmp_path: Path
) -> None:
    short_sighted = copy.copy(tiny_llama)
    short_sighted.config = copy.deepcopy(tiny_llama.config)
    short_sighted.config.max_position_embeddings = 16
    scorer = Scorer("short", "cpu")
    scorer.__dict__["loaded"] = (short_sighted, tiny_tokenizer)
    _, scores = score_samples([], ["a" * 40, "b"], tiny_tokenizer, scorer, tmp_path, batch_size=2)
    assert [tokens for _, tokens in scores] == [16, 1]
