"""Whatever a caller says, `generate` does what it means or raises a SettingError that says what is wrong."""

import copy
import json
import math
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM

import conv_dlm
from conv_dlm import SettingError
from conv_dlm.generation.configuration import FURTHER_SETTINGS, WITHOUT_MEANING, user_settings
from conv_dlm.generation.errors import NotFiniteError
from conv_dlm.models import MDLMConfig

PROMPT = torch.tensor([[1, 40, 50, 60, 70]])
SHORT = dict(attention_mask=torch.ones_like(PROMPT), max_new_tokens=4, steps=2)
NAN, INF = math.nan, math.inf


def text(model: Any, ids: Any = PROMPT, **said: Any) -> list[list[int]]:
    return model.generate(ids, **(SHORT | {"generator": torch.Generator().manual_seed(0)} | said)).tolist()


@pytest.mark.parametrize(
    ("said", "same"),
    [
        (dict(max_new_tokens=6.0), dict(max_new_tokens=6)),
        (dict(max_new_tokens=np.int64(6)), dict(max_new_tokens=6)),
        (dict(max_new_tokens=torch.tensor(6)), dict(max_new_tokens=6)),
        (dict(steps=np.float64(3.0)), dict(steps=3)),
        (dict(temperature=np.float32(0.5)), dict(temperature=0.5)),
        (dict(temperature=torch.tensor(0.5)), dict(temperature=0.5)),
        (dict(do_sample=0), dict(do_sample=False)),
        (dict(repetition_penalty=2), dict(repetition_penalty=2.0)),
        (dict(do_sample=np.bool_(False)), dict(do_sample=False)),
        (dict(eos_token_id=torch.tensor([186, 72])), dict(eos_token_id=[186, 72])),
        (dict(eos_token_id=np.array(186)), dict(eos_token_id=186)),
        (dict(suppress_tokens=72), dict(suppress_tokens=[72])),
        (dict(max_time=INF), {}),
        (dict(ids=PROMPT.int()), {}),
        (dict(ids=PROMPT.to(torch.uint8)), {}),
        (dict(ids=PROMPT.tolist()), {}),
        (dict(ids=PROMPT.numpy()), {}),
        (dict(attention_mask=[[1] * 5]), {}),
        (dict(attention_mask=np.ones((1, 5))), {}),
        (dict(attention_mask=torch.ones(1, 5, dtype=torch.bool)), {}),
    ],
)  # fmt: skip
def test_what_says_the_same_does_the_same(tiny_llada, said, same):
    assert text(tiny_llada, **said) == text(tiny_llada, **same)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("temperature", (NAN, INF, -INF, 1e308, "1", [1])), ("guidance_scale", (NAN, INF, "1")),
        ("conv_mult", (NAN, INF)),
        ("repetition_penalty", (NAN, INF)), ("exit_high", (NAN, INF)), ("max_time", (NAN, -1, "1")),
        ("top_p", (NAN, 5, -1, "1")), ("min_p", (2, "1")), ("typical_p", (0, [1])), ("top_h", (-1,)),
        ("steps", (10**23, True, "8", 2.5)), ("max_new_tokens", ("6", 10**30)), ("max_length", ("x", 7.5)),
        ("num_return_sequences", (0, -1, 1.5)), ("mask_token_id", (True, -1, 9999)),
        ("eos_token_id", (-1, 260, 3, "x", [2, "x"])), ("pad_token_id", (-1, 260, "x", (1, 2))),
        ("bos_token_id", (9999,)),
        ("suppress_tokens", ([999], [-1], "x")), ("bad_words_ids", ([[999]], 5)), ("sequence_bias", ({(999,): 1.0}, 3)),
        ("do_sample", ("no", 2)), ("shift_logits", ("no",)), ("return_dict_in_generate", ("no",)),
        ("decode_type", (["conv"], 5, "")), ("generator", (5, "x", [None])), ("streamer", (5, "x")),
        ("stop_strings", (5, [""], [3])), ("callback_on_step_end", (5,)),
        ("logits_processor", (5, [5], torch.ones(2, 3), torch.tensor(1))),
        ("watermarking_config", ({"a": 1}, 5)), ("top_k", (torch.ones(2, 3),)), ("stepz", (5,)),
        ("stopping_criteria", (5, [5])), ("generation_config", ({"steps": 2}, "x")),
        ("input_ids", ("text", {"input_ids": PROMPT}, PROMPT + 300, PROMPT - 100, PROMPT.float(), [[1, 2], [3]],
                       PROMPT.to_sparse(), PROMPT.to("meta"))),
        ("attention_mask", (torch.full((1, 5), 0.5), torch.full((1, 5), NAN), torch.full((1, 5), 2), "x", [1] * 5)),
    ],
)  # fmt: skip
def test_what_cannot_be_is_named(tiny_llada, name, values):
    for value in values:
        said = {"exit_schedule": "linear"} if name == "exit_high" else {}
        ids = value if name == "input_ids" else PROMPT
        with pytest.raises(SettingError) as caught:
            text(tiny_llada, ids, **said, **({} if name == "input_ids" else {name: value}))
        assert caught.value.field == name and f"`{name}`" in str(caught.value)


