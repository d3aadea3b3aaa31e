"""`generate` as a user of Transformers meets it."""

import copy
import functools
import itertools
import json

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    BertConfig,
    BertForMaskedLM,
    GenerationConfig,
    LlamaForCausalLM,
    LogitsProcessorList,
    MinPLogitsWarper,
    SuppressTokensLogitsProcessor,
    pipeline,
)
from transformers.generation.streamers import BaseStreamer

import conv_dlm
from conv_dlm import DECODE_TYPES, DecodeType, DiffusionGenerationConfig
from conv_dlm.generation import UNMASKING_RULES, UniformWeights

MASK, EOS, PAD = 3, 2, 0
PROMPT = torch.tensor([[1, 40, 50, 60, 70]])
ONES = torch.ones_like(PROMPT)


def run(model, prompt=PROMPT, seed=0, **keywords):
    paced = "steps" in DECODE_TYPES[keywords.get("decode_type", "conv")].fields
    keywords = dict(max_new_tokens=20, return_dict_in_generate=True) | ({"steps": 8} if paced else {}) | keywords
    mask = keywords.pop("attention_mask", torch.ones_like(prompt))
    return model.generate(prompt, attention_mask=mask, generator=torch.Generator().manual_seed(seed), **keywords)


ALONE = sorted(name for name, kind in DECODE_TYPES.items() if UNMASKING_RULES[kind.rule].is_alone())


@pytest.mark.parametrize("decode_type", ALONE)
def test_every_decode_type(tiny_llada, decode_type):
    out = run(tiny_llada, decode_type=decode_type, output_history=True)
    assert out.sequences.shape == out.unmasked_at.shape == (1, 25)
    assert out.history.shape[1:] == (1, 25) and (out.history[0, 0, 5:] == MASK).all()
    remasks = UNMASKING_RULES[DECODE_TYPES[decode_type].rule].remasks
    assert 1 <= int(out.forwards) <= (9 if "steps" in DECODE_TYPES[decode_type].fields else 60 if remasks else 20)
    assert out.unmasked_at[0, 5:].min() >= 0
    for step, canvas in enumerate(out.history[1:]):  # what unmasked_at says is what the history shows
        if not remasks:
            assert torch.equal(canvas[0] != MASK, out.unmasked_at[0] <= step)


