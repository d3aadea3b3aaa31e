"""Answers of a form that OpenAI's client asks for."""

import json
import re
from typing import Literal

import openai
import pytest
from pydantic import BaseModel, Field

HELLO = [{"role": "user", "content": "hello"}]


class Sum(BaseModel):
    left: int = Field(ge=0, le=99)
    unit: Literal["km", "kg"]


def asked(client, **form):
    reply = client.chat.completions.create(model="tiny", messages=HELLO, max_tokens=48, seed=3, **form)
    assert reply.choices[0].finish_reason == "stop"
    return reply.choices[0].message.content


def test_a_pydantic_model_is_parsed(client):
    reply = client.chat.completions.parse(model="tiny", messages=HELLO, max_tokens=48, response_format=Sum, seed=1)
    parsed = reply.choices[0].message.parsed
    assert isinstance(parsed, Sum) and 0 <= parsed.left <= 99


def test_an_object(client):
    assert isinstance(json.loads(asked(client, response_format={"type": "json_object"})), dict)


def test_text_is_as_without(client):
    asked_for_text = client.completions.create(
        model="tiny", prompt="hello", max_tokens=24, seed=5, extra_body={"response_format": {"type": "text"}}
    )
    without = client.completions.create(model="tiny", prompt="hello", max_tokens=24, seed=5)
    assert asked_for_text.choices == without.choices


@pytest.mark.parametrize(
    ("form", "matches"),
    [
        ({"regex": "[0-9]{3}-[0-9]{2}"}, "[0-9]{3}-[0-9]{2}"),
        ({"choice": ["yes", "no"]}, "yes|no"),
        ({"json": {"enum": [1, "日本"]}}, '1|"日本"'),
    ],
)
def test_fields_of_vllm(client, form, matches):
    assert re.fullmatch(matches, asked(client, extra_body={"structured_outputs": form}))


def test_streams(client):
    chunks = client.chat.completions.create(
        model="tiny", messages=HELLO, max_tokens=48, stream=True, extra_body={"structured_outputs": {"choice": ["ab"]}}
    )
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "ab"


@pytest.mark.parametrize(
    ("form", "words"),
    [
        ({"response_format": {"type": "json_schema", "json_schema": {"schema": {"not": {}}}}}, "`not` at #"),
        ({"response_format": {"type": "xml"}}, "must have the `type`"),
        ({"structured_outputs": {"grammar": "x"}}, "one of the fields"),
        ({"structured_outputs": {"regex": "("}}, "can't be read"),
        ({"structured_outputs": {"regex": 1}}, "must be a string"),
        ({"structured_outputs": {"regex": "a{60}"}}, "needs at least 60 tokens"),
        ({"structured_outputs": {"regex": "a"}, "response_format": {"type": "json_object"}}, "mean the same"),
    ],
)
def test_what_cannot_be_is_refused(client, form, words):
    with pytest.raises(openai.BadRequestError) as caught:
        client.completions.create(model="tiny", prompt="hello", max_tokens=48, extra_body=form)
    assert words in caught.value.message
