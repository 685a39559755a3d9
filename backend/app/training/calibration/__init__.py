"""Measure how fast a device trains: `python -m app.training.calibration [--device cpu] [--seconds 20]`.

variants.py   the small random models and the micro-batches that are timed
pieces.py     what can be timed: one product, one copy, one micro-batch of a model, loading a folder, ...
raw.py        the pieces that need no model
files.py      the pieces that read and write model folders
rounds.py     all pieces in turn, round after round, a reference product before each of them
estimate.py   from single times to figures, and whether the machine was calm; knows no torch
measure.py    one device, from its name to a `Calibration`

Nothing is timed in one go: whatever else the machine does for a second falls on a single time of several pieces, not on
all times of one piece.
"""
