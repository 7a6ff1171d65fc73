"""One module a tool. `build(shape, layers, folder, dtype)` → net; `runner(net, x, method, targets)` → a function that
computes and returns the relevance (sample, target, height, width, channel) or, for "forward", the logits; `versions()`."""
