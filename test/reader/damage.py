"""What a reader of the format throws: the image breaks a rule of SPEC.md at an offset of the file."""


class DamagedError(Exception):
    def __init__(self, offset: int, message: str):
        super().__init__(f"offset {offset}: {message}")


class CannotDecodeError(Exception):
    """Nothing is known about the image: a tool for its codec is missing here."""


class NoKeyError(CannotDecodeError):
    """The image is encrypted, and no key that is given opens it."""


def require(condition: bool, offset: int, message: str) -> None:
    if not condition:
        raise DamagedError(offset, message)
