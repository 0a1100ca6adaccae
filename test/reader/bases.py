"""Finding the base of a differential image (SPEC.md, "Differential images")."""

import os

from damage import DamagedError, require
from start_manifest import BaseName

BASES_MAX = 32
FOOTER_BYTES = 96
IDENTITY_AT = 64 - FOOTER_BYTES


def find_base(base: BaseName, folders: list[str], depth: int) -> tuple[bytes, str]:
    """The bytes of the base, whose footer says that it is the one, and the folder it is in. What it says is proven later."""
    require(depth < BASES_MAX, 64, f"more than {BASES_MAX} bases")
    for folder in folders:
        path = os.path.join(folder, base.file_name)
        if os.path.isfile(path):
            with open(path, "rb") as file:
                image = file.read()
            if image[IDENTITY_AT : IDENTITY_AT + 16] == base.identity:
                return image, folder
    raise DamagedError(64, f"no base {base.file_name!r} of identity {base.identity.hex()}")
