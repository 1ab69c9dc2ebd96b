"""What schemathesis cannot read in the description: which bytes are images, and which data fit a tensor's shape.

For its command line: ``SCHEMATHESIS_HOOKS=helpers_schemathesis``, in this folder.
"""

from __future__ import annotations

import base64
from collections import defaultdict
from typing import Any

import numpy as np
import schemathesis
from helpers_bundle import SIZE, colour_picture
from hypothesis import strategies as st
from PIL import Image
from strategies import FORMS, seed


def images() -> dict[str, list[bytes]]:
    """Small image files by their media type; also of the type that says nothing."""
    Image.init()
    found: dict[str, list[bytes]] = defaultdict(list)
    for form, (name, _) in FORMS.items():
        for kind in (Image.MIME[name], "application/octet-stream"):
            found[kind].append(seed(form))
    return found


def before_call(context: Any, case: Any, kwargs: dict[str, Any]) -> None:
    """Put images into a request for inference that is to be valid; all else in it stays as it was drawn."""
    if case.path.endswith("/infer") and case.meta.generation.mode.is_positive:
        (tensor,) = case.body["inputs"]
        if tensor["name"] == "image":
            shape, data = [1, *SIZE, 3], np.asarray(colour_picture(0)).reshape(-1).tolist()
        else:
            shape, data = [len(FORMS)], [base64.b64encode(seed(form)).decode() for form in FORMS]
        case.body["inputs"] = [{"name": tensor["name"], "datatype": tensor["datatype"], "shape": shape, "data": data}]


for _kind, _files in images().items():
    schemathesis.openapi.media_type(_kind, st.sampled_from(_files))
schemathesis.hook(before_call)