def test_each_type_is_different(tiny_llada):
    def decided(name, extra):
        out = run(tiny_llada, decode_type=name, **extra)
        return tuple(zip(out.sequences[0].tolist(), out.unmasked_at[0].tolist(), strict=True))

    texts = {
        name: decided(name, extra)
        for name, extra in (
            ("categorical", {}),
            ("topk", {}),
            ("topk_penalty", {}),
            ("conv", {"kernel_size": 4}),
            ("semi_ar", {"block_length": 5}),
            ("llada", {"block_length": 5}),
            ("llada_conv", {"kernel_size": 4}),
            ("slide", {"block_length": 8}),
            ("remdm", {}),
            ("remdm_conv", {"kernel_size": 4}),
            ("threshold", {"block_length": 5, "threshold": 0.1}),
            ("factor", {"block_length": 5, "factor": 2.9}),
            ("entropy", {"block_length": 5, "entropy_bound": 5.0}),
            ("conv_threshold", {"kernel_size": 4, "threshold": 0.1}),
            ("conv_factor", {"kernel_size": 4, "factor": 2.7}),
            ("conv_entropy", {"kernel_size": 4, "entropy_bound": 5.0}),
            ("klass", {"block_length": 5, "klass_threshold": 0.01, "kl_threshold": 0.5}),
            ("localleap", {"block_length": 5, "threshold": 0.08, "relaxed_threshold": 0.02, "leap_radius": 1}),
            ("credit", {"block_length": 7, "threshold": 0.3, "credit_weight": 3.0}),
            ("hierarchical", {"block_length": 10, "threshold": 0.5, "low_threshold": 0.01}),
            ("hierarchical_remask", {"block_length": 10, "low_threshold": 0.01, "remask_threshold": 0.1}),
            ("conv_klass", {"kernel_size": 4, "klass_threshold": 0.01, "kl_threshold": 0.5}),
            ("conv_localleap", {"kernel_size": 4, "threshold": 0.08, "relaxed_threshold": 0.02, "leap_radius": 1}),
            ("conv_credit", {"kernel_size": 8, "threshold": 0.3, "credit_weight": 3.0}),
            ("conv_hierarchical", {"kernel_size": 8, "threshold": 0.5, "low_threshold": 0.01}),
            ("freedave", {"block_length": 20}),
            ("freedave_threshold", {"block_length": 4, "threshold": 0.08}),
            ("freedave_entropy", {"block_length": 7, "entropy_bound": 5.0}),
            ("freedave_localleap", {"block_length": 7, "threshold": 0.08, "relaxed_threshold": 0.02}),
            ("conv_freedave", {"kernel_size": 6, "threshold": 0.08}),
            ("wino", {"block_length": 10, "wino_threshold": 0.05, "verify_threshold": 0.05}),
            ("rcr", {"block_length": 10}),
            ("saber", {"block_length": 10}),
            ("multiblock", {"flight_length": 5, "multiblock_entropy": 4.0}),
            ("d2f", {"flight_length": 5, "threshold": 0.1, "block_add_threshold": 0.2}),
            ("lopa", {"flight_length": 5, "threshold": 0.1, "branching_factor": 3}),
            ("pc_sampler", {"block_length": 20}),
            ("ccd", {}),
            ("slowfast", {}),
            ("daedal", {"initial_length": 4, "insert_confidence": 1.0, "unsure_below": 0.02, "threshold": 0.05}),
            ("conv_daedal", {"initial_length": 4, "kernel_size": 4, "unsure_below": 0.02, "threshold": 0.05}),
            ("editing", {"block_length": 10, "threshold": 0.05, "editing_threshold": 0.02, "max_post_steps": 4}),
            ("editing_indel", {"block_length": 10, "editing_threshold": 0.02, "split_token_id": 72}),
        )
    }
    assert len(set(texts.values())) == len(ALONE)


def test_sequences_without_return_dict(tiny_llada):
    assert run(tiny_llada, return_dict_in_generate=None).shape == (1, 25)


def test_forwards_are_those_of_the_model(tiny_llada, monkeypatch):
    calls = []
    forward = tiny_llada.forward

    @functools.wraps(forward)
    def counted(**inputs):
        calls.append((inputs["input_ids"].clone(), inputs["logits_to_keep"].clone()))
        return forward(**inputs)

    monkeypatch.setattr(tiny_llada, "forward", counted)
    out = run(tiny_llada, decode_type="conv", kernel_size=4, steps=60, eos_token_id=None)
    assert int(out.forwards) == len(calls) < 30  # steps in which nothing changed cost none
    for (before, _), (after, _) in itertools.pairwise(calls):
        assert not torch.equal(before, after)
    assert max(window.shape[1] for _, window in calls) <= 16  # the canvas has 25 positions


def test_guidance(tiny_llada):
    plain, guided = (run(tiny_llada, decode_type="llada", guidance_scale=g) for g in (1.0, 3.0))
    assert not torch.equal(plain.sequences, guided.sequences)
    assert torch.equal(plain.forwards, guided.forwards)


@pytest.mark.parametrize("decode_type", ["conv", "llada", "topk"])
def test_infilling_only(tiny_llada, decode_type):
    prompt = torch.tensor([[1, 40, MASK, MASK, 50, MASK, 60]])
    out = run(tiny_llada, prompt, decode_type=decode_type, max_new_tokens=0)
    assert out.sequences.shape == prompt.shape
    assert torch.equal(out.sequences[prompt != MASK], prompt[prompt != MASK])
    assert not (out.sequences == MASK).any()


def test_right_context_pulls_decoding_there(tiny_llada):
    right = torch.tensor([[1, *[MASK] * 30, 50, 60, 70, 80]])
    out = run(tiny_llada, right, decode_type="llada_conv", kernel_size=6, steps=30, max_new_tokens=0)
    order = out.unmasked_at[0, 1:31]
    assert order[-3:].min() < 10 and order[12:18].min() > 10


