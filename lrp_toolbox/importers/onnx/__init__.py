"""Nets in ONNX files, which PyTorch, Keras, JAX, scikit-learn and MATLAB write: `read_onnx`, and `read_net` for any input.

Read with the official package `onnx` alone, and nothing in a file is run. What a file computes from constants is computed
once. Its axes (sample, channel, height, width) become ours (height, width, channel) without a layer that moves numbers.
A BatchNormalization stays one (`explain` merges it into the layer before it); dropout and casts are left out. Refused are:
quantised nets, control flow, operators of other domains, constants in files elsewhere than beside the .onnx; and operators
that have no layer here, in one error that names them all.

=================================  =====================================================================================
`file`                             reading and checking
`constants`                        what is computed from constants
`layout`                           where ONNX's axes are in ours
`graph`                            from nodes to our graph
`patterns`                         activations that are written out as several nodes
`layers`                           the operators
`model`                            `read_onnx` and `read_net`
=================================  =====================================================================================
"""

from .model import Net, read_net, read_onnx

__all__ = ["Net", "read_net", "read_onnx"]
