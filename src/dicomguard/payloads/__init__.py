"""What bytes are: formats followed to their end, scripts by their words, wrappings undone."""
