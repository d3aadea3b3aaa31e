"""What is not answered: a clear message in OpenAI's shape, and the server goes on."""

import contextlib
import copy
import json
import re

import httpx
import openai
import pytest

from conv_dlm.answering.prompting import Prompter
from conv_dlm.serving.fields import UNSUPPORTED
from conv_dlm.serving.served import Limits, ServedModel

from .conftest import client_of, web
from .test_answers import HELLO

PROMPT = {"prompt": "hello"}
CHAT = {"messages": HELLO}

# body, what the message says, the field that it names
BAD = [
    (PROMPT | {"stepss": 4}, "did you mean `steps`", "stepss"),
    (PROMPT | {"messages": HELLO}, "not a known field here, but of /v1/chat/completions", "messages"),
    (CHAT | {"suffix": " end"}, "not a known field here, but of /v1/completions", "suffix"),
    (PROMPT | {f"field_{index}": 1 for index in range(33)}, "more than 32 unknown fields", None),
    (PROMPT | {"compile": True}, "the server's to set", "compile"),
    (PROMPT | {"steps": 0}, "`steps`=0 must be a whole number of at least 1", "steps"),
    (PROMPT | {"steps": "many"}, "must be a whole number", "steps"),
    (PROMPT | {"steps": 4.0}, "must be a whole number", "steps"),
    (PROMPT | {"steps": True}, "must be a whole number", "steps"),
    (PROMPT | {"kernel_size": 2**40}, "must be a whole number", "kernel_size"),
    (PROMPT | {"steps": 257}, "more than this server allows, 256", "steps"),
    (PROMPT | {"eos_fill": "yes"}, "must be true or false", "eos_fill"),
    (PROMPT | {"temperature": -1}, "must be between 0 and", "temperature"),
    (PROMPT | {"temperature": "hot"}, "must be a number", "temperature"),
    (PROMPT | {"temperature": 1e999}, "must be a number", "temperature"),
    (PROMPT | {"temperature": 10**400}, "must be a number", "temperature"),
    (PROMPT | {"repetition_penalty": -1}, "must be above 0", "repetition_penalty"),
    (PROMPT | {"decode_type": "convv"}, "convv", "decode_type"),
    (PROMPT | {"decode_type": "llada", "kernel_size": 4}, "has no effect", "kernel_size"),
    (PROMPT | {"decode_type": "llada", "block_length": 2, "steps": 4}, "too few for 8 blocks", "steps"),
    (PROMPT | {"lookahead": 8}, "nearer than", "lookahead"),
    (PROMPT | {"cache_implementation": "dual"}, "has no blocks", "cache_implementation"),
    (PROMPT | {"decode_type": "remdm", "eos_threshold": 0.5}, "masks tokens again", "eos_threshold"),
    (PROMPT | {"suffix": " end", "lookahead": 64}, "at the right of the masks", "lookahead"),
    (PROMPT | {"max_tokens": 129}, "more than this server allows, 128", "max_tokens"),
    (PROMPT | {"max_tokens": 0}, "at least 1", "max_tokens"),
    (PROMPT | {"max_tokens": 4, "max_new_tokens": 5}, "mean the same", "max_new_tokens"),
    ({"prompt": "x" * 250}, "needs? a context of 266, but the model's is 256", "max_new_tokens"),
    ({"prompt": "x" * 250, "suffix": "x"}, "need a context of 267", "max_new_tokens"),
    ({"prompt": ""}, "prompt is empty", None),
    ({}, "`prompt` must be a string", "prompt"),
    ({"prompt": []}, "`prompt` must be a string", "prompt"),
    ({"prompt": [1, "a"]}, "`prompt` must be a string", "prompt"),
    ({"prompt": [True]}, "`prompt` must be a string", "prompt"),
    ({"prompt": [[]]}, "`prompt` must be a string", "prompt"),
    ({"prompt": [5, 260]}, "the token 260", "prompt"),
    ({"prompt": [-1]}, "the token -1", "prompt"),
    ({"prompt": [3]}, "the token 3", "prompt"),  # the mask
    ({"prompt": "x" * 5000}, "5000 characters", None),  # refused before it is tokenized
    (PROMPT | {"stop": ["a", "b", "c", "d", "e"]}, "up to 4", "stop"),
    (PROMPT | {"stop": ""}, "none of them empty", "stop"),
    (PROMPT | {"stop": 5}, "must be a string", "stop"),
    (PROMPT | {"logprobs": 21}, "from 0 to 20", "logprobs"),
    (PROMPT | {"logprobs": True}, "must be a whole number", "logprobs"),
    (PROMPT | {"top_logprobs": 1}, "of /v1/chat/completions", "top_logprobs"),
    (CHAT | {"logprobs": 1}, "true or false", "logprobs"),
    (CHAT | {"top_logprobs": 1}, "needs `logprobs`", "top_logprobs"),
    (CHAT | {"logprobs": True, "top_logprobs": -1}, "from 0 to 20", "top_logprobs"),
    (PROMPT | {"top_p": 0}, "above 0", "top_p"),
    (PROMPT | {"top_p": 1.5}, "at most 1", "top_p"),
    (PROMPT | {"logit_bias": {"a": 1}}, "must be an object of token ids", "logit_bias"),
    (PROMPT | {"logit_bias": {"5": 101}}, "must be an object of token ids", "logit_bias"),
    (PROMPT | {"logit_bias": {"5": float("nan")}}, "must be an object of token ids", "logit_bias"),
    (PROMPT | {"logit_bias": {"260": 1}}, "the token 260", "logit_bias"),
    (PROMPT | {"best_of": 1, "n": 2}, "at least `n`=2", "best_of"),
    (PROMPT | {"best_of": 2, "stream": True}, "can't be streamed", "best_of"),
    (PROMPT | {"seed": 1 << 64}, "at most 64 bits", "seed"),
    (PROMPT | {"seed": True}, "must be a whole number", "seed"),
    (PROMPT | {"n": 0}, "at least 1", "n"),
    (PROMPT | {"n": 65}, "asks for 65 answers; at most 64", None),
    (PROMPT | {"seed": "a"}, "must be a whole number", "seed"),
    (PROMPT | {"stream": "yes"}, "true or false", "stream"),
    (PROMPT | {"stream_options": {"include_usage": True}}, "needs `stream`", "stream_options"),
    (PROMPT | {"stream": True, "stream_options": [True]}, "must be an object", "stream_options"),
    ({"messages": []}, "at least one message", "messages"),
    ({"messages": ["hello"]}, "must have a `role`", "messages[0]"),
    ({"messages": [{"role": "tool", "content": "x"}]}, "must have a `role`", "messages[0]"),
    ({"messages": [{"role": ["user"], "content": "x"}]}, "must have a `role`", "messages[0]"),
    ({"messages": [{"role": "user"}]}, "must have text", "messages[0]"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "must have text", "messages[0]"),
    ({"messages": [*HELLO, {"role": "assistant", "content": "x", "tool_calls": [1]}]}, "tool_calls", "messages[1]"),
]


