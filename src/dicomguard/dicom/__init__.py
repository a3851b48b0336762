"""Bytes → layout: how a DICOM file is built. Knows nothing of threats."""
