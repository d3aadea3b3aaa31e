"""Every pair of features at some time: a row of a batch is the row alone, and a cache that keeps nothing is none.

    python -m tests.generation.test_pairs 100000 [FIRST]    as many draws, from seed FIRST on (0); says what differs

In float64, where no rounding makes two equal scores of a batch and of a row differ.
"""

import copy
import random
import sys
import warnings

import pytest
import torch

from conv_dlm import DECODE_TYPES, SettingError
from conv_dlm.generation import UNMASKING_RULES
from conv_dlm.generation.parts.rules import RANKINGS
from tests.tiny import random_llada

MASK, PAD, VOCABULARY = 3, 0, 260
RANGES = {
    "threshold": (0.0, 0.2), "factor": (0.0, 4.0), "entropy_bound": (0.0, 6.0), "klass_threshold": (0.0, 0.05),
    "kl_threshold": (0.0, 1.0), "relaxed_threshold": (0.0, 0.1), "low_threshold": (0.0, 0.1),
    "remask_threshold": (0.0, 0.1),
    "wino_threshold": (0.0, 0.1), "verify_threshold": (0.0, 0.2), "multiblock_entropy": (3.0, 6.0),
    "credit_weight": (0.0, 3.0), "editing_threshold": (0.0, 0.1),
    "length_confidence": (0.0, 0.02), "insert_confidence": (0.0, 0.02), "unsure_below": (0.0, 0.05),
    "cycle_threshold": (0.0, 0.1), "cycle_deviation": (0.0, 3.0),
}  # fmt: skip


def draw(seed):
    """Prompts, keywords, and whether logits are shifted."""
    dice = random.Random(seed)

    def some(share=0.35):
        return dice.random() < share

    name = dice.choice(sorted(name for name, kind in DECODE_TYPES.items() if UNMASKING_RULES[kind.rule].head is None))
    fields = DECODE_TYPES[name].fields
    tokens = [MASK, *dice.sample(range(4, VOCABULARY), 20)] if some() else range(4, VOCABULARY)
    prompts = [[*dice.choices(tokens, k=dice.randint(1, 8)), 50] for _ in range(dice.randint(2, 3))]
    if some(0.2):
        prompts[0][0] = MASK
    new = dice.choice([1, 9, 24, 24, 60])
    its = {"decode_type": name, "max_new_tokens": new, "eos_token_id": [2, *range(244, 260)] if some(0.6) else None}
    own = {"initial_length": dice.randint(1, 16), "eos_check_tokens": dice.randint(1, 6)}
    own |= {"ranked_by": dice.choice(RANKINGS), "editing_steps": dice.choice([None, 3]), "exploration_steps": 2}
    own |= {"steps": dice.randint(6, 30), "kernel_size": dice.randint(2, 30), "block_length": dice.randint(8, 24)}
    its |= {key: value for key, value in own.items() if key in fields and (key != "block_length" or some(0.8))}
    its |= {key: round(dice.uniform(*ends), 3) for key, ends in RANGES.items() if key in fields}
    if some():
        its |= {"cache_implementation": dice.choice(["window", "prefix", "dual"])}
        if its["cache_implementation"] == "window":
            its |= {"cache_refresh_interval": dice.choice([1, 4]), "cache_margin": dice.randint(0, 2)}
    if some():
        its |= {"lookahead": dice.choice([8, 16, 24, 32])}
    if some(0.2):
        its |= {"exit_schedule": dice.choice(["linear", "cosine", "staged"]), "exit_high": 2.0, "exit_low": 0.5}
    if some():
        its |= {"guidance_scale": dice.choice([0.5, 1.7])}
    if some(0.25):
        its |= {"repetition_penalty": 1.3}
    if some(0.25):
        its |= {"suppress_tokens": list(range(100, 180))}
    if some(0.25):
        its |= {"top_k": dice.choice([1, 3, VOCABULARY - 1, VOCABULARY, 0])}
    if some(0.25):
        its |= {"temperature": dice.choice([0.0, 0.7])}
    if some(0.2) and its["eos_token_id"]:
        its |= {"eos_fill": True} if some(0.5) else {"eos_threshold": 0.02}
    return prompts, its, some(0.2)


def run(model, prompts, its, rows):
    width = max(map(len, prompts))
    ids = torch.tensor([[PAD] * (width - len(prompt)) + prompt for prompt in prompts])
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    generators = [torch.Generator().manual_seed(row) for row in rows]
    return model.generate(
        ids, attention_mask=mask, generator=generators, pad_token_id=PAD, return_dict_in_generate=True, **its
    )


