"""Differential runs against other versions of transformers, each in an environment of its own."""