def post(address, body, **kwargs):
    endpoint = "chat/completions" if isinstance(body, dict) and "messages" in body and "prompt" not in body else None
    content = {"content": body} if isinstance(body, bytes) else {"content": json.dumps(body)}
    headers = {"Content-Type": "application/json"} | kwargs
    return web.post(f"{address}/v1/{endpoint or 'completions'}", **content, headers=headers)


def error(reply, status):
    assert reply.status_code == status and reply.json().keys() == {"error"}
    told = reply.json()["error"]
    assert told.keys() == {"message", "type", "param", "code"}
    assert "Traceback" not in told["message"] and told["message"][-1] in ".?"
    return told


@pytest.mark.parametrize(("body", "message", "param"), BAD, ids=lambda value: str(value)[:60])
def test_bad_fields(address, body, message, param):
    settings = {} if {"max_tokens", "max_new_tokens"} & body.keys() else {"max_tokens": 16}
    reply = post(address, body | settings)
    told = error(reply, 400)

    assert re.search(message, told["message"]), told["message"]
    assert (told["param"], told["type"]) == (param, "invalid_request_error")


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_what_a_diffusion_model_does_not_do(address, name):
    told = error(post(address, CHAT | {name: {"a": 1}}), 400)
    assert f"`{name}`" in told["message"] and "not supported" in told["message"]
    assert (told["param"], told["code"]) == (name, "unsupported_parameter")
    for harmless in (None, *UNSUPPORTED[name][0]):
        assert post(address, CHAT | {name: harmless, "max_tokens": 1}).status_code == 200


