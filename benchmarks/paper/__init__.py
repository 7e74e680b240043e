"""The paper's four networks against every baseline: `python -m benchmarks.paper run`."""
