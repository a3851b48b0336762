"""What the daemon does under load: a burst that no queue holds, and how long a file takes."""
