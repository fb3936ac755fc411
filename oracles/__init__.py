"""Oracles: what a reference method is, those we ship, and the sandbox and gate between them and a label."""
