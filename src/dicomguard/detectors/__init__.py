"""Layout → findings: what a byte pattern cannot say, one module a family."""

from dicomguard.detectors.detector import Detector

DETECTORS: tuple[Detector, ...] = ()
"""Every detector, in the order they run."""
