"""The export toolchain: from a frozen CNN and a folder of smears to a bundle. Needs the `export` extra."""

import os

os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
"""torch, imported later, asks Linux for large pages: quantizing, whose maps take 150 MB, takes 0.6 of the time."""
