// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

// Package idx reads and writes IDX files, the format of MNIST and its like.
//
// An IDX file is two zero bytes, a type byte, the number of dimensions, each dimension as a big-endian
// uint32, and then the elements in row-major order, big-endian. This package knows the two types that
// the example needs: unsigned bytes (images, labels) and int32 (lists of sample numbers). Files that end
// in .gz are decompressed on the way.
//
// A [Reader] hands out one item (one element of the first dimension) at a time, so that sixty thousand
// images never have to be in memory at once. Headers are checked against fixed limits before anything is
// allocated: a broken file gives an error that wraps [ErrFormat], never a panic or a large allocation.
package idx

import (
	"bufio"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// Element types of the format.
const (
	Uint8 byte = 0x08
	Int32 byte = 0x0c
)

const (
	maxItems    = 1 << 24
	maxItemSize = 1 << 20
	maxDims     = 4
)

// ErrFormat is wrapped by every error that means the bytes are not the IDX file that was asked for.
var ErrFormat = errors.New("not a valid IDX file")

// Reader reads an IDX stream item by item. It is not safe for concurrent use.
type Reader struct {
	// Dims are the dimensions of the header; Dims[0] is the number of items.
	Dims []int

	src      io.Reader
	itemSize int
	left     int
}

// NewReader reads the header from r and checks that the elements are of type kind.
func NewReader(r io.Reader, kind byte) (*Reader, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, fmt.Errorf("%w: header: %w", ErrFormat, err)
	}
	if head[0] != 0 || head[1] != 0 {
		return nil, fmt.Errorf("%w: magic %x", ErrFormat, head[:2])
	}
	width, err := width(head[2])
	if err != nil {
		return nil, err
	}
	if head[2] != kind {
		return nil, fmt.Errorf("%w: element type %#x, want %#x", ErrFormat, head[2], kind)
	}
	if head[3] == 0 || head[3] > maxDims {
		return nil, fmt.Errorf("%w: %d dimensions", ErrFormat, head[3])
	}
	dims := make([]int, head[3])
	size := width
	for i := range dims {
		var b [4]byte
		if _, err := io.ReadFull(r, b[:]); err != nil {
			return nil, fmt.Errorf("%w: dimensions: %w", ErrFormat, err)
		}
		d := binary.BigEndian.Uint32(b[:])
		if i == 0 {
			if d > maxItems {
				return nil, fmt.Errorf("%w: %d items", ErrFormat, d)
			}
			dims[0] = int(d)
			continue
		}
		if d == 0 || d > maxItemSize || size*int(d) > maxItemSize {
			return nil, fmt.Errorf("%w: items too large or empty", ErrFormat)
		}
		dims[i] = int(d)
		size *= int(d)
	}
	return &Reader{Dims: dims, src: r, itemSize: size, left: dims[0]}, nil
}

func width(kind byte) (int, error) {
	switch kind {
	case Uint8:
		return 1, nil
	case Int32:
		return 4, nil
	}
	return 0, fmt.Errorf("%w: unsupported element type %#x", ErrFormat, kind)
}

// ItemSize is the length in bytes of one item.
func (r *Reader) ItemSize() int { return r.itemSize }

// Next fills buf, which must be [Reader.ItemSize] long, with the next item. It returns [io.EOF] after the
// last one, and an error that wraps [ErrFormat] when the stream ends early.
func (r *Reader) Next(buf []byte) error {
	if r.left == 0 {
		return io.EOF
	}
	if len(buf) != r.itemSize {
		return fmt.Errorf("read item: buffer of %d bytes for items of %d", len(buf), r.itemSize)
	}
	if _, err := io.ReadFull(r.src, buf); err != nil {
		if errors.Is(err, io.EOF) { // only the end after the last item is one
			err = io.ErrUnexpectedEOF
		}
		return fmt.Errorf("%w: %d items missing: %w", ErrFormat, r.left, err)
	}
	r.left--
	return nil
}

// Open opens the file at path. The caller closes what is returned second.
func Open(path string, kind byte) (*Reader, io.Closer, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	var src io.Reader = bufio.NewReaderSize(f, 1<<16)
	if strings.HasSuffix(path, ".gz") {
		if src, err = gzip.NewReader(src); err != nil {
			_ = f.Close()
			return nil, nil, fmt.Errorf("%s: %w: %w", path, ErrFormat, err)
		}
	}
	r, err := NewReader(src, kind)
	if err != nil {
		_ = f.Close()
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	return r, f, nil
}

// ReadBytes reads a whole one-dimensional file of bytes, such as a file of labels.
func ReadBytes(path string) (_ []byte, err error) {
	r, c, err := Open(path, Uint8)
	if err != nil {
		return nil, err
	}
	defer func() { _ = c.Close() }()
	if len(r.Dims) != 1 {
		return nil, fmt.Errorf("%s: %w: %d dimensions, want 1", path, ErrFormat, len(r.Dims))
	}
	out, err := io.ReadAll(io.LimitReader(r.src, int64(r.left)))
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %w", path, ErrFormat, err)
	}
	if len(out) != r.left {
		return nil, fmt.Errorf("%s: %w: %d of %d items", path, ErrFormat, len(out), r.left)
	}
	return out, nil
}

// ReadInt32s reads a whole one-dimensional file of int32, such as a list of sample numbers.
func ReadInt32s(path string) ([]int32, error) {
	r, c, err := Open(path, Int32)
	if err != nil {
		return nil, err
	}
	defer func() { _ = c.Close() }()
	if len(r.Dims) != 1 {
		return nil, fmt.Errorf("%s: %w: %d dimensions, want 1", path, ErrFormat, len(r.Dims))
	}
	var out []int32
	var b [4]byte
	for {
		switch err := r.Next(b[:]); {
		case errors.Is(err, io.EOF):
			return out, nil
		case err != nil:
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		out = append(out, int32(binary.BigEndian.Uint32(b[:])))
	}
}

// Encode gives an IDX file of the given type and dimensions with data as its elements, already big-endian.
func Encode(kind byte, dims []int, data []byte) []byte {
	out := make([]byte, 0, 4+4*len(dims)+len(data))
	out = append(out, 0, 0, kind, byte(len(dims)))
	for _, d := range dims {
		out = binary.BigEndian.AppendUint32(out, uint32(d))
	}
	return append(out, data...)
}

// EncodeInt32s gives a one-dimensional IDX file of int32.
func EncodeInt32s(values []int32) []byte {
	data := make([]byte, 0, 4*len(values))
	for _, v := range values {
		data = binary.BigEndian.AppendUint32(data, uint32(v))
	}
	return Encode(Int32, []int{len(values)}, data)
}
