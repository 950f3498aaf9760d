"""Tokens and searches to dollars, and the budget."""
