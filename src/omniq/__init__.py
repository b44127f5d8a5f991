"""OmniQ: the same task queue on every store."""
