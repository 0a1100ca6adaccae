"""JSON with the types that SPEC.md asks for."""

import json

from damage import DamagedError, require

NUMBER_MAX = 2**53 - 1
BRACKETS_MAX = 262_144
INSIGNIFICANT = b" \t\n\r"


def _no_constant(name: str):
    raise ValueError(f"{name} is no JSON")


def parse_object(raw: bytes, offset: int, what: str) -> dict:
    require(raw.count(b"[") + raw.count(b"{") <= BRACKETS_MAX, offset, f"{what} has too many arrays and objects")
    try:
        value = json.loads(raw.decode("utf-8"), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise DamagedError(offset, f"{what}: {error}") from error
    require(isinstance(value, dict), offset, f"{what} is no JSON object")
    require(not _has_white_space(raw), offset, f"{what} has insignificant white space")
    return value


def _has_white_space(raw: bytes) -> bool:
    """White space inside strings is significant; outside it is not."""
    in_string = False
    escaped = False
    for byte in raw:
        if escaped:
            escaped = False
        elif in_string and byte == 0x5C:
            escaped = True
        elif byte == 0x22:
            in_string = not in_string
        elif not in_string and byte in INSIGNIFICANT:
            return True
    return False


class Fields:
    """The keys of one object; what is read is checked, what is not known is ignored."""

    def __init__(self, value, offset: int, where: str):
        require(isinstance(value, dict), offset, f"{where} is no object")
        self.value = value
        self.offset = offset
        self.where = where

    def _get(self, key: str, optional: bool):
        if key in self.value:
            return self.value[key]
        require(optional, self.offset, f"{self.where} has no {key}")
        return None

    def has(self, key: str) -> bool:
        return key in self.value

    def _check(self, good: bool, key: str) -> None:
        require(good, self.offset, f"{self.where}: {key} has a wrong value")

    def integer(self, key: str, optional: bool = False):
        value = self._get(key, optional)
        if value is not None or key in self.value:
            self._check(is_integer(value) and 0 <= value <= NUMBER_MAX, key)
        return value

    def string(self, key: str, optional: bool = False):
        value = self._get(key, optional)
        if value is not None or key in self.value:
            self._check(isinstance(value, str), key)
        return value

    def boolean(self, key: str) -> bool:
        value = self._get(key, False)
        self._check(isinstance(value, bool), key)
        return value

    def hex128(self, key: str) -> bytes:
        value = self._get(key, False)
        self._check(isinstance(value, str) and len(value) == 32 and set(value) <= set("0123456789abcdef"), key)
        return bytes.fromhex(value)

    def array(self, key: str) -> list:
        value = self._get(key, False)
        self._check(isinstance(value, list), key)
        return value

    def object(self, key: str, optional: bool = False):
        value = self._get(key, optional)
        if key not in self.value:
            return None
        return Fields(value, self.offset, f"{self.where}, {key}")


def is_integer(value) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
