"""The field's rules against complete runs of their published implementations, canvas by canvas."""

import copy
import functools
import itertools
from collections import Counter

import pytest
import torch
from safetensors.torch import load_file

from conv_dlm import DECODE_TYPES, SettingError
from conv_dlm.generation import UNMASKING_RULES, BlockCausal, DecodeType, lossless
from conv_dlm.generation.parts.frequency import TOKEN_FREQUENCIES, relative_frequencies
from tests.generation.toy_rules import EOS, GOLDEN, MASK, RuleToy, RuleVerifier, golden_runs

RUNS = {run["id"]: run for run in golden_runs()}
# their names of settings -> ours
NAMES = {
    "klass": {"conf_threshold": "klass_threshold", "kl_threshold": "kl_threshold", "history_length": "history_length"},
    "credit": {
        "alpha": "credit_weight", "beta": "credit_decay", "gamma": "credit_power", "threshold": "threshold",
    },
    "localleap": {"threshold": "threshold", "relaxed_threshold": "relaxed_threshold", "radius": "leap_radius"},
    "hierarchical": {"threshold": "threshold", "low_threshold": "low_threshold"},
    "wino": {"threshold": "wino_threshold", "threshold_back": "verify_threshold"},
    "rcr": {"steps": "steps", "mode": "rcr_schedule"},
    "saber": {"n": "saber_tokens"},
    "editing": {
        "threshold": "threshold", "editing_threshold": "editing_threshold", "edit_threshold": "editing_threshold",
        "max_post_steps": "max_post_steps", "max_post_edit_steps": "max_post_steps",
        "num_to_transfer": "editing_tokens",
    },
    "daedal": {
        "initial_gen_length": "initial_length", "high_conf_threshold": "threshold",
        "low_conf_threshold": "unsure_below", "expansion_factor": "expansion_factor",
        "eos_confidence_threshold": "length_confidence", "expand_eos_confidence_threshold": "insert_confidence",
        "eos_check_tokens": "eos_check_tokens",
    },
    "guided": {},
    "pc_sampler": {
        "steps": "steps", "lambda": "position_decay", "alpha": "frequency_cap", "frequency": "token_frequencies",
    },
    "ccd": {"steps": "steps", "seek_mode": "all_consistent", "expand_ratio": "expand_ratio"},
    "multiblock": {
        "entropy_threshold": "multiblock_entropy", "block_add_threshold": "block_add_threshold",
        "decoded_token_threshold": "decoded_token_threshold", "block_length": "flight_length",
    },
}  # fmt: skip
# forwards after which ours differs on purpose -> why
DIFFERS = {
    "klass.02": (30, "no divergence from another block's steps: a block's predictions start without a history"),
    "multiblock.02": (20, "early_stop: an end token there fills what is behind it at once"),
}


@functools.cache
def toy(name):
    return RuleToy(f"toy.{name}")


@functools.cache
def block_causal_toy(name, block_length):
    model = RuleToy(f"toy.{name}")
    model.attention_pattern = BlockCausal(block_length)
    return model


@functools.cache
def verifier(name):
    return RuleVerifier(name)


def guided(settings):
    """The version that commits the verifier's own token behind the drafts is the other direction."""
    if settings["version"] == "earlier":
        return {"decode_type": "speculative", "draft_length": settings["gen_length"]}
    share = settings["relative_threshold"] if settings["strategy"] == "topk_relative" else 0.0
    top_k = 1 if settings["strategy"] == "deterministic" else settings["top_k"]
    return {"draft_length": settings["gen_length"], "accept_top_k": top_k, "accept_share": share}


def ours(run, prompts=None, **keywords):
    settings, names = run["settings"], NAMES.get(run["rule"], {})
    said = {new: settings[old] for old, new in names.items() if old in settings}
    if run["rule"] == "guided":
        said = guided(settings) | {"assistant_model": verifier(settings["verifier"])}
    keywords = {"decode_type": run["rule"], **said, **keywords}
    if "block_length" in settings and run["rule"] != "multiblock":
        keywords["block_length"] = settings["block_length"]
    ids = torch.tensor([run["prompt"]] if prompts is None else prompts)
    new_tokens, model = settings.get("gen_length", settings.get("max_gen_length")), toy(run["toy"])
    keywords.setdefault("eos_token_id", None)
    if run["rule"] == "editing":  # block-causal; they denoise whole blocks
        new_tokens = len(run["canvas"][0]) - len(run["prompt"])
        model = block_causal_toy(run["toy"], settings["block_length"])
    return model.generate(
        ids.clamp(min=0), attention_mask=(ids >= 0).long(), max_new_tokens=new_tokens, pad_token_id=0,
        return_dict_in_generate=True, output_history=True, **keywords,
    )  # fmt: skip


