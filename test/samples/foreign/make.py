"""Makes small files as programs write them that no package has: python3 make.py FOLDER.

Every byte is put down here from the layouts that the formats' sources define, with nothing of vmsnap's own readers or writers:
LiME 1, AVML 2, Firecracker (memory file, state file, diff) and Cloud Hypervisor. expected.json says what is in them.
Git keeps no holes: whoever uses firecracker/diff makes them again where it is zero.
"""

import hashlib
import json
import pathlib
import struct
import sys

PAGE = 4096
REPEATS = 409


def page(seed):
    """One page of text, and no two alike."""
    text = b"".join(b"page %03d %d\n" % (seed, i) for i in range(REPEATS))
    return text[:PAGE].ljust(PAGE, b"-")


def pages(*seeds):
    """Pages end to end; 0 is a page of zeros."""
    return b"".join(page(seed) if seed else bytes(PAGE) for seed in seeds)


def range_header(magic, version, start, memory):
    return struct.pack("<IIQQQ", magic, version, start, start + len(memory) - 1, 0)


def lime(ranges):
    return b"".join(range_header(0x4C694D45, 1, start, memory) + memory for start, memory in ranges)


def crc(data, polynomial, start):
    """Bits reflected."""
    value = start
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (polynomial if value & 1 else 0)
    return value


def masked_crc32c(data):
    value = crc(data, 0x82F63B78, 0xFFFFFFFF) ^ 0xFFFFFFFF
    return ((value >> 15 | value << 17) + 0xA282EAD8) & 0xFFFFFFFF


def varint(number):
    out = b""
    while number > 0x7F:
        out += bytes([number & 0x7F | 0x80])
        number >>= 7
    return out + bytes([number])


def snappy_block(data):
    """Literals of up to 256 bytes; where a page repeats the one before, copies with an offset of two bytes."""
    out = varint(len(data))
    at = 0
    while at < len(data):
        if at >= PAGE and data[at : at + 64] == data[at - PAGE : at - PAGE + 64]:
            out += bytes([63 << 2 | 2]) + struct.pack("<H", PAGE)
            at += 64
        else:
            piece = data[at : at + 64]
            out += bytes([60 << 2, len(piece) - 1]) + piece
            at += len(piece)
    return out


def snappy_chunk(kind, body):
    return bytes([kind]) + struct.pack("<I", len(body))[:3] + body


def snappy_stream(data):
    out = snappy_chunk(0xFF, b"sNaPpY")
    for at in range(0, len(data), 65536):
        piece = data[at : at + 65536]
        block = snappy_block(piece)
        small = len(block) < len(piece)
        out += snappy_chunk(0 if small else 1, struct.pack("<I", masked_crc32c(piece)) + (block if small else piece))
    return out


def avml(blocks):
    out = b""
    for start, memory in blocks:
        stream = snappy_stream(memory)
        out += range_header(0x4C4D5641, 2, start, memory) + stream + struct.pack("<Q", len(stream))
    return out


def vmstate():
    """The magic of x86-64, a version, and what stands for the state, which only Firecracker can decode."""
    body = struct.pack("<Q", 0x0710198486640000) + b"11.0.0" + bytes(i * 7 % 256 for i in range(300))
    return body + struct.pack("<Q", crc(body, 0x95AC9329AC4BC9B5, 0))


def cloud_hypervisor(ranges):
    memory = {"memory_ranges": {"data": [{"gpa": gpa, "length": len(data)} for gpa, data in ranges]}}
    state = {"id": "vm", "snapshots": {"memory-manager": {"snapshot_data": {"state": json.dumps(memory)}}}}
    config = {"cpus": {"boot_vcpus": 2}, "platform": {"uuid": "5c0f4f0c-3f0e-4f5e-9a36-1b7b1f3f9d10"}}
    return {
        "config.json": json.dumps(config).encode(),
        "state.json": json.dumps(state).encode(),
        "memory-ranges": b"".join(data for _, data in ranges),
    }


def main(folder):
    ranges = [(0x1000, pages(1, 2, 2, 0, 3)), (0x100000, pages(4, 0, 0, 5) + page(6)[:1000])]
    padded = [(start, memory + bytes(-len(memory) % PAGE)) for start, memory in ranges]
    base = pages(1, 2, 0, 4, 5, 0, 7, 8)
    diff = pages(0, 12, 13, 0, 0, 0, 0, 18)
    merged = pages(1, 12, 13, 4, 5, 0, 7, 18)
    guest = [(0, pages(21, 0, 23)), (0x100000000, pages(24, 25))]
    files = {
        "lime": lime(ranges),
        "avml": avml(ranges),
        "firecracker/memory": base,
        "firecracker/diff": diff,
        "firecracker/vmstate": vmstate(),
        **{f"cloud-hypervisor/{name}": data for name, data in cloud_hypervisor(guest).items()},
    }
    flat = [(0, base)]
    told = {"lime": padded, "avml": padded, "firecracker/memory": flat, "cloud-hypervisor": guest}
    expected = {name: describe(regions) for name, regions in {**told, "firecracker/diff": [(0, merged)]}.items()}
    files["expected.json"] = (json.dumps(expected, indent=2) + "\n").encode()
    for name, data in files.items():
        path = pathlib.Path(folder, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def describe(regions):
    memory = b"".join(data for _, data in regions)
    return {
        "regions": [[gpa, len(data)] for gpa, data in regions],
        "sha256": hashlib.sha256(memory).hexdigest(),
    }


main(sys.argv[1])
