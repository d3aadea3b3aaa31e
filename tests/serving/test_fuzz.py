"""Any request gets the right answer, or a refusal with a sentence in OpenAI's shape; the log stays empty.

A few draws here, many by `pytest -m slow tests/serving/test_fuzz.py`.
"""

import copy
import json
import logging

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conv_dlm.serving.fields import COMMON, OWN, UNSUPPORTED, WITHOUT_EFFECT, decode_settings

TEXT = st.text(st.characters(exclude_categories=()), max_size=8)  # halves of surrogate pairs too
SPECIAL = st.sampled_from(["<|mask|>", "<|end|>", "\u2028", "\ud83d", "", "text", "json_object", "user", "topk"])
NUMBER = st.one_of(
    st.integers(-2, 6), st.integers(), st.floats(), st.sampled_from([2**31, 2**63, 1e308, 0.5, -0.0, 10**30])
)
VALUE = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBER, TEXT, SPECIAL),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT | SPECIAL, inner, max_size=3),
    max_leaves=6,
)
ROLE = st.sampled_from(["user", "assistant", "system"])
MESSAGE = st.fixed_dictionaries({"role": ROLE | VALUE, "content": TEXT | VALUE})
NAMES = sorted({*COMMON, *OWN["chat"], *OWN["completion"], *UNSUPPORTED, *WITHOUT_EFFECT, *decode_settings()})
FIELDS = st.dictionaries(st.sampled_from(NAMES) | TEXT, VALUE, max_size=4)


@st.composite
def requests(draw):
    """An endpoint, and a body that has at least what it needs, unless a drawn field replaces it."""
    chat = draw(st.booleans())
    body = {"messages": draw(st.lists(MESSAGE, min_size=1, max_size=3))} if chat else {"prompt": draw(TEXT | SPECIAL)}
    return "chat/completions" if chat else "completions", body | {"max_tokens": 2, "steps": 2} | draw(FIELDS)


@pytest.fixture(scope="module")
def address(serve, tiny_llada, tiny_tokenizer):
    with serve(copy.deepcopy(tiny_llada), tiny_tokenizer) as address:
        yield address


@pytest.fixture(scope="module")
def client(address):
    headers = {"Content-Type": "application/json"}
    with httpx.Client(base_url=f"{address}/v1/", headers=headers, timeout=60, verify=False) as client:
        yield client


def check(client, endpoint, body, caplog, counts):
    caplog.clear()
    reply = client.post(endpoint, content=json.dumps(body).encode())
    counts[reply.status_code] = counts.get(reply.status_code, 0) + 1
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR], body
    if reply.status_code == 200 and body.get("stream"):
        events = reply.text.split("\n\n")
        assert events[-2:] == ["data: [DONE]", ""] and len(reply.text.splitlines()) == 2 * len(events) - 2
    elif reply.status_code == 200:
        assert all("<|mask|>" not in json.dumps(choice) for choice in reply.json()["choices"])
    else:
        assert reply.status_code in (400, 404), (reply.status_code, body)
        told = reply.json()["error"]
        assert told.keys() == {"message", "type", "param", "code"} and len(told["message"]) > 10


HOW = dict(deadline=None, suppress_health_check=list(HealthCheck))


@given(requests())
@settings(max_examples=40, derandomize=True, **HOW)
def test_any_request(client, caplog, request):
    check(client, *request, caplog, {})


@pytest.mark.slow
def test_any_request_many_times(client, caplog):
    counts: dict[int, int] = {}

    @given(requests())
    @settings(max_examples=3000, **HOW)
    def many(request):
        check(client, *request, caplog, counts)

    many()
    print(f"requests by status: {counts}")


@given(st.binary(max_size=200))
@settings(max_examples=20, derandomize=True, **HOW)
def test_any_bytes(client, caplog, content):
    for endpoint in ("completions", "chat/completions"):
        reply = client.post(endpoint, content=content)
        assert reply.status_code == 400 and reply.json()["error"]["message"]
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
