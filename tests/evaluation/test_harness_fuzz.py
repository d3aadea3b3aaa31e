"""Whatever `model_args`, a task's settings and its texts are: answers, or a ValueError with a sentence.

A few draws here, many by `pytest -m slow tests/evaluation/test_harness_fuzz.py`.
"""

import math
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("lm_eval")
from lm_eval.utils import simple_parse_args_string

from conv_dlm.evaluation.harness import ConvDLM, option_names

HOW = dict(deadline=None, suppress_health_check=list(HealthCheck))
WORDS = ["", "abc", "nan", "1e9", "2.0", "-1", "0", "None", "true", "'4'", "[3]", "9" * 30, "cuda:99", "\ud83d", "topk"]
NAMES = ["mc_draws", "seed", "max_length", "batch_size", "dtype", "device", "peft", "quantize", *option_names()]
ARGUMENTS = st.builds("{}={}".format, st.sampled_from(NAMES), st.sampled_from(WORDS) | st.text(max_size=4))
TEXT = st.text(st.characters(exclude_categories=()), max_size=6) | st.sampled_from(["\ud83d", "<|mask|>", "x" * 300])
VALUE = st.one_of(st.none(), st.booleans(), st.integers(-2, 9), st.floats(), TEXT, st.lists(TEXT | st.integers()))
OF_TASKS = st.dictionaries(st.sampled_from(["until", "max_gen_toks", "max_tokens", "temperature", "do_sample"]), VALUE)


def check(model, tokenizer, arguments, kwargs, texts):
    said = simple_parse_args_string(",".join(arguments))
    try:
        lm = ConvDLM(model, tokenizer=tokenizer, **({"mc_draws": 2, "steps": 1, "max_new_tokens": 2} | said))
        (text,) = lm.generate_until([SimpleNamespace(args=(texts[0], kwargs))], disable_tqdm=True)
        ((likelihood, greedy),) = lm.loglikelihood([SimpleNamespace(args=texts)], disable_tqdm=True)
        (whole,) = lm.loglikelihood_rolling([SimpleNamespace(args=texts[1:])], disable_tqdm=True)
    except ValueError as error:
        assert len(str(error)) > 15
        return "refused"
    assert isinstance(text, str) and isinstance(greedy, bool) and math.isfinite(likelihood) and math.isfinite(whole)
    return "answered"


INPUTS = st.lists(ARGUMENTS, max_size=2), OF_TASKS, st.tuples(TEXT, TEXT)


@given(*INPUTS)
@settings(max_examples=30, derandomize=True, **HOW)
def test_any_arguments_and_texts(tiny_llada, tiny_tokenizer, arguments, kwargs, texts):
    check(tiny_llada, tiny_tokenizer, arguments, kwargs, texts)


@pytest.mark.slow
def test_any_arguments_and_texts_many_times(tiny_llada, tiny_tokenizer):
    counts = {"answered": 0, "refused": 0}

    @given(*INPUTS)
    @settings(max_examples=2000, **HOW)
    def many(arguments, kwargs, texts):
        counts[check(tiny_llada, tiny_tokenizer, arguments, kwargs, texts)] += 1

    many()
    print(f"draws: {counts}")
