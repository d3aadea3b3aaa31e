"""Clients that others wrote, as their users call them, streaming and not. Each is skipped where it is not installed.

    pip install langchain-openai llama-index-llms-openai-like litellm
    NODE_PATH=.../node_modules pytest -m slow tests/serving/test_heavy_clients.py    # the last for JavaScript: openai
"""

import asyncio
import json
import os
import shutil
import subprocess

import httpx
import pytest

from .test_answers import HELLO

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def address(serve, make_llada, tiny_tokenizer):
    with serve(make_llada(), tiny_tokenizer, options={"max_new_tokens": 8, "steps": 4}) as address:
        yield address


@pytest.fixture
def text(address):
    """What the server answers at temperature 0."""
    body = {"messages": HELLO, "temperature": 0}
    return httpx.post(f"{address}/v1/chat/completions", json=body).json()["choices"][0]["message"]["content"]


def test_langchain(address, text):
    openai = pytest.importorskip("langchain_openai")
    common = dict(base_url=f"{address}/v1", api_key="none", model="tiny", max_retries=0)
    chat = openai.ChatOpenAI(**common, temperature=0)
    assert chat.invoke("hello").content == text
    assert "".join(chunk.content for chunk in chat.stream("hello")) == text
    assert [one.content for one in chat.batch(["hello", "hello"])] == [text, text]
    assert asyncio.run(chat.ainvoke("hello")).content == text
    scored = openai.ChatOpenAI(**common, temperature=0, logprobs=True, top_logprobs=2, n=2, seed=1, stop=["zzz"])
    assert scored.invoke("hello").response_metadata["logprobs"]["content"]
    penalised = openai.ChatOpenAI(**common, top_p=0.9, frequency_penalty=0, presence_penalty=0, stream_usage=True)
    assert any(chunk.usage_metadata for chunk in penalised.stream("hello"))
    plain = openai.OpenAI(**common, temperature=0, max_tokens=8)
    assert "".join(plain.stream("hello")) == plain.invoke("hello") and plain.generate(["hello", "x"]).generations


def test_llama_index(address, text):
    like = pytest.importorskip("llama_index.llms.openai_like")
    from llama_index.core.llms import ChatMessage

    llm = like.OpenAILike(
        api_base=f"{address}/v1", api_key="none", model="tiny", is_chat_model=True, temperature=0, max_tokens=8,
        max_retries=0,
    )  # fmt: skip
    messages = [ChatMessage(role="user", content="hello")]
    assert llm.chat(messages).message.content == text
    assert "".join(chunk.delta or "" for chunk in llm.stream_chat(messages)) == text
    assert llm.complete("hello").text
    completing = like.OpenAILike(
        api_base=f"{address}/v1", api_key="none", model="tiny", is_chat_model=False, max_tokens=8, max_retries=0
    )
    assert completing.complete("hello").text is not None and list(completing.stream_complete("hello"))


def test_litellm(address, text):
    litellm = pytest.importorskip("litellm")
    common = dict(model="openai/tiny", api_base=f"{address}/v1", api_key="none", messages=HELLO, temperature=0)
    assert litellm.completion(**common).choices[0].message.content == text
    parts = litellm.completion(**common, stream=True, stream_options={"include_usage": True})
    assert "".join(part.choices[0].delta.content or "" for part in parts if part.choices) == text
    assert litellm.completion(**common, max_tokens=8, top_p=0.9, n=1, seed=1, user="me").choices
    assert litellm.text_completion(
        model="text-completion-openai/tiny", prompt="hello", api_base=f"{address}/v1", api_key="none", max_tokens=8
    ).choices


