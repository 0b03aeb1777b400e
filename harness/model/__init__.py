"""Policies: weights, presets, tokenizers, transcripts."""
