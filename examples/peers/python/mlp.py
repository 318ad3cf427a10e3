# Copyright The Periplus Authors
# SPDX-License-Identifier: Apache-2.0

"""The small model that every peer trains, in plain Python.

A fully connected network with one hidden layer of rectified units and a softmax on top, trained by
stochastic gradient descent one sample at a time: the same as the Go peers'. Rows of weights are lists of
floats; flat() and set_flat() give and take the order in which weights travel (PROTOCOL.md).
"""

import math
from operator import mul

SHAPE = (196, 32, 10)


def size(shape):
    """The number of weights of a model of this shape."""
    return sum((a + 1) * b for a, b in zip(shape, shape[1:]))


class Net:
    """A model. Not safe for concurrent use."""

    def __init__(self, weights, shape=SHAPE):
        self.shape = shape
        self.set_flat(weights)

    def set_flat(self, weights):
        """Takes weights in travelling order."""
        n_in, n_hid, n_out = self.shape
        if len(weights) != size(self.shape):
            raise ValueError(f"{len(weights)} weights for shape {self.shape}")
        weights = list(weights)
        self.w1 = [weights[j * n_in : (j + 1) * n_in] for j in range(n_hid)]
        at = n_in * n_hid
        self.b1 = weights[at : at + n_hid]
        at += n_hid
        self.w2 = [weights[at + k * n_hid : at + (k + 1) * n_hid] for k in range(n_out)]
        at += n_hid * n_out
        self.b2 = weights[at:]

    def flat(self):
        """All weights in travelling order."""
        out = []
        for row in self.w1:
            out += row
        out += self.b1
        for row in self.w2:
            out += row
        return out + self.b2

    def forward(self, x):
        """Hidden activations and class probabilities."""
        hidden = [max(0.0, sum(map(mul, row, x)) + b) for row, b in zip(self.w1, self.b1)]
        logits = [sum(map(mul, row, hidden)) + b for row, b in zip(self.w2, self.b2)]
        top = max(logits)
        exps = [math.exp(v - top) for v in logits]
        total = sum(exps)
        return hidden, [e / total for e in exps]

    def step(self, x, label, rate):
        """Moves the weights against the gradient at one sample; returns the loss before the move."""
        hidden, probs = self.forward(x)
        loss = -math.log(max(probs[label], 1e-12))
        probs[label] -= 1
        grad_hidden = [0.0] * len(hidden)
        for k, g in enumerate(probs):
            row = self.w2[k]
            grad_hidden = [a + g * w for a, w in zip(grad_hidden, row)]
            rg = rate * g
            self.w2[k] = [w - rg * h for w, h in zip(row, hidden)]
            self.b2[k] -= rg
        for j, h in enumerate(hidden):
            if h > 0:
                g = rate * grad_hidden[j]
                self.w1[j] = [w - g * v for w, v in zip(self.w1[j], x)]
                self.b1[j] -= g
        return loss

    def evaluate(self, xs, labels):
        """Accuracy and mean cross-entropy."""
        right, loss = 0, 0.0
        for x, label in zip(xs, labels):
            _, probs = self.forward(x)
            right += max(range(len(probs)), key=probs.__getitem__) == label
            loss -= math.log(max(probs[label], 1e-12))
        return right / len(xs), loss / len(xs)


def average(parts):
    """The mean of (weights, samples) pairs, weighted by samples."""
    total = sum(samples for _, samples in parts)
    if total <= 0:
        return list(parts[0][0])
    shares = [samples / total for _, samples in parts]
    return [sum(map(mul, shares, column)) for column in zip(*(weights for weights, _ in parts))]
