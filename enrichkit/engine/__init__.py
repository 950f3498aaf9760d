"""Asks and stores."""
