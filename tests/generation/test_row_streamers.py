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
    steps = {} if settings.get("decode_type") == "conv_threshold" else {"steps": 12}
    settings = dict(max_new_tokens=20) | steps | settings
    return model.generate(ids, attention_mask=mask, generator=generators, streamer=streamer, **settings)


@pytest.mark.parametrize("decode_type", ["conv", "llada", "remdm", "conv_threshold"])
@pytest.mark.parametrize("eos_token_id", [EOS, None])
def test_rows_see_what_they_would_see_alone(tiny_llada, decode_type, eos_token_id):
    settings = dict(decode_type=decode_type, eos_token_id=eos_token_id, pad_token_id=PAD)
    together = [Recorder() for _ in ROWS]
    generate(tiny_llada, conv_dlm.RowStreamers(together), **settings)
    for index, (row, seen) in enumerate(zip(ROWS, together, strict=True)):
        alone = Recorder()
        ids = torch.tensor([row])
        generate(tiny_llada, alone, ids, torch.ones_like(ids), [index], **settings)
        assert seen.put_ids[0] == IDS[index].tolist() and seen.ended == alone.ended == 1
        assert seen.put_ids[1:] == alone.put_ids[1:]
        assert seen.drafts == alone.drafts


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
