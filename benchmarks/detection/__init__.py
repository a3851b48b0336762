"""The detection benchmark: attacks and honest look-alikes crossed over places, and a runner.

``python benchmarks/detection`` from a checkout with the test dependencies; see docs/detection.md.
"""
