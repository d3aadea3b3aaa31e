"""A small server of a diffusion model that speaks OpenAI's protocol; `conv-dlm serve` starts it."""
