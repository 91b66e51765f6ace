"""Long runs made by hand; their figures are committed under ``benchmarks/results``."""
