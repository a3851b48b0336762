"""Fault injection: the daemon and whoever kills it."""
