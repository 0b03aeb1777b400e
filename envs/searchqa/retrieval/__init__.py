"""Retrievers: embedded BM25, Lucene, dense vectors, a server somewhere else."""
