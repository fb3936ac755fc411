"""The campaign: its file, its state, and the pure loop `ask() -> decision`, `tell(answers)`, `estimate()`.

No Dask, no files (but the campaign file), no clock: the same record gives the same decisions.
"""
