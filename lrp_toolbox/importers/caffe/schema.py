"""The messages of Caffe's files, as far as they are read here: number, name and type of each field.

Numbers, names and defaults are those of caffe.proto (BVLC/caffe). What is not named is skipped, as protobuf does with fields
that it does not know. Some fields are declared as bytes, which look the same in the file: packed floats, to become an array in
one step, and the blobs of a layer, to be read one after the other.
"""

from __future__ import annotations

from typing import Any

from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

# The old names of layer types, their numbers, and the new names.
V1_TYPES = {
    "NONE": (0, "None"), "ACCURACY": (1, "Accuracy"), "BNLL": (2, "BNLL"), "CONCAT": (3, "Concat"),
    "CONVOLUTION": (4, "Convolution"), "DATA": (5, "Data"), "DROPOUT": (6, "Dropout"), "EUCLIDEAN_LOSS": (7, "EuclideanLoss"),
    "FLATTEN": (8, "Flatten"), "HDF5_DATA": (9, "HDF5Data"), "HDF5_OUTPUT": (10, "HDF5Output"), "IM2COL": (11, "Im2col"),
    "IMAGE_DATA": (12, "ImageData"), "INFOGAIN_LOSS": (13, "InfogainLoss"), "INNER_PRODUCT": (14, "InnerProduct"),
    "LRN": (15, "LRN"), "MULTINOMIAL_LOGISTIC_LOSS": (16, "MultinomialLogisticLoss"), "POOLING": (17, "Pooling"),
    "RELU": (18, "ReLU"), "SIGMOID": (19, "Sigmoid"), "SOFTMAX": (20, "Softmax"), "SOFTMAX_LOSS": (21, "SoftmaxWithLoss"),
    "SPLIT": (22, "Split"), "TANH": (23, "TanH"), "WINDOW_DATA": (24, "WindowData"), "ELTWISE": (25, "Eltwise"),
    "POWER": (26, "Power"), "SIGMOID_CROSS_ENTROPY_LOSS": (27, "SigmoidCrossEntropyLoss"), "HINGE_LOSS": (28, "HingeLoss"),
    "MEMORY_DATA": (29, "MemoryData"), "ARGMAX": (30, "ArgMax"), "THRESHOLD": (31, "Threshold"),
    "DUMMY_DATA": (32, "DummyData"), "SLICE": (33, "Slice"), "MVN": (34, "MVN"), "ABSVAL": (35, "AbsVal"),
    "SILENCE": (36, "Silence"), "CONTRASTIVE_LOSS": (37, "ContrastiveLoss"), "EXP": (38, "Exp"),
    "DECONVOLUTION": (39, "Deconvolution"),
}  # fmt: skip

ENUMS = {
    "Phase": {"TRAIN": 0, "TEST": 1},
    "PoolMethod": {"MAX": 0, "AVE": 1, "STOCHASTIC": 2},
    "RoundMode": {"CEIL": 0, "FLOOR": 1},
    "NormRegion": {"ACROSS_CHANNELS": 0, "WITHIN_CHANNEL": 1},
    "EltwiseOp": {"PROD": 0, "SUM": 1, "MAX": 2},
    "V1LayerType": {name: number for name, (number, _) in V1_TYPES.items()},
}