def test_nothing_to_do_is_named(tiny_llada):
    with pytest.raises(SettingError, match="`input_ids` is empty, and no new token is asked for"):
        tiny_llada.generate(PROMPT[:, :0], max_new_tokens=0)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        *((dict(decode_type="llada", **{name: 0.5}), f"`{name}`=0.5 has no effect where nothing is drawn")
          for name in ("top_p", "min_p", "typical_p", "top_h", "epsilon_cutoff", "eta_cutoff")),
        (dict(do_sample=False, temperature=0.7), "`temperature`=0.7 has no effect with `do_sample=False`"),
        (dict(decode_type="llada", temperature=0.7, top_k=1), "`temperature`=0.7 has no effect with `top_k=1`"),
        (dict(decode_type="llada", do_sample=True, top_k=1), "`do_sample`=True has no effect with `top_k=1`"),
        (dict(position_ids=torch.arange(5)[None]), "`position_ids` has no effect"),
        (dict(penalty_alpha=0.6, top_k=4), "`penalty_alpha`=0.6 has no effect"),
        (dict(prompt_lookup_num_tokens=3), "`prompt_lookup_num_tokens`=3 has no effect"),
    ],
)  # fmt: skip
def test_asked_for_and_not_done_is_said(tiny_llada, said, message):
    with pytest.warns(UserWarning, match=message) as warned:
        text(tiny_llada, **said)
    assert len(warned) == 1


def test_as_many_texts_from_one_candidate_would_be_the_same(tiny_llada):
    with pytest.raises(SettingError, match="would return the same text"):
        text(tiny_llada, decode_type="llada", do_sample=True, top_k=1, num_return_sequences=2)


def test_ids_of_a_checkpoint_that_mean_nothing_are_left_out(tiny_llada):
    """-1 for "none", and those of a tokenizer with more tokens; a call that says them is refused."""
    model = copy.deepcopy(tiny_llada)
    model.generation_config.eos_token_id, model.generation_config.pad_token_id = [2, 260, -1, 3], -1
    assert text(model) == text(tiny_llada, pad_token_id=2)


@pytest.mark.parametrize("decode_type", ["conv", "llada", "threshold", "entropy", "remdm", "categorical"])
def test_a_sick_model_says_so(tiny_llada, decode_type):
    sick = copy.deepcopy(tiny_llada)
    with torch.no_grad():
        next(iter(sick.parameters()))[70] = NAN
    with pytest.raises(NotFiniteError, match="NaN or infinite"):
        text(sick, decode_type=decode_type, steps=None)
    generators = [torch.Generator().manual_seed(row) for row in range(2)]
    for processor in (lambda ids, scores: scores * NAN, lambda ids, scores: scores + INF, lambda ids, s: s - INF):
        with pytest.raises(NotFiniteError):
            tiny_llada.generate(
                PROMPT.repeat(2, 1), attention_mask=torch.ones(2, 5), max_new_tokens=4, decode_type=decode_type,
                generator=generators, logits_processor=[processor],
            )  # fmt: skip


def test_a_model_that_reads_zeros_is_refused(tiny_llada):
    """Whose file was never filled; else token 0 would be its answer."""
    empty = copy.deepcopy(tiny_llada)
    with torch.no_grad():
        empty.get_input_embeddings().weight.zero_()
    with pytest.raises(ValueError, match="embeddings of this LLaDAModelLM are zero"):
        conv_dlm.enable_diffusion(empty, 3)


def test_a_model_before_its_first_step_may_generate():
    """MDLM starts with a head of zeros: every token is as likely as every other."""
    config = MDLMConfig(hidden_dim=16, n_blocks=1, n_heads=2, vocab_size=260, cond_dim=8, pad_token_id=0)
    assert len(text(AutoModelForCausalLM.from_config(config).eval())[0]) == 9


def test_a_vocabulary_that_is_suppressed(tiny_llada):
    with pytest.raises(NotFiniteError, match="suppress_tokens"):
        text(tiny_llada, suppress_tokens=list(range(260)))


