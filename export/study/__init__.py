"""A study: the paper's grid under several split protocols, with the baselines that tell what its figures are worth."""

from __future__ import annotations

from . import picks
from .picks import Pick
from .run import run
from .settings import Settings

__all__ = ["Pick", "Settings", "picks", "run"]
