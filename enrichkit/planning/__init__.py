"""Pure: what to ask, and what it costs."""
