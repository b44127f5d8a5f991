"""The data store: one conformance suite on every store, and what is particular to Redis."""
