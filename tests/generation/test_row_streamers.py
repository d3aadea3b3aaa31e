"""A streamer for each row: it sees what it would see if its row were alone."""

import copy

import pytest
import torch

import conv_dlm

from .test_generate import Recorder

PAD, EOS, MASK = 0, 2, 3
ROWS = [[1, 40, 50], [1, 60, 70, 80, 90, 100], [1, 40, MASK, MASK, 50]]
WIDTH = max(map(len, ROWS))
IDS = torch.tensor([[PAD] * (WIDTH - len(row)) + row for row in ROWS])
SEEN = torch.tensor([[0] * (WIDTH - len(row)) + [1] * len(row) for row in ROWS])


def generate(model, streamer, ids=IDS, mask=SEEN, seeds=(0, 1, 2), **settings):
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    paced = "steps" in conv_dlm.DECODE_TYPES[settings.get("decode_type", "conv")].fields
    steps = {"steps": 12} if paced else {}
    settings = dict(max_new_tokens=20) | steps | settings
    return model.generate(ids, attention_mask=mask, generator=generators, streamer=streamer, **settings)


REVISED = {
    "wino": dict(decode_type="wino", block_length=10, wino_threshold=0.02, verify_threshold=0.05),
    "editing": dict(decode_type="editing", block_length=10, threshold=0.05, editing_threshold=0.02, max_post_steps=3),
}


@pytest.mark.parametrize("decode_type", ["conv", "llada", "remdm", "conv_threshold", "wino", "editing", "daedal"])
@pytest.mark.parametrize("eos_token_id", [EOS, None])
def test_rows_see_what_they_would_see_alone(tiny_llada, decode_type, eos_token_id):
    settings = dict(decode_type=decode_type, eos_token_id=eos_token_id, pad_token_id=PAD)
    settings |= REVISED.get(decode_type, {})
    if decode_type == "daedal":
        settings |= dict(initial_length=4, threshold=0.1, unsure_below=0.02, eos_token_id=eos_token_id or 50)
    together = [Recorder() for _ in ROWS]
    generate(tiny_llada, conv_dlm.RowStreamers(together), **settings)
    for index, (row, seen) in enumerate(zip(ROWS, together, strict=True)):
        alone = Recorder()
        ids = torch.tensor([row])
        generate(tiny_llada, alone, ids, torch.ones_like(ids), [index], **settings)
        assert seen.put_ids[0] == IDS[index].tolist() and seen.ended == alone.ended == 1
        assert seen.put_ids[1:] == alone.put_ids[1:]
        assert seen.drafts == alone.drafts


class Watched(Recorder):
    """Notes how many forwards had been made when text came."""

    def __init__(self, model):
        super().__init__()
        self.forwards, self.at = 0, []
        model.register_forward_hook(self.count)

    def count(self, *args):
        self.forwards += 1

    def put(self, value):
        super().put(value)
        self.at.append(self.forwards)


@pytest.mark.parametrize("decode_type", ["wino", "editing"])
def test_text_that_may_be_revised_is_streamed_when_its_block_is_settled(make_llada, decode_type):
    model, ids = make_llada(), torch.tensor([[1, 40, 50]])
    watched, settings = Watched(model), dict(REVISED[decode_type], eos_token_id=None, pad_token_id=PAD)
    out = generate(
        model, watched, ids, torch.ones_like(ids), [0], return_dict_in_generate=True, output_history=True, **settings
    )
    history = out.history[:, 0]
    again = (history[:-1] != MASK) & (history[1:] != history[:-1])
    assert again.any()
    assert [len(put) for put in watched.put_ids[1:]] == [10, 10]
    assert [token for put in watched.put_ids for token in put] == out.sequences[0].tolist()
    for block, at in enumerate(watched.at[1:]):  # each when nothing more happens to it
        its = history[:, 3 + 10 * block : 13 + 10 * block]
        assert (its[at:] == its[-1]).all()
    assert watched.at[1] < watched.at[-1]


