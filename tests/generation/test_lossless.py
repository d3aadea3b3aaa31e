"""FreeDave: the text of another rule, in fewer forwards."""

import pytest
import torch

from conv_dlm import DECODE_TYPES, SettingError
from conv_dlm.generation import UNMASKING_RULES, DecodeType, lossless
from tests.generation.golden import RUNS, cases, ours
from tests.generation.toy_rules import EOS, MASK, RuleToy
from tests.tiny import random_llada


@pytest.mark.parametrize("name", cases("freedave"))
def test_freedave(name):
    """Their text, in as many forwards or fewer, and that of the rule without drafts, which needs no more only where it
    decides about whole blocks at once (06)."""
    run = RUNS[name]
    threshold, draft_steps = run["settings"]["confidence_threshold"], run["settings"]["draft_steps"] - 1
    kind = {"decode_type": "freedave"}
    if threshold is not None:
        kind = {"decode_type": "freedave_threshold", "threshold": threshold}
    base = ours(run, decode_type="threshold", threshold=1.0 if threshold is None else threshold)
    out = ours(run, draft_steps=draft_steps, **kind)
    assert torch.equal(out.sequences, base.sequences)
    assert int(out.forwards) < int(base.forwards) or name == "freedave.06"
    if not run["settings"]["early_exit"]:
        assert out.sequences[0].tolist() == run["canvas"][-1] and int(out.forwards) <= run["forwards"]


PAIRS = [
    ("freedave", "threshold", {"threshold": 1.0}),
    *((f"freedave_{base}", base, {}) for base in ("threshold", "entropy", "localleap")),
    ("conv_freedave", "conv_threshold", {}),
]


def draw_pair(seed):
    """A random toy and the text of a rule with and without drafts."""
    random = torch.Generator().manual_seed(seed)

    def number(low, high):
        return int(torch.randint(low, high + 1, (), generator=random))

    name, base, settings = PAIRS[seed % len(PAIRS)]
    model = RuleToy(f"toy.p{number(1, 3)}", shifted=seed % 3 == 0)
    model.W = model.W[:, :] + torch.randn(model.W.shape, generator=random) * model.W.std() * 0.5
    prompts = torch.randint(0, MASK, (2, number(1, 8)), generator=random)
    prompts[torch.rand(prompts.shape, generator=random) < 0.1] = MASK
    prompts[:, 0] = 5
    if "threshold" in DECODE_TYPES[name].fields and not settings:
        settings = {"threshold": number(3, 10) / 10}
    size = {"kernel_size": number(2, 20)} if name.startswith("conv") else {"block_length": number(1, 24)}
    common = dict(
        attention_mask=torch.ones_like(prompts), max_new_tokens=number(1, 32), pad_token_id=0,
        eos_token_id=[EOS, 7] if seed % 2 else None, eos_fill=seed % 4 == 1, return_dict_in_generate=True, **size,
        **settings,
    )  # fmt: skip
    if name == "freedave":
        drafted = {key: value for key, value in common.items() if key != "threshold"}
    else:
        drafted = common
    one = model.generate(prompts, decode_type=base, **common)
    out = model.generate(prompts, decode_type=name, draft_steps=number(1, 6), **drafted)
    return one, out


def holds_for(seeds):
    saved = 0
    for seed in seeds:
        one, out = draw_pair(seed)
        assert torch.equal(out.sequences, one.sequences), seed
        assert (out.forwards <= one.forwards).all(), seed
        saved += int((one.forwards - out.forwards).sum())
    assert saved > 0


def test_drafts_are_lossless_on_random_toys():
    holds_for(range(20))


@pytest.mark.parametrize(("name", "base", "settings"), PAIRS)
def test_drafts_are_lossless_where_logits_are_shifted(name, base, settings):
    """Of a transformer, in float64, where no rounding makes two equal scores differ; rows of different lengths."""
    model = random_llada().double()
    model.shift_logits = True
    prompts = torch.tensor([[0, 0, 1, 40, 50, 60], [1, 44, 3, 3, 80, 81]])
    common = dict(
        attention_mask=(prompts != 0).long(), max_new_tokens=16, pad_token_id=0, eos_token_id=None,
        return_dict_in_generate=True,
    )  # fmt: skip
    settings = settings or ({"entropy_bound": 4.0} if "entropy" in name else {"threshold": 0.2})
    common |= {"kernel_size": 6} if name.startswith("conv") else {"block_length": 8}
    one = model.generate(prompts, decode_type=base, **common, **settings)
    out = model.generate(prompts, decode_type=name, **common, **({} if name == "freedave" else settings))
    assert torch.equal(out.sequences, one.sequences)
    assert (out.forwards <= one.forwards).all() and int(out.forwards.sum()) < int(one.forwards.sum())


def test_drafts_reckon_with_end_tokens_that_follow_at_once():
    """`eos_fill`, of which the embedded model is told by default."""
    model, prompts = random_llada().double(), torch.tensor([[1, 40, 50, 60], [1, 44, 80, 81]])
    settings = dict(
        attention_mask=torch.ones_like(prompts), threshold=0.2, block_length=24, max_new_tokens=24, pad_token_id=0,
        eos_token_id=list(range(180, 260)), eos_fill=True, return_dict_in_generate=True,
    )  # fmt: skip
    one, out = (model.generate(prompts, decode_type=name, **settings) for name in ("threshold", "freedave_threshold"))
    assert torch.equal(out.sequences, one.sequences) and int(out.forwards.sum()) < int(one.forwards.sum())


@pytest.mark.slow
def test_drafts_are_lossless_on_a_thousand_random_toys():
    holds_for(range(20, 1020))


def test_what_cannot_be_drafted_is_refused():
    for base in ("confidence", "remasking", "wino", "klass", "credit"):
        with pytest.raises(ValueError, match="can't be drafted"):
            lossless(UNMASKING_RULES[base])
    run = RUNS["freedave.02"]
    for wrong, match in (
        ({"repetition_penalty": 1.2}, "model's own scores"),
        ({"do_sample": True}, "says the tokens by itself"),
        ({"lookahead": 30}, "takes several at once"),
        ({"cache_implementation": "window"}, "beside it"),
    ):
        with pytest.raises(SettingError, match=match):
            ours(run, decode_type="freedave", **wrong)


def test_any_rule_at_its_own_pace_can_be_drafted():
    UNMASKING_RULES.register("lossless_factor", lossless(UNMASKING_RULES["factor"]))
    DECODE_TYPES.register("lossless_factor", DecodeType("block", "lossless_factor", "as factor", do_sample=False))
    try:
        run = RUNS["freedave.05"]
        out, one = (ours(run, decode_type=name, factor=0.5) for name in ("lossless_factor", "factor"))
        assert torch.equal(out.sequences, one.sequences) and int(out.forwards) < int(one.forwards)
    finally:
        del UNMASKING_RULES["lossless_factor"], DECODE_TYPES["lossless_factor"]
