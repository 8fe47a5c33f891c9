"""Paths and queries as values: what an ``hda://`` path says. No I/O."""
