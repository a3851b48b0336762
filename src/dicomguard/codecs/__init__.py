"""Codestreams: bytes → what their headers say. Nothing is decoded; knows nothing of DICOM."""

from dicomguard.codecs.header import Flaw, FlawKind, Header

__all__ = ["Flaw", "FlawKind", "Header"]
