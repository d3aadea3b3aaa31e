"""`generate` on every family: rows by themselves, prompts kept, no mask left, caches, shifted logits."""

from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, Qwen3Config, Qwen3ForCausalLM

from conv_dlm import DiffusionGenerationConfig, enable_diffusion
from tests.models.families import BLOCK_LENGTHS, FAMILIES, load

MASKS = {"dream": 154, "a2d": 140, "sdar": 135, "fast": 145, "llada": 143, "llada2": 143}
PROMPTS = ([5, 9, 23, 77, 41, 60, 11, 8, 30, 31, 32], [4, 8, 15, 16, 23, 42], [7, 7, 9, 12, 90, 3, 4, 88])
SETTINGS: dict[str, dict[str, Any]] = {
    "threshold": {"decode_type": "threshold", "threshold": 0.3},
    "llada": {"decode_type": "llada", "steps": 12},
    "conv": {"decode_type": "conv", "steps": 12, "kernel_size": 9},
    "guided": {"decode_type": "threshold", "threshold": 0.3, "guidance_scale": 1.5},
}

each_family = pytest.mark.parametrize("family", FAMILIES)


def generate(model: Any, family: str, prompts: Any = PROMPTS, **settings: Any) -> Any:
    """Prompts padded at the left by 0, 17 new tokens; a generator for each row, of its prompt."""
    ids = torch.nn.utils.rnn.pad_sequence([torch.tensor(row) for row in prompts], batch_first=True, padding_side="left")
    if settings["decode_type"] != "conv":
        settings.setdefault("block_length", BLOCK_LENGTHS.get(family, 8))
    return model.generate(
        ids, attention_mask=(ids != 0).long(), max_new_tokens=17, eos_token_id=None, pad_token_id=0,
        mask_token_id=MASKS[family.partition("_")[0]], return_dict_in_generate=True,
        generator=[torch.Generator().manual_seed(sum(row)) for row in prompts], **settings,
    )  # fmt: skip


@each_family
@pytest.mark.parametrize("kind", ["llada", "conv", "guided"])
def test_a_row_is_generated_as_if_it_were_alone(family, kind):
    model, mask = load(family), MASKS[family.partition("_")[0]]
    out = generate(model, family, **SETTINGS[kind])
    assert not (out.sequences == mask).any()
    for row, prompt in enumerate(PROMPTS):
        text = out.sequences[row, len(PROMPTS[0]) - len(prompt) :].tolist()
        assert text[: len(prompt)] == prompt
        alone = generate(model, family, [prompt], **SETTINGS[kind])
        assert alone.sequences[0].tolist() == text
        assert alone.forwards[0] == out.forwards[row]


@pytest.mark.parametrize("family", BLOCK_LENGTHS)
@pytest.mark.parametrize("kind", SETTINGS)
def test_the_prefix_cache_of_block_causal_models_is_exact(family, kind):
    model, computed = load(family), []
    model.register_forward_pre_hook(
        lambda module, args, kwargs: computed.append(kwargs["input_ids"].numel()), with_kwargs=True
    )
    plain = generate(model, family, **SETTINGS[kind], cache_implementation=None)
    without, computed[:] = sum(computed), []
    cached = generate(model, family, **SETTINGS[kind])  # a family's own default
    assert torch.equal(cached.sequences, plain.sequences)
    assert torch.equal(cached.unmasked_at, plain.unmasked_at)
    assert sum(computed) < without


@pytest.mark.parametrize("family", [family for family in FAMILIES if family not in BLOCK_LENGTHS])
@pytest.mark.parametrize("cache", ["prefix", "dual"])
def test_approximate_caches_leave_no_mask(family, cache):
    out = generate(load(family), family, **SETTINGS["threshold"], cache_implementation=cache)
    assert not (out.sequences == MASKS[family.partition("_")[0]]).any()


