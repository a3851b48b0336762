"""How fast files are scanned, beside what people would otherwise run."""
