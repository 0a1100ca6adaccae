#!/usr/bin/env python3
"""The second reader over many images in one process: `python3 check_images.py [--base-dir FOLDER] IMAGE...`

Prints a line of JSON for each: {"image": ..., "refusal": the message, or null where the image is sound}.
"""

import json
import sys

sys.dont_write_bytecode = True  # The folder of a test stays as it is.

from damage import DamagedError
from vmsnap_reader import read_file, take_base_dirs


def refusal(path: str, base_dirs: list[str]) -> str | None:
    try:
        read_file(path, base_dirs)
        return None
    except DamagedError as error:
        return f"{path} is damaged at {error}"


paths, folders = take_base_dirs(sys.argv[1:])
for path in paths:
    print(json.dumps({"image": path, "refusal": refusal(path, folders)}))
