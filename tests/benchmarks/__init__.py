"""Measurements, run by hand with `python -m tests.benchmarks`; nothing here is a timed test."""
