// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package deal_test

import (
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"github.com/periplus-io/periplus/examples/peers/internal/deal"
	"github.com/periplus-io/periplus/examples/peers/internal/idx"
)

func labels(n int) []byte {
	rng := rand.New(rand.NewPCG(5, 5))
	out := make([]byte, n)
	for i := range out {
		out[i] = byte(rng.IntN(10))
	}
	return out
}

func TestEverySampleIsInExactlyOnePart(t *testing.T) {
	for _, c := range []struct {
		samples, parts int
		alpha          float64
	}{{6000, 12, 0.5}, {6000, 12, 0.001}, {6000, 12, 1000}, {20, 20, 0.1}, {50, 1, 1}} {
		for seed := range uint64(20) {
			parts, err := deal.Dirichlet(labels(c.samples), c.parts, c.alpha, seed)
			if err != nil {
				t.Fatal(err)
			}
			seen := make([]int, c.samples)
			for i, p := range parts {
				if len(p) == 0 || !slices.IsSorted(p) {
					t.Errorf("%+v seed %d: part %d is empty or not sorted", c, seed, i)
				}
				for _, s := range p {
					seen[s]++
				}
			}
			if i := slices.IndexFunc(seen, func(n int) bool { return n != 1 }); i >= 0 {
				t.Fatalf("%+v seed %d: sample %d is in %d parts", c, seed, i, seen[i])
			}
		}
	}
}

func TestSameSeedSameParts(t *testing.T) {
	deals := make([][][]int32, 3)
	for i, seed := range []uint64{1, 1, 2} {
		var err error
		if deals[i], err = deal.Dirichlet(labels(1000), 5, 0.5, seed); err != nil {
			t.Fatal(err)
		}
	}
	if !reflect.DeepEqual(deals[0], deals[1]) {
		t.Error("two deals of one seed differ")
	}
	if reflect.DeepEqual(deals[0], deals[2]) {
		t.Error("deals of two seeds are the same")
	}
}

// TestAlphaDecidesHowAlikeThePartsAre looks at the share of the most frequent class in each part: it is
// a tenth when parts are alike.
func TestAlphaDecidesHowAlikeThePartsAre(t *testing.T) {
	all := labels(10000)
	top := func(alpha float64) float64 {
		parts, err := deal.Dirichlet(all, 10, alpha, 1)
		if err != nil {
			t.Fatal(err)
		}
		var sum float64
		for _, p := range parts {
			var count [10]int
			for _, s := range p {
				count[all[s]]++
			}
			sum += float64(slices.Max(count[:])) / float64(len(p))
		}
		return sum / 10
	}
	if skewed, alike := top(0.3), top(1000); skewed < 0.25 || alike > 0.15 {
		t.Errorf("share of the most frequent class: %.2f at alpha 0.3, %.2f at alpha 1000", skewed, alike)
	}
}

func TestImpossibleDealsAreErrors(t *testing.T) {
	for _, parts := range []int{0, -1, 11} {
		if _, err := deal.Dirichlet(labels(10), parts, 1, 1); err == nil {
			t.Errorf("%d parts of 10 samples: no error", parts)
		}
	}
	if _, err := deal.Dirichlet(labels(10), 2, 0, 1); err == nil {
		t.Error("alpha 0: no error")
	}
}

func TestGeneratedDataIsFoundAndReadable(t *testing.T) {
	dir := t.TempDir()
	if err := deal.Generate(dir, 1, 300, 50); err != nil {
		t.Fatal(err)
	}
	for images, names := range map[string]string{deal.TrainImages: deal.TrainLabels, deal.TestImages: deal.TestLabels} {
		path, err := deal.Find(dir, names)
		if err != nil {
			t.Fatal(err)
		}
		all, err := idx.ReadBytes(path)
		if err != nil {
			t.Fatal(err)
		}
		if path, err = deal.Find(dir, images); err != nil {
			t.Fatal(err)
		}
		r, c, err := idx.Open(path, idx.Uint8)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		if want := []int{len(all), 28, 28}; !slices.Equal(r.Dims, want) {
			t.Errorf("%s: got dimensions %v, want %v", path, r.Dims, want)
		}
	}
	if _, err := deal.Find(t.TempDir(), deal.TrainImages); err == nil {
		t.Error("found something in an empty folder")
	}
}
