"""Memory of a step of `generate`, by formula, which tests hold against a count of all tensors and a measurement.

With width d, inner width F, queries q and keys k wide, heads of H, vocabulary V, s bytes a number, R rows of a forward
(two for each row of the canvas with guidance), L canvas positions, W of them projected to the vocabulary, T = R L:

    mlp         T s (4 d + 3 F)             the embeddings, the block's input, the residual stream and its norm; gate,
                                            its activation, and the product (without a gate T s (5 d + 2 F))
    attention   T (s (3 d + q + 2 k) +      queries, keys and values, and both rotated in float32
                   4 (q + k, if s < 4) + max(12 q, 4 q + 12 k))
    angles      8 T H                       cosines and sines; the mask is made once a run, [R, L]
    logits      R W V s                     in the model's dtype (with guidance twice that, for what is made of both),
                + T d s + R W d s           beside the last hidden states and those projected (3 T d s without a gate)
    scores      12 max(V, 2^24)             float32, of some positions at a time (2^20 numbers on a CPU): those before,
                                            those at hand, and what logsumexp makes of them
    cache       2 n k T s                   keys and values of the whole canvas, where they are kept

    activations   the largest of mlp + angles, attention + angles, logits, and logits + scores

Attention itself is SDPA's, which makes no matrix of L x L; eager attention does. In 8 and 4 bits a product needs more
while it runs: its inputs and results in 8, 16 and 32 bits, or the largest matrix out of its 4 bits.
"""

from dataclasses import dataclass

from conv_dlm.cost.sizes import Shape, number_bytes

# Vocabulary scores that the loop of `generate` holds in float32 at a time, whatever the canvas: what a CPU's cache
# holds (twice as fast as 64 MB in a measurement on two cores), elsewhere enough for a few launches.
SCORES_AT_ONCE = {"cpu": 1 << 20}
SCORES_AT_ONCE_ELSEWHERE = 1 << 24
SCORE_COPIES = 3


@dataclass(frozen=True)
class Generation:
    """What is asked of a model.

    Attributes:
        rows: of the batch, return sequences counted.
        prompt_tokens, new_tokens: positions of the canvas.
        projected (*optional*): W, positions that a step projects; all new ones if `None`, which is the most it can be.
        guided: whether guidance doubles the rows.
        cached: whether keys and values are kept.
        device_type: "cpu", "cuda", ...
    """

    rows: int = 1
    prompt_tokens: int = 128
    new_tokens: int = 128
    projected: int | None = None
    guided: bool = False
    cached: bool = False
    device_type: str = "cuda"

    @property
    def canvas(self) -> int:
        return self.prompt_tokens + self.new_tokens


def activations(shape: Shape, asked: Generation, storage: str) -> float:
    """Bytes at the peak of a step, beside weights and cache.

    Args:
        shape (`Shape`): of the model.
        asked (`Generation`): what it is to do.
        storage (`str`): one of `STORAGES`.
    """
    s, d, f, q, k = number_bytes(storage), shape.width, shape.inner, shape.query, shape.key_value
    rows = asked.rows * (2 if asked.guided else 1)
    tokens = rows * asked.canvas
    mlp = s * (4 * d + 3 * f if shape.gated else 5 * d + 2 * f)
    if storage == "8bit":  # of the last product: its input in 16 and 8 bits, its result in 32 and 16
        mlp = max(mlp, s * (4 * d + f) + 3 * d + 6 * f)
    attention = s * (3 * d + q + 2 * k) + (4 * (q + k) if s < 4 else 0) + max(12 * q, 4 * q + 12 * k)
    angles = 8 * tokens * shape.head_size
    matrix = s * shape.largest_matrix if storage in ("4bit", "nf4") else 0
    blocks = tokens * max(mlp, attention) + angles + matrix

    projected = rows * (asked.new_tokens if asked.projected is None else asked.projected)
    logits = projected * shape.vocabulary * s
    hidden = s * d * (tokens * (1 if shape.gated else 3) + projected)
    at_once = SCORES_AT_ONCE.get(asked.device_type, SCORES_AT_ONCE_ELSEWHERE)
    scores = SCORE_COPIES * 4 * max(shape.vocabulary, min(at_once, projected * shape.vocabulary))
    if asked.guided:
        return max(blocks, logits + hidden, 2 * logits, logits / 2 + scores)
    return max(blocks, logits + hidden, logits + scores)


def cache(shape: Shape, asked: Generation, storage: str) -> int:
    """Bytes of the keys and values that are kept."""
    if not asked.cached:
        return 0
    tokens = asked.rows * (2 if asked.guided else 1) * asked.canvas
    return 2 * shape.layers * shape.key_value * tokens * number_bytes(storage)
