"""A tokenizer and a model from nothing, and a causal model as a denoiser."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

import conv_dlm  # noqa: F401
from conv_dlm.models.llada.modeling_llada import LLaDAModelLM
from conv_dlm.word_problems import problems
from trainers import causal_to_diffusion
from trainers.causal_to_diffusion import to_a2d, to_llada
from trainers.from_scratch import MASK, TURN_END, StartArguments, main, train_tokenizer

pytestmark = pytest.mark.usefixtures("few_drills")
SMALL = dict(vocab_size=700, largest_number=200, tokenizer_rows=60, width=32, layers=2, heads=2, inner_width=48)


@pytest.fixture(scope="module")
def start(few_drills: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("start")
    main(StartArguments(output_dir=str(folder), **SMALL))
    return folder


@pytest.fixture(scope="module")
def tokenizer(start: Path) -> Any:
    return AutoTokenizer.from_pretrained(start)


def test_each_number_is_one_token_wherever_it_stands(tokenizer):
    for text in ("{}", "is {} pens", "= {}", "#### {}", '"{} + 1"', "({})", "{}.", "{}%"):
        plain = tokenizer.encode(text.format(7), add_special_tokens=False)
        for number in (0, 9, 10, 42, 199, 200):
            ids = tokenizer.encode(text.format(number), add_special_tokens=False)
            assert len(ids) == len(plain)
            assert tokenizer.convert_tokens_to_ids(str(number)) in ids


def test_any_text_comes_back(tokenizer):
    for text in ("Zoë zahlt 7 €.\n\tÄ  b", "日本語 🙂", *(one.solution for one in problems(0, 20, forms=("json",)))):
        assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)) == text


def test_the_chat_template_is_that_of_llada(tokenizer):
    chat = [{"role": "user", "content": " Hello "}, {"role": "assistant", "content": "Hi"}]
    text = tokenizer.apply_chat_template(chat, tokenize=False)
    header = "<|start_header_id|>{}<|end_header_id|>\n\n{}<|eot_id|>"
    assert text == "<|startoftext|>" + header.format("user", "Hello") + header.format("assistant", "Hi")
    asked = tokenizer.apply_chat_template(chat[:1], add_generation_prompt=True, tokenize=False)
    assert text.startswith(asked) and asked.endswith("assistant<|end_header_id|>\n\n")
    assert (tokenizer.mask_token, tokenizer.eos_token, tokenizer.pad_token) == (MASK, "<|endoftext|>", "<|endoftext|>")
    assert len(tokenizer.encode(TURN_END, add_special_tokens=False)) == 1


def test_the_model_is_the_seeds(start: Path, tmp_path: Path):
    model = AutoModelForCausalLM.from_pretrained(start)
    assert isinstance(model, LlamaForCausalLM) and model.config.vocab_size == 700
    for seed, equal in ((0, True), (1, False)):
        main(StartArguments(output_dir=str(tmp_path), **SMALL | {"seed": seed}))
        again = AutoModelForCausalLM.from_pretrained(tmp_path)
        assert torch.equal(model.lm_head.weight, again.lm_head.weight) == equal


def test_too_small_a_vocabulary():
    with pytest.raises(ValueError, match="`vocab_size=300` is too small"):
        train_tokenizer(["text"], 300, 200)


def test_the_denoiser_has_the_causal_models_weights(start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sys.argv", ["causal_to_diffusion", str(start), str(tmp_path)])
    causal_to_diffusion.main()
    denoiser = AutoModelForCausalLM.from_pretrained(tmp_path)
    causal = AutoModelForCausalLM.from_pretrained(start)
    assert isinstance(denoiser, LLaDAModelLM)
    assert json.loads((tmp_path / "config.json").read_text())["mask_token_id"] == denoiser.config.mask_token_id
    ids = torch.tensor([[5, 9, 300, 12]])
    # The last position of a causal model sees everything, as all of a denoiser's do; one layer deep they agree.
    for model in (causal, denoiser):
        model.model.layers = model.model.layers[:1]
    with torch.no_grad():
        theirs, ours = (model.eval()(input_ids=ids, use_cache=False).logits for model in (causal, denoiser))
    torch.testing.assert_close(ours[:, -1], theirs[:, -1], atol=1e-5, rtol=1e-5)
    assert not torch.allclose(ours[:, 0], theirs[:, 0], atol=1e-3)


@pytest.mark.parametrize("family", ["Llama", "Qwen2", "Qwen3"])
def test_a_position_goes_on_predicting_the_next_token(
    family: str, start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Seen from left to right, the start of a shifted denoiser is the causal model."""
    size = dict(vocab_size=700, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48)
    config_class, model_class = (getattr(transformers, f"{family}{kind}") for kind in ("Config", "ForCausalLM"))
    causal = model_class(config_class(**size, num_key_value_heads=1, tie_word_embeddings=True)).eval()
    causal.save_pretrained(tmp_path / "causal")
    AutoTokenizer.from_pretrained(start).save_pretrained(tmp_path / "causal")
    words = ["causal_to_diffusion", str(tmp_path / "causal"), str(tmp_path / "denoiser"), "--shift"]
    monkeypatch.setattr("sys.argv", words)
    causal_to_diffusion.main()

    denoiser = AutoModelForCausalLM.from_pretrained(tmp_path / "denoiser", attention_pattern="causal")
    ids = torch.tensor([[5, 9, 300, 12]])
    with torch.no_grad():
        theirs, ours = (model.eval()(input_ids=ids, use_cache=False).logits for model in (causal, denoiser))
    torch.testing.assert_close(ours, theirs)
    bidirectional = AutoModelForCausalLM.from_pretrained(tmp_path / "denoiser")
    assert bidirectional.config.shift_logits and bidirectional.config.attention_pattern == "full"
    assert bidirectional.config.mask_token_id == AutoTokenizer.from_pretrained(tmp_path / "denoiser").mask_token_id


def test_what_can_not_be_shifted(start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any):
    small = transformers.GPT2Config(vocab_size=700, n_embd=8, n_layer=1, n_head=1)
    transformers.GPT2LMHeadModel(small).save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(start).save_pretrained(tmp_path)
    for words, message in ((["--shift"], "a Llama, a Qwen2 or a Qwen3"), ([], "it must be a Llama")):
        monkeypatch.setattr("sys.argv", ["causal_to_diffusion", str(tmp_path), str(tmp_path / "out"), *words])
        with pytest.raises(SystemExit):
            causal_to_diffusion.main()
        assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"attention_bias": True}, "`attention_bias=True`"),
        ({"mlp_bias": True}, "`mlp_bias=True`"),
        ({"head_dim": 32}, "`head_dim=32`"),
        ({"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}}, "`rope_type='linear'`"),
    ],
)
def test_what_the_layout_has_no_place_for(settings: dict[str, Any], message: str):
    size = dict(vocab_size=64, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)
    model = LlamaForCausalLM(LlamaConfig(**size, **settings))
    with pytest.raises(ValueError, match=message):
        to_llada(model, 3)


def test_a_mask_that_is_no_token():
    config = LlamaConfig(
        vocab_size=64, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    )
    with pytest.raises(ValueError, match="`mask_token_id=64` is no token of 64"):
        to_llada(LlamaForCausalLM(config), 64)
    with pytest.raises(ValueError, match="`mask_token_id=64` is no token of 64"):
        to_a2d(LlamaForCausalLM(config), 64)
