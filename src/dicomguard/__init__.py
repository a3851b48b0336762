"""dicomguard: a malicious-payload scanner for DICOM files."""
