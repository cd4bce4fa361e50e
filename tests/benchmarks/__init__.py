"""The benchmarks can be run."""
