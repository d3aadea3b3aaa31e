"""Which layers of a model adapters (LoRA) go to, unless somebody says otherwise; by `model_type`."""

# LLaDA: as arXiv 2509.15188 trains it. MDLM: attention and MLP of the blocks; the layers that make the conditioning
# (`sigma_map`, which has an `mlp` of its own, and `adaLN_modulation`) act alike on all positions and stay as they are.
DEFAULT_TARGETS: dict[str, list[str] | str] = {
    "llada": ["q_proj", "k_proj", "v_proj"],
    "mdlm": r".*\.blocks\.\d+\.(attn_qkv|attn_out|mlp\.0|mlp\.2)",
}
