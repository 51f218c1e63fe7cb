"""Scoring, statistics and comparison with the paper."""