@pytest.fixture(autouse=True, scope="module")
def frequencies():
    """Those of their runs of PC-Sampler."""
    for name, table in load_file(GOLDEN / "toys.safetensors").items():
        if name.startswith("pc_sampler"):
            TOKEN_FREQUENCIES.register(name, table)
    yield
    TOKEN_FREQUENCIES.clear()


def test_the_toy_is_theirs():
    check, model = load_file(GOLDEN / "toys.safetensors"), toy("p1")
    x = check["check.x"].long().view(-1, check["check.x"].shape[-1])
    assert torch.equal(model(x).logits.view_as(check["check.logits"]), check["check.logits"])


@pytest.mark.parametrize("name", [name for name, run in RUNS.items() if run["rule"] == "daedal"])
def test_canvases_of_a_length_of_their_own(name):
    """Up to the step that leaves no mask before an end token: there a row of ours ends."""
    run = RUNS[name]
    theirs, out = run["canvas"], ours(run, eos_token_id=EOS)
    length = out.history.shape[2]
    for expected, canvas in zip(theirs, out.history[:-1, 0].tolist(), strict=False):
        assert canvas == expected + [MASK] * (length - len(expected))
    last, text = out.history[-1, 0].tolist(), theirs[len(out.history) - 1]
    end = text.index(EOS, len(run["prompt"])) + 1
    assert last[:end] == text[:end] and MASK not in text[:end]
    assert int(out.forwards) == len(out.history) - 1 and (out.sequences[0, end:] == 0).all()
    assert len({len(canvas) for canvas in theirs[: len(out.history)]}) > 2
    # what is known of a token moves with it; end tokens at the row's end may be pushed out
    texts = [Counter(token for token in canvas if token not in (MASK, EOS)) for canvas in out.history[:, 0].tolist()]
    for step, (before, after) in enumerate(itertools.pairwise(texts)):
        its = Counter(out.history[-1, 0][out.unmasked_at[0] == step].tolist())
        del its[EOS]
        assert its == after - before


def greedy(model, prompt, count):
    """What a causal model writes."""
    ids = torch.tensor([prompt])
    for _ in range(count):
        logits = model(ids, position_ids=torch.arange(ids.shape[1])[None]).logits[:, -1]
        logits[:, MASK] = -torch.inf
        ids = torch.cat([ids, logits.argmax(-1, keepdim=True)], 1)
    return ids[0]


@pytest.mark.parametrize("draft_length", [1, 5, 64])
def test_a_denoiser_drafts_for_a_causal_model(draft_length):
    """Rows of different lengths: the causal model's greedy text, in fewer forwards where drafts are long."""
    run = RUNS["guided.02"]
    prompts = [run["prompt"], [-1, -1, *run["prompt"][2:]]]
    out = ours(run, prompts, draft_length=draft_length)
    for row, prompt in enumerate(prompts):
        text = [token for token in prompt if token >= 0]
        expected = greedy(verifier(run["settings"]["verifier"]), text, run["settings"]["gen_length"])
        assert torch.equal(out.sequences[row, len(prompt) - len(text) :], expected)
    most = int(out.forwards.max())
    assert most == 48 if draft_length == 1 else most < 40


def test_what_an_assistant_does_not_go_with(tiny_llada, tiny_tokenizer):
    run = RUNS["guided.02"]
    for wrong, match in (
        ({"assistant_model": None}, "`assistant_model` is missing"),
        ({"assistant_model": toy("p1")}, "pass a causal LM"),
        ({"decode_type": "threshold"}, "has no use with `decode_type='threshold'`"),
        ({"repetition_penalty": 1.2}, "model's own scores"),
        ({"do_sample": True}, "says the tokens by itself"),
    ):  # fmt: skip
        with pytest.raises(SettingError, match=match):
            ours(run, **wrong)
    with pytest.raises(SettingError, match="begins with a mask"):
        ours(run, [[MASK, 5, 6]])
    other = copy.deepcopy(verifier(run["settings"]["verifier"]))
    other.config.vocab_size = 40
    with pytest.raises(SettingError, match="has 40 ids and this model 37"):
        ours(run, assistant_model=other)
    both = {"tokenizer": tiny_tokenizer, "assistant_tokenizer": copy.deepcopy(tiny_tokenizer)}
    assert torch.equal(ours(run, assistant_model=other, **both).sequences, ours(run).sequences)
    both["assistant_tokenizer"].add_tokens([f"new {i}" for i in range(3)])
    ours(run, assistant_model=other, **both)
    both["assistant_tokenizer"] = OtherTokenizer()
    with pytest.raises(SettingError, match="has another tokenizer: 'a' has another id"):
        ours(run, assistant_model=other, **both)


class OtherTokenizer:
    def get_vocab(self):
        return {"a": 100000}


