"""Memory of a training step with LoRA, by formula; `benchmarks.train_memory` compares it with a count and measurements.

With n blocks of width d and inner width F, queries q and keys k wide, vocabulary V, T = rows x length tokens, M
projected positions, s bytes a number in activations (2 in bfloat16), a adapter parameters of rank r, in bytes:

    weights         as stored: 4 or 2 a parameter; in nf4 0.516 for the blocks' matrices, and 2 for the rest
    adapters        4 a x (1 weight + 1 gradient + 2 AdamW), or 2 a x 4 on nf4, where TRL keeps adapters in bfloat16
    checkpoints     n T d s          inputs of blocks, with activation checkpointing
    block           T (d (8 + 3 s + 3 m) + 2 (q + k) s + 3 F s) kept in a block for its backward (of all n blocks
                    without checkpointing), and 3 T F s (and the largest matrix out of nf4) while it runs;
                    m = 1, the bytes of a dropout mask on a GPU; 4 on a CPU
    logits          8 M V            float32 logits and their gradient; the loss makes no other tensor of that size,
                    + 34 MB          but two for some rows at a time

    peak            weights + adapters + checkpoints + the larger of block and logits
                    (without checkpointing: + what all blocks keep + the larger of logits and 3 T F s)

Adapters go where the recipes put them: on q, k and v of a model with a gated MLP (LLaDA), on all matrices of the blocks
of one without (MDLM), whose blocks keep T (d (8 + 9 s + 3 m + 2 min(m, s)) + F (2 s + m)) and need 2 T F s while they
run, and 8 T F more in mixed precision, where the adapters' inputs are copied to float32.
"""

from dataclasses import dataclass

from conv_dlm.cost.sizes import Parameters, Shape, number_bytes

CHUNK = 2**22  # logits that the loss puts through its softmax at a time: `trainers.losses`, with a test that says so
DEFAULT_RANK = 64  # as the recipes and arXiv 2509.15188 have it


@dataclass(frozen=True)
class TrainingStep:
    """A step that trains adapters.

    Attributes:
        rows, length: T is their product.
        projected: M, positions projected to the vocabulary, of all rows.
        rank: r.
        storage: how the base model is stored: "float32", "bfloat16", "nf4".
        checkpointing: activation checkpointing.
        mask_bytes: m.
    """

    rows: int = 1
    length: int = 1024
    projected: int = 1024
    rank: int = DEFAULT_RANK
    storage: str = "bfloat16"
    checkpointing: bool = True
    mask_bytes: int = 1


def adapter_parameters(shape: Shape, rank: int) -> int:
    """Numbers in the adapters: of a matrix, rank x (inputs + outputs)."""
    d, q, k = shape.width, shape.query, shape.key_value
    if shape.gated:
        return shape.layers * rank * (3 * d + q + 2 * k)
    return shape.layers * rank * ((2 * d + q + 2 * k) + q + 2 * (d + shape.inner))


def estimate(shape: Shape, parameters: Parameters, step: TrainingStep) -> dict[str, float]:
    """The formula above: bytes by part, and their peak."""
    d, n, f, s, m = shape.width, shape.layers, shape.inner, number_bytes(step.storage), step.mask_bytes
    tokens = step.rows * step.length
    if shape.gated:
        kept = tokens * (d * (8 + 3 * s + 3 * m) + 2 * (shape.query + shape.key_value) * s + 3 * f * s)
    else:
        kept = tokens * (d * (8 + 9 * s + 3 * m + 2 * min(m, s)) + f * (2 * s + m))
    running = tokens * f * (3 * s if shape.gated else 2 * s + (8 if s < 4 else 0))
    running += shape.largest_matrix * s if step.storage == "nf4" else 0
    scores = step.projected * shape.vocabulary
    parts = {
        "weights": parameters.stored(step.storage),
        "adapters": 4 * adapter_parameters(shape, step.rank) * (2 if step.storage == "nf4" else 4),
        "checkpoints": n * tokens * d * s if step.checkpointing else 0,
        "blocks": kept + running if step.checkpointing else n * kept + running,
        "logits": 8 * (scores + min(scores, CHUNK)),
    }
    fixed = parts["weights"] + parts["adapters"] + parts["checkpoints"]
    if step.checkpointing:
        return parts | {"peak": fixed + max(parts["blocks"], parts["logits"])}
    return parts | {"peak": fixed + n * kept + max(running, parts["logits"])}
