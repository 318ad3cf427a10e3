// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

// Package deal divides a labelled data set among peers, and makes one up where there is none.
//
// [Dirichlet] gives every peer its own mixture of classes, as sensors in different places have: for each
// class it draws the peers' shares from a symmetric Dirichlet distribution. A small alpha makes the parts
// very different (a peer may miss a class altogether), a large one makes them alike. Every sample belongs
// to exactly one part, and the same seed gives the same parts.
package deal

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"

	"github.com/periplus-io/periplus/examples/peers/internal/idx"
)

// Dirichlet returns for each of parts peers the sorted numbers of its samples.
func Dirichlet(labels []byte, parts int, alpha float64, seed uint64) ([][]int32, error) {
	if parts < 1 || !(alpha > 0) || len(labels) < parts {
		return nil, fmt.Errorf("deal %d samples into %d parts with alpha %g: impossible", len(labels), parts, alpha)
	}
	var byClass [256][]int32
	for i, l := range labels {
		byClass[l] = append(byClass[l], int32(i))
	}
	rng := rand.New(rand.NewPCG(seed, 0x6465616c))
	out := make([][]int32, parts)
	for _, samples := range byClass {
		if len(samples) == 0 {
			continue
		}
		rng.Shuffle(len(samples), func(i, j int) { samples[i], samples[j] = samples[j], samples[i] })
		from, upTo := 0, 0.0
		for p, share := range shares(rng, parts, alpha) {
			upTo += share
			to := int(math.Round(upTo * float64(len(samples))))
			if p == parts-1 {
				to = len(samples)
			}
			to = min(max(to, from), len(samples))
			out[p] = append(out[p], samples[from:to]...)
			from = to
		}
	}
	feedTheEmpty(out)
	for _, p := range out {
		slices.Sort(p)
	}
	return out, nil
}

// feedTheEmpty moves one sample from the largest part to each part that got none.
func feedTheEmpty(parts [][]int32) {
	for i := range parts {
		if len(parts[i]) > 0 {
			continue
		}
		big := 0
		for j := range parts {
			if len(parts[j]) > len(parts[big]) {
				big = j
			}
		}
		last := len(parts[big]) - 1
		parts[i] = append(parts[i], parts[big][last])
		parts[big] = parts[big][:last]
	}
}

func shares(rng *rand.Rand, n int, alpha float64) []float64 {
	out := make([]float64, n)
	var sum float64
	for i := range out {
		out[i] = gamma(rng, alpha)
		sum += out[i]
	}
	for i := range out {
		if sum > 0 {
			out[i] /= sum
		} else { // alpha so small that all draws were zero
			out[i] = 1 / float64(n)
		}
	}
	return out
}

// gamma draws from the gamma distribution with scale 1 by the method of Marsaglia and Tsang.
func gamma(rng *rand.Rand, alpha float64) float64 {
	if alpha < 1 {
		return gamma(rng, alpha+1) * math.Pow(rng.Float64(), 1/alpha)
	}
	d := alpha - 1.0/3
	c := 1 / math.Sqrt(9*d)
	for {
		x := rng.NormFloat64()
		v := 1 + c*x
		if v <= 0 {
			continue
		}
		v = v * v * v
		if math.Log(rng.Float64()) < x*x/2+d-d*v+d*math.Log(v) {
			return d * v
		}
	}
}

// File names of a data set, as Debian's dataset-fashion-mnist has them.
const (
	TrainImages = "train-images-idx3-ubyte.gz"
	TrainLabels = "train-labels-idx1-ubyte.gz"
	TestImages  = "t10k-images-idx3-ubyte.gz"
	TestLabels  = "t10k-labels-idx1-ubyte.gz"
)

const (
	side       = 28
	classes    = 10
	blobs      = 5
	noise      = 50
	maxShift   = 3
	intensity  = 200
	blobRadius = 3.5
)

// Generate writes a made-up data set of ten classes into dir, with train and test samples, in the file names
// of the real one but without compression (so without .gz). Each class is a figure of a few soft blobs; a sample is its figure
// shifted a little, with noise.
func Generate(dir string, seed uint64, train, test int) error {
	rng := rand.New(rand.NewPCG(seed, 0x67656e))
	figures := make([][]float64, classes)
	for c := range figures {
		figures[c] = figure(rng)
	}
	for _, set := range []struct {
		images, labels string
		n              int
	}{{TrainImages, TrainLabels, train}, {TestImages, TestLabels, test}} {
		images := make([]byte, 0, set.n*side*side)
		labels := make([]byte, set.n)
		for i := range labels {
			labels[i] = byte(rng.IntN(classes))
			images = appendShifted(images, rng, figures[labels[i]])
		}
		if err := os.WriteFile(filepath.Join(dir, Plain(set.images)), idx.Encode(idx.Uint8, []int{set.n, side, side}, images), 0o644); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, Plain(set.labels)), idx.Encode(idx.Uint8, []int{set.n}, labels), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// Plain is the name of an IDX file without its .gz.
func Plain(name string) string { return name[:len(name)-len(".gz")] }

// Find returns the path of the named file in dir, compressed or not.
func Find(dir, name string) (string, error) {
	for _, n := range []string{name, Plain(name)} {
		if _, err := os.Stat(filepath.Join(dir, n)); err == nil {
			return filepath.Join(dir, n), nil
		}
	}
	return "", fmt.Errorf("%s: neither %s nor %s is there: %w", dir, name, Plain(name), os.ErrNotExist)
}

func figure(rng *rand.Rand) []float64 {
	out := make([]float64, side*side)
	for range blobs {
		cx, cy := 5+rng.Float64()*(side-10), 5+rng.Float64()*(side-10)
		for i := range out {
			dx, dy := float64(i%side)-cx, float64(i/side)-cy
			out[i] += math.Exp(-(dx*dx + dy*dy) / (2 * blobRadius * blobRadius))
		}
	}
	return out
}

func appendShifted(dst []byte, rng *rand.Rand, figure []float64) []byte {
	dx, dy := rng.IntN(2*maxShift+1)-maxShift, rng.IntN(2*maxShift+1)-maxShift
	for i := range side * side {
		x, y := i%side+dx, i/side+dy
		v := rng.NormFloat64() * noise
		if x >= 0 && x < side && y >= 0 && y < side {
			v += intensity * figure[y*side+x]
		}
		dst = append(dst, byte(min(max(v, 0), 255)))
	}
	return dst
}

// EncodeParts gives each part as an IDX file, keyed by its name ([PartName]).
func EncodeParts(parts [][]int32) map[string][]byte {
	out := make(map[string][]byte, len(parts))
	for i, p := range parts {
		out[PartName(i)] = idx.EncodeInt32s(p)
	}
	return out
}

// PartName is the file name of part number i.
func PartName(i int) string { return fmt.Sprintf("part-%03d.idx", i) }