def test_right_context_survives_an_end_token(tiny_llada):
    bias = torch.zeros(260)
    bias[EOS] = 50.0
    prompt = torch.tensor([[1, 40, MASK, MASK, 50, 60]])
    out = run(
        tiny_llada,
        prompt,
        decode_type="topk",
        eos_fill=True,
        logits_processor=LogitsProcessorList([lambda ids, s: s + bias]),
    )
    assert out.sequences[0, :6].tolist() == [1, 40, EOS, EOS, 50, 60]
    assert out.sequences[0, 6] == EOS and (out.sequences[0, 7:] == PAD).all()


def test_no_end_tokens_and_several(tiny_llada):
    keywords = dict(decode_type="llada")
    none = run(tiny_llada, eos_token_id=None, **keywords).sequences
    assert torch.equal(run(tiny_llada, eos_token_id=[], **keywords).sequences, none)
    first, second = none[0, 9].item(), none[0, 14].item()
    text = run(tiny_llada, eos_token_id=[second, first], **keywords).sequences[0].tolist()
    end = min(i for i, token in enumerate(none[0].tolist()) if i >= 5 and token in (first, second))
    assert text[: end + 1] == none[0, : end + 1].tolist() and set(text[end + 1 :]) <= {PAD}


def test_eos_fill_saves_forwards(tiny_llada):
    bias = torch.zeros(260)
    bias[EOS] = 3.0
    processors = LogitsProcessorList([lambda ids, scores: scores + bias])
    plain, filled = (
        run(tiny_llada, decode_type="topk", steps=20, eos_fill=f, logits_processor=processors) for f in (False, True)
    )
    assert int(filled.forwards) < int(plain.forwards)
    assert (filled.sequences == EOS).sum() == 1
    tokens = int((filled.sequences[0, 5:] == EOS).int().argmax())
    assert float(filled.tokens_per_forward) == pytest.approx(tokens / int(filled.forwards))


