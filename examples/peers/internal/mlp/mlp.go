// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

// Package mlp is the small model that every peer trains: a fully connected network with one hidden layer
// of rectified units and a softmax on top, trained by plain stochastic gradient descent, one sample at a
// time.
//
// All weights live in one flat slice, layer after layer: for each layer the matrix row by row (one row an
// output unit), then the biases. That is the order in which they travel between peers (PROTOCOL.md), and
// it makes averaging two models a loop over two slices. Averaging only makes sense between models that
// began from the same weights; a group therefore shares its initial model.
package mlp

import (
	"fmt"
	"math"
	"math/rand/v2"
)

// Shape is the number of inputs, hidden units and outputs.
type Shape [3]int

// Size is the number of weights of a model of this shape.
func (s Shape) Size() int { return (s[0]+1)*s[1] + (s[1]+1)*s[2] }

// Net is a model with the scratch space to run it. It is not safe for concurrent use.
type Net struct {
	shape Shape
	w     []float32

	hidden, gradHidden, out []float32
}

// New returns a model of the given shape with He-initialised weights drawn from seed.
func New(s Shape, seed uint64) *Net {
	rng := rand.New(rand.NewPCG(seed, 0x6d6c70))
	n := &Net{
		shape: s, w: make([]float32, s.Size()),
		hidden: make([]float32, s[1]), gradHidden: make([]float32, s[1]), out: make([]float32, s[2]),
	}
	w1, _, w2, _ := n.layers()
	for i := range w1 {
		w1[i] = float32(rng.NormFloat64() * math.Sqrt(2/float64(s[0])))
	}
	for i := range w2 {
		w2[i] = float32(rng.NormFloat64() * math.Sqrt(2/float64(s[1])))
	}
	return n
}

// Weights is the model's own slice of weights: it changes with training.
func (n *Net) Weights() []float32 { return n.w }

// Set copies w into the model.
func (n *Net) Set(w []float32) error {
	if len(w) != len(n.w) {
		return fmt.Errorf("set weights: %d values for a model of %d", len(w), len(n.w))
	}
	copy(n.w, w)
	return nil
}

func (n *Net) layers() (w1, b1, w2, b2 []float32) {
	in, hid, out := n.shape[0], n.shape[1], n.shape[2]
	w := n.w
	w1, w = w[:in*hid], w[in*hid:]
	b1, w = w[:hid], w[hid:]
	w2, b2 = w[:hid*out], w[hid*out:]
	return w1, b1, w2, b2
}

// forward leaves the hidden activations and the class probabilities in the scratch space.
func (n *Net) forward(x []float32) {
	w1, b1, w2, b2 := n.layers()
	for j := range n.hidden {
		if a := b1[j] + dot(w1[j*len(x):(j+1)*len(x)], x); a > 0 {
			n.hidden[j] = a
		} else {
			n.hidden[j] = 0
		}
	}
	top := float32(math.Inf(-1))
	for k := range n.out {
		n.out[k] = b2[k] + dot(w2[k*len(n.hidden):(k+1)*len(n.hidden)], n.hidden)
		top = max(top, n.out[k])
	}
	var sum float32
	for k, v := range n.out {
		n.out[k] = float32(math.Exp(float64(v - top)))
		sum += n.out[k]
	}
	for k := range n.out {
		n.out[k] /= sum
	}
}

func dot(a, b []float32) float32 {
	b = b[:len(a)]
	var s0, s1, s2, s3 float32
	i := 0
	for ; i+3 < len(a); i += 4 {
		s0 += a[i] * b[i]
		s1 += a[i+1] * b[i+1]
		s2 += a[i+2] * b[i+2]
		s3 += a[i+3] * b[i+3]
	}
	for ; i < len(a); i++ {
		s0 += a[i] * b[i]
	}
	return s0 + s1 + s2 + s3
}

// Step moves the weights against the gradient of the cross-entropy at one sample, and returns the loss
// that the sample had before the move.
func (n *Net) Step(x []float32, label int, rate float32) float64 {
	n.forward(x)
	loss := crossEntropy(n.out[label])
	w1, b1, w2, b2 := n.layers()
	clear(n.gradHidden)
	n.out[label]--
	for k, g := range n.out {
		row := w2[k*len(n.hidden) : (k+1)*len(n.hidden)]
		for j, h := range n.hidden {
			n.gradHidden[j] += g * row[j]
			row[j] -= rate * g * h
		}
		b2[k] -= rate * g
	}
	for j, h := range n.hidden {
		if h == 0 {
			continue
		}
		g := rate * n.gradHidden[j]
		row := w1[j*len(x) : (j+1)*len(x)]
		for i, v := range x {
			row[i] -= g * v
		}
		b1[j] -= g
	}
	return loss
}

func crossEntropy(p float32) float64 { return -math.Log(max(float64(p), 1e-12)) }

// Evaluate returns the share of samples whose most likely class is the label, and their mean
// cross-entropy. Without samples both are NaN.
func (n *Net) Evaluate(xs [][]float32, labels []byte) (accuracy, loss float64) {
	var right int
	for i, x := range xs {
		n.forward(x)
		best := 0
		for k, p := range n.out {
			if p > n.out[best] {
				best = k
			}
		}
		if best == int(labels[i]) {
			right++
		}
		loss += crossEntropy(n.out[labels[i]])
	}
	return float64(right) / float64(len(xs)), loss / float64(len(xs))
}

// Part is one model that goes into an average, and how much it counts.
type Part struct {
	Weights []float32
	Samples float64
}

// Average overwrites dst with the mean of parts, each weighted by its samples. All parts are as long as
// dst; dst may be one of them. Without samples dst is left alone.
func Average(dst []float32, parts ...Part) {
	var total float64
	for _, p := range parts {
		total += p.Samples
	}
	if total <= 0 {
		return
	}
	for i := range dst {
		var sum float64
		for _, p := range parts {
			sum += p.Samples * float64(p.Weights[i])
		}
		dst[i] = float32(sum / total)
	}
}
