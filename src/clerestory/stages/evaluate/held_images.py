"""The decoded images of a suite that needs them more than once, in a limited amount of memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import overload

from PIL import Image

from clerestory.core.errors import DataError

MAX_PIXELS = 28_000_000  # 112 MB: all images of most data, and two photographs of 12 megapixels


class HeldImages:
    """Images by position: held in memory while there is room, so small ones are decoded once; the others every time.

    The first ones are held and none is evicted, since suites go over all of them again and again, in the same order.

    Args:
        load: gives the image at a position, or None where there is none.
        max_pixels: of all that are held.
    """

    def __init__(self, load: Callable[[int], Image.Image | None], max_pixels: int = MAX_PIXELS) -> None:
        self._load = load
        self._room = max_pixels
        self._held: dict[int, Image.Image | None] = {}

    def __getitem__(self, position: int) -> Image.Image | None:
        """The image at a position; None where there is none. It must not be changed."""
        if position in self._held:
            return self._held[position]
        image = self._load(position)
        pixels = image.width * image.height if image else 0
        if pixels <= self._room:
            self._room -= pixels
            self._held[position] = image
        return image


class LazyImages(Sequence[Image.Image]):
    """Images that are loaded when they are used.

    Args:
        count: their number.
        load: gives the image at a position; every position has one.
    """

    def __init__(self, count: int, load: Callable[[int], Image.Image | None]) -> None:
        self._count, self._load = count, load

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, at: int) -> Image.Image: ...

    @overload
    def __getitem__(self, at: slice) -> LazyImages: ...

    def __getitem__(self, at: int | slice) -> Image.Image | LazyImages:
        positions = range(self._count)[at]
        if isinstance(positions, range):
            return LazyImages(len(positions), lambda i: self._load(positions[i]))
        image = self._load(positions)
        if image is None:
            raise DataError("an image can no longer be read", "check the files of the data, and run it again")
        return image


def changed_images(
    images: Sequence[Image.Image], change: Callable[[int, Image.Image], Image.Image]
) -> Sequence[Image.Image]:
    """The images with a change, which is made when they are used; ``change`` gets the position and the image."""
    return LazyImages(len(images), lambda i: change(i, images[i]))
