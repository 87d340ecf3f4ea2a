"""Is it true? Success in the real simulator, and how far an imagined world can be believed."""
