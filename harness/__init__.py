"""Runs everything: one run is one spec and one folder.

Read `run/train.py` first: it is one run from top to bottom, update after update. Its lines lead into the rooms below,
and a room imports only rooms that stand below it here (`tests/test_rooms.py` holds the law):

========================  ==============================================================================================
cli/                      the command line: words in, tables out
study/, bench/            many runs: matrix, workers, listings, later evaluations, doctor; what `make bench` measures
run/, warmstart/          one run: train, schedule, learner, given, objective; how the embedded policies were made
setup/, capability/       from names to things: settings, parts, teachers; what training does to the rest
episodes/, record/        rollouts, prompts, continuations, evaluation, reward; what stays on disk
engine/                   how a model is run: sampling, caches, attention, rescoring, turns
model/                    policies, presets, tokenizers, transcripts
recipes/, interop/        published settings and their sources; the methods inside verl and TRL
the files beside this     spec, seeds, errors, words, progress, determinism, device: everybody stands on them
========================  ==============================================================================================
"""