@pytest.mark.parametrize("body", [b"{", b"[]", b"\xff", b"[" * 50_000, b'{"prompt": NaN}'], ids=str)
def test_bodies_that_are_no_object(address, body):
    assert error(post(address, body[:50_000]), 400)["type"] == "invalid_request_error"


def test_other_kinds_of_body(address):
    assert "application/json" in error(post(address, PROMPT, **{"Content-Type": "text/plain"}), 415)["message"]


def test_a_body_that_is_too_large(address):
    with pytest.raises(openai.APIStatusError, match="this server takes 65536") as refused:
        client_of(address).completions.create(model="tiny", prompt="x" * (4 << 20))
    assert refused.value.status_code == 413
    parts = web.post(
        f"{address}/v1/completions",
        content=(b" " * 65536 for _ in range(4)),  # without its length in the header
        headers={"Content-Type": "application/json"},
    )
    assert error(parts, 413)


def test_a_body_without_end(address):
    """The server doesn't listen for ever."""
    sent = []

    def parts():
        for number in range(2000):
            sent.append(number)
            yield b" " * 65536

    with contextlib.suppress(httpx.TransportError):  # or the answer, if it is heard in time
        answer = web.post(f"{address}/v1/completions", content=parts(), headers={"Content-Type": "application/json"})
        assert answer.status_code == 413
    assert len(sent) < 1000


def test_another_model_and_other_places(address):
    with pytest.raises(openai.NotFoundError, match="this server has 'tiny'") as refused:
        client_of(address).completions.create(model="gpt-4o", prompt="hello")
    assert refused.value.code == "model_not_found"
    assert "Not Found" in error(web.post(f"{address}/v1/embeddings"), 404)["message"]
    assert "Not Allowed" in error(web.get(f"{address}/v1/completions"), 405)["message"]
    assert error(web.get(f"{address}/docs"), 404)


def test_with_a_key(serve, tiny_llada, tiny_tokenizer):
    with serve(copy.deepcopy(tiny_llada), tiny_tokenizer, api_key="schlüssel") as address:
        for call in (lambda c: c.models.list(), lambda c: c.completions.create(model="tiny", prompt="hello")):
            with pytest.raises(openai.AuthenticationError, match="missing or wrong"):
                call(client_of(address, "other"))
        assert error(post(address, PROMPT), 401)["code"] == "invalid_api_key"
        reply = post(address, PROMPT | {"max_tokens": 4}, Authorization="Bearer schlüssel".encode())
        assert reply.status_code == 200
        assert web.get(f"{address}/health").json()["status"] == "ok"  # for those who watch it


def test_several_turns_without_a_template(serve, make_llada, tiny_tokenizer):
    tokenizer = copy.deepcopy(tiny_tokenizer)
    tokenizer.chat_template = None
    with serve(make_llada(), tokenizer) as address:
        told = error(post(address, {"messages": 2 * HELLO}), 400)
        assert "need a chat template" in told["message"]
        assert post(address, CHAT | {"max_tokens": 4}).status_code == 200


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_new_tokens": 129}, "`max_new_tokens`=129"),
        ({"max_new_tokens": 0}, "`max_new_tokens`=0"),
        ({"steps": 257}, "`steps`=257"),
        ({"decode_type": "llada", "kernel_size": 3}, "has no effect"),
    ],
    ids=str,
)
def test_servers_that_could_answer_nothing(make_llada, tiny_tokenizer, options, message):
    with pytest.raises(ValueError, match=message):
        ServedModel("tiny", make_llada(), tiny_tokenizer, Prompter(tiny_tokenizer), options, Limits(128, 256))
