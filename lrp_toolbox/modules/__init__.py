"""The layers, each with its forward pass, its gradient and its relevance."""

from .base import Layer, LinearModule, Module, Trace
from .container import Add, Concat, Concatenation, Graph, Node, Sequential, Sum
from .elementwise import LRN, ClippedReLU, Dropout, Flatten, Identity, LeakyReLU, PReLU, ReLU, Sigmoid, SoftMax, Tanh, Taylor
from .fuse import fuse
from .linear import BatchNorm, Conv, Linear, Scale
from .pad import Pad
from .pooling import AvgPool, MaxPool, SumPool

__all__ = [
    "LRN",
    "Add",
    "AvgPool",
    "BatchNorm",
    "ClippedReLU",
    "Concat",
    "Concatenation",
    "Conv",
    "Dropout",
    "Flatten",
    "Graph",
    "Identity",
    "Layer",
    "LeakyReLU",
    "Linear",
    "LinearModule",
    "MaxPool",
    "Module",
    "Node",
    "PReLU",
    "Pad",
    "ReLU",
    "Scale",
    "Sequential",
    "Sigmoid",
    "SoftMax",
    "Sum",
    "SumPool",
    "Tanh",
    "Taylor",
    "Trace",
    "fuse",
]
