"""Run by test_resume in a process of its own: train, and die from SIGKILL when update `kill_at` is logged."""

import sys
from pathlib import Path

import torch

from tests.training.fakes import Recorder, make_recipe, train_fake

torch.set_num_threads(1)
train_fake(Path(sys.argv[1]), make_recipe(log_every_updates=1), tracker=Recorder(signal_at=int(sys.argv[2])))
