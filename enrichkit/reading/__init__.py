"""How what a model writes becomes an answer: its fields and types, its text, its values, what backs them."""
