"""The command line of a run: its flags, its files, and how far a store is."""
