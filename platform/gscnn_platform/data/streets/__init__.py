"""Draws the scenes of the dataset streets; `formats/streets.py` turns them into samples."""
