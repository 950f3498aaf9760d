"""The user's table: text, identity, types."""