@pytest.mark.parametrize("decode_type", ["wino", "editing"])
def test_a_row_whose_settled_text_ends_makes_no_further_forward(tiny_llada, decode_type):
    settings = dict(REVISED[decode_type], pad_token_id=PAD, return_dict_in_generate=True)
    ids = torch.tensor([[1, 40, 50]])
    whole = generate(tiny_llada, None, ids, torch.ones_like(ids), [0], eos_token_id=None, **settings)
    end = int(whole.sequences[0, 5])
    out = generate(tiny_llada, None, ids, torch.ones_like(ids), [0], eos_token_id=end, **settings)
    first = whole.sequences[0, 3:].tolist().index(end) + 4
    assert torch.equal(out.sequences[0, :first], whole.sequences[0, :first]) and (out.sequences[0, first:] == PAD).all()
    assert int(out.forwards) < int(whole.forwards) and out.finish_reason == ["eos"]


def test_some_rows_are_watched(tiny_llada):
    """A watched row changes nothing, and one that nobody watches needs no streamer."""
    watched = Recorder()
    out = generate(tiny_llada, conv_dlm.RowStreamers([None, watched, None]))
    assert torch.equal(out, generate(tiny_llada, None))
    text = out[1, WIDTH:].tolist()
    text = text[: text.index(EOS) + 1] if EOS in text else text
    assert [index for ids in watched.put_ids[1:] for index in ids] == text


class Enough(Recorder):
    """Takes five tokens."""

    def put(self, value):
        super().put(value)
        return sum(map(len, self.put_ids[1:])) >= 5


def test_a_row_that_has_enough_ends_there(tiny_llada):
    settings = dict(decode_type="llada", block_length=1, steps=20, eos_token_id=None, pad_token_id=PAD)
    settings["return_dict_in_generate"] = True
    ids, mask, model = IDS[:2], SEEN[:2], copy.deepcopy(tiny_llada)
    free = generate(model, None, ids, mask, (0, 1), **settings)
    streamers = [Enough(), Recorder()]
    cut = generate(model, conv_dlm.RowStreamers(streamers), ids, mask, (0, 1), **settings)
    assert torch.equal(cut.sequences[1], free.sequences[1])
    assert torch.equal(cut.sequences[0, : WIDTH + 5], free.sequences[0, : WIDTH + 5])
    assert (cut.sequences[0, WIDTH + 5 :] == PAD).all()
    assert cut.forwards.tolist() == [5, 20]
    assert sum(map(len, streamers[0].put_ids[1:])) == 5 and streamers[0].ended == 1


def test_a_single_streamer_has_no_say(tiny_llada):
    """As in Transformers, what `put` returns is of no meaning there."""
    ids = torch.tensor([ROWS[0]])
    row, settings = (ids, torch.ones_like(ids), [0]), dict(decode_type="llada", block_length=1, steps=20)
    out = generate(tiny_llada, Enough(), *row, **settings)
    assert torch.equal(out, generate(tiny_llada, None, *row, **settings))


def test_another_number_of_rows(tiny_llada):
    with pytest.raises(ValueError, match="follows 2 rows, but the batch has 3"):
        generate(tiny_llada, conv_dlm.RowStreamers([None, None]))


def test_ends_need_something_to_follow(tiny_llada):
    with pytest.raises(ValueError, match="`pad_token_id` is not known, and something must follow"):
        generate(tiny_llada, conv_dlm.RowStreamers([None] * 3), eos_token_id=None, pad_token_id=None)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(decode_type="llada", block_length=2, steps=4), "too few for 10 blocks"),
        (dict(lookahead=8), "nearer than"),
        (dict(max_new_tokens=254), "need a context of 257"),
        (dict(repetition_penalty=-1.0), "must be above 0"),
        (dict(no_repeat_ngram_size=2), "needs the tokens before a position"),
        (dict(nonsense=1), "`nonsense` is not known to `generate`"),
    ],
    ids=str,
)
def test_check_generate_says_what_generate_says(tiny_llada, settings, message):
    ids = torch.tensor([[1, 40, 50]])
    settings = dict(max_new_tokens=20) | settings
    forwards = []
    model = copy.deepcopy(tiny_llada)
    model.register_forward_pre_hook(lambda *_: forwards.append(1))
    with pytest.raises(ValueError, match=message):
        model.check_generate(ids, **settings)
    with pytest.raises(ValueError, match=message):
        model.generate(ids, attention_mask=torch.ones_like(ids), **settings)
    config = model.check_generate(ids, max_new_tokens=20, decode_type="llada")
    assert (config.decode_type, config.steps, config.temperature) == ("llada", 128, 0) and not forwards
