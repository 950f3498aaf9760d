"""The long proofs of the store, and the programs that run them: `python -m proof.torture` from tests."""