def test_the_first_token_of_a_response_is_predicted_by_the_last_of_the_prompt():
    """Of shifted logits, in a row that is padded at the left too."""
    model = load("dream_tiny")
    out = generate(model, "dream_tiny", decode_type="llada", steps=1, block_length=None)
    canvas = torch.tensor([*PROMPTS[1], *[154] * 17])[None]
    with torch.no_grad():
        logits = model(canvas).logits[0]
    logits[:, 154] = -torch.inf
    start = len(PROMPTS[1])
    assert out.sequences[1, -17:].tolist() == logits[start - 1 : -1].argmax(-1).tolist()


@pytest.mark.parametrize("family", BLOCK_LENGTHS)
def test_blocks_are_those_of_the_model_where_nobody_says(family):
    model = load(family)
    given = generate(model, family, **SETTINGS["threshold"])
    assert torch.equal(generate(model, family, **SETTINGS["threshold"], block_length=None).sequences, given.sequences)
    for length in (3, 2 * BLOCK_LENGTHS[family]):
        with pytest.raises(ValueError, match=f"`block_length`={length} cuts across the blocks of"):
            generate(model, family, **SETTINGS["threshold"], block_length=length)


@each_family
def test_a_family_generates_as_its_published_sampler_unless_somebody_says_otherwise(family, tmp_path):
    blocks = BLOCK_LENGTHS.get(family)
    model = load(family)
    said = model.generation_config
    settings = dict(model.config.published_settings)
    assert settings and all(getattr(said, name) == value for name, value in settings.items())
    assert said.cache_implementation == ("block" if blocks else None)
    assert model.resolve_settings().decode_type == settings["decode_type"]
    assert model.resolve_settings(cache_implementation=None).cache_implementation is None
    model.generation_config = DiffusionGenerationConfig(decode_type="conv", block_length=2)
    model.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path).generation_config
    assert (again.decode_type, again.block_length) == ("conv", 2)


@pytest.mark.parametrize(
    "pattern", [{"attention_pattern": "full"}, {"attention_pattern": "block_causal", "block_length": 4}]
)
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_a_causal_class_that_somebody_adapted_is_told_what_it_sees(pattern, attention):
    adapted = load("a2d_qwen3_tiny", **pattern)
    stock = Qwen3ForCausalLM(Qwen3Config.from_dict({**adapted.config.to_dict(), "model_type": "qwen3"}))
    stock.load_state_dict(adapted.state_dict())
    stock.set_attn_implementation(attention)
    stock = enable_diffusion(stock.eval(), 140, **pattern)
    settings = SETTINGS["threshold"] | {"block_length": 4}
    expected = generate(adapted, "a2d_qwen3_tiny", **settings)
    assert torch.equal(generate(stock, "a2d_qwen3_tiny", **settings).sequences, expected.sequences)
    with pytest.raises(ValueError, match="must be 'full' or 'block_causal'"):
        enable_diffusion(stock, 140, attention_pattern="causal")
    with pytest.raises(ValueError, match="`block_length`=None must be a positive number"):
        enable_diffusion(stock, 140, attention_pattern="block_causal")
    with pytest.raises(ValueError, match="`block_length`=4 has no use"):
        enable_diffusion(stock, 140, attention_pattern="full", block_length=4)


def test_a_default_that_cuts_across_the_blocks_of_a_checkpoint_is_left_out():
    assert load("fast_dllm_v2_tiny", block_length=4).resolve_settings().block_length == 4
    assert load("fast_dllm_v2_tiny", block_length=16).resolve_settings().block_length == 8
    assert load("sdar_tiny", attention_pattern="full").generation_config.cache_implementation is None


def test_a_saved_default_of_blocks_is_left_out_where_the_canvas_is_seen_whole(tmp_path):
    load("sdar_tiny").save_pretrained(tmp_path)
    assert AutoModelForCausalLM.from_pretrained(tmp_path).generation_config.cache_implementation == "block"
    whole = AutoModelForCausalLM.from_pretrained(tmp_path, attention_pattern="full")
    assert whole.generation_config.cache_implementation is None
    generate(whole, "sdar_tiny", **SETTINGS["threshold"])
