// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package mlp_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/periplus-io/periplus/examples/peers/internal/mlp"
)

var shape = mlp.Shape{6, 8, 3}

// clusters are samples around one corner for each class.
func clusters(n int) (xs [][]float32, labels []byte) {
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range n {
		x := make([]float32, shape[0])
		for j := range x {
			x[j] = rng.Float32() * 0.5
		}
		x[2*(i%3)] += 0.7
		xs, labels = append(xs, x), append(labels, byte(i%3))
	}
	return xs, labels
}

func TestTrainingDecreasesTheLoss(t *testing.T) {
	xs, labels := clusters(300)
	n := mlp.New(shape, 1)
	_, before := n.Evaluate(xs, labels)
	for range 10 {
		for i, x := range xs {
			n.Step(x, int(labels[i]), 0.05)
		}
	}
	accuracy, after := n.Evaluate(xs, labels)
	if after > before/2 || accuracy < 0.95 {
		t.Errorf("loss %.3f -> %.3f, accuracy %.3f", before, after, accuracy)
	}
}

// TestStepFollowsTheGradient compares what one step moves with the numerical derivative of the loss.
func TestStepFollowsTheGradient(t *testing.T) {
	xs, labels := clusters(3)
	n := mlp.New(shape, 3)
	start := slices.Clone(n.Weights())
	lossAt := func(i int, d float32) float64 {
		w := slices.Clone(start)
		w[i] += d
		if err := n.Set(w); err != nil {
			t.Fatal(err)
		}
		_, loss := n.Evaluate(xs[:1], labels[:1])
		return loss
	}
	const rate, d = 1e-2, 1e-2
	want := make([]float64, len(start))
	for i := range start {
		want[i] = (lossAt(i, d) - lossAt(i, -d)) / (2 * d)
	}
	if err := n.Set(start); err != nil {
		t.Fatal(err)
	}
	n.Step(xs[0], int(labels[0]), rate)
	for i, w := range n.Weights() {
		if got := float64(start[i]-w) / rate; math.Abs(got-want[i]) > 0.01 {
			t.Errorf("weight %d: got gradient %.4f, want %.4f", i, got, want[i])
		}
	}
}

func TestSameSeedSameModel(t *testing.T) {
	if !slices.Equal(mlp.New(shape, 7).Weights(), mlp.New(shape, 7).Weights()) {
		t.Error("two models of one seed differ")
	}
	if slices.Equal(mlp.New(shape, 7).Weights(), mlp.New(shape, 8).Weights()) {
		t.Error("models of two seeds are the same")
	}
}

func TestAverageIsWeightedBySamples(t *testing.T) {
	own := []float32{1, 2}
	mlp.Average(own,
		mlp.Part{Weights: own, Samples: 1}, // dst may be a part
		mlp.Part{Weights: []float32{5, 10}, Samples: 3})
	if want := []float32{4, 8}; !slices.Equal(own, want) {
		t.Errorf("got %v, want %v", own, want)
	}
	mlp.Average(own, mlp.Part{Weights: []float32{9, 9}})
	mlp.Average(own)
	if want := []float32{4, 8}; !slices.Equal(own, want) {
		t.Errorf("without samples: got %v, want %v", own, want)
	}
}

func TestSetRefusesAnotherSize(t *testing.T) {
	if err := mlp.New(shape, 1).Set([]float32{1}); err == nil {
		t.Error("no error")
	}
}
