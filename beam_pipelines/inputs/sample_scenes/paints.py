"""The colors of the scenes: skies and their light, paints, and how strong a surface's texture is."""

from __future__ import annotations

SKIES = (  # zenith, horizon, light, opacity of shadows
    ((84, 136, 206), (198, 216, 232), (1.08, 1.02, 0.95), 95),
    ((158, 166, 176), (206, 210, 213), (0.86, 0.89, 0.93), 0),
    ((96, 104, 158), (244, 192, 146), (1.02, 0.84, 0.70), 70),
    ((126, 160, 204), (238, 224, 204), (1.06, 0.98, 0.88), 80),
    ((70, 84, 116), (146, 152, 168), (0.58, 0.62, 0.74), 0),
)
_CODES = {  # paint -> the colors it comes in, hexadecimal RGB
    "facade": "ceba98 bc8062 e2d8c6 969492 c4a48c a4b0b2 d6be78 8e604e b2bea0 e8e2dc",
    "roof": "8e4a38 5c585a 745242 464a54",
    "car": "1c1e22 c4c6ca e8e9ea 70767e 961a1c 203e80 425848 c4a034 5c3c30 3c6e96",
    "coach": "be2826 deb030 3c785a e0ded6 466496",
    "cargo": "dededa 466496 b0965a 788278 a83c34",
    "clothes": "222634 96282c 345490 cec8bc 586048 c49640 6e4a6e 464240",
    "trousers": "222634 3c4660 46423c 5a5448",
    "skin": "e2b89a b07c5c 6e4c3a",
    "hair": "30241c 785a36 1e1c1c",
    "leaves": "4a6830 5c7034 3e5c38 7c7432",
    "grass": "6a743e 7e7854",
    "bark": "584638",
    "stone": "96897a 865c4a a8a49e",
    "bars": "7a5c3e b2b2ac 3e4a42",
    "slab": "9c9692 aca296",
    "asphalt": "5e5e62 6c6a68",
    "steel": "707274 545a58",
    "glass": "34404e 485664 282c32",
    "tire": "1a1a1c",
    "rim": "808286",
    "black": "202224",
    "white": "ecece8",
    "red": "c8282a",
    "amber": "f0b432",
    "green": "3cdc82",
    "blue": "2854a8",
}
PAINTS = {name: [tuple(bytes.fromhex(code)) for code in codes.split()] for name, codes in _CODES.items()}

# How strong a label's fine texture is, as a share of its brightness.
TEXTURES = {"road": 0.06, "sidewalk": 0.11, "building": 0.07, "wall": 0.22, "vegetation": 0.34, "terrain": 0.28}
