"""A causal LM as the start of a masked diffusion LM.

    python -m trainers.causal_to_diffusion outputs/causal outputs/denoiser --shift

The weights stay what they are; attention goes both ways from now on. What such a model says before further training
is worth little, but it learns much faster than random weights (DiffuLLaMA, arXiv 2410.17891).

With `--shift` a position goes on predicting the token at its right, as in Dream (arXiv 2508.15487): what the causal
model knows is kept, and training takes a fraction of the steps. The layout is A2D's, for a Llama, Qwen2 or Qwen3.
Without it, a position predicts its own token, and a Llama gets LLaDA's layout.

With `--block-length` positions see block by block, as in Fast-dLLM v2 (arXiv 2509.26328): what stands before a block is
final, and its keys and values are kept. At a block length of 1 and with `--shift`, the result is the causal model.
`trainers.sft` with `objective: bd3lm` goes on from there (configs/adapt).

A tokenizer without a mask token gets one, `<|mask|>`, with an embedding that is the mean of the others.
"""

import argparse
from pathlib import Path
from typing import Any

from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaForCausalLM,
    PreTrainedModel,
    Qwen2ForCausalLM,
    Qwen3ForCausalLM,
)

import conv_dlm  # noqa: F401  registers LLaDA
from conv_dlm.models.a2d import modeling_a2d as a2d
from conv_dlm.models.llada.configuration_llada import LLaDAConfig
from conv_dlm.models.llada.modeling_llada import LLaDAModelLM


def check_mask(model: Any, mask_token_id: int) -> None:
    """Raise ValueError for a mask that the model has no embedding for."""
    if not 0 <= mask_token_id < model.config.vocab_size:
        raise ValueError(f"`mask_token_id={mask_token_id}` is no token of {model.config.vocab_size}; add one before.")


def to_llada(model: LlamaForCausalLM, mask_token_id: int) -> LLaDAModelLM:
    """The same weights in LLaDA's layout.

    Args:
        model ([`~transformers.LlamaForCausalLM`]): without biases, with the default rotary embedding.
        mask_token_id (`int`): a token of the vocabulary that no text has.

    Raises:
        `ValueError`: something that LLaDA's layout has no place for.
    """
    config: Any = model.config
    rope = config.rope_parameters
    refused = {
        "attention_bias": config.attention_bias,
        "mlp_bias": config.mlp_bias,
        "rope_type": rope["rope_type"] if rope["rope_type"] != "default" else None,
        "head_dim": config.head_dim if config.head_dim * config.num_attention_heads != config.hidden_size else None,
    }
    for name, value in refused.items():
        if value:
            raise ValueError(f"`{name}={value!r}` has no place in LLaDA's layout; start from a Llama without it.")
    check_mask(model, mask_token_id)
    layout = LLaDAConfig(
        vocab_size=config.vocab_size,
        d_model=config.hidden_size,
        n_layers=config.num_hidden_layers,
        n_heads=config.num_attention_heads,
        n_kv_heads=config.num_key_value_heads,
        mlp_hidden_size=config.intermediate_size,
        activation_type=config.hidden_act,
        max_sequence_length=config.max_position_embeddings,
        rope_theta=rope["rope_theta"],
        rms_norm_eps=config.rms_norm_eps,
        weight_tying=config.tie_word_embeddings,
        mask_token_id=mask_token_id,
        bos_token_id=config.bos_token_id,
        eos_token_id=config.eos_token_id,
        pad_token_id=config.pad_token_id,
    )
    denoiser = LLaDAModelLM(layout)
    denoiser.to(dtype=model.dtype)  # type: ignore[call-arg]
    denoiser.load_state_dict(model.state_dict())  # the modules have Llama's names; LLaDA's are those of the files
    return denoiser


MASK_TOKEN = "<|mask|>"
A2D: dict[type[PreTrainedModel], tuple[type, type]] = {
    LlamaForCausalLM: (a2d.A2DLlamaConfig, a2d.A2DLlamaLMHeadModel),
    Qwen2ForCausalLM: (a2d.A2DQwen2Config, a2d.A2DQwen2LMHeadModel),
    Qwen3ForCausalLM: (a2d.A2DQwen3Config, a2d.A2DQwen3LMHeadModel),
}


def to_a2d(model: Any, mask_token_id: int, shift: bool = True, block_length: int | None = None) -> Any:
    """The same weights in A2D's layout.

    Args:
        model: a [`~transformers.LlamaForCausalLM`], [`~transformers.Qwen2ForCausalLM`] or
            [`~transformers.Qwen3ForCausalLM`].
        mask_token_id (`int`): a token of the vocabulary that no text has.
        shift (`bool`, *optional*, defaults to `True`): whether a position predicts the token at its right, as before.
        block_length (`int`, *optional*): positions of a block that sees itself and the blocks before it; all see all
            when unset.

    Raises:
        `ValueError`: the mask is no token, or a block has no position.
    """
    check_mask(model, mask_token_id)
    if block_length is not None and block_length < 1:
        raise ValueError(f"`block_length={block_length}` must be 1 or more.")
    config_class, model_class = A2D[type(model)]
    fields: dict[str, Any] = model.config.to_dict()
    for name in ("model_type", "architectures", "use_cache"):
        fields.pop(name, None)
    fields["attention_pattern"] = "full" if block_length is None else "block_causal"
    config = config_class(**fields, shift_logits=shift, mask_token_id=mask_token_id, block_length=block_length)
    denoiser = model_class(config)
    denoiser.to(dtype=model.dtype)
    denoiser.load_state_dict(model.state_dict())
    return denoiser


def add_mask(model: Any, tokenizer: Any) -> None:
    """Give a tokenizer a mask token, and the model an embedding of it; what is there stays as it is."""
    if tokenizer.mask_token_id is None:
        tokenizer.add_special_tokens({"mask_token": MASK_TOKEN})
    if tokenizer.mask_token_id >= model.config.vocab_size:
        model.resize_token_embeddings(tokenizer.mask_token_id + 1, mean_resizing=False)
        embedding = model.get_input_embeddings().weight.data
        embedding[tokenizer.mask_token_id] = embedding[: tokenizer.mask_token_id].mean(0)


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("causal", help="folder or name of a Llama, Qwen2 or Qwen3")
    parser.add_argument("output", type=Path, help="folder to write to")
    parser.add_argument("--shift", action="store_true", help="a position predicts the token at its right, as before")
    parser.add_argument("--block-length", type=int, metavar="N", help="see block by block, so many positions each")
    return parser


def main() -> None:
    parser = make_parser()
    args = parser.parse_args()
    tokenizer = AutoTokenizer.from_pretrained(args.causal)
    if args.block_length is not None and args.block_length < 1:
        parser.error(f"--block-length {args.block_length} must be 1 or more")
    model: Any = AutoModelForCausalLM.from_pretrained(args.causal, dtype="auto")
    if type(model) not in A2D:
        parser.error(f"{args.causal} is a {type(model).__name__}; it must be a Llama, a Qwen2 or a Qwen3")
    add_mask(model, tokenizer)
    denoiser: Any
    if isinstance(model, LlamaForCausalLM) and not args.shift and args.block_length is None:
        denoiser = to_llada(model, tokenizer.mask_token_id)
    else:
        denoiser = to_a2d(model, tokenizer.mask_token_id, args.shift, args.block_length)
    denoiser.save_pretrained(args.output)
    tokenizer.save_pretrained(args.output)
    print(f"{denoiser.num_parameters():,} parameters saved to {args.output}.")


if __name__ == "__main__":
    main()
