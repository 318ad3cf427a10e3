// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package peer

import (
	"errors"
	"fmt"
	"io"

	"github.com/periplus-io/periplus/examples/peers/internal/deal"
	"github.com/periplus-io/periplus/examples/peers/internal/idx"
	"github.com/periplus-io/periplus/examples/peers/internal/mlp"
)

// Images are 28 x 28 pixels; the model sees means of 2 x 2 pixels, so 196 inputs between 0 and 1.
const (
	side   = 28
	pooled = side / 2
)

// ModelShape is the shape that every peer of the example trains.
func ModelShape() mlp.Shape { return mlp.Shape{pooled * pooled, 32, 10} }

// samples are labelled inputs for the model.
type samples struct {
	x      [][]float32
	labels []byte
}

// head is the first n samples, or all when there are fewer.
func (s samples) head(n int) samples {
	n = min(n, len(s.labels))
	return samples{x: s.x[:n], labels: s.labels[:n]}
}

// load reads the images and labels named images and labels in dir. keep says which sample numbers are
// wanted, in rising order; nil means the first limit.
func load(dir, images, labels string, keep []int32, limit int) (samples, error) {
	imagesPath, err := deal.Find(dir, images)
	if err != nil {
		return samples{}, err
	}
	labelsPath, err := deal.Find(dir, labels)
	if err != nil {
		return samples{}, err
	}
	all, err := idx.ReadBytes(labelsPath)
	if err != nil {
		return samples{}, err
	}
	r, c, err := idx.Open(imagesPath, idx.Uint8)
	if err != nil {
		return samples{}, err
	}
	defer func() { _ = c.Close() }()
	if len(r.Dims) != 3 || r.Dims[0] != len(all) || r.Dims[1] != side || r.Dims[2] != side {
		return samples{}, fmt.Errorf("%s: dimensions %v do not fit %d labels of 28 x 28 images: %w", imagesPath, r.Dims, len(all), idx.ErrFormat)
	}
	if keep == nil {
		keep = make([]int32, min(limit, len(all)))
		for i := range keep {
			keep[i] = int32(i)
		}
	}
	return pick(r, all, keep)
}

func pick(r *idx.Reader, all []byte, keep []int32) (samples, error) {
	var out samples
	buf := make([]byte, r.ItemSize())
	for at, next := int32(0), 0; next < len(keep); at++ {
		if err := r.Next(buf); errors.Is(err, io.EOF) {
			return samples{}, fmt.Errorf("sample %d is not in the data set, or the list is not sorted", keep[next])
		} else if err != nil {
			return samples{}, err
		}
		if at != keep[next] {
			continue
		}
		if int(all[at]) >= ModelShape()[2] {
			return samples{}, fmt.Errorf("sample %d has label %d: %w", at, all[at], idx.ErrFormat)
		}
		out.x = append(out.x, pool(buf))
		out.labels = append(out.labels, all[at])
		next++
	}
	return out, nil
}

func pool(image []byte) []float32 {
	out := make([]float32, pooled*pooled)
	for y := range pooled {
		for x := range pooled {
			i := 2*y*side + 2*x
			sum := int(image[i]) + int(image[i+1]) + int(image[i+side]) + int(image[i+side+1])
			out[y*pooled+x] = float32(sum) / (4 * 255)
		}
	}
	return out
}