# "number name type", where * stands for several, then the default if it is not 0.
MESSAGES = {
    "NetParameter": """1 name string; 3 input string*; 8 input_shape BlobShape*; 4 input_dim int64*;
        100 layer LayerParameter*; 2 layers V1LayerParameter*""",
    "LayerParameter": """1 name string; 2 type string; 3 bottom string*; 4 top string*; 7 blobs bytes*;
        8 include NetStateRule*; 9 exclude NetStateRule*; 100 transform_param TransformationParameter;
        104 concat_param ConcatParameter; 106 convolution_param ConvolutionParameter; 108 dropout_param DropoutParameter;
        109 dummy_data_param DummyDataParameter; 110 eltwise_param EltwiseParameter;
        117 inner_product_param InnerProductParameter; 118 lrn_param LRNParameter; 119 memory_data_param MemoryDataParameter;
        121 pooling_param PoolingParameter; 123 relu_param ReLUParameter; 125 softmax_param SoftmaxParameter;
        131 prelu_param PReLUParameter; 135 flatten_param FlattenParameter; 139 batch_norm_param BatchNormParameter;
        142 scale_param ScaleParameter; 143 input_param InputParameter""",
    "V1LayerParameter": """1 layer V0LayerParameter; 2 bottom string*; 3 top string*; 4 name string; 5 type V1LayerType;
        6 blobs bytes*; 32 include NetStateRule*; 33 exclude NetStateRule*; 36 transform_param TransformationParameter;
        9 concat_param ConcatParameter; 10 convolution_param ConvolutionParameter; 12 dropout_param DropoutParameter;
        26 dummy_data_param DummyDataParameter; 24 eltwise_param EltwiseParameter;
        17 inner_product_param InnerProductParameter; 18 lrn_param LRNParameter; 22 memory_data_param MemoryDataParameter;
        19 pooling_param PoolingParameter; 30 relu_param ReLUParameter; 39 softmax_param SoftmaxParameter""",
    "V0LayerParameter": "1 name string",
    "BlobProto": """7 shape BlobShape; 5 data bytes; 8 double_data bytes;
        1 num int64; 2 channels int64; 3 height int64; 4 width int64""",
    "BlobShape": "1 dim int64*",
    "NetStateRule": "1 phase Phase; 2 min_level int32; 3 max_level int32; 4 stage string*; 5 not_stage string*",
    "TransformationParameter": "1 scale float 1; 3 crop_size uint32; 4 mean_file string; 5 mean_value float*",
    "InputParameter": "1 shape BlobShape*",
    "MemoryDataParameter": "2 channels uint32; 3 height uint32; 4 width uint32",
    "DummyDataParameter": "2 num uint32*; 3 channels uint32*; 4 height uint32*; 5 width uint32*; 6 shape BlobShape*",
    "ConvolutionParameter": """1 num_output uint32; 2 bias_term bool true; 3 pad uint32*; 4 kernel_size uint32*;
        6 stride uint32*; 18 dilation uint32*; 9 pad_h uint32; 10 pad_w uint32; 11 kernel_h uint32; 12 kernel_w uint32;
        13 stride_h uint32; 14 stride_w uint32; 5 group uint32 1; 16 axis int32 1""",
    "InnerProductParameter": "1 num_output uint32; 2 bias_term bool true; 5 axis int32 1; 6 transpose bool",
    # `ceil_mode` is an addition of several forks
    "PoolingParameter": """1 pool PoolMethod; 4 pad uint32*; 2 kernel_size uint32*; 3 stride uint32*; 9 pad_h uint32;
        10 pad_w uint32; 5 kernel_h uint32; 6 kernel_w uint32; 7 stride_h uint32; 8 stride_w uint32; 12 global_pooling bool;
        13 round_mode RoundMode; 1013 ceil_mode bool true""",
    "ReLUParameter": "1 negative_slope float",
    "PReLUParameter": "2 channel_shared bool",
    "LRNParameter": "1 local_size uint32 5; 2 alpha float 1; 3 beta float 0.75; 4 norm_region NormRegion; 5 k float 1",
    "BatchNormParameter": "1 use_global_stats bool; 3 eps float 1e-5",
    "ScaleParameter": "1 axis int32 1; 2 num_axes int32 1; 4 bias_term bool",
    "DropoutParameter": "1 dropout_ratio float 0.5",
    "ConcatParameter": "1 concat_dim uint32 1; 2 axis int32 1",
    "EltwiseParameter": "1 operation EltwiseOp SUM; 2 coeff float*",
    "FlattenParameter": "1 axis int32 1; 2 end_axis int32 -1",
    "SoftmaxParameter": "2 axis int32 1",
}


def _field(words: str) -> FieldDescriptorProto:
    number, name, kind, *default = words.split()
    field = FieldDescriptorProto(name=name, number=int(number), default_value=default[0] if default else None)
    field.label = FieldDescriptorProto.LABEL_REPEATED if kind.endswith("*") else FieldDescriptorProto.LABEL_OPTIONAL
    kind = kind.rstrip("*")
    if kind in MESSAGES:
        field.type, field.type_name = FieldDescriptorProto.TYPE_MESSAGE, f".caffe.{kind}"
    elif kind in ENUMS:
        field.type, field.type_name = FieldDescriptorProto.TYPE_ENUM, f".caffe.{kind}.Value"
    else:
        field.type = FieldDescriptorProto.Type.Value(f"TYPE_{kind.upper()}")
    return field


def _pool() -> DescriptorPool:
    file = FileDescriptorProto(name="caffe", package="caffe", syntax="proto2")
    for name, fields in MESSAGES.items():
        file.message_type.append(DescriptorProto(name=name, field=[_field(words) for words in fields.split(";")]))
    for name, values in ENUMS.items():  # each in a message of its own: MAX is a value of two of them
        holder = file.message_type.add(name=name)
        enum = holder.enum_type.add(name="Value")
        for value, number in sorted(values.items(), key=lambda item: item[1]):
            enum.value.add(name=value, number=number)
    pool = DescriptorPool()
    pool.Add(file)
    return pool


_POOL = _pool()


def message(name: str) -> Any:
    """The class of the messages of that name."""
    return GetMessageClass(_POOL.FindMessageTypeByName(f"caffe.{name}"))


NetParameter = message("NetParameter")
LayerParameter = message("LayerParameter")
V1LayerParameter = message("V1LayerParameter")
BlobProto = message("BlobProto")
TransformationParameter = message("TransformationParameter")
