"""Payloads taken out of a file: what they are, a process to find them in, a folder to put them."""

from dicomguard.extraction.folder import write
from dicomguard.extraction.manifest import Manifest
from dicomguard.extraction.process import extracted

__all__ = ["Manifest", "extracted", "write"]
