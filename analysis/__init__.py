"""Reads runs; returns tidy tables, verdicts and axes. Trains nothing."""
