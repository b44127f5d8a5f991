"""Benchmarks of OmniQ, its peers and the raw drivers, measured side by side in one run."""
