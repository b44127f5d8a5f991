"""The storage contract and its backends."""
