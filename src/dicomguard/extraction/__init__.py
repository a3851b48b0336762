"""Payloads taken out of a file: what they are, a process to find them in, a folder to put them."""

from dicomguard.extraction.folder import write
from dicomguard.extraction.manifest import Manifest
from dicomguard.extraction.process import extracted, extracted_from

__all__ = ["Manifest", "extracted", "extracted_from", "write"]
