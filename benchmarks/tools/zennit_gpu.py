"""The same net of PyTorch, on the GPU."""

from __future__ import annotations

import torch

from . import zennit


def allow_tf32(allow):
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = allow


def build(shape, layers, folder, dtype):
    return zennit.build(shape, layers, folder, dtype).cuda()


def runner(net, x, method, targets):
    compute = zennit.runner(net, x, method, targets)

    def run():
        result = compute()
        torch.cuda.synchronize()
        return result

    return run


def to_numpy(result):
    return result.cpu().numpy()


def device_memory():
    free, total = torch.cuda.mem_get_info()
    return torch.cuda.max_memory_reserved(), total - free


def versions():
    return {**zennit.versions(), "card": torch.cuda.get_device_name()}
