"""Photographs as arrays, and data sets with the classes and boxes on them."""

from .annotations import DataFormatError
from .boxes import Item, box_mask
from .imagenet import ImageNet
from .photos import Preprocessing, as_photo, read_photo
from .voc import VOC

__all__ = ["VOC", "DataFormatError", "ImageNet", "Item", "Preprocessing", "as_photo", "box_mask", "read_photo"]
