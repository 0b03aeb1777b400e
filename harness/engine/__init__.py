"""How a model is run: sampling, caches, attention, rescoring."""
