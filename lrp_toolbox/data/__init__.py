"""Photographs in, arrays out."""

from .photos import Preprocessing, read_photo

__all__ = ["Preprocessing", "read_photo"]