def test_row_whose_text_is_complete_retires(tiny_llada):
    """What stands behind the first end token can't change the sequence, so it costs nothing."""
    bias = torch.zeros(260)
    bias[EOS] = 4.0
    processors = LogitsProcessorList([lambda ids, scores: scores + bias])
    out = run(tiny_llada, decode_type="llada", block_length=4, steps=20, logits_processor=processors)
    end = int((out.sequences[0, 5:] == EOS).int().argmax())
    assert end < 12 and int(out.forwards) <= 4 * (end // 4 + 1)


def test_temperature_is_honoured(tiny_llada):
    for decode_type in ("conv", "llada", "categorical", "remdm"):
        texts = [run(tiny_llada, seed=s, decode_type=decode_type, temperature=0.0, steps=6).sequences for s in range(3)]
        assert all(torch.equal(texts[0], text) for text in texts)
        texts = {
            tuple(run(tiny_llada, seed=s, decode_type=decode_type, temperature=1.5, steps=6).sequences[0].tolist())
            for s in range(4)
        }
        assert len(texts) > 1


@pytest.mark.parametrize("decode_type", ["remdm", "remdm_conv"])
def test_remdm_masks_some_tokens_again(tiny_llada, decode_type):
    out = run(tiny_llada, decode_type=decode_type, steps=40, max_new_tokens=60, eta=0.1, output_history=True)
    decided = out.history[:, 0] != MASK
    again = decided[:-1] & ~decided[1:]
    assert 5 < int(again.sum()) < 200 and not again[:, :5].any()
    assert (out.unmasked_at[0, 5:] >= 0).all()


def test_num_return_sequences(tiny_llada):
    out = run(tiny_llada, decode_type="conv", num_return_sequences=3)
    assert out.sequences.shape[0] == 3 and len(out.sequences.unique(dim=0)) > 1


def test_processors_of_transformers(tiny_llada):
    free = run(tiny_llada, decode_type="llada").sequences[0, 5:]
    banned = free.unique().tolist()
    without = run(tiny_llada, decode_type="llada", suppress_tokens=banned).sequences[0, 5:]
    assert not set(without.tolist()) & (set(banned) - {PAD})
    own = LogitsProcessorList([SuppressTokensLogitsProcessor(banned)])
    assert torch.equal(run(tiny_llada, decode_type="llada", logits_processor=own).sequences[0, 5:], without)
    run(tiny_llada, decode_type="categorical", top_p=0.5)
    run(tiny_llada, decode_type="topk", top_k=5, logits_processor=LogitsProcessorList([MinPLogitsWarper(0.1)]))


def test_repetition_penalty_minds_the_sign_and_not_the_padding(tiny_llada):
    seen = {}

    def spy(ids, scores):
        seen["ids"], seen["scores"] = ids.clone(), scores.clone()
        return scores

    prompt = torch.tensor([[PAD, PAD, 1, 40, 50]])
    mask = torch.tensor([[0, 0, 1, 1, 1]])
    common = dict(decode_type="llada", steps=1, attention_mask=mask, logits_processor=LogitsProcessorList([spy]))
    run(tiny_llada, prompt, **common)
    plain = seen["scores"]
    run(tiny_llada, prompt, repetition_penalty=2.0, **common)
    penalised = seen["scores"]
    expected = plain.clone()
    expected[:, [1, 40, 50]] = torch.where(plain > 0, plain / 2, plain * 2)[:, [1, 40, 50]]
    torch.testing.assert_close(penalised, expected)


class Recorder(BaseStreamer):
    def __init__(self):
        self.put_ids, self.drafts, self.ended = [], [], 0

    def put(self, value):
        self.put_ids.append(value.flatten().tolist())

    def put_draft(self, value, unmasked):
        self.drafts.append((value.tolist(), unmasked.tolist()))

    def end(self):
        self.ended += 1


@pytest.mark.parametrize("decode_type", ["conv", "remdm", "llada"])
def test_streaming_with_drafts(tiny_llada, decode_type):
    streamer = Recorder()
    out = run(tiny_llada, decode_type=decode_type, streamer=streamer)
    text = out.sequences[0].tolist()
    text = text[: text.index(EOS) + 1] if EOS in text else text
    assert streamer.put_ids[0] == PROMPT[0].tolist() and streamer.ended == 1
    assert [i for ids in streamer.put_ids for i in ids] == text
    assert streamer.drafts and all(
        MASK not in [i for i, d in zip(*draft, strict=True) if d] for draft in streamer.drafts
    )
    assert any(
        i != MASK for draft in streamer.drafts for i, d in zip(*draft, strict=True) if not d
    )  # candidates are shown
    if decode_type == "remdm":
        assert len(streamer.put_ids) == 2  # nothing is final before the end


def test_streaming_an_infilling(tiny_llada):
    streamer = Recorder()
    prompt = torch.tensor([[1, 40, MASK, MASK, 50]])
    out = run(tiny_llada, prompt, decode_type="conv", eos_token_id=None, streamer=streamer)
    assert [1, 40, *[i for ids in streamer.put_ids[1:] for i in ids]] == out.sequences[0].tolist()


@pytest.mark.parametrize("decode_type", ["conv", "remdm"])
def test_stop_strings_end_the_text(tiny_llada, tiny_tokenizer, decode_type):
    out = run(tiny_llada, decode_type=decode_type, eos_token_id=None, pad_token_id=PAD)
    text = tiny_tokenizer.decode(out.sequences[0, 5:])
    stop = next(c for c in text[6:] if c.isalnum() and c.isascii())
    cut = run(tiny_llada, decode_type=decode_type, eos_token_id=None, stop_strings=stop, tokenizer=tiny_tokenizer)
    ids = cut.sequences[0, 5:]
    end = tiny_tokenizer.decode(ids, skip_special_tokens=True)
    assert end.endswith(stop) and stop not in end[: -len(stop)]
    assert (ids[int((ids == PAD).int().argmax()) :] == PAD).all()


def test_max_time_and_own_criteria(tiny_llada):
    out = run(tiny_llada, decode_type="llada", steps=20, max_time=1e-9)
    assert int(out.forwards) == 2 and not (out.sequences == MASK).any()
    stop = lambda ids, scores: torch.tensor([ids.shape[1] >= 9])  # noqa: E731
    out = run(tiny_llada, decode_type="llada", eos_token_id=None, stopping_criteria=[stop])
    assert (out.sequences[0, 9:] == PAD).all() and not (out.sequences == MASK).any()


def test_prompt_alone_gives_bos(tiny_llada):
    assert tiny_llada.generate(max_new_tokens=6, steps=3).shape == (1, 7)


def test_padding_is_told_from_pad_tokens_at_the_left(tiny_llada):
    padded = torch.tensor([[PAD, PAD, 1, 40, 50], [1, 40, 50, 60, 70]])
    mask = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]])
    keywords = dict(decode_type="llada", steps=8, max_new_tokens=20)
    assert torch.equal(
        tiny_llada.generate(padded, **keywords), tiny_llada.generate(padded, attention_mask=mask, **keywords)
    )


