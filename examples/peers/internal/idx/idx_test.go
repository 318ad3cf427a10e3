// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package idx_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/periplus-io/periplus/examples/peers/internal/idx"
)

func TestReaderGivesItemsInOrder(t *testing.T) {
	file := idx.Encode(idx.Uint8, []int{3, 2, 2}, []byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12})
	r, err := idx.NewReader(bytes.NewReader(file), idx.Uint8)
	if err != nil {
		t.Fatal(err)
	}
	if want := []int{3, 2, 2}; !slices.Equal(r.Dims, want) {
		t.Fatalf("dims: got %v, want %v", r.Dims, want)
	}
	buf := make([]byte, r.ItemSize())
	for i := range 3 {
		if err := r.Next(buf); err != nil {
			t.Fatal(err)
		}
		if got, want := buf[0], byte(4*i+1); got != want {
			t.Errorf("item %d begins with %d, want %d", i, got, want)
		}
	}
	if err := r.Next(buf); !errors.Is(err, io.EOF) {
		t.Errorf("after the last item: got %v, want EOF", err)
	}
}

func TestFilesAreReadPlainAndCompressed(t *testing.T) {
	dir := t.TempDir()
	plain := idx.Encode(idx.Uint8, []int{4}, []byte{9, 8, 7, 6})
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	if _, err := z.Write(plain); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	for name, body := range map[string][]byte{"labels": plain, "labels.gz": packed.Bytes()} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, body, 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := idx.ReadBytes(path)
		if err != nil || !bytes.Equal(got, []byte{9, 8, 7, 6}) {
			t.Errorf("%s: got %v, %v", name, got, err)
		}
	}
	broken := filepath.Join(dir, "broken.gz")
	if err := os.WriteFile(broken, packed.Bytes()[:packed.Len()-12], 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := idx.ReadBytes(broken); !errors.Is(err, idx.ErrFormat) {
		t.Errorf("cut gzip: got %v, want ErrFormat", err)
	}
}

func TestInt32sSurviveTheRoundTrip(t *testing.T) {
	want := []int32{0, 1, 59999, -1}
	path := filepath.Join(t.TempDir(), "part.idx")
	if err := os.WriteFile(path, idx.EncodeInt32s(want), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := idx.ReadInt32s(path)
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
}

func TestBrokenHeadersAreErrors(t *testing.T) {
	for name, file := range map[string][]byte{
		"empty":               {},
		"half a magic":        {0, 0, 8},
		"no magic":            {1, 0, 8, 1, 0, 0, 0, 1, 5},
		"other type":          {0, 0, 0x0d, 1, 0, 0, 0, 1, 5, 5, 5, 5},
		"ints, bytes wanted":  {0, 0, 0x0c, 1, 0, 0, 0, 1, 5, 5, 5, 5},
		"no dimensions":       {0, 0, 8, 0},
		"200 dimensions":      {0, 0, 8, 200},
		"no second dimension": {0, 0, 8, 2, 0, 0, 0, 1},
		"4 G items":           {0, 0, 8, 1, 255, 255, 255, 255},
		"huge items":          {0, 0, 8, 3, 0, 0, 0, 1, 0, 15, 255, 255, 0, 15, 255, 255},
		"empty items":         {0, 0, 8, 2, 0, 0, 0, 1, 0, 0, 0, 0},
	} {
		if _, err := idx.NewReader(bytes.NewReader(file), idx.Uint8); !errors.Is(err, idx.ErrFormat) {
			t.Errorf("%s: got %v, want ErrFormat", name, err)
		}
	}
}

func TestMissingItemsAreAnError(t *testing.T) {
	file := idx.Encode(idx.Uint8, []int{2, 3}, []byte{1, 2, 3, 4})
	r, err := idx.NewReader(bytes.NewReader(file), idx.Uint8)
	if err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 3)
	if err := r.Next(buf); err != nil {
		t.Fatal(err)
	}
	if err := r.Next(buf); !errors.Is(err, idx.ErrFormat) || errors.Is(err, io.EOF) {
		t.Errorf("half an item: got %v, want ErrFormat", err)
	}
	if err := r.Next(buf); !errors.Is(err, idx.ErrFormat) || errors.Is(err, io.EOF) {
		t.Errorf("no item: got %v, want ErrFormat", err)
	}
}

func FuzzReader(f *testing.F) {
	f.Add(idx.Encode(idx.Uint8, []int{2, 2, 2}, []byte{1, 2, 3, 4, 5, 6, 7, 8}))
	f.Add(idx.Encode(idx.Uint8, []int{1 << 20}, []byte{1}))
	f.Add([]byte{0, 0, 8, 4, 0, 0, 0, 1, 0, 0, 255, 255, 0, 0, 255, 255, 0, 0, 255, 255})
	f.Fuzz(func(t *testing.T, file []byte) {
		r, err := idx.NewReader(bytes.NewReader(file), idx.Uint8)
		if err != nil {
			if !errors.Is(err, idx.ErrFormat) {
				t.Fatalf("error of another kind: %v", err)
			}
			return
		}
		buf := make([]byte, r.ItemSize())
		items := 0
		for ; err == nil; err = r.Next(buf) {
			items++
		}
		if items-1 > len(file) {
			t.Fatalf("%d items from %d bytes", items, len(file))
		}
	})
}
