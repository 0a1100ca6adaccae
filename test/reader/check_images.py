#!/usr/bin/env python3
"""The second reader over many images in one process: `python3 check_images.py [OPTIONS] IMAGE...`

Prints a line of JSON for each: {"image": ..., "refusal": the message, or null where the image is sound}.
"""

import json
import sys

sys.dont_write_bytecode = True  # The folder of a test stays as it is.

from damage import DamagedError, NoKeyError
from vmsnap_reader import Outside, read_file, take_options


def refusal(path: str, outside: Outside) -> str | None:
    try:
        read_file(path, outside)
        return None
    except DamagedError as error:
        return f"{path} is damaged at {error}"
    except NoKeyError as error:
        return f"{path}: {error}"


paths, given = take_options(sys.argv[1:])
for path in paths:
    print(json.dumps({"image": path, "refusal": refusal(path, given)}))
