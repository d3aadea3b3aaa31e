"""The parts of a decoder, each a frozen dataclass with its own settings, and their registries."""
