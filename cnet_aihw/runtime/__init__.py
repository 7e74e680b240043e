"""Torch device, random state, records, fingerprints, provenance, locks, errors."""
