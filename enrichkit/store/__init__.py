"""Shards and journal, and reading them back."""
