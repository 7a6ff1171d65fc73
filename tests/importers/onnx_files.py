"""Small ONNX models, written with onnx.helper."""

import numpy as np
from onnx import TensorProto, helper, numpy_helper


def model(nodes, constants=(), x=(None, 3, 8, 8), outputs=("y",), opset=17, inputs=None):
    """A model of nodes ("Conv", ["x", "w"], ["y"], {"pads": …}) and constants {"w": array}; x is the shape of its input."""
    made = []
    for k, (op, reads, makes, *options) in enumerate(nodes):
        attributes = dict(options[0]) if options else {}
        name = attributes.pop("name", f"{op.lower()}{k}")
        domain = attributes.pop("domain", "")
        made.append(helper.make_node(op, reads, makes, name=name, domain=domain, **attributes))
    tensors = [numpy_helper.from_array(np.asarray(a), name) for name, a in dict(constants).items()]
    given = {"x": x} if inputs is None else inputs
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in given.items()]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
    graph = helper.make_graph(made, "net", values, ends, tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def save(folder, made, name="net.onnx"):
    file = folder / name
    file.write_bytes(made.SerializeToString())
    return file


def onnxruntime(made, *inputs):
    """What onnxruntime computes, with inputs in ONNX's axes."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(made.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {i.name: a.astype(np.float32) for i, a in zip(session.get_inputs(), inputs, strict=True)})[0]
