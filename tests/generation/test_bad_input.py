"""Bad input is refused at the door, by name and with a way out."""

import copy
import json
import pickle
import warnings

import pytest
import torch
from transformers import CompileConfig, LogitsProcessorList, NoRepeatNGramLogitsProcessor
from transformers.generation.streamers import BaseStreamer

import conv_dlm
from conv_dlm import DecodeType, DiffusionGenerationConfig
from tests.generation.toy import ToyModel, load_golden

PROMPT = torch.tensor([[1, 40, 50, 60, 70]])
BATCH = torch.tensor([[0, 1, 40], [1, 50, 60]])


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        (dict(decode_type="convv"), "did you mean 'conv'"),
        (dict(decode_type="llada-conv"), "did you mean 'llada_conv'"),
        (dict(kernel_size=0), "`kernel_size`=0"),
        (dict(kernel_size=1), "`kernel_size`=1"),  # no mask would ever be in reach of known text
        (dict(decode_type="conv", kernel_size=2.5), "`kernel_size`=2.5"),
        (dict(steps=0), "`steps`=0"),
        (dict(decode_type="llada", block_length=4, steps=3, max_new_tokens=20), "5 blocks"),
                (dict(decode_type="llada", remasking="lowest"), "`remasking`='lowest'"),
        (dict(decode_type="remdm", t_on=0.1, t_off=0.9), "`t_off`=0.9 must be below"),
        (dict(decode_type="remdm", eta=0.5), "`eta`=0.5 must be at most"),
        (dict(temprature=0.7), "temprature"),
        (dict(temperature=-1.0), "`temperature`=-1.0"),
        (dict(do_sample=True, temperature=0.0), "contradicts"),
        (dict(top_k=-3), "`top_k`=-3"),
        (dict(max_new_tokens=-1), "`max_new_tokens`=-1"),
        (dict(max_length=3), "`max_length`=3 is shorter than the prompt"),
        (dict(max_new_tokens=300), "need a context of 305"),
        (dict(num_beams=4), "`num_beams`=4 is a search from left to right"),
        (dict(num_return_sequences=2, decode_type="llada"), "`num_return_sequences`=2"),
        (dict(no_repeat_ngram_size=3), "`no_repeat_ngram_size`"),
        (dict(min_new_tokens=3), "min_new_tokens`"),
        (dict(bad_words_ids=[[5, 6]]), "`bad_words_ids`"),
        (dict(forced_eos_token_id=2), "`forced_eos_token_id`"),
        (dict(logits_processor=LogitsProcessorList([NoRepeatNGramLogitsProcessor(2)])), "`no_repeat_ngram_size`"),
        (dict(logits_processor=[lambda ids, scores: None]), "returned a NoneType for scores of shape"),
        (dict(logits_processor=[lambda ids, scores: scores[:1]]), "returned shape .* for scores of shape"),
        (dict(logits_processor=[lambda ids, scores: scores.repeat(1, 2)]), "returned shape"),
        (dict(stopping_criteria=[lambda ids, scores: None]), "returned None for one row; return True or False"),
        (dict(stopping_criteria=[lambda ids, scores: torch.ones(7)]), r"returned a tensor of shape \(7,\) for one row"),
        (dict(tokenizer=5, stop_strings=["a"]), "`tokenizer` is a int; pass the model's"),
        (dict(generator=[torch.Generator()] * 2), "2 generators for 1 rows"),
        (dict(attention_mask=torch.tensor([[0, 1, 1, 1]])), "`attention_mask` has shape"),
        (dict(attention_mask=torch.tensor([[1, 1, 1, 0, 0]])), "pad at the left"),
        (dict(synced_gpus=True), "`synced_gpus`=True"),
        (dict(eos_token_id=None, eos_fill=True), "`eos_fill`=True needs to know"),
        (dict(negative_prompt_ids=PROMPT, guidance_scale=2.0), "`negative_prompt_ids` is not supported"),
        (dict(decode_type="threshold", threshold=1.5), "`threshold`=1.5 must be between 0 and 1"),
        (dict(decode_type="factor", factor=-1.0), "`factor`=-1.0 must be at least 0"),
        (dict(decode_type="entropy", entropy_bound=-0.1), "`entropy_bound`=-0.1 must be at least 0"),
        (dict(eos_threshold=2.0), "`eos_threshold`=2.0 must be between 0 and 1"),
        (dict(eos_threshold=0.9, eos_token_id=None), "`eos_threshold`=0.9 needs to know"),
        (dict(decode_type="remdm", eos_threshold=0.9), "`eos_threshold`=0.9 unmasks for good"),
        (dict(exit_schedule="fast"), "`exit_schedule`='fast' must be one of"),
        (dict(exit_schedule="linear", exit_high=1.0), "`exit_low`=2.5 is above `exit_high`=1.0"),
        (dict(decode_type="remdm", exit_schedule="linear"), "`exit_schedule`='linear' unmasks for good"),
        (dict(cache_implementation="static"), "`cache_implementation`='static' must be one of"),
        (dict(cache_implementation="window", cache_refresh_interval=0), "`cache_refresh_interval`=0"),
        (dict(cache_implementation="window", cache_margin=-1), "`cache_margin`=-1 must be a whole number of at least"),
        (dict(decode_type="conv", cache_implementation="dual"), "has no blocks; use 'window', or drop it"),
        (dict(decode_type="remdm", cache_implementation="prefix"), "has no blocks"),
        (dict(decode_type="topk", lookahead=64), "`lookahead`=64 is nearer than the 133 positions"),
        (dict(decode_type="conv", kernel_size=64, lookahead=16), "raise it, drop it, or lower `kernel_size`"),
        (dict(decode_type="threshold", block_length=32, lookahead=16), "or set a shorter `block_length`"),
        (dict(kernel_size=8, lookahead=16, max_new_tokens=0), "would cut off the text at the right"),
        (dict(kernel_size=8, lookahead=16, exit_schedule="linear"), "hides masks that `exit_schedule='linear'`"),
    ],
)
def test_refused(tiny_llada, keywords, message):
    with pytest.raises(ValueError, match=message):
        tiny_llada.generate(PROMPT, **(dict(attention_mask=torch.ones_like(PROMPT)) | keywords))


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        (dict(decode_type="conv", block_length=4), "`block_length`=4 has no effect"),
        (dict(decode_type="topk", kernel_size=4), "`kernel_size`=4 has no effect"),
        (dict(decode_type="topk", eta=0.1), "one of \\['remdm', 'remdm_conv'\\]"),
        (dict(output_scores=True), "`output_scores`=True has no effect"),
        (dict(decode_type="threshold", steps=8), "`steps`=8 has no effect with `decode_type='threshold'`"),
        (dict(decode_type="conv", threshold=0.5), "`threshold`=0.5 has no effect"),
        (dict(exit_high=3.0), "`exit_high`=3.0 has no effect with `exit_schedule=None`"),
        (dict(exit_schedule="linear", exit_decay=2.0), "set `exit_schedule` to 'exponential'"),
        (dict(cache_margin=3), "`cache_margin`=3 has no effect with `cache_implementation=None`"),
        (
            dict(decode_type="threshold", cache_implementation="dual", cache_refresh_interval=4),
            "set `cache_implementation` to 'window'",
        ),
        (dict(compile_config=CompileConfig()), "`compile_config` has no effect with `compile=False`"),
    ],
)
def test_said_in_vain(tiny_llada, keywords, message):
    """A warning, one alone, and the same text as without; an error for `check_generate` that is to be strict."""
    settings = dict(attention_mask=torch.ones_like(PROMPT), max_new_tokens=6) | keywords
    with pytest.warns(UserWarning, match=message) as warned:
        text = tiny_llada.generate(PROMPT, generator=torch.Generator().manual_seed(0), **settings)
    assert len(warned) == 1
    for name in keywords.keys() - {"decode_type", "cache_implementation", "exit_schedule"}:
        del settings[name]
    assert torch.equal(text, tiny_llada.generate(PROMPT, generator=torch.Generator().manual_seed(0), **settings))
    with pytest.raises(conv_dlm.SettingError, match=message):
        tiny_llada.check_generate(PROMPT, strict=True, **(settings | keywords))


