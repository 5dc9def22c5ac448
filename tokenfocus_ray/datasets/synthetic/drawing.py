"""Draws a scene's objects with Pillow."""

from __future__ import annotations

import math

from PIL import Image, ImageDraw

from tokenfocus_ray.datasets.synthetic.scenes import BACKGROUNDS, COLORS, GRID, Scene


def render(scene: Scene, size: int = 224) -> Image.Image:
    """Draws a scene.

    Args:
        scene: What to draw.
        size: Width and height of the image in pixels.

    Returns:
        An RGB image; equal scenes give equal pixels.
    """
    big = size * 2  # drawn at twice the size and reduced: PIL draws without antialiasing
    image = Image.new("RGB", (big, big), BACKGROUNDS[scene.background])
    cell = big / GRID
    for item in scene.objects:
        x = (item.cell[0] + 0.5 + item.offset[0]) * cell
        y = (item.cell[1] + 0.5 + item.offset[1]) * cell
        radius = cell * (0.40 if item.size == "large" else 0.23)
        mask = Image.new("L", (big, big), 0)
        _draw_shape(ImageDraw.Draw(mask), item.shape, x, y, radius)
        paint = Image.new("RGB", (big, big), COLORS[item.color])
        _draw_pattern(ImageDraw.Draw(paint), item.pattern, x, y, radius)
        box = _box(x, y, radius * 1.1)
        image.paste(paint.crop(box), box[:2], mask.crop(box))
    return image.resize((size, size), Image.Resampling.BOX)


def _box(x: float, y: float, r: float) -> tuple[int, int, int, int]:
    return (math.floor(x - r), math.floor(y - r), math.ceil(x + r), math.ceil(y + r))


def _draw_shape(draw: ImageDraw.ImageDraw, shape: str, x: float, y: float, r: float) -> None:
    def around(n: int, radii: tuple[float, ...], turn: float = -0.25) -> list[tuple[float, float]]:
        angles = [(turn + i / n) * 2 * math.pi for i in range(n)]
        return [
            (
                x + math.cos(a) * r * radii[i % len(radii)],
                y + math.sin(a) * r * radii[i % len(radii)],
            )
            for i, a in enumerate(angles)
        ]

    match shape:
        case "circle":
            draw.ellipse(_box(x, y, r), fill=255)
        case "ring":
            draw.ellipse(_box(x, y, r), fill=255)
            draw.ellipse(_box(x, y, r * 0.5), fill=0)
        case "square":
            draw.rectangle(_box(x, y, r * 0.85), fill=255)
        case "triangle":
            draw.polygon(around(3, (1.1,)), fill=255)
        case "diamond":
            draw.polygon(around(4, (1.0, 0.65)), fill=255)
        case "star":
            draw.polygon(around(10, (1.1, 0.45)), fill=255)
        case "cross":
            w = r * 0.33
            draw.rectangle((x - r, y - w, x + r, y + w), fill=255)
            draw.rectangle((x - w, y - r, x + w, y + r), fill=255)
        case "heart":
            draw.ellipse(_box(x - r * 0.45, y - r * 0.35, r * 0.52), fill=255)
            draw.ellipse(_box(x + r * 0.45, y - r * 0.35, r * 0.52), fill=255)
            draw.polygon(
                [(x - r * 0.93, y - r * 0.1), (x + r * 0.93, y - r * 0.1), (x, y + r)],
                fill=255,
            )
        case _:
            raise AssertionError(f"unknown shape {shape!r}")


def _draw_pattern(
    draw: ImageDraw.ImageDraw, pattern: str | None, x: float, y: float, r: float
) -> None:
    white, step = (255, 255, 255), r * 0.5
    for i in range(-3, 4):
        if pattern == "striped":
            draw.rectangle(
                (
                    x - r * 1.2,
                    y + i * step - r * 0.1,
                    x + r * 1.2,
                    y + i * step + r * 0.1,
                ),
                fill=white,
            )
        elif pattern == "dotted":
            for j in range(-3, 4):
                draw.ellipse(_box(x + i * step, y + j * step, r * 0.14), fill=white)
