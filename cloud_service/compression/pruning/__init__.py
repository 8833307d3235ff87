"""Structured pruning: what a smaller descendant inherits, and how much of it a target allows."""
