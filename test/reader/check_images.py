#!/usr/bin/env python3
"""The second reader over many images in one process: `python3 check_images.py IMAGE...`

Prints a line of JSON for each: {"image": ..., "refusal": the message, or null where the image is sound}.
"""

import json
import sys

sys.dont_write_bytecode = True  # The folder of a test stays as it is.

from damage import DamagedError
from vmsnap_reader import read_image


def refusal(path: str) -> str | None:
    with open(path, "rb") as file:
        image = file.read()
    try:
        read_image(image, None)
        return None
    except DamagedError as error:
        return f"{path} is damaged at {error}"


for path in sys.argv[1:]:
    print(json.dumps({"image": path, "refusal": refusal(path)}))
