"""A causal model of Transformers as `assistant_model`."""

import copy
import functools

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from conv_dlm import SettingError
from conv_dlm.generation import assistant
from tests.generation import toy_rules
from tests.generation.golden import RUNS, ours, toy, verifier

MASK, EOS, PAD = 3, 2, 0
IDS = torch.tensor([[PAD, PAD, 1, 40, 50], [1, 60, 70, 80, 90]])


@functools.cache
def random_causal():
    config = LlamaConfig(
        vocab_size=260, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=64, bos_token_id=1, eos_token_id=EOS, pad_token_id=PAD, initializer_range=0.6,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return LlamaForCausalLM(config).eval()


@pytest.fixture
def causal():
    return random_causal()


def run(model, ids=IDS, **keywords):
    keywords = dict(max_new_tokens=12, pad_token_id=PAD, return_dict_in_generate=True) | keywords
    return model.generate(ids, attention_mask=(ids != PAD).long(), **keywords)


@pytest.mark.parametrize("cache", [{}, dict(cache_implementation="window")], ids=["", "cached"])
@pytest.mark.parametrize("end", [EOS, 7])
def test_the_text_is_what_the_causal_model_writes(tiny_llada, causal, cache, end):
    alone = run(causal, do_sample=False, suppress_tokens=[MASK], eos_token_id=end).sequences
    end = int(alone[0, 9]) if end == 7 else end
    written = run(causal, do_sample=False, suppress_tokens=[MASK], eos_token_id=end).sequences
    out = run(tiny_llada, decode_type="speculative", assistant_model=causal, eos_token_id=end, **cache)
    width = written.shape[1]
    assert torch.equal(out.sequences[:, :width], written) and (out.sequences[:, width:] == PAD).all()


def test_the_causal_model_reads_settled_text_once(tiny_llada, causal, monkeypatch):
    widths, forward = [], causal.forward

    @functools.wraps(forward)
    def watched(input_ids, **inputs):
        widths.append(input_ids.shape[1])
        return forward(input_ids, **inputs)

    monkeypatch.setattr(causal, "forward", watched)
    settings = dict(decode_type="speculative", assistant_model=causal, eos_token_id=None, draft_length=3)
    out = run(tiny_llada, IDS[1:], **settings)
    assert widths[0] == 7 and len(widths) > 3 and max(widths[1:]) == 3  # the last text token, and drafts but one
    run(tiny_llada, **settings)
    monkeypatch.setattr(assistant, "_cache_of", lambda model: None)
    assert torch.equal(run(tiny_llada, IDS[1:], **settings).sequences, out.sequences) and max(widths) == 16


def test_rows_are_what_they_are_alone(tiny_llada, causal):
    """With a causal model that passes some drafts, and one that passes all: the text is the denoiser's own at once."""
    settings = dict(decode_type="guided", assistant_model=causal, eos_token_id=None, accept_top_k=60, accept_share=0.0)
    together = run(tiny_llada, **settings)
    for row, start in ((0, 2), (1, 0)):
        alone = run(tiny_llada, IDS[row : row + 1, start:], **settings)
        assert torch.equal(alone.sequences[0], together.sequences[row, start:])
        assert int(alone.forwards[0]) == int(together.forwards[row])
    assert int(together.forwards.min()) > 1 and not (together.sequences == MASK).any()
    everything = run(tiny_llada, **settings | {"accept_top_k": 260})
    assert everything.forwards.tolist() == [1, 1]
    four = run(tiny_llada, **settings | {"accept_top_k": 260, "draft_length": 4})
    assert four.forwards.tolist() == [3, 3]


def greedy(model, prompt, count):
    """What a causal model writes."""
    ids = torch.tensor([prompt])
    for _ in range(count):
        logits = model(ids, position_ids=torch.arange(ids.shape[1])[None]).logits[:, -1]
        logits[:, toy_rules.MASK] = -torch.inf
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
        ours(run, [[toy_rules.MASK, 5, 6]])
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
