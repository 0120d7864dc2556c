"""Helpers of the tests: models made on the spot, texts, and the reference library."""
