"""A model on records gives scores: `scores.py` for any task, and a file a task."""
