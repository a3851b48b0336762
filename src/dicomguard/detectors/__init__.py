"""Layout → findings: what a byte pattern cannot say, one module a family."""

from dicomguard.detectors.codec import CodecDetector
from dicomguard.detectors.detector import Detector
from dicomguard.detectors.dicomdir import DicomdirDetector
from dicomguard.detectors.documents import DocumentDetector
from dicomguard.detectors.elements import ElementDetector
from dicomguard.detectors.filemeta import FileMetaDetector
from dicomguard.detectors.fragments import FragmentDetector
from dicomguard.detectors.freight import FreightDetector
from dicomguard.detectors.parsers import ParserDetector
from dicomguard.detectors.pixels import PixelDetector
from dicomguard.detectors.preamble import PreambleDetector
from dicomguard.detectors.private import PrivateDetector
from dicomguard.detectors.structure import StructureDetector
from dicomguard.detectors.tables import TableDetector
from dicomguard.detectors.text import TextDetector
from dicomguard.detectors.unexplained import UnexplainedDetector

DETECTORS: tuple[Detector, ...] = (
    PreambleDetector(),
    FileMetaDetector(),
    StructureDetector(),
    ElementDetector(),
    PixelDetector(),
    TableDetector(),
    FragmentDetector(),
    CodecDetector(),
    PrivateDetector(),
    UnexplainedDetector(),
    TextDetector(),
    DicomdirDetector(),
    DocumentDetector(),
    FreightDetector(),
    ParserDetector(),  # it is asked for by what the others found
)
"""Every detector, in the order they run."""
