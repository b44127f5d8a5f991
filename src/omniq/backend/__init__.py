"""Backends: the four components of one store, from one configuration."""
