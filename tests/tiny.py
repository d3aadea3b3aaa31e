"""Tiny random models and a tokenizer for them; tests/conftest.py has them as fixtures.

They say nothing sensible; they are for shapes, seeds and plumbing.
"""

from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from conv_dlm.models import LLaDAConfig, LLaDAModelLM

SPECIAL_TOKENS = ("<|endoftext|>", "<|start|>", "<|end|>", "<|mask|>")  # pad, bos, eos, mask: ids 0 to 3
CHAT_TEMPLATE = (
    "{% for m in messages %}{{ '<|start|>' + m['role'] + '\n' + m['content'] + '<|end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start|>assistant\n' }}{% endif %}"
)


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level tokenizer without merges: any text, 256 bytes + 4 special tokens, pads on the left."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate((*SPECIAL_TOKENS, *alphabet))}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    pad, bos, eos, mask = SPECIAL_TOKENS
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token=pad, bos_token=bos, eos_token=eos, mask_token=mask,
        padding_side="left", model_max_length=256,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def widened(model: Any) -> Any:
    """The model in eval mode, its matrices drawn so wide that logits differ by more than rounding."""
    for weight in model.parameters():
        if weight.dim() > 1:
            torch.nn.init.normal_(weight, std=0.3)
    return model.eval()


def random_llada(**overrides: object) -> LLaDAModelLM:
    """A LLaDA with 2 layers of width 32 for `byte_tokenizer`, seeded, in fp32 and eval mode.

    Args:
        overrides:
            Config keys of the original checkpoints (`d_model`, `n_layers`, ...) that replace the tiny ones.
    """
    settings = dict(
        d_model=32, n_layers=2, n_heads=4, n_kv_heads=4, mlp_hidden_size=48, max_sequence_length=256,
        vocab_size=260, embedding_size=260, pad_token_id=0, bos_token_id=1, eos_token_id=2, mask_token_id=3,
        rope_theta=10000.0, weight_tying=False,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return widened(LLaDAModelLM(LLaDAConfig(**(settings | overrides))))


def random_llama() -> LlamaForCausalLM:
    """A causal language model of the same size, seeded, in fp32 and eval mode; seldom sure of the next token."""
    config = LlamaConfig(
        vocab_size=260, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=256, pad_token_id=0, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return widened(LlamaForCausalLM(config))
