"""Answers that come piece by piece."""

import pytest

from .conftest import Gate, client_of, web
from .test_answers import HELLO, MASK, expected


def pieces(stream):
    """Text and finish reason of each answer, and the usage, with the checks that hold for all streams."""
    texts, reasons, usage = {}, {}, None
    for chunk in stream:
        for choice in chunk.choices:
            text = choice.delta.content if hasattr(choice, "delta") else choice.text
            assert choice.index not in reasons, "nothing follows the end of an answer"
            texts.setdefault(choice.index, []).append(text or "")
            if choice.finish_reason:
                reasons[choice.index] = choice.finish_reason
        usage = chunk.usage or usage
    assert texts.keys() == reasons.keys()
    return texts, reasons, usage


@pytest.mark.parametrize("decode_type", ["conv", "llada", "topk", "conv_threshold", "remdm"])
def test_a_stream_is_the_whole_in_pieces(client, decode_type):
    request = dict(model="tiny", messages=HELLO, max_tokens=48, seed=2, extra_body={"decode_type": decode_type})
    whole = client.chat.completions.create(**request)
    texts, reasons, usage = pieces(
        client.chat.completions.create(**request, stream=True, stream_options={"include_usage": True})
    )
    assert "".join(texts[0]) == whole.choices[0].message.content and reasons[0] == whole.choices[0].finish_reason
    assert usage == whole.usage
    assert len([text for text in texts[0] if text]) >= (1 if decode_type == "remdm" else 3)  # it decides for good


def test_usage_only_if_asked_for(client):
    stream = client.completions.create(model="tiny", prompt="hello", max_tokens=8, stream=True)
    assert pieces(stream)[2] is None


def test_several_answers_in_a_stream(client):
    request = dict(model="tiny", prompt=["hello", "a longer prompt"], n=2, max_tokens=24, seed=3)
    whole = client.completions.create(**request)
    texts, _, _ = pieces(client.completions.create(**request, stream=True))
    assert ["".join(texts[index]) for index in range(4)] == [choice.text for choice in whole.choices]


def test_text_comes_as_soon_as_it_stays(serve, make_llada, tiny_tokenizer):
    """In order, before the run is over, and never what stands behind an undecided position."""
    model = make_llada()
    gate = Gate(model)
    with serve(model, tiny_tokenizer) as address:
        settings = dict(decode_type="llada", block_length=1, steps=8, do_sample=False)  # a token in each step
        stream = client_of(address).completions.create(
            model="tiny", prompt="hello", max_tokens=8, stream=True, extra_body=settings
        )
        gate.wait()
        seen = ""
        for step in range(1, 4):
            gate.let(1)
            gate.wait()  # the next forward, after the step has been streamed
            decided = expected_start(make_llada(), tiny_tokenizer, step, settings)
            while len(seen) < len(decided):
                seen += next(stream).choices[0].text
            assert seen == decided
        gate.let(99)
        list(stream)


def expected_start(model, tokenizer, tokens, settings):
    """The text of the first tokens, without half characters."""
    ids = tokenizer("hello", return_tensors="pt", return_token_type_ids=False)
    out = model.generate(**ids, max_new_tokens=8, **settings)
    return tokenizer.decode(out[0, 5 : 5 + tokens], skip_special_tokens=True).rstrip("\ufffd")


def test_a_stop_string_ends_the_text_and_the_work(client, tiny_llada, tiny_tokenizer):
    settings = dict(decode_type="llada", block_length=1, steps=32)
    text, tokens = expected(tiny_llada, tiny_tokenizer, "hello", seed=1, max_new_tokens=32, **settings)
    stop = next(c for c in text[8:] if c.isascii())
    request = dict(model="tiny", prompt="hello", max_tokens=32, seed=1, extra_body=settings)
    free, cut = (client.completions.create(**request, stop=stops) for stops in (None, ["never, ever", stop]))
    assert free.choices[0].text == text and cut.choices[0].text == text[: text.index(stop)]
    assert cut.choices[0].finish_reason == "stop"
    assert cut.usage.completion_tokens <= tokens and cut.usage.forwards < free.usage.forwards
    texts, reasons, _ = pieces(client.completions.create(**request, stop=stop, stream=True))
    assert "".join(texts[0]) == cut.choices[0].text and reasons[0] == "stop"


def test_stop_strings_that_the_prompt_began_are_none(client, tiny_llada, tiny_tokenizer):
    text, _ = expected(tiny_llada, tiny_tokenizer, "hello", seed=1, max_new_tokens=16)
    reply = client.completions.create(model="tiny", prompt="hello", max_tokens=16, seed=1, stop="o" + text[0])
    assert reply.choices[0].text == text


def test_failure_within_a_stream(serve, make_llada, tiny_tokenizer, caplog):
    model = make_llada()
    gate = Gate(model)
    with serve(model, tiny_tokenizer) as address:
        client = client_of(address)
        stream = client.completions.create(model="tiny", prompt="hello", max_tokens=8, stream=True)
        gate.wait()
        gate.error = RuntimeError("a secret of the house")
        gate.let(1)
        with pytest.raises(Exception, match="the server's log has the reason"):
            list(stream)
        assert "a secret of the house" in caplog.text
        gate.let(99)
        assert list(client.completions.create(model="tiny", prompt="hello", max_tokens=8, stream=True))


def test_events_as_they_are_sent(address):
    """The bytes: one `data:` line for each event, and `[DONE]` at the end."""
    body = {"messages": HELLO, "max_tokens": 4, "stream": True}
    reply = web.post(f"{address}/v1/chat/completions", json=body)
    events = reply.text.split("\n\n")
    assert reply.headers["content-type"].startswith("text/event-stream")
    assert all(event.startswith("data: {") for event in events[:-2]) and events[-2:] == ["data: [DONE]", ""]


def test_mask_tokens_are_never_sent(client, tiny_tokenizer):
    mask = tiny_tokenizer.convert_ids_to_tokens(MASK)
    texts, _, _ = pieces(client.completions.create(model="tiny", prompt="hello", max_tokens=32, stream=True))
    assert mask not in "".join(texts[0])
