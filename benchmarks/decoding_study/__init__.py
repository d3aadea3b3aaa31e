"""Decoders compared on a prompt set, and the long decoding window: the figures of arXiv 2509.15188."""
