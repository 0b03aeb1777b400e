"""Imported by the server that processes of tests are forked from: what each would load for itself, once."""

import gc

import pandas as pd
import pyarrow.dataset
import scipy.stats
import torch

from stepcredit.harness.setup.parts import assemble
from stepcredit.harness.setup.settings import build_spec
from stepcredit.paper import build
from tests.harness import commands

__all__ = ["build", "commands", "pd", "pyarrow", "scipy"]

torch.set_num_threads(1)  # threads would not survive the fork
assemble(build_spec(model="tiny", benchmark="diagnostic", suite=None, method="stepopsd", seed=0), "cpu")
gc.freeze()  # no collection then touches, and so copies, what all share
