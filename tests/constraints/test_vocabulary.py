"""Tokens as bytes, and expressions over the tokens of real tokenizers."""

import random
import re
from dataclasses import replace

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from conv_dlm.answering.embedded import embedded_checkpoint
from conv_dlm.constraints import ImpossibleConstraint, JSONSchema, Regex, TokenizerWithoutBytes
from conv_dlm.constraints.feasibility import OPEN, StateSets
from conv_dlm.constraints.token_automaton import END, NEVER, compiled
from conv_dlm.constraints.vocabulary import token_bytes, vocabulary_of

TEXT = 'Anna reads 10 pages, 日本語 🎉 é\n\t{"a": "b\\n"}'


@pytest.fixture(scope="module")
def byte_level():
    return AutoTokenizer.from_pretrained(embedded_checkpoint())


@pytest.fixture(scope="module")
def sentence_piece():
    """As Llama 2's: pieces with ▁ for a space, and bytes for what has no piece."""
    pieces = [
        "<unk>",
        "<s>",
        "</s>",
        "▁",
        "▁Anna",
        "▁reads",
        "1",
        "0",
        "▁pages",
        ",",
        *(f"<0x{b:02X}>" for b in range(256)),
    ]
    model = models.BPE({piece: n for n, piece in enumerate(pieces)}, [], unk_token="<unk>", byte_fallback=True)
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>")


@pytest.mark.parametrize("name", ["byte_level", "sentence_piece"])
def test_bytes_of_tokens_are_those_of_the_text(name, request):
    tokenizer = request.getfixturevalue(name)
    tokenizer.add_tokens(["<tool>", " 日本"])
    tokens = token_bytes(tokenizer)
    ids = tokenizer(TEXT + "<tool> 日本", add_special_tokens=False).input_ids
    assert b"".join(tokens[token] for token in ids) == (TEXT + "<tool> 日本").encode()
    assert all(tokens[token] is None for token in tokenizer.all_special_ids)


def test_a_tokenizer_that_joins_words_by_itself_has_no_bytes():
    tokenizer = Tokenizer(models.WordPiece({"[UNK]": 0, "a": 1, "##b": 2}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.decoder = decoders.WordPiece()
    with pytest.raises(TokenizerWithoutBytes, match="leave `constraint` out"):
        token_bytes(PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]"))


def vocabulary(tokenizer, size=0):
    mask = tokenizer.mask_token_id if tokenizer.mask_token_id is not None else 0
    return vocabulary_of(tokenizer, (tokenizer.eos_token_id,), mask, size)


def test_it_is_compiled_once(byte_level):
    first = compiled(Regex("[ab]+").expression, vocabulary(byte_level))
    assert compiled(Regex("[ab]+").expression, vocabulary(byte_level)) is first
    assert compiled(Regex("[ab]+").expression, vocabulary(byte_level, 9000)) is not first


@pytest.mark.parametrize("name", ["byte_level", "sentence_piece"])
def test_text_of_the_language_is_a_path_and_other_text_is_not(name, request):
    tokenizer = request.getfixturevalue(name)
    table = compiled(
        JSONSchema({"properties": {"a": {"type": "string"}}, "required": ["a"]}).expression, vocabulary(tokenizer)
    )
    sets = StateSets(table)
    for text, inside in [('{"a": "日本 🎉 é"}', True), ('{"a":""}', True), ('{"a": 1}', False), ('{"a": "x"', False)]:
        ids = tokenizer(text, add_special_tokens=False).input_ids
        assert sets.feasible([int(table.token_class[token]) for token in ids]) == inside
        assert sets.feasible([int(table.token_class[token]) for token in [*ids, tokenizer.eos_token_id]]) == inside
    assert (table.token_class[list(set(tokenizer.all_special_ids) - {tokenizer.eos_token_id})] == NEVER).all()
    assert table.token_class[tokenizer.eos_token_id] == END


@pytest.mark.parametrize("name", ["byte_level", "sentence_piece"])
def test_any_order_of_random_tokens_ends_in_the_language(name, request):
    """Characters of several bytes are put together from parts that were decided in any order."""
    tokenizer = request.getfixturevalue(name)
    expression = '\\{"name": "[日本é🎉]{2,4}", "n": \\d{1,3}\\}'
    table = compiled(Regex(expression).expression, vocabulary(tokenizer))
    members = [[] for _ in range(table.classes)]
    for token, class_ in enumerate(table.token_class.tolist()):
        members[class_].append(token)
    for seed in range(3):
        rng = random.Random(seed)
        sets, ids = StateSets(table), [None] * 40
        for position in rng.sample(range(40), 40):
            line = [OPEN if token is None else int(table.token_class[token]) for token in ids]
            allowed = sets.allowed(sets.forwards(line)[position], sets.backwards(line)[position + 1])
            ids[position] = rng.choice(members[rng.choice(allowed.nonzero()[0].tolist())])
        text = b"".join(token_bytes(tokenizer)[token] for token in ids if token != tokenizer.eos_token_id).decode()
        assert re.fullmatch(expression, text)


def test_forced_spans_are_written_as_the_tokenizer_writes_them(byte_level):
    expression = '\\{"answer": (?:12|7), "unit": "pages 日本"\\}'
    plain, spelled = (compiled(expression, vocabulary(byte_level), as_spelled=how) for how in (False, True))
    for number in ("12", "7"):
        text = f'{{"answer": {number}, "unit": "pages 日本"}}'
        written = byte_level(text, add_special_tokens=False).input_ids
        bytes_of = {token: n for n, token in enumerate(token_bytes(byte_level)) if token and len(token) == 1}
        in_bytes = [bytes_of[bytes([byte])] for byte in text.encode()]
        for ids, in_plain, in_spelled in ((written, True, True), (in_bytes, True, False)):
            assert StateSets(plain).feasible([int(plain.token_class[token]) for token in ids]) == in_plain
            assert StateSets(spelled).feasible([int(spelled.token_class[token]) for token in ids]) == in_spelled
    assert spelled.least[0] >= plain.least[0]


def test_impossible_canvases_say_why(byte_level):
    table = compiled("a{40}\\n", vocabulary(byte_level))
    with pytest.raises(ImpossibleConstraint, match=r"needs at least \d+ tokens, and there are 2") as caught:
        StateSets(table).check([OPEN] * 2)
    least = caught.value.least
    StateSets(table).check([OPEN] * least)
    with pytest.raises(ImpossibleConstraint):
        StateSets(table).check([OPEN] * (least - 1))
    with pytest.raises(ImpossibleConstraint, match="exactly 60 tokens"):
        StateSets(table, ends=False).check([OPEN] * 60)
    newline = int(table.token_class[byte_level("\n").input_ids[0]])
    with pytest.raises(ImpossibleConstraint, match=r"can't be completed.*at token 3"):
        StateSets(table).check([OPEN] * 2 + [newline] + [OPEN] * 60)
    with pytest.raises(ImpossibleConstraint, match="spell no string"):
        StateSets(compiled("\\x00", vocabulary_without_nul(byte_level))).check([OPEN] * 5)


def vocabulary_without_nul(tokenizer):
    known = vocabulary(tokenizer)
    return replace(known, tokens=tuple(None if t and b"\x00" in t else t for t in known.tokens))
