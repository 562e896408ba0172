"""The story of a pretraining run, told once for every method of a modality."""