def test_lm_eval(address, text):
    pytest.importorskip("tenacity")
    models = pytest.importorskip("lm_eval.models.openai_completions")
    from lm_eval.api.instance import Instance
    from lm_eval.models.api_models import JsonChatStr

    model = models.LocalChatCompletion(
        model="tiny", base_url=f"{address}/v1/chat/completions", num_concurrent=1, tokenizer_backend=None
    )
    ask = (JsonChatStr(json.dumps(HELLO)), {"until": ["zzz"], "max_gen_toks": 8})
    assert model.generate_until([Instance("generate_until", {}, ask, index) for index in range(2)]) == [text, text]


def test_open_webui_s_calls(address, text):
    """What open-webui sends: it looks for models, and streams with usage, with the fields of its own dialogue."""
    assert httpx.get(f"{address}/v1/models").json()["data"][0]["id"] == "tiny"
    body = {
        "model": "tiny", "stream": True, "messages": HELLO, "stream_options": {"include_usage": True}, "temperature": 0,
        "top_p": 0.9, "chat_id": "x", "session_id": "y", "features": {"web_search": False}, "background_tasks": {},
        "variables": {}, "model_item": {}, "params": {},
    }  # fmt: skip
    with httpx.stream("POST", f"{address}/v1/chat/completions", json=body) as reply:
        events = [json.loads(line[6:]) for line in reply.iter_lines() if line.startswith("data: {")]
    assert "".join(event["choices"][0]["delta"].get("content", "") for event in events if event["choices"]) == text
    assert events[-1]["usage"]["completion_tokens"] > 0


def test_curl(address, text):
    if shutil.which("curl") is None:
        pytest.skip("no curl")
    base = ["curl", "-sS", "-H", "Content-Type: application/json", f"{address}/v1/chat/completions", "-d"]
    body = json.dumps({"messages": HELLO, "temperature": 0})
    for flags in ([], ["--http1.0"], ["-H", "Expect: 100-continue"], ["-H", "Transfer-Encoding: chunked"]):
        out = subprocess.run([*base, body, *flags], capture_output=True, check=True, timeout=60)
        assert json.loads(out.stdout)["choices"][0]["message"]["content"] == text
    stream = json.dumps({"messages": HELLO, "stream": True})
    out = subprocess.run([*base, stream, "-N"], capture_output=True, check=True, timeout=60)
    assert out.stdout.endswith(b"data: [DONE]\n\n")


JAVASCRIPT = """
const OpenAI = require("openai").default ?? require("openai");
(async () => {
  const client = new OpenAI({ baseURL: process.argv[1] + "/v1", apiKey: "none", maxRetries: 0 });
  const asked = { model: "tiny", messages: [{ role: "user", content: "hello" }], temperature: 0 };
  const whole = await client.chat.completions.create(asked);
  let text = "";
  const stream = await client.chat.completions.create(
    { ...asked, stream: true, stream_options: { include_usage: true } });
  for await (const chunk of stream) text += chunk.choices[0]?.delta?.content ?? "";
  const model = await client.models.retrieve("tiny");
  const scored = await client.chat.completions.create({ ...asked, logprobs: true, top_logprobs: 2 });
  let refused = null;
  try { await client.chat.completions.create({ ...asked, top_p: 2 }); } catch (error) { refused = error; }
  const plain = await client.completions.create({ model: "tiny", prompt: "hello", max_tokens: 8 });
  console.log(JSON.stringify({ whole: whole.choices[0].message.content, text, model: model.id,
    scores: scored.choices[0].logprobs.content.length, param: refused.param, status: refused.status,
    plain: plain.choices.length }));
})();
"""


def test_javascript(address, text):
    if shutil.which("node") is None or "NODE_PATH" not in os.environ:
        pytest.skip("no node, or no NODE_PATH with the package openai")
    out = subprocess.run(["node", "-e", JAVASCRIPT, address], capture_output=True, timeout=120, text=True)
    assert out.returncode == 0, out.stderr
    found = json.loads(out.stdout)
    assert found["whole"] == found["text"] == text and found["model"] == "tiny" and found["scores"] > 0
    assert (found["param"], found["status"], found["plain"]) == ("top_p", 400, 1)
