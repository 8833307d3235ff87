"""Finds which part of a network may be computed in which precision: measured trials, a budget, a journal."""