def test_habits_of_transformers_users_are_accepted(tiny_llada):
    """At most one warning each, and none for what nobody can miss."""
    settings = dict(attention_mask=torch.ones_like(PROMPT), max_new_tokens=6, steps=3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for habit in (dict(use_cache=True), dict(use_cache=False), dict(num_beams=1), dict(early_stopping=True)):
            tiny_llada.generate(PROMPT, **settings, **habit)
        tiny_llada.generate(**settings, input_ids=PROMPT, position_ids=None, token_type_ids=PROMPT * 0)
    for habit in (dict(output_scores=True), dict(output_attentions=True), dict(output_logits=True)):
        with pytest.warns(UserWarning) as warned:
            tiny_llada.generate(PROMPT, **settings, **habit, return_dict_in_generate=True)
        assert len(warned) == 1


def test_the_error_carries_what_it_is_about(tiny_llada):
    with pytest.raises(conv_dlm.SettingError) as caught:
        tiny_llada.generate(PROMPT, decode_type="llada", block_length=4, steps=3)
    error = pickle.loads(pickle.dumps(caught.value))
    assert isinstance(error, ValueError) and (error.field, error.value) == ("steps", 3)
    assert error.remedy == "raise it, or `block_length`" and str(error) == str(caught.value)
    nothing = pickle.loads(pickle.dumps(conv_dlm.SettingError("streamer", "is none", "give one")))
    assert nothing.value is ... and str(nothing) == "`streamer` is none; give one."


def test_fields_of_other_peoples_configs_never_prevent_loading(tiny_llada, tmp_path):
    tiny_llada.save_pretrained(tmp_path)
    foreign = {
        "threshold": "high", "steps": 0, "remasking": "lowest", "cache_implementation": "static", "use_cache": True,
        "do_sample": True, "temperature": 0.0, "kernel_size": 6, "something_else": 3, "output_scores": True,
    }  # fmt: skip
    (tmp_path / "generation_config.json").write_text(json.dumps(foreign))
    with pytest.warns(UserWarning, match="left out"):
        model = type(tiny_llada).from_pretrained(tmp_path)
        config = DiffusionGenerationConfig.from_pretrained(tmp_path)
    for loaded in (model.generation_config, config):
        assert (loaded.kernel_size, loaded.steps, loaded.threshold) == (6, None, None)
        assert loaded.cache_implementation is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # what the checkpoint says in vain is not the caller's mistake
        model.generate(PROMPT, attention_mask=torch.ones_like(PROMPT), max_new_tokens=4)


def test_a_misspelt_field_of_a_config_is_named(tiny_llada, tmp_path):
    with pytest.raises(conv_dlm.SettingError, match=r"`stepz`=3 is no setting; did you mean `steps`\?$"):
        DiffusionGenerationConfig(stepz=3)
    with pytest.raises(conv_dlm.SettingError, match="`validate` is not known to `generate`"):
        tiny_llada.generate(torch.tensor([[1, 40]]), validate=True)
    (tmp_path / "generation_config.json").write_text(json.dumps({"stepz": 3, "somebodys_own": 1}))
    with pytest.raises(conv_dlm.SettingError, match="`stepz`=4"):
        DiffusionGenerationConfig.from_pretrained(tmp_path, stepz=4)
    with pytest.warns(UserWarning, match=r"`stepz` is no setting; did you mean `steps`\?$") as said:
        config, unused = DiffusionGenerationConfig.from_pretrained(tmp_path, xyz=4, return_unused_kwargs=True)
    assert len(said) == 1 and unused == {"xyz": 4}
    assert config.somebodys_own == 1 and config.to_diff_dict()["somebodys_own"] == 1


def test_check_generate_refuses_what_generate_refuses(tiny_llada):
    """The arguments that no config knows, too; and it draws nothing."""
    state = torch.random.get_rng_state()
    tiny_llada.check_generate(PROMPT, decode_type="conv", steps=4)
    assert torch.equal(state, torch.random.get_rng_state())
    for keywords in (
        dict(generator=[torch.Generator()] * 2), dict(logits_processor=[NoRepeatNGramLogitsProcessor(2)]),
        dict(stop_strings="x"), dict(temprature=1.0), dict(assistant_model=tiny_llada), dict(inputs_embeds=PROMPT),
    ):  # fmt: skip
        for method in (tiny_llada.check_generate, tiny_llada.generate):
            with pytest.raises(conv_dlm.SettingError):
                method(PROMPT, attention_mask=torch.ones_like(PROMPT), **keywords)


def test_empty_batch(tiny_llada):
    with pytest.raises(ValueError, match="empty batch"):
        tiny_llada.generate(PROMPT[:0], attention_mask=PROMPT[:0])


def test_criteria_without_a_pad_token(tiny_llada):
    with pytest.raises(ValueError, match="`pad_token_id` is not known"):
        tiny_llada.generate(
            PROMPT,
            attention_mask=torch.ones_like(PROMPT),
            stopping_criteria=[lambda ids, scores: torch.tensor([True])],
            eos_token_id=None,
            pad_token_id=None,
        )


def test_streamer_of_a_batch(tiny_llada):
    class Silent(BaseStreamer):
        def put(self, value): ...
        def end(self): ...

    with pytest.raises(ValueError, match="2 rows"):
        tiny_llada.generate(BATCH[:, 1:], attention_mask=torch.ones(2, 2), streamer=Silent())


def test_nothing_known_to_begin_with(tiny_llada):
    masks = torch.full((1, 4), 3)
    with pytest.raises(ValueError, match="near known text"):
        tiny_llada.generate(masks, attention_mask=torch.ones_like(masks), decode_type="conv")
    tiny_llada.generate(masks, attention_mask=torch.ones_like(masks), decode_type="topk", max_new_tokens=4, steps=4)


def test_model_without_mask_token(tiny_llada):
    model = copy.deepcopy(tiny_llada)
    model.config.mask_token_id = None
    model.generation_config.mask_token_id = None
    with pytest.raises(ValueError, match="`mask_token_id` is not known"):
        model.generate(PROMPT, attention_mask=torch.ones_like(PROMPT))


@pytest.mark.parametrize("meaning", ["eos_token_id", "mask_token_id", "bos_token_id"])
def test_padding_that_cannot_be_told(tiny_llada, meaning):
    with pytest.raises(ValueError, match="`attention_mask` is missing"):
        tiny_llada.generate(BATCH, pad_token_id=0, **{meaning: 0})


@pytest.mark.parametrize(
    "values",
    [dict(steps=-1), dict(decode_type="nothing"), dict(conv_mult=0.0), dict(t_on=2.0), dict(repetition_penalty=0.0)],
)
def test_configuration_refuses(values):
    with pytest.raises(ValueError):
        DiffusionGenerationConfig(**values)


def test_a_rule_that_masks_again_and_a_cache_that_is_frozen(tiny_llada):
    """Blocks with ReMDM's rule, as somebody may register them."""
    conv_dlm.DECODE_TYPES.register("block_remdm", DecodeType("block", "remasking", "ReMDM in blocks", top_k=1))
    settings = dict(attention_mask=torch.ones_like(PROMPT), decode_type="block_remdm", block_length=8, steps=8)
    try:
        for cache in ("dual", "prefix"):
            with pytest.raises(ValueError, match=f"`cache_implementation`='{cache}' keeps .* masks tokens again"):
                tiny_llada.generate(PROMPT, **settings, max_new_tokens=16, cache_implementation=cache)
        tiny_llada.generate(PROMPT, **settings, max_new_tokens=16, cache_implementation="window")
    finally:
        del conv_dlm.DECODE_TYPES["block_remdm"]


def test_a_model_without_a_cache_interface():
    _, tensors = load_golden("full_runs")
    model = ToyModel(tensors, 3)
    with pytest.raises(ValueError, match=r"ToyModel doesn't declare .*`supports_canvas_cache = True`.*; drop it"):
        model.generate(PROMPT % 8, attention_mask=torch.ones_like(PROMPT), cache_implementation="window")


def test_flash_attention_and_rows_that_end_at_different_positions(tiny_llada):
    model = copy.deepcopy(tiny_llada)
    model.config._attn_implementation = "flash_attention_2"
    settings = dict(attention_mask=torch.ones(2, 2), cache_implementation="window", kernel_size=8)
    for uneven in (dict(lookahead=16), dict(eos_threshold=0.9)):
        with pytest.raises(ValueError, match=f"`{next(iter(uneven))}`.* flash attention can't mask"):
            model.generate(BATCH[:, 1:], **settings, **uneven)
