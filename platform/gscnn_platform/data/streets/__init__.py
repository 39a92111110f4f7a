"""Draws the scenes of the dataset streets, of which `formats/streets.py` makes samples."""
