"""The palettes: distinct colours, for people who lack a kind of cone too."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from roadseg.errors import ConfigError
from roadseg.segmentation.config import ModelConfig
from roadseg.spec import (
    CLASS_NAMES,
    CLASSES,
    NUM_CLASSES,
    PALETTE,
    PALETTES,
    ModelSpec,
    SegClass,
    as_shown,
)

SPEC = ModelSpec(arch="unet", width=4)

# Machado, Oliveira and Fernandes, "A Physiologically-based Model for Simulation of Color Vision
# Deficiency" (2009), severity 1.0, on linear RGB.
SIGHT = {
    "all cones": np.eye(3),
    "no red": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "no green": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "no blue": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}


# Sharma, Wu and Dalal, "The CIEDE2000 Color-Difference Formula: Implementation Notes, Supplementary
# Test Data, and Mathematical Observations" (2005), table 1: Lab, Lab and their difference.
SHARMA = (
    ((50, 2.6772, -79.7751), (50, 0, -82.7485), 2.0425),
    ((50, 3.1571, -77.2803), (50, 0, -82.7485), 2.8615),
    ((50, 2.8361, -74.0200), (50, 0, -82.7485), 3.4412),
    ((50, -1.3802, -84.2814), (50, 0, -82.7485), 1.0000),
    ((50, -1.1848, -84.8006), (50, 0, -82.7485), 1.0000),
    ((50, -0.9009, -85.5211), (50, 0, -82.7485), 1.0000),
    ((50, 0, 0), (50, -1, 2), 2.3669),
    ((50, -1, 2), (50, 0, 0), 2.3669),
    ((50, 2.4900, -0.0010), (50, -2.4900, 0.0009), 7.1792),
    ((50, 2.4900, -0.0010), (50, -2.4900, 0.0010), 7.1792),
    ((50, 2.4900, -0.0010), (50, -2.4900, 0.0011), 7.2195),
    ((50, 2.4900, -0.0010), (50, -2.4900, 0.0012), 7.2195),
    ((50, -0.0010, 2.4900), (50, 0.0009, -2.4900), 4.8045),
    ((50, -0.0010, 2.4900), (50, 0.0010, -2.4900), 4.8045),
    ((50, -0.0010, 2.4900), (50, 0.0011, -2.4900), 4.7461),
    ((50, 2.5, 0), (50, 0, -2.5), 4.3065),
    ((50, 2.5, 0), (73, 25, -18), 27.1492),
    ((50, 2.5, 0), (61, -5, 29), 22.8977),
    ((50, 2.5, 0), (56, -27, -3), 31.9030),
    ((50, 2.5, 0), (58, 24, 15), 19.4535),
    ((50, 2.5, 0), (50, 3.1736, 0.5854), 1.0000),
    ((50, 2.5, 0), (50, 3.2972, 0), 1.0000),
    ((50, 2.5, 0), (50, 1.8634, 0.5757), 1.0000),
    ((50, 2.5, 0), (50, 3.2592, 0.3350), 1.0000),
    ((60.2574, -34.0099, 36.2677), (60.4626, -34.1751, 39.4387), 1.2644),
    ((63.0109, -31.0961, -5.8663), (62.8187, -29.7946, -4.0864), 1.2630),
    ((61.2901, 3.7196, -5.3901), (61.4292, 2.2480, -4.9620), 1.8731),
    ((35.0831, -44.1164, 3.7933), (35.0232, -40.0716, 1.5901), 1.8645),
    ((22.7233, 20.0904, -46.6940), (23.0331, 14.9730, -42.5619), 2.0373),
    ((36.4612, 47.8580, 18.3852), (36.2715, 50.5065, 21.2231), 1.4146),
    ((90.8027, -2.0831, 1.4410), (91.1528, -1.6435, 0.0447), 1.4441),
    ((90.9257, -0.5406, -0.9208), (88.6381, -0.8985, -0.7239), 1.5381),
    ((6.7747, -0.2908, -2.4247), (5.8714, -0.0985, -2.2286), 0.6377),
    ((2.0776, 0.0795, -1.1350), (0.9033, -0.0636, -0.5514), 0.9082),
)
TO_XYZ = np.array(  # of linear sRGB, relative to D65
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
) / np.array([[0.95047], [1], [1.08883]])


def seen(colors: np.ndarray, sight: str) -> np.ndarray:
    """Colours (N, 3) as CIELAB."""
    srgb = colors / 255
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    xyz = np.clip(linear @ np.array(SIGHT[sight]).T, 0, 1) @ TO_XYZ.T
    fx, fy, fz = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116).T
    return np.stack([116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)], axis=-1)


def ciede2000(one: np.ndarray, other: np.ndarray) -> float:
    """Difference of two colours in CIELAB to the eye: 1 is just seen."""
    (l1, a1, b1), (l2, a2, b2) = one, other
    mean_chroma = (np.hypot(a1, b1) + np.hypot(a2, b2)) / 2
    stretch = 1.5 - 0.5 * np.sqrt(mean_chroma**7 / (mean_chroma**7 + 25**7))
    c1, c2 = np.hypot(a1 * stretch, b1), np.hypot(a2 * stretch, b2)
    h1, h2 = (np.degrees(np.arctan2(b, a * stretch)) % 360 for a, b in ((a1, b1), (a2, b2)))
    turn = (h2 - h1 + 180) % 360 - 180 if c1 * c2 else 0
    if turn == -180:
        turn = 180 * np.sign(h2 - h1)
    lightness, chroma = (l1 + l2) / 2, (c1 + c2) / 2
    hue = mean_hue(h1, h2) if c1 * c2 else h1 + h2
    t = 1 - 0.17 * cos(hue - 30) + 0.24 * cos(2 * hue)
    t += 0.32 * cos(3 * hue + 6) - 0.20 * cos(4 * hue - 63)
    from_grey = (lightness - 50) ** 2
    by_lightness = (l2 - l1) / (1 + 0.015 * from_grey / np.sqrt(20 + from_grey))
    by_chroma = (c2 - c1) / (1 + 0.045 * chroma)
    by_hue = 2 * np.sqrt(c1 * c2) * np.sin(np.radians(turn) / 2) / (1 + 0.015 * chroma * t)
    blue = 60 * np.exp(-(((hue - 275) / 25) ** 2))
    rotation = -2 * np.sqrt(chroma**7 / (chroma**7 + 25**7)) * np.sin(np.radians(blue))
    return float(
        np.sqrt(by_lightness**2 + by_chroma**2 + by_hue**2 + rotation * by_chroma * by_hue)
    )


def mean_hue(h1: float, h2: float) -> float:
    """The angle halfway, the short way round."""
    total = h1 + h2
    if abs(h1 - h2) <= 180:
        return total / 2
    return (total + 360) / 2 if total < 360 else (total - 360) / 2


def cos(degrees: float) -> float:
    return float(np.cos(np.radians(degrees)))


def least_difference(palette: str, sight: str) -> float:
    colors = [PALETTES[palette][name] for name in CLASS_NAMES[:NUM_CLASSES]]
    return min(ciede2000(a, b) for a, b in combinations(seen(np.array(colors), sight), 2))


@pytest.mark.parametrize(("one", "other", "expected"), SHARMA)
def test_differences_are_those_that_sharma_published(one, other, expected) -> None:
    assert ciede2000(np.array(one), np.array(other)) == pytest.approx(expected, abs=5e-5)
    assert ciede2000(np.array(other), np.array(one)) == pytest.approx(expected, abs=5e-5)


@pytest.mark.parametrize("sight", SIGHT)
def test_default_palette_keeps_any_two_classes_apart(sight) -> None:
    assert least_difference("roadseg", sight) >= (18 if sight == "all cones" else 8)


def test_default_palette_is_lightest_and_warmest_on_people_and_dark_on_roads() -> None:
    lightness, red_green, blue_yellow = seen(
        np.array(list(PALETTES["roadseg"].values())), "all cones"
    ).T
    of = CLASS_NAMES.index
    for person in ("pedestrian", "bicyclist"):
        assert lightness[of(person)] > max(lightness[of(name)] for name in ("road", "car", "tree"))
        assert red_green[of(person)] > 0 and blue_yellow[of(person)] > 0
    assert blue_yellow[of("car")] == min(blue_yellow)
    assert red_green[of("road")] > 0 > blue_yellow[of("road")]


@pytest.mark.parametrize("sight", SIGHT)
def test_colorblind_palette_keeps_any_two_classes_further_apart(sight) -> None:
    assert least_difference("colorblind", sight) >= 11
    if sight != "all cones":
        assert least_difference("colorblind", sight) > least_difference("roadseg", sight)


@pytest.mark.parametrize("palette", PALETTES)
def test_no_two_classes_share_a_colour(palette) -> None:
    assert list(PALETTES[palette]) == list(CLASS_NAMES)
    assert len(set(PALETTES[palette].values())) == len(CLASS_NAMES)


OTHER = {"road": (1, 1, 1), "cow": (2, 2, 2)}
MIXED = {"road": PALETTES["camvid"]["road"], "cow": (2, 2, 2)}


def spec_of(colors: dict[str, tuple[int, int, int]]) -> ModelSpec:
    return replace(SPEC, class_names=tuple(colors), palette=tuple(colors.values()))


def test_models_hold_camvids_colours_and_are_shown_in_the_default_palette() -> None:
    assert SPEC.palette == PALETTE[:NUM_CLASSES] == tuple(PALETTES["camvid"].values())[:NUM_CLASSES]
    assert SPEC.recolored("roadseg").palette == tuple(PALETTES["roadseg"].values())[:NUM_CLASSES]
    assert SPEC.recolored("camvid") == SPEC


def test_models_in_colours_of_their_own_keep_them_unless_asked() -> None:
    assert spec_of(OTHER).recolored("roadseg").palette == ((1, 1, 1), (2, 2, 2))
    assert spec_of(MIXED).recolored("roadseg").palette == (PALETTES["roadseg"]["road"], (2, 2, 2))
    assert spec_of(OTHER).recolored("colorblind").palette[0] == PALETTES["colorblind"]["road"]


def test_pages_and_tables_show_the_default_palette() -> None:
    assert {c.name: c.color for c in as_shown(CLASSES)} == PALETTES["roadseg"]
    own = tuple(SegClass(name=name, color=color) for name, color in OTHER.items())
    assert as_shown(own) == own


def test_unknown_palette_is_named() -> None:
    with pytest.raises(ConfigError, match=r"no palette or file.* roadseg, camvid, cityscapes"):
        ModelConfig(palette="pastel")


@pytest.mark.parametrize(
    "text",
    [
        "road,1,2,3\ncow,7,8,9\n",
        "road,#010203\n",
        "name,colour\nroad,#010203\n",
        "id,name,r,g,b\n3,road,1,2,3\n",
    ],
    ids=["levels", "hex", "class file", "class file of levels"],
)
def test_palette_comes_from_a_file(tmp_path, text) -> None:
    (tmp_path / "mine.csv").write_text(text)
    spec = SPEC.recolored(str(tmp_path / "mine.csv"))
    assert spec.colors("camvid")["road"] == (1, 2, 3)
    assert spec.colors("camvid")["car"] == PALETTES["camvid"]["car"]


LONG = "9" * 5000
"""Python makes no number of it."""


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("road,1,2,300\n", "line 1 has the colour 1, 2, 300; give r, g and b, each from 0 to 255"),
        pytest.param(f"name,id\nroad,{LONG}\n", "line 2 has the id '99", id="long id"),
        pytest.param(f"road,1,2,{LONG}\n", "line 1 has the colour 1, 2, 99", id="long level"),
        ("name,color\nroad,purple\n", "line 2 has the colour 'purple'; give it as #rrggbb"),
        ("a,b\nc,d\n", "begins with the columns a, b"),
        ("cow,1,2,3\n", "has no colour for any of sky, building"),
        ("", "has no colour for any of sky, building"),
    ],
)
def test_faulty_palette_file_is_named_in_one_line(tmp_path, text, fault) -> None:
    (tmp_path / "mine.csv").write_text(text)
    with pytest.raises(ConfigError, match=f"--palette.*mine.csv.*{fault}") as caught:
        SPEC.recolored(str(tmp_path / "mine.csv"))
    assert "\n" not in str(caught.value)
