"""Errors whose message tells the user what is wrong, where, and what to do."""


class DicomguardError(Exception):
    """Something the user can put right; the command line prints it and exits with 2."""
