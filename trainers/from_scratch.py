"""A tokenizer and a model with random weights, to train from nothing.

    python -m trainers.from_scratch --config configs/embedded/model.yaml

The tokenizer is a byte-level BPE with the special tokens and the chat template of LLaDA-8B-Instruct. Numbers are split
off first, so that a frequent one is one token, whatever stands around it. The model has Llama's layout and is trained
autoregressively first; `trainers.causal_to_diffusion` turns it into LLaDA's.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from tokenizers.trainers import BpeTrainer
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase, PreTrainedTokenizerFast
from trl import TrlParser

from conv_dlm.word_problems.problem import problems

# As in LLaDA-8B-Instruct. The text ends in `<|endoftext|>`, a turn in `<|eot_id|>`.
BOS, EOS, TURN_END, MASK = "<|startoftext|>", "<|endoftext|>", "<|eot_id|>", "<|mdm_mask|>"
HEADER = ("<|start_header_id|>", "<|end_header_id|>")
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "<|start_header_id|>{{ message['role'] }}<|end_header_id|>\n\n{{ message['content'] | trim }}<|eot_id|>"
    "{% endfor %}{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
_DRILLS = 20_000  # times that all numbers are said, so that their merges come first, whatever the texts say
# Numbers stand alone; a space goes with the word behind it, or before a number with the word in front of it.
_PIECES = r"\d+| ?\p{L}+(?: (?=\d))?| ?[^\s\p{L}\d]+(?: (?=\d))?|\s+"


@dataclass
class StartArguments:
    """What to start from.

    Args:
        output_dir (`str`): the folder to write model and tokenizer to.
        vocab_size (`int`, *optional*, defaults to `2048`): tokens, special ones included.
        largest_number (`int`, *optional*, defaults to `200`): numbers from 0 to this are one token each.
        tokenizer_rows (`int`, *optional*, defaults to `20000`): word problems that the tokenizer is trained on.
        width, layers, heads, inner_width (`int`, *optional*, default to `256`, `6`, `4`, `768`): the model's shape.
        max_length (`int`, *optional*, defaults to `1024`): positions of the model.
        seed (`int`, *optional*, defaults to `0`): of the weights and of the problems.
    """

    output_dir: str = field(metadata={"help": "Folder to write model and tokenizer to."})
    vocab_size: int = field(default=2048, metadata={"help": "Tokens, special ones included."})
    largest_number: int = field(default=200, metadata={"help": "Numbers from 0 to this are one token each."})
    tokenizer_rows: int = field(default=20000, metadata={"help": "Word problems that the tokenizer is trained on."})
    width: int = field(default=256, metadata={"help": "Width of the model."})
    layers: int = field(default=6, metadata={"help": "Blocks of the model."})
    heads: int = field(default=4, metadata={"help": "Attention heads."})
    inner_width: int = field(default=768, metadata={"help": "Inner width of the gated MLP."})
    max_length: int = field(default=1024, metadata={"help": "Positions of the model."})
    seed: int = field(default=0, metadata={"help": "Seed of the weights and of the problems."})


def train_tokenizer(texts: Iterable[str], vocab_size: int, largest_number: int) -> PreTrainedTokenizerBase:
    """A byte-level BPE of `vocab_size` tokens, in which numbers to `largest_number` are one token each.

    Raises:
        `ValueError`: a vocabulary too small for the bytes, the special tokens and the numbers.
    """
    special = [EOS, BOS, *HEADER, TURN_END, MASK]
    numbers = [str(number) for number in range(largest_number + 1)]
    least = 256 + len(special) + len(numbers)
    if vocab_size < least:
        raise ValueError(f"`vocab_size={vocab_size}` is too small for bytes, special tokens and numbers: {least}.")
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    bpe.decoder = decoders.ByteLevel()
    trainer = BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    drill = (" ".join(numbers) for _ in range(_DRILLS))
    bpe.train_from_iterator(chain(drill, texts), trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe, bos_token=BOS, eos_token=EOS, pad_token=EOS, mask_token=MASK, padding_side="left",
        clean_up_tokenization_spaces=False,
    )  # fmt: skip
    tokenizer.chat_template = CHAT_TEMPLATE
    split = [number for number in numbers if len(tokenizer.encode(number, add_special_tokens=False)) != 1]
    if split:
        raise ValueError(
            f"`vocab_size={vocab_size}` leaves {len(split)} numbers in pieces, {split[0]} first; raise it."
        )
    return tokenizer


def new_model(arguments: StartArguments, tokenizer: PreTrainedTokenizerBase) -> LlamaForCausalLM:
    """Random weights in Llama's layout, without biases, with a tied head."""
    torch.manual_seed(arguments.seed)
    config = LlamaConfig(
        vocab_size=arguments.vocab_size,
        hidden_size=arguments.width,
        num_hidden_layers=arguments.layers,
        num_attention_heads=arguments.heads,
        intermediate_size=arguments.inner_width,
        max_position_embeddings=arguments.max_length,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlamaForCausalLM(config)


def word_problem_texts(seed: int, count: int) -> Iterator[str]:
    """Questions and solutions, as the tokenizer will see them."""
    forms = ("prose", "prose", "equations", "json")
    for problem in islice(problems(seed, forms=forms), count):
        yield problem.question
        yield problem.solution
        yield "user\n\nassistant\n\n"


def make_parser() -> TrlParser:
    classes: Any = [StartArguments]
    return TrlParser(classes, description=__doc__)


def main(arguments: StartArguments) -> None:
    texts = word_problem_texts(arguments.seed, arguments.tokenizer_rows)
    tokenizer = train_tokenizer(texts, arguments.vocab_size, arguments.largest_number)
    model = new_model(arguments, tokenizer)
    folder = Path(arguments.output_dir)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    print(f"{model.num_parameters():,} parameters and {len(tokenizer):,} tokens saved to {folder}.")


if __name__ == "__main__":
    main(*make_parser().parse_args_and_config())
