"""What OpenAI's client is answered, beside what `generate` makes of the same request."""

import asyncio

import openai
import pytest
import torch

from conv_dlm.answering.answers import until_end
from conv_dlm.answering.batching import row_generator

from .conftest import client_of

HELLO = [{"role": "user", "content": "hello"}]
EOS, MASK = 2, 3


def expected(model, tokenizer, text, seed=0, index=0, **options):
    """Text and number of tokens of the answer that `generate` gives to a text."""
    inputs = tokenizer(text, return_tensors="pt", return_token_type_ids=False)
    out = model.generate(**inputs, generator=[row_generator(seed, index)], **options)
    ids, _ = until_end(out[0, inputs.input_ids.shape[1] :].tolist(), {EOS})
    return tokenizer.decode(ids, skip_special_tokens=True), len(ids)


def test_models(client):
    assert [model.id for model in client.models.list()] == ["tiny"]


def test_completion(client, tiny_llada, tiny_tokenizer):
    reply = client.completions.create(model="tiny", prompt="hello", max_tokens=24, seed=5)
    text, tokens = expected(tiny_llada, tiny_tokenizer, "hello", seed=5, max_new_tokens=24)
    (choice,) = reply.choices
    assert choice.text == text and reply.object == "text_completion" and reply.model == "tiny"
    assert choice.finish_reason == ("length" if tokens == 24 else "stop")
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens) == (5, tokens)
    assert reply.usage.total_tokens == 5 + tokens and 1 <= reply.usage.forwards <= 24


def test_chat(client, tiny_llada, tiny_tokenizer):
    parts = [{"role": "user", "content": [{"type": "text", "text": "hel"}, {"type": "text", "text": "lo"}]}]
    prompt = tiny_tokenizer.apply_chat_template(HELLO, tokenize=False, add_generation_prompt=True)
    answers = (expected(tiny_llada, tiny_tokenizer, prompt, seed, max_new_tokens=24) for seed in range(50))
    seed, (text, tokens) = next((s, answer) for s, answer in enumerate(answers) if 0 < answer[1] < 24)  # with an end
    reply = client.chat.completions.create(model="tiny", messages=parts, max_completion_tokens=24, seed=seed)
    assert reply.choices[0].message.content == text and reply.choices[0].message.role == "assistant"
    assert reply.choices[0].finish_reason == "stop"
    assert reply.usage.completion_tokens == tokens
    assert reply.usage.prompt_tokens == len(tiny_tokenizer(prompt)["input_ids"])


def test_the_end_of_a_full_canvas_is_its_length(client):
    reply = client.completions.create(model="tiny", prompt="hello", max_tokens=6, seed=1)
    assert reply.choices[0].finish_reason == "length" and reply.usage.completion_tokens == 6


def test_settings_of_a_request(client, tiny_llada, tiny_tokenizer):
    settings = dict(decode_type="llada", block_length=8, steps=6)
    reply = client.completions.create(
        model="tiny", prompt="hello", max_tokens=24, seed=2, temperature=0.5, extra_body=settings
    )
    text, _ = expected(tiny_llada, tiny_tokenizer, "hello", seed=2, max_new_tokens=24, temperature=0.5, **settings)
    assert reply.choices[0].text == text and reply.usage.forwards <= 6


def test_settings_of_the_server(serve, make_llada, tiny_llada, tiny_tokenizer):
    """A request replaces what it names; what the server's options would say to another decode type is not held
    against it."""
    options = dict(decode_type="conv", kernel_size=8, steps=5, max_new_tokens=10, do_sample=False)
    with serve(make_llada(), tiny_tokenizer, options=options, system="Be brief.") as address:
        client = client_of(address)
        reply = client.completions.create(model="tiny", prompt="hello")
        assert reply.choices[0].text == expected(tiny_llada, tiny_tokenizer, "hello", **options)[0]
        other = client.completions.create(
            model="tiny", prompt="hello", seed=3, temperature=1, extra_body={"decode_type": "llada"}
        )
        text, _ = expected(
            tiny_llada, tiny_tokenizer, "hello", 3, decode_type="llada", steps=5, max_new_tokens=10, temperature=1.0
        )
        assert other.choices[0].text == text
        chat = client.chat.completions.create(model="tiny", messages=HELLO)
        own = [{"role": "system", "content": "Be brief."}]
        prompt = tiny_tokenizer.apply_chat_template([*own, *HELLO], tokenize=False, add_generation_prompt=True)
        assert chat.choices[0].message.content == expected(tiny_llada, tiny_tokenizer, prompt, **options)[0]
        theirs = client.chat.completions.create(model="tiny", messages=[{**own[0], "role": "developer"}, *HELLO])
        assert theirs.usage.prompt_tokens == chat.usage.prompt_tokens


