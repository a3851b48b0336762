"""Reports → text for people, JSON Lines for programs."""
