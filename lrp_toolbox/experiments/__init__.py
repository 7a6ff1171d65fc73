"""The experiments of Kohlbrenner et al. 2020, Table I and Figures 1 to 4, over whole data sets: see `commands.py`."""

from .commands import EXPERIMENTS, Experiment
from .measure import Localise, Occlude, Setup

__all__ = ["EXPERIMENTS", "Experiment", "Localise", "Occlude", "Setup"]
