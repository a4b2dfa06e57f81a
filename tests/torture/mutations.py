"""Damage of bytes and of JSON, a function of a random generator alone. Checksums are made right again on demand."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable
from random import Random
from typing import Any

from beam_pipelines.contract.tfrecord import masked_crc

EXTREMES = (0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2**62, 2**63 - 1, 2**64 - 1)


def _flip(data: bytearray, random: Random) -> None:
    for _ in range(random.choice((1, 1, 2, 8))):
        data[random.randrange(len(data))] ^= 1 << random.randrange(8)


def _overwrite(data: bytearray, random: Random) -> None:
    start, length = _span(data, random)
    data[start : start + length] = random.randbytes(min(length, len(data) - start))


def _nul(data: bytearray, random: Random) -> None:
    start, length = _span(data, random)
    data[start : start + length] = bytes(min(length, len(data) - start))


def _truncate(data: bytearray, random: Random) -> None:
    del data[random.randrange(len(data)) :]


def _remove(data: bytearray, random: Random) -> None:
    start, length = _span(data, random)
    del data[start : start + length]


def _insert(data: bytearray, random: Random) -> None:
    start, length = _span(data, random)
    data[start:start] = random.randbytes(length)


def _duplicate(data: bytearray, random: Random) -> None:
    start, length = _span(data, random)
    data[start:start] = data[start : start + length] * random.choice((1, 1, 9))


def _swap(data: bytearray, random: Random) -> None:
    (first, length), (second, _) = _span(data, random), _span(data, random)
    if first + length <= second and second + length <= len(data):
        data[first : first + length], data[second : second + length] = (
            data[second : second + length],
            data[first : first + length],
        )


def _extreme(data: bytearray, random: Random) -> None:
    """Sets what may be a length, of either byte order."""
    size = random.choice((1, 2, 4, 8))
    value = random.choice(EXTREMES) % 256**size
    start = random.randrange(len(data))
    data[start : start + size] = value.to_bytes(size, random.choice(("little", "big")))[: len(data) - start]


def _span(data: bytearray, random: Random) -> tuple[int, int]:
    return random.randrange(len(data)), random.choice((1, 2, 4, 8, 16, 64, 256))


_DAMAGES = (_flip, _overwrite, _nul, _truncate, _remove, _insert, _duplicate, _swap, _extreme, _extreme)


def mutate(data: bytes, random: Random) -> bytes:
    """One damage, seldom two or three."""
    damaged = bytearray(data)
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        if damaged:
            random.choice(_DAMAGES)(damaged, random)
    return bytes(damaged)


def mutate_json(data: bytes, random: Random) -> bytes:
    """Puts a value of another type or range somewhere, leaves out a key, adds one, or damages the bytes."""
    if random.random() < 0.3:
        return mutate(data, random)
    value = json.loads(data)
    places = list(_places(value))
    holder, key = random.choice(places)
    change = random.random()
    if change < 0.15:
        del holder[key]
    elif change < 0.25 and isinstance(holder, dict):
        holder[random.choice(("", "x", "file", "train", "\x00"))] = _strange(random)
    elif change < 0.35:
        other, place = random.choice(places)
        holder[key], other[place] = other[place], holder[key]
    elif type(holder[key]) in (int, float) and random.random() < 0.5:
        holder[key] += random.choice((-1, 1, 0.5, -(2**63), 2**63))
    else:
        holder[key] = _strange(random)
    try:
        return json.dumps(value, ensure_ascii=False).encode(errors="surrogatepass")
    except ValueError:  # a value that holds itself
        return b"{}"


def mutate_json_lines(data: bytes, random: Random) -> bytes:
    """One of the lines as JSON, or any damage."""
    if random.random() < 0.3:
        return mutate(data, random)
    lines = data.splitlines(keepends=True)
    place = random.randrange(len(lines))
    lines[place] = mutate_json(lines[place], random) + b"\n"
    return b"".join(lines)


def _places(value: Any) -> Any:
    items: Any = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in list(items)[:40]:
        yield value, key
        yield from _places(item)


def _strange(random: Random) -> Any:
    deep: Any = 0
    for _ in range(random.choice((1, 70, 500))):
        deep = [deep]
    plain = (None, True, False, -1, 0, 1.5, 1e300, float("nan"), float("inf"), 2**53, 2**63, -(2**63) - 1, 10**400)
    texts = ("", "x", "../x", "/etc/passwd", "gs://b/x", "\x00", "\ud800", "a" * 5000, "9" * 64, "f" * 64)
    return random.choice((*plain, *texts, [], {}, [[]], [None], {"": {}}, deep))


def mutate_png(data: bytes, random: Random) -> bytes:
    """Damage inside a chunk, with a right length and checksum; or any damage."""
    if random.random() < 0.3:
        return mutate(data, random)
    chunks = _png_chunks(data)
    index = random.randrange(len(chunks))
    name, content = chunks[index]
    change = random.random()
    if change < 0.1:
        del chunks[index]
    elif change < 0.2:
        chunks.insert(random.randrange(len(chunks)), chunks[index])
    elif name == b"IDAT" and random.random() < 0.5:
        chunks[index] = (name, zlib.compress(mutate(zlib.decompress(content), random)))
    else:
        chunks[index] = (name, mutate(content, random) if content else random.randbytes(4))
    return data[:8] + b"".join(
        struct.pack(">I", len(part)) + name + part + struct.pack(">I", zlib.crc32(name + part)) for name, part in chunks
    )


def _png_chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    chunks, position = [], 8
    while position < len(data):
        (length,) = struct.unpack_from(">I", data, position)
        chunks.append((data[position + 4 : position + 8], data[position + 8 : position + 8 + length]))
        position += length + 12
    return chunks


def mutate_tfrecord(data: bytes, random: Random) -> bytes:
    """Damage inside a record or of its length, with right checksums; or any damage."""
    if random.random() < 0.3:
        return mutate(data, random)
    parts, position = [], 0
    while position < len(data):
        (length,) = struct.unpack_from("<Q", data, position)
        parts.append(data[position + 12 : position + 12 + length])
        position += length + 16
    index, promised = random.randrange(len(parts)), None
    if random.random() < 0.5:
        parts[index] = mutate(parts[index], random)
    else:
        promised = random.choice(EXTREMES)
    framed = b""
    for number, part in enumerate(parts):
        length = struct.pack("<Q", len(part) if promised is None or number != index else promised)
        framed += length + struct.pack("<I", masked_crc(length)) + part + struct.pack("<I", masked_crc(part))
    return framed


def mutate_zip(data: bytes, random: Random) -> bytes:
    """Damage of a header's field, wherever a signature stands; or any damage."""
    if random.random() < 0.4:
        return mutate(data, random)
    damaged = bytearray(data)
    signatures = [start for start in range(len(data) - 4) if data[start : start + 2] == b"PK"]
    start = random.choice(signatures) + random.randrange(4, 46)
    size = random.choice((2, 4))
    if start + size <= len(damaged):
        damaged[start : start + size] = (random.choice(EXTREMES) % 256**size).to_bytes(size, "little")
    return bytes(damaged)


def mutate_table(data: bytes, random: Random) -> bytes:
    """Damage of the entries of a small table of TensorFlow, `.index` of a checkpoint, with a right checksum; or any.

    The format is LevelDB's: the entries, their compression and checksum, two more blocks, and where those are.
    """
    if random.random() < 0.3:
        return mutate(data, random)
    size = _varint(data[-48:]) - 5
    damaged = mutate(data[:size], random)[:size]
    block = damaged + data[len(damaged) : size + 1]
    return block + struct.pack("<I", masked_crc(block)) + data[size + 5 :]


def _varint(data: bytes) -> int:
    value = 0
    for place, byte in enumerate(data):
        value |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            break
    return value


Mutation = Callable[[bytes, Random], bytes]
