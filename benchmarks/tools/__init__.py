"""One module a tool. `build(shape, layers, folder, dtype)` → net; `runner(net, x, method, targets)` → a function that
computes and returns the relevance (sample, target, height, width, channel) or, for "forward", the logits; `versions()`.

On a GPU also `allow_tf32(bool)`, before the net is built; `to_numpy(result)`; and `device_memory()`, the bytes that the
framework has taken from the card at most, and all that the card has lent to anyone. Runs wait until the GPU has finished,
and leave their result there."""