def test_settings_of_the_server_replace_the_checkpoints(serve, make_llada, tiny_llada, tiny_tokenizer):
    """Those that say one thing together, as `do_sample` and `temperature`, too."""
    model = make_llada()
    model.generation_config.do_sample = True
    with serve(model, tiny_tokenizer, options={"temperature": 0.0, "max_new_tokens": 8}) as address:
        reply = client_of(address).completions.create(model="tiny", prompt="hello")
    text, _ = expected(tiny_llada, tiny_tokenizer, "hello", max_new_tokens=8, temperature=0.0)
    assert reply.choices[0].text == text


def test_several_answers_to_several_prompts(client, tiny_llada, tiny_tokenizer):
    prompts = ["hello", "a longer prompt"]
    reply = client.completions.create(model="tiny", prompt=prompts, n=2, max_tokens=16, seed=4)
    texts = [
        expected(tiny_llada, tiny_tokenizer, prompts[index // 2], 4, index, max_new_tokens=16)[0] for index in range(4)
    ]
    assert [choice.text for choice in reply.choices] == texts and len(set(texts)) == 4
    assert [choice.index for choice in reply.choices] == [0, 1, 2, 3]
    assert reply.usage.prompt_tokens == 5 + 15


def test_seeds(client):
    def text(**settings):
        return client.completions.create(model="tiny", prompt="hello", max_tokens=16, **settings).choices[0].text

    assert text(seed=1) == text(seed=1) != text(seed=2)
    assert text() != text()


@pytest.mark.parametrize("prompt", ["hello", ["hello", "and more"]], ids=["one", "two"])
def test_suffix_fills_a_gap(client, tiny_llada, tiny_tokenizer, prompt):
    reply = client.completions.create(model="tiny", prompt=prompt, suffix=" end", max_tokens=6, seed=1)
    for index, text in enumerate([prompt] if isinstance(prompt, str) else prompt):
        ids = torch.tensor([tiny_tokenizer(text)["input_ids"] + 6 * [MASK] + tiny_tokenizer(" end")["input_ids"]])
        out = tiny_llada.generate(
            ids, attention_mask=torch.ones_like(ids), generator=[row_generator(1, index)], max_new_tokens=0
        )
        gap = out[0, len(text) : len(text) + 6]
        assert reply.choices[index].text == tiny_tokenizer.decode(gap, skip_special_tokens=True)
        assert reply.choices[index].finish_reason == "stop"
    count = 1 if isinstance(prompt, str) else 2
    assert reply.usage.completion_tokens == 6 * count
    assert reply.usage.prompt_tokens == len("".join(prompt)) + 4 * count


def test_what_changes_nothing_may_be_given(client):
    plain = client.completions.create(model="tiny", prompt="hello", max_tokens=8, seed=1)
    reply = client.completions.create(
        model="tiny", prompt="hello", max_tokens=8, seed=1, user="me", top_p=1.0, presence_penalty=0, echo=False,
        logit_bias={}, best_of=1, stop=None, suffix=None, extra_body={"metadata": {"a": "b"}},
    )  # fmt: skip
    assert reply.choices[0].text == plain.choices[0].text


def test_from_an_event_loop(address):
    """The asynchronous client, and many at a time."""

    async def ask():
        async with openai.AsyncOpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0, timeout=60) as client:
            return await asyncio.gather(
                *(client.completions.create(model="tiny", prompt="x" * (i + 1), max_tokens=8, seed=i) for i in range(6))
            )

    replies = asyncio.run(ask())
    assert [reply.usage.prompt_tokens for reply in replies] == [1, 2, 3, 4, 5, 6]
