"""Benchmarks; run them with `ebatch bench`."""