def test_parts_of_a_wrong_kind_are_refused():
    for name, value in ((5, conv_dlm.DecodeType("uniform", "ancestral", "")), ("x", "conv")):
        with pytest.raises(ValueError):
            conv_dlm.DECODE_TYPES.register(name, value)
    for top_k in (-1, "a", True):
        with pytest.raises(ValueError, match="`top_k="):
            conv_dlm.DecodeType("uniform", "ancestral", "", top_k=top_k)
    for model, mask in (("name", 3), (torch.nn.Linear(2, 2), 3)):
        with pytest.raises(SettingError, match="`model` is a"):
            conv_dlm.enable_diffusion(model, mask)


NAMES = sorted(
    {*user_settings(), *FURTHER_SETTINGS, "eos_token_id", "pad_token_id", "bos_token_id", "suppress_tokens",
     "bad_words_ids", "sequence_bias", "stop_strings", "generator", "attention_mask", "use_cache", "compile_config",
     "logits_processor", "stopping_criteria", "watermarking_config", "stepz", *WITHOUT_MEANING}
    - {"compile", "max_time"}
)  # fmt: skip
ODD = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 300), st.sampled_from([2**31, 2**40, -(2**63), 10**23]),
    st.text(max_size=3), st.floats(), st.floats(0, 1), st.lists(st.text(max_size=2), max_size=2),
    st.sampled_from([np.int64(3), np.float32(0.5), torch.tensor(2), torch.tensor([2, 5]), b"x", {}, object()]),
    st.sampled_from([torch.ones(2, 3), np.ones(3), {"a": 1}]),
    st.lists(st.integers(-2, 300), max_size=3),
    st.sampled_from(["conv", "llada", "topk", "threshold", "remdm", "window", "linear", "low_confidence", "random"]),
)  # fmt: skip


def anything_goes_or_is_named(model: Any, said: dict[str, Any]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            out = model.generate(PROMPT, **(dict(max_new_tokens=4) | said))
        except (SettingError, NotFiniteError) as error:
            assert str(error)
            return
    ids = out if isinstance(out, torch.Tensor) else out.sequences
    assert (ids[:, :5] == PROMPT).all()
    if not {"pad_token_id", "mask_token_id"} & said.keys():
        assert not (ids == 3).any()


@seed(0)
@settings(max_examples=40, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(said=st.dictionaries(st.sampled_from(NAMES), ODD, min_size=1, max_size=2))
def test_anything(tiny_llada, said):
    anything_goes_or_is_named(tiny_llada, said)


@pytest.mark.slow
@seed(1)
@settings(max_examples=5000, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(said=st.dictionaries(st.sampled_from(NAMES), ODD, min_size=1, max_size=4))
def test_anything_often(tiny_llada, said):
    anything_goes_or_is_named(tiny_llada, said)


@pytest.mark.parametrize(
    ("file", "fields"),
    [
        ("config.json", dict(use_cache=True)), ("config.json", dict(use_cache="yes", num_beams=4, return_dict=False)),
        ("config.json", dict(output_attentions=True, output_hidden_states=True)),
        ("config.json", dict(rope_parameters={"rope_type": "default", "rope_theta": 10000.0})),
        ("generation_config.json", dict(use_cache=True, num_beams=4, min_length=5, no_repeat_ngram_size=3)),
        ("generation_config.json", dict(forced_eos_token_id=2, begin_suppress_tokens=[5], num_beam_groups=2)),
        ("generation_config.json", dict(num_return_sequences=2, stop_strings="x", bad_words_ids=[[5, 6]])),
        ("generation_config.json", dict(compile_config={"x": 1}, watermarking_config={"x": 1}, max_time=-1)),
        ("generation_config.json", dict(exponential_decay_length_penalty=[1, 2], suppress_tokens=[9999])),
        ("generation_config.json", dict(eos_token_id=[2, -1], pad_token_id=-1, typical_p=2.0, penalty_alpha=0.6)),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore")
def test_fields_that_mean_nothing_here_load_and_are_saved(tiny_llada, tmp_path, file, fields):
    tiny_llada.save_pretrained(tmp_path)
    config = json.loads((tmp_path / file).read_text()) | fields
    (tmp_path / file).write_text(json.dumps(config))
    model = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert text(model) == text(tiny_llada)
    model.save_pretrained(tmp_path / "again")
    assert text(AutoModelForCausalLM.from_pretrained(tmp_path / "again")) == text(tiny_llada)
    for name, value in (("num_beams", 4), ("min_length", 5)):  # asked for in a call, they are refused
        with pytest.raises(SettingError):
            text(model, **{name: value})
