"""A run: its settings, from them to an engine and to its end, and the handle on it."""
