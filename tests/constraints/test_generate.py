"""`generate(constraint=...)`: every finished response is in the language, whatever the decode type."""

import json
import re

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from conv_dlm import DECODE_TYPES, Choice, JSONSchema, Regex
from conv_dlm.constraints import ImpossibleConstraint
from conv_dlm.generation.errors import SettingError
from tests.generation.toy import ToyModel

PAD, EOS, MASK = 0, 1, 2
LENGTH = 64
SCHEMA = {
    "type": "object",
    "properties": {"n": {"type": "integer", "minimum": 0, "maximum": 99}, "s": {"type": "string", "maxLength": 4}},
    "required": ["n", "s"],
}
PHONE = "[0-9]{3}-[0-9]{2,4}"


@pytest.fixture(scope="module")
def tokenizer():
    """Bytes, and a few pairs of them."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    pairs = [("{", '"'), ('"', ":"), ("n", '"'), ('"', ","), ("1", "2"), ("Ġ", '"'), ('"', "}"), ("e", "n")]
    names = ["<pad>", "<eos>", "<mask>", *alphabet, *map("".join, pairs)]
    made = Tokenizer(models.BPE({name: n for n, name in enumerate(names)}, pairs))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", eos_token="<eos>", mask_token="<mask>", padding_side="left"
    )


@pytest.fixture(scope="module")
def model(tokenizer):
    generator = torch.Generator().manual_seed(0)
    size = len(tokenizer)

    def normal(*shape, scale=1.0):
        return torch.randn(*shape, generator=generator) * scale

    tensors = {"W": normal(LENGTH, size), "E": normal(size, size), "E2": normal(size, size), "G": normal(LENGTH, size)}
    made = ToyModel({f"toy.{name}": tensor for name, tensor in tensors.items()}, MASK)
    made.generation_config.eos_token_id, made.generation_config.pad_token_id = EOS, PAD
    return made


def texts(tokenizer, sequences, start):
    return [tokenizer.decode([t for t in row[start:].tolist() if t not in (PAD, EOS)]) for row in sequences]


def run(model, tokenizer, prompts, constraint, seed=0, **settings):
    inputs = tokenizer(prompts, return_tensors="pt", padding=True, return_token_type_ids=False)
    torch.manual_seed(seed)
    return inputs.input_ids.shape[1], model.generate(
        **inputs, tokenizer=tokenizer, constraint=constraint, return_dict_in_generate=True, **settings
    )


REFUSED = ("freedave", "wino", "daedal", "guided", "speculative", "learned", "lopa", "indel")


@pytest.mark.parametrize(
    "decode_type",
    sorted(name for name in DECODE_TYPES if not any(kind in name for kind in REFUSED)),
)
def test_every_decode_type_stays_in_the_language(decode_type, model, tokenizer):
    paced = {"steps"} & set(model.resolve_settings(decode_type=decode_type).active_settings)
    settings = {"steps": 6} if paced else {}
    constraints = [JSONSchema(SCHEMA), None, Regex(PHONE), Choice(["ja", "nein"])]
    for seed in range(2):
        start, out = run(
            model, tokenizer, ["a", "abcd", "ab", "x"], constraints, seed, decode_type=decode_type,
            max_new_tokens=40, **settings,
        )  # fmt: skip
        found = texts(tokenizer, out.sequences, start)
        value = json.loads(found[0])
        assert list(value) == ["n", "s"] and 0 <= value["n"] <= 99 and len(value["s"]) <= 4
        assert re.fullmatch(PHONE, found[2])
        assert found[3] in ("ja", "nein")
        assert not (out.sequences == MASK).any()


def test_types_that_see_more_than_the_canvas(tiny_llada, tiny_tokenizer):
    """WINO takes tokens back by positions beside the canvas, which a toy model has not."""
    for seed in range(3):
        start, out = run(
            tiny_llada, tiny_tokenizer, ["a", "abcd"], [Regex(PHONE), Choice(["ja", "nein"])], seed, max_new_tokens=16,
            decode_type="wino", wino_threshold=0.1, verify_threshold=0.9,
        )  # fmt: skip
        found = tiny_tokenizer.batch_decode(out.sequences[:, start:], skip_special_tokens=True)
        assert re.fullmatch(PHONE, found[0]) and found[1] in ("ja", "nein")


@pytest.mark.parametrize(
    "decode_type",
    ["lopa", "editing_indel", *sorted(name for name in DECODE_TYPES if "freedave" in name or "daedal" in name)],
)
def test_types_that_verify_or_choose_the_length_are_refused(decode_type, tiny_llada, tiny_tokenizer):
    ids = tiny_tokenizer("a", return_tensors="pt").input_ids
    with pytest.raises(SettingError, match=r"verifies drafts .* constraints|`constraint` needs (rows|tokens) "):
        tiny_llada.check_generate(ids, decode_type=decode_type, constraint=Regex(PHONE), tokenizer=tiny_tokenizer)


@pytest.mark.parametrize("decode_type", ["conv", "llada", "threshold"])
def test_why_a_text_ends(decode_type, model, tokenizer):
    """Both reasons mean a whole text: an end token, or a canvas that is full, and of one without room it must be."""
    steps = {"steps": 4} if decode_type != "threshold" else {}
    for room, reasons in ((6, {"length"}), (8, {"length", "eos"}), (9, {"eos"})):  # 6 to 8 characters
        settings = dict(decode_type=decode_type, max_new_tokens=room, **steps)
        start, out = run(model, tokenizer, ["a", "b"], Regex(PHONE), **settings)
        for row, reason in zip(out.sequences.tolist(), out.finish_reason, strict=True):
            assert reason == ("eos" if EOS in row[start:] else "length") and reason in reasons
        assert all(re.fullmatch(PHONE, text) for text in texts(tokenizer, out.sequences, start))


@pytest.mark.parametrize(
    "settings",
    [
        {"decode_type": "topk", "top_k": 0, "temperature": 1.5},
        {"decode_type": "topk", "top_k": 5, "temperature": 0.7},
        {"decode_type": "llada", "do_sample": True, "temperature": 1.0},
        {"decode_type": "llada", "eos_fill": True},
        {"decode_type": "llada", "eos_threshold": 0.1},
        {"decode_type": "llada", "exit_schedule": "staged"},
        {"decode_type": "conv", "guidance_scale": 2.0},
        {"decode_type": "categorical", "top_p": 0.3, "do_sample": True},
        {"decode_type": "llada", "suppress_tokens": [5, 40, 95]},
        {"decode_type": "llada", "eos_token_id": [EOS, 3]},
    ],
)
def test_settings_keep_it(settings, model, tokenizer):
    for seed in range(3):
        start, out = run(model, tokenizer, ["ab"], JSONSchema(SCHEMA), seed, steps=4, max_new_tokens=40, **settings)
        row = out.sequences[0, start:].tolist()
        ends = [n for n, token in enumerate(row) if token in (EOS, PAD, 3)]
        json.loads(tokenizer.decode(row[: ends[0]] if ends else row))


def test_all_at_once_is_the_most_probable_text(model, tokenizer):
    """One step of one forward commits the whole canvas: the best of all texts that fit, by a look at all of them."""
    options = ["ab", "ba", "bb", "abab", "en", "e-n"]
    start, out = run(model, tokenizer, ["x"], Choice(options), decode_type="llada", steps=1, max_new_tokens=4)
    ids = torch.tensor([[*tokenizer("x").input_ids, MASK, MASK, MASK, MASK]])
    log_p = model(ids).logits[0, start:].log_softmax(-1)
    log_p[:, MASK] = -torch.inf
    best = -torch.inf
    vocabulary = {token: tokenizer.decode([token]) for token in range(3, len(tokenizer))}

    def lines(text, count):
        """All ways to spell a text in at most `count` tokens, and end tokens behind it."""
        if not text:
            return [[EOS] * count]
        found = [t for t, piece in vocabulary.items() if piece and text.startswith(piece)] if count else []
        return [[t, *rest] for t in found for rest in lines(text[len(vocabulary[t]) :], count - 1)]

    for line in [line for option in options for line in lines(option, 4)]:
        best = max(best, sum(log_p[n, token] for n, token in enumerate(line)))
    got = sum(
        log_p[n, token] for n, token in enumerate(out.sequences[0, start:].where(out.sequences[0, start:] != PAD, EOS))
    )
    assert got == pytest.approx(float(best), abs=1e-4)
    assert out.forwards.tolist() == [1]


def test_infilling_fits_between_given_texts(model, tokenizer):
    before, after = tokenizer("ab").input_ids, tokenizer("ba").input_ids
    ids = torch.tensor([[*before, *[MASK] * 6, *after]])
    out = model.generate(ids, tokenizer=tokenizer, constraint=Regex("[0-9]-[0-9a-z]+"), max_new_tokens=0, steps=3)
    assert re.fullmatch("ab[0-9]-[0-9a-z]+ba", tokenizer.decode(out[0]))
    # text between masks belongs to the response
    given = tokenizer("-").input_ids
    ids = torch.tensor([[*before, MASK, MASK, MASK, *given, MASK, MASK]])
    out = model.generate(ids, tokenizer=tokenizer, constraint=Regex("[0-9]{3}-[0-9]{1,2}"), max_new_tokens=0, steps=3)
    assert re.fullmatch("ab[0-9]{3}-[0-9]{1,2}(<eos>|<pad>)*", tokenizer.decode(out[0]))
    with pytest.raises(ImpossibleConstraint, match="can't be completed"):
        model.generate(ids, tokenizer=tokenizer, constraint=Regex("[0-9]+"), max_new_tokens=0, steps=3)


def test_what_is_forced_costs_no_forward(model, tokenizer):
    model.forwards = 0
    start, out = run(
        model, tokenizer, ["ab"], Regex("\\x00\\x01-\\x03"), decode_type="llada", steps=9, max_new_tokens=9
    )
    assert model.forwards == 0 and out.forwards.tolist() == [0]
    assert texts(tokenizer, out.sequences, start) == ["\x00\x01-\x03"]


def test_rows_do_not_influence_each_other(model, tokenizer):
    settings = {"decode_type": "topk", "top_k": 0, "steps": 5, "max_new_tokens": 24}
    constraints = [Regex(PHONE), None, JSONSchema(SCHEMA)]
    generators = [torch.Generator().manual_seed(n) for n in range(3)]
    _, together = run(model, tokenizer, ["ab", "cd", "ef"], constraints, generator=generators, **settings)
    for n, constraint in enumerate(constraints):
        generator = [torch.Generator().manual_seed(n)]
        _, alone = run(model, tokenizer, [["ab", "cd", "ef"][n]], constraint, generator=generator, **settings)
        assert (alone.sequences[0] == together.sequences[n]).all()


def test_a_canvas_that_is_too_short_is_an_error_before_the_first_forward(model, tokenizer):
    model.forwards = 0
    with pytest.raises(
        ImpossibleConstraint, match="needs at least 10 tokens, and there are 9; raise `max_new_tokens`"
    ) as e:
        run(model, tokenizer, ["ab"], JSONSchema(SCHEMA), steps=4, max_new_tokens=9)
    assert e.value.least == 10 and model.forwards == 0
    with pytest.raises(ImpossibleConstraint, match="Row 1: "):
        run(model, tokenizer, ["ab", "cd"], [None, JSONSchema(SCHEMA)], steps=4, max_new_tokens=9)
    run(model, tokenizer, ["ab"], JSONSchema(SCHEMA), decode_type="llada", steps=4, max_new_tokens=10)


def test_bad_arguments(model, tokenizer):
    ids = torch.tensor([[5]])
    with pytest.raises(SettingError, match="pass `tokenizer=`"):
        model.generate(ids, constraint=Regex("a"))
    with pytest.raises(SettingError, match="is a str"):
        model.generate(ids, constraint="a", tokenizer=tokenizer)
    with pytest.raises(SettingError, match="has 2 entries for 1 rows"):
        model.generate(ids, constraint=[Regex("a"), None], tokenizer=tokenizer)


def test_each_return_sequence_has_its_prompts_constraint(model, tokenizer):
    start, out = run(
        model, tokenizer, ["ab", "cd"], [Choice(["ja"]), Regex(PHONE)], decode_type="topk", top_k=0, steps=3,
        num_return_sequences=2, max_new_tokens=12,
    )  # fmt: skip
    found = texts(tokenizer, out.sequences, start)
    assert found[:2] == ["ja", "ja"] and all(re.fullmatch(PHONE, text) for text in found[2:])


@pytest.mark.parametrize("cache", ["window", "prefix", "dual"])
@pytest.mark.parametrize("decode_type", ["conv", "llada", "threshold"])
def test_caches_and_streams_keep_it(cache, decode_type, tiny_llada, tiny_tokenizer):
    class Sink:
        def put(self, value):
            pass

        def end(self):
            pass

    inputs = tiny_tokenizer(["hello"], return_tensors="pt", return_token_type_ids=False)
    width = {} if cache == "window" and decode_type == "conv" else {"block_length": 12}
    width = {"kernel_size": 9} if decode_type == "conv" else width
    if decode_type == "conv" and cache != "window":
        pytest.skip("block caches are for decode types with blocks")
    out = tiny_llada.generate(
        **inputs, tokenizer=tiny_tokenizer, constraint=JSONSchema(SCHEMA), decode_type=decode_type, max_new_tokens=48,
        cache_implementation=cache, streamer=Sink(), **({} if decode_type == "threshold" else {"steps": 12}), **width,
    )  # fmt: skip
    value = json.loads(tiny_tokenizer.decode(out[0, inputs.input_ids.shape[1] :], skip_special_tokens=True))
    assert list(value) == ["n", "s"]


def test_a_forced_position_is_never_predicted(model, tokenizer):
    """After `Choice` of one text whose spelling the canvas leaves open, what is sure stays sure: log p is 0 there."""
    _, out = run(model, tokenizer, ["ab"], Regex("\\x00[ab]\\x01"), decode_type="llada", steps=3, max_new_tokens=8)
    log_p = out.log_probs[0, -8:]
    assert log_p[0] == 0 and log_p[1] < 0 and (log_p[2:] == 0).all()
    assert out.forwards.tolist() == [1]


def test_a_rule_that_chooses_its_length_is_refused(model, tokenizer, monkeypatch):
    from conv_dlm.generation.parts.confidence import ConfidenceRule

    monkeypatch.setattr(ConfidenceRule, "first_end", lambda self, canvas: canvas.end - 1)
    with pytest.raises(SettingError, match="needs rows of a fixed length"):
        run(model, tokenizer, ["ab"], Regex("a*"), decode_type="llada", steps=4, max_new_tokens=8)


def test_what_has_one_text_costs_no_forward(model, tokenizer):
    settings = {"decode_type": "conv", "steps": 4}
    start, out = run(model, tokenizer, ["ab", "x"], Choice(["nein: 12"]), max_new_tokens=12, **settings)
    written = tokenizer("nein: 12", add_special_tokens=False).input_ids
    assert len(written) < len("nein: 12")  # it isn't spelled out
    for row in out.sequences[:, start:].tolist():
        assert row[: len(written) + 1] == [*written, EOS]
    assert out.forwards.tolist() == [0, 0]
    # in a canvas that fits no other spelling, the tokenizer's isn't insisted on
    _, out = run(model, tokenizer, ["a"], Regex("(?:en){3}"), max_new_tokens=3, **settings)
    assert texts(tokenizer, out.sequences, start - 1) == ["enenen"]