def differences(models, seed):
    """What is wrong with a draw; None for one that is refused."""
    prompts, its, shifted = draw(seed)
    model, found = models[shifted], []
    try:
        together = run(model, prompts, its, range(len(prompts)))
    except SettingError:
        return None
    width = max(map(len, prompts))
    for row, prompt in enumerate(prompts):
        alone, start = run(model, [prompt], its, [row]), width - len(prompt)
        for name in ("sequences", "unmasked_at"):
            if not torch.equal(alone[name][0], together[name][row, start:]):
                found.append(f"{name} of row {row}")
        if int(alone.forwards[0]) != int(together.forwards[row]):
            found.append(f"forwards of row {row}")
    if (together.sequences == MASK).any():
        found.append("a mask is left")
    if its.get("cache_implementation") == "window" and its["cache_refresh_interval"] == 1:
        plain = {name: value for name, value in its.items() if not name.startswith("cache")}
        if not torch.equal(run(model, prompts, plain, range(len(prompts))).sequences, together.sequences):
            found.append("the cache")
    return found


def make_models():
    plain = random_llada().double()
    shifted = copy.deepcopy(plain)
    shifted.shift_logits = True
    return {False: plain, True: shifted}


@pytest.mark.filterwarnings("ignore")
def test_pairs_of_features():
    models = make_models()
    found = {seed: differences(models, seed) for seed in range(40)}
    assert not {seed: what for seed, what in found.items() if what}
    assert sum(what is not None for what in found.values()) > 10


@pytest.mark.parametrize("decode_type", ["llada", "threshold", "categorical"])
def test_as_many_candidates_as_there_are_tokens(tiny_llada, decode_type):
    """At temperature 0 the best token, however many may be chosen."""
    settings = {"decode_type": decode_type, "max_new_tokens": 12, "temperature": 0.0, "eos_token_id": None}
    whole, one_less = (run(tiny_llada, [[1, 40]], settings | {"top_k": k}, [0]) for k in (VOCABULARY, VOCABULARY - 1))
    assert torch.equal(whole.sequences, one_less.sequences) and int(whole.sequences[0, 2:].max()) > 0


@pytest.mark.parametrize("decode_type", ["llada", "threshold"])
def test_what_comes_into_sight_in_mid_block_is_computed(decode_type):
    """Rows of different lengths see differently far; a kept key that was never computed would be another's."""
    model, prompts = random_llada().double(), [[1, 40, 50, 60, 70, 80, 90], [1, 44]]
    settings = {
        "decode_type": decode_type, "max_new_tokens": 90, "block_length": 16, "lookahead": 24, "eos_token_id": None,
        "cache_implementation": "dual",
    }  # fmt: skip
    settings |= {"threshold": 0.02} if decode_type == "threshold" else {"steps": 45}
    together = run(model, prompts, settings, [0, 1])
    for row, prompt in enumerate(prompts):
        alone = run(model, [prompt], settings, [row])
        assert torch.equal(alone.sequences[0], together.sequences[row, 7 - len(prompt) :])


def test_a_sliding_window_that_leaves_its_lookahead_behind_is_refused(tiny_llada):
    settings = {"decode_type": "slide", "block_length": 16, "lookahead": 16, "max_new_tokens": 60, "eos_token_id": None}
    with pytest.raises(SettingError, match="is nearer than the 46 positions"):
        run(tiny_llada, [[1, 40]], settings | {"steps": 2}, [0])
    run(tiny_llada, [[1, 40]], settings | {"steps": 8}, [0])


def test_a_row_that_begins_with_a_mask_does_not_see_its_padding():
    model = make_models()[True]
    settings = {"decode_type": "conv", "kernel_size": 8, "steps": 8, "max_new_tokens": 8, "eos_token_id": None}
    together = run(model, [[MASK, 40, 50], [1, MASK, 40, 50, 60]], settings, [0, 1])
    assert torch.equal(run(model, [[MASK, 40, 50]], settings, [0]).sequences[0], together.sequences[0, 2:])


def main(count, first=0):
    warnings.simplefilter("ignore")
    models, refused, wrong = make_models(), 0, 0
    for done, seed in enumerate(range(first, first + count), 1):
        what = differences(models, seed)
        refused += what is None
        if what:
            wrong += 1
            print(seed, what, draw(seed), flush=True)
        if done % 500 == 0 or done == count:
            print(f"{done} draws, {refused} refused, {wrong} wrong", flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
