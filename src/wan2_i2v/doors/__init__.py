"""Ways in: each turns what its users type or send into requests, and records into what they read."""
