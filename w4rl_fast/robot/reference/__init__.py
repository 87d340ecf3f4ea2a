"""The servo in plain Python, which defines what the native one does."""
