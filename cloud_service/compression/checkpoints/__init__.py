"""Hugging Face checkpoints, read and written without ever unpickling anything."""
