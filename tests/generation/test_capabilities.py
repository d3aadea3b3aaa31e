"""What a model's forward can do is declared by its class, or known of Transformers' own models; nothing is guessed."""

import copy
import warnings

import pytest
import torch
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertLMHeadModel,
    BloomConfig,
    BloomForCausalLM,
    EuroBertConfig,
    EuroBertForMaskedLM,
    LlamaForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)
from transformers.modeling_outputs import CausalLMOutput

import conv_dlm
from conv_dlm.generation.capabilities import cache_argument, supports_canvas_cache, supports_window_logits
from tests.tiny import random_llama

PROMPT = torch.tensor([[1, 40, 50, 60, 70]])
MASK = 3


class Watched:
    """Positions that a model computed and projected to the vocabulary, forward by forward."""

    def __init__(self, model):
        self.computed, self.projected = [], []
        model.register_forward_pre_hook(lambda _, __, named: self.computed.append(named["input_ids"].shape[1]),
                                        with_kwargs=True)  # fmt: skip
        head = model.get_output_embeddings()
        head.register_forward_hook(lambda _, __, logits: self.projected.append(logits.shape[1]))


def write(model, **keywords):
    settings = dict(attention_mask=torch.ones_like(PROMPT), decode_type="conv", kernel_size=8, steps=24)
    settings["generator"] = torch.Generator().manual_seed(0)
    return model.generate(PROMPT, max_new_tokens=60, eos_token_id=None, **settings | keywords)


def tiny_qwen():
    config = Qwen3Config(
        vocab_size=260, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8, max_position_embeddings=256, pad_token_id=0, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Qwen3ForCausalLM(config).eval()


@pytest.fixture(params=["llama", "qwen3"])
def native(request, tiny_llama):
    model = copy.deepcopy(tiny_llama) if request.param == "llama" else tiny_qwen()
    return conv_dlm.enable_diffusion(model, mask_token_id=MASK)


def test_transformers_own_models_project_the_window_and_have_caches(native):
    watched = Watched(native)
    write(native, cache_implementation="window")
    assert len(watched.computed) > 5
    assert max(watched.computed) == 65 and min(watched.computed) < 33  # some forwards are partial
    assert max(watched.projected) < 33


def test_their_caches_are_filled(native):
    """A cache that is handed over under a name which nobody reads changes nothing when it is refreshed every time,
    and everything when it is not."""
    fresh = write(native, cache_implementation="window", cache_refresh_interval=1)
    assert torch.equal(fresh, write(native))
    settings = dict(cache_implementation="window", cache_refresh_interval=1000, cache_margin=1)
    assert not torch.equal(write(native, **settings), fresh)


class SomeonesLM(LlamaForCausalLM):
    """Code that came with a checkpoint: its `logits_to_keep` means something else, and it has no use for a cache."""

    def forward(self, input_ids, attention_mask=None, position_ids=None, past_key_values=None, logits_to_keep=0):
        assert logits_to_keep == 0 and past_key_values is None
        hidden_states = self.model(input_ids, attention_mask).last_hidden_state
        return CausalLMOutput(logits=self.lm_head(hidden_states))


def test_what_a_foreign_forward_does_not_declare_is_not_used(tiny_llama):
    model = conv_dlm.enable_diffusion(SomeonesLM(tiny_llama.config).eval(), mask_token_id=MASK)
    assert not supports_window_logits(model) and not supports_canvas_cache(model)
    watched = Watched(model)
    write(model)
    assert set(watched.projected) == {65}
    with pytest.raises(ValueError, match=r"SomeonesLM doesn't declare .*`supports_canvas_cache = True`"):
        write(model, cache_implementation="window")


def test_what_it_declares_is(tiny_llama):
    model = SomeonesLM(tiny_llama.config)
    model.supports_window_logits = model.supports_canvas_cache = True
    conv_dlm.enable_diffusion(model, mask_token_id=MASK)
    assert supports_window_logits(model) and supports_canvas_cache(model)


def test_a_model_without_such_arguments():
    config = EuroBertConfig(vocab_size=64, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
                            num_key_value_heads=2, intermediate_size=16, pad_token_id=0)  # fmt: skip
    model = EuroBertForMaskedLM(config)
    assert not supports_window_logits(model) and not supports_canvas_cache(model)


def bloom():
    """Causal, and no layer says so."""
    config = BloomConfig(vocab_size=260, hidden_size=32, n_layer=2, n_head=4, pad_token_id=0, bos_token_id=1,
                         eos_token_id=2)  # fmt: skip
    return BloomForCausalLM(config)


def bert(**settings):
    config = BertConfig(vocab_size=260, hidden_size=32, intermediate_size=48, num_hidden_layers=1,
                        num_attention_heads=4, pad_token_id=0, **settings)  # fmt: skip
    return (BertLMHeadModel if settings else BertForMaskedLM)(config)


def undeclared(tiny_llada):
    """One whose layers say nothing, and whose new blocks don't mix positions yet: it is not for left to right."""
    model = copy.deepcopy(tiny_llada)
    for layer in model.modules():
        if hasattr(layer, "o_proj"):
            torch.nn.init.zeros_(layer.o_proj.weight)
            layer.is_causal = None
    return model


def test_a_model_that_sees_no_text_at_the_right_is_named(tiny_llama, tiny_llada):
    for model in (copy.deepcopy(tiny_llama), bloom(), bert(is_decoder=True)):
        training = model.training
        with pytest.warns(UserWarning, match=f"{type(model).__name__} is causal: it sees no text at the right"):
            conv_dlm.enable_diffusion(model, mask_token_id=MASK)
        assert model.training == training
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for model in (bert(), undeclared(tiny_llada), copy.deepcopy(tiny_llada)):
            conv_dlm.enable_diffusion(model, mask_token_id=MASK)


def test_the_name_of_the_cache_is_read_off_the_forward(tiny_llada):
    class Old(torch.nn.Module):
        def forward(self, input_ids, past_key_values=None):
            pass

    assert cache_argument(tiny_llada) == "cache" and cache_argument(Old()) == "past_key_values"


def test_a_model_without_a_head_is_said():
    model = conv_dlm.enable_diffusion(random_llama().model, mask_token_id=MASK, attention_pattern="full")
    with pytest.raises(conv_dlm.SettingError, match="a LlamaModel, whose forward returns no logits; take one"):
        model.generate(PROMPT, max_new_tokens=4, decode_type="topk", steps=2)