def test_configuration_is_saved_and_loaded(tiny_checkpoint, tmp_path):
    model = AutoModelForCausalLM.from_pretrained(tiny_checkpoint)
    assert isinstance(model.generation_config, DiffusionGenerationConfig)
    assert model.generation_config.mask_token_id == MASK and model.generation_config.kernel_size is None
    model.generation_config.update(decode_type="llada_conv", kernel_size=7, top_k=4, max_new_tokens=11, temperature=0.3)
    model.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert again.generation_config == model.generation_config
    assert again.generate(PROMPT, attention_mask=ONES, steps=4).shape == (1, 16)
    loaded = DiffusionGenerationConfig.from_pretrained(tmp_path)
    assert (loaded.decode_type, loaded.kernel_size) == ("llada_conv", 7)
    assert again.generate(PROMPT, attention_mask=ONES, max_length=9, steps=4).shape == (1, 9)  # the call's length wins


def test_generation_config_object(tiny_llada):
    config = DiffusionGenerationConfig(decode_type="llada", steps=5, max_new_tokens=10)
    keywords = dict(attention_mask=ONES)
    ours = tiny_llada.generate(PROMPT, generation_config=config, **keywords)
    assert torch.equal(ours, tiny_llada.generate(PROMPT, decode_type="llada", steps=5, max_new_tokens=10, **keywords))
    plain = tiny_llada.generate(
        PROMPT, generation_config=GenerationConfig(max_new_tokens=10), decode_type="llada", steps=5, **keywords
    )
    assert torch.equal(ours, plain)
    assert tiny_llada.generation_config.decode_type is None and config.top_k is None  # neither is changed by a call


def test_a_call_overrides_what_the_checkpoint_says(tiny_llada):
    model = copy.deepcopy(tiny_llada)
    for saved, said, temperature in (
        (dict(do_sample=False), dict(temperature=0.7), 0.7),
        (dict(temperature=0.0), dict(do_sample=True), 1.0),
        (dict(temperature=0.7), dict(do_sample=False), 0.0),
        (dict(temperature=0.7), dict(), 0.7),
        (dict(), dict(decode_type="llada"), 0.0),
        (dict(), dict(decode_type="conv"), 1.0),
    ):
        model.generation_config = DiffusionGenerationConfig(**saved)
        config = model.resolve_settings(**said)
        assert config.temperature == temperature and config.do_sample == (temperature > 0)


def test_pipeline(tiny_checkpoint):
    generator = pipeline("text-generation", model=str(tiny_checkpoint))
    [out] = generator("abc", decode_type="conv", steps=4, max_new_tokens=12)
    assert out["generated_text"].startswith("abc")


def test_enable_diffusion_on_a_loaded_model():
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=64, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, pad_token_id=0
    )
    model = BertForMaskedLM(config).eval()
    weights = copy.deepcopy(model.state_dict())
    same = conv_dlm.enable_diffusion(model, mask_token_id=63)
    assert same is model and isinstance(model, BertForMaskedLM) and model.can_generate()
    prompt = torch.tensor([[5, 6, 7]])
    out = model.generate(prompt, attention_mask=torch.ones_like(prompt), decode_type="conv", steps=4, max_new_tokens=8)
    assert out.shape == (1, 11) and not (out == 63).any()
    assert all(torch.equal(weights[name], value) for name, value in model.state_dict().items())
    conv_dlm.enable_diffusion(model, mask_token_id=62)  # again, with another mask
    assert not (model.generate(prompt, steps=4, max_new_tokens=8) == 62).any()
    with pytest.raises(ValueError, match="mask_token_id"):
        conv_dlm.enable_diffusion(BertForMaskedLM(config))