def test_frequencies_of_a_text():
    assert relative_frequencies(torch.tensor([[1, 1, 0], [1, 3, 3]]), 5).tolist() == pytest.approx(
        [1 / 6, 3 / 6, 1 / 6, 2 / 6, 1 / 6]
    )
    run = RUNS["pc_sampler.02"]
    assert not torch.equal(ours(run, token_frequencies=None).history, ours(run).history)
    with pytest.raises(SettingError, match="must be one of"):
        ours(run, token_frequencies="mine")


def test_what_a_length_of_its_own_does_not_go_with():
    run = RUNS["daedal.06"]
    for wrong, match in (
        ({}, "finds the text's length"), ({"eos_threshold": 0.9}, "by itself"), ({"lookahead": 64}, "by itself"),
        ({"exit_schedule": "linear"}, "by itself"),
    ):  # fmt: skip
        with pytest.raises(SettingError, match=match):
            ours(run, **{"eos_token_id": EOS} if wrong else {}, **wrong)


@pytest.mark.parametrize("name", [name for name, run in RUNS.items() if run["rule"] not in ("freedave", "daedal")])
def test_canvas_by_canvas(name):
    run = RUNS[name]
    theirs = torch.tensor(run["canvas"])
    out = ours(run, eos_token_id=EOS if run["rule"] == "guided" else None)
    equal = 0
    for expected, canvas in zip(theirs, out.history[:, 0], strict=False):
        if not torch.equal(expected, canvas):
            break
        equal += 1
    if run["settings"].get("implementation") == "sglang":  # it makes a last forward for nothing
        distinct = [canvas for canvas, _ in itertools.groupby(run["canvas"])]
        assert [canvas for canvas, _ in itertools.groupby(out.history[:, 0].tolist())] == distinct
        return
    if name in DIFFERS:
        assert equal == DIFFERS[name][0]
        return
    assert equal == len(theirs)
    unchanged = sum(torch.equal(*pair) for pair in itertools.pairwise(theirs))
    assert run["forwards"] - unchanged <= int(out.forwards) <= run["forwards"]


@pytest.mark.parametrize("name", [name for name, run in RUNS.items() if run["rule"] == "freedave"])
def test_freedave(name):
    """Their text, in as many forwards or fewer, and that of the rule without drafts, which needs no more only where it
    decides about whole blocks at once (06)."""
    run = RUNS[name]
    threshold, draft_steps = run["settings"]["confidence_threshold"], run["settings"]["draft_steps"] - 1
    kind = {"decode_type": "freedave"}
    if threshold is not None:
        kind = {"decode_type": "freedave_threshold", "threshold": threshold}
    out = ours(run, draft_steps=draft_steps, **kind)
    base = ours(run, decode_type="threshold", threshold=1.0 if threshold is None else threshold)
    assert torch.equal(out.sequences, base.sequences)
    assert int(out.forwards) < int(base.forwards) or name == "freedave.06"
    if not run["settings"]["early_exit"]:
        assert out.sequences[0].tolist() == run["canvas"][-1] and int(out.forwards) <= run["forwards"]


@pytest.mark.parametrize("rule", sorted({run["rule"] for run in RUNS.values() if run["rule"] != "freedave"}))
def test_rows_of_a_padded_batch(rule):
    """Prompts of different lengths: each row takes the steps of the row alone."""
    run = next(run for run in RUNS.values() if run["rule"] == rule)
    one, other = run["prompt"], run["prompt"][2:]
    ends = {"eos_token_id": EOS} if rule == "daedal" else {}
    together = ours(run, [one, [-1, -1, *other]], **ends)
    for row, prompt in enumerate((one, other)):
        alone = ours(run, [prompt], **ends)
        steps = len(alone.history)
        assert torch.equal(together.history[:steps, row, 2 * row :], alone.history[:, 0])
        assert int(together.forwards[row]) == int(alone.forwards[0])


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
    model = RuleToy(f"toy.p{number(1, 3)}")
    model.W = model.W[:, :] + torch.randn(model.W.shape, generator=random) * model.W.std() * 0.5
    prompts = torch.randint(0, MASK, (2, number(1, 8)), generator=random)
    prompts[torch.rand(prompts.shape, generator=random) < 0.1] = MASK
    prompts[:, 0] = 5
    if "threshold" in DECODE_TYPES[name].fields and not settings:
        settings = {"threshold": number(3, 10) / 10}
    size = {"kernel_size": number(2, 20)} if name.startswith("conv") else {"block_length": number(1, 24)}
    common = dict(
        attention_mask=torch.ones_like(prompts), max_new_tokens=number(1, 32), pad_token_id=0,
        eos_token_id=[EOS, 7] if seed % 2 else None, return_dict_in_generate=True, **size, **settings,
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
