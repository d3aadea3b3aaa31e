"""Which layers of a model adapters (LoRA) go to, unless somebody says otherwise; by `model_type`."""

# LLaDA: as arXiv 2509.15188 trains it; those made of Transformers' classes in the same way, experts as they are. MDLM:
# attention and MLP of the blocks; the layers that make the conditioning (`sigma_map`, which has an `mlp` of its own,
# and `adaLN_modulation`) act alike on all positions and stay as they are.
DEFAULT_TARGETS: dict[str, list[str] | str] = {
    **{
        kind: ["q_proj", "k_proj", "v_proj"]
        for kind in (
            "llada", "Dream", "a2d-qwen3", "a2d-qwen2", "a2d-llama", "llada_moe", "sdar", "sdar_moe", "Fast_dLLM_Qwen",
            "llada2_moe",
        )
    },
    "mdlm": r".*\.blocks\.\d+\.(attn_qkv|attn_out|mlp\.0|mlp\.2)",
}