def test_settings_for_left_to_right_say_nothing_about_denoising(tiny_llama, tmp_path):
    """Most checkpoints of autoregressive models bring some; only their special tokens are taken over."""
    tiny_llama.save_pretrained(tmp_path)
    settings = {"do_sample": True, "temperature": 0.6, "top_p": 0.9, "use_cache": True, "eos_token_id": [2, 5]}
    (tmp_path / "generation_config.json").write_text(json.dumps(settings))
    model = conv_dlm.enable_diffusion(LlamaForCausalLM.from_pretrained(tmp_path), mask_token_id=3)
    assert model.generation_config.to_diff_dict().keys() <= {
        "eos_token_id", "pad_token_id", "bos_token_id", "mask_token_id", "transformers_version"
    }  # fmt: skip
    assert model.generation_config.eos_token_id == [2, 5]
    assert not (model.generate(torch.tensor([[5, 6]]), steps=2, max_new_tokens=6) == 3).any()


def test_shifted_logits(tiny_llada):
    """A model whose logits predict the right neighbour gives the same text once that is said."""
    shifted = copy.deepcopy(tiny_llada)
    forward = tiny_llada.forward

    def right_neighbour(logits_to_keep=None, **inputs):
        out = forward(**inputs)
        out.logits = out.logits.roll(-1, dims=1)
        out.logits = torch.take_along_dim(out.logits, logits_to_keep[..., None], dim=1)
        return out

    shifted.forward = right_neighbour
    shifted.shift_logits = True
    keywords = dict(decode_type="llada", max_new_tokens=12)
    assert torch.equal(run(shifted, **keywords).sequences, run(tiny_llada, **keywords).sequences)


def test_a_decode_type_of_ones_own(tiny_llada):
    conv_dlm.DECODE_TYPES.register(
        "uniform_confidence", DecodeType("uniform", "confidence", "LLaDA without blocks", do_sample=False)
    )
    try:
        out = run(tiny_llada, decode_type="uniform_confidence").sequences
        assert torch.equal(out, run(tiny_llada, decode_type="llada").sequences)
        with pytest.raises(ValueError, match="exists already"):
            conv_dlm.DECODE_TYPES.register("conv", DECODE_TYPES["topk"])
    finally:
        del DECODE_TYPES["uniform_confidence"]


def test_weights_in_a_loop_of_ones_own():
    from conv_dlm.generation import BlockWeights, ConvolutionWeights, PositionWeightsProcessor, SlideWeights

    ids = torch.tensor([[9, 9, MASK, MASK, MASK, MASK, MASK, MASK]])
    scores = torch.randn(1, 8, 5)
    known = torch.isfinite

    def processed(weights, start=0):
        return PositionWeightsProcessor(weights, MASK, start)(ids, scores)[0, :, 0]

    assert torch.equal(processed(UniformWeights()), scores[0, :, 0])
    assert known(processed(ConvolutionWeights(5))).tolist() == [True] * 4 + [False] * 4
    assert processed(ConvolutionWeights(5))[3] == scores[0, 3, 0] + torch.tanh(torch.tensor(1.0)).log()
    assert known(processed(BlockWeights(3), start=2)).tolist() == [True] * 5 + [False] * 3
    assert known(processed(SlideWeights(2))).tolist() == [True] * 4 + [False] * 4


def test_a_row_needs_a_forward_when_its_canvas_or_its_window_changed(tiny_llada):
    from tests.generation.test_parity import denoising

    class FirstFour(UniformWeights):
        def weights(self, canvas, step):
            return (canvas.mask_index < 4).float()

    steps = denoising(tiny_llada, PROMPT, dict(steps=10**6, gen_length=8), decode_type="topk", mask_token_id=MASK)
    for index in range(3):  # a millionth of the way: nothing is decided yet
        steps.step(index)
    assert steps.forwards == [1]
    steps.canvas.ids[0, 2] += 1
    steps.step(3)
    assert steps.forwards == [2]
    steps.weights = FirstFour()
    steps.step(4)
    steps.step(5)
    assert steps.forwards == [3]
