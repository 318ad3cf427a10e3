// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package gossip_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"flag"
	"hash/crc32"
	"math"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/periplus-io/periplus/examples/peers/internal/gossip"
)

var update = flag.Bool("update", false, "write testdata again")

func tiny() gossip.Model {
	return gossip.Model{
		Peer: "peer-1", Group: "fashion", Round: 7, Samples: 4230, Shape: []int{2, 3, 2},
		Weights: []float32{0, 1, -1, 0.5, -0.25, 3.14159, 100, -100, 1e-20, 2, 3, 4, 5, 6, 7, 8, 9},
	}
}

func encode(t testing.TB, m gossip.Model) []byte {
	t.Helper()
	b, err := gossip.Encode(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// seal puts the right checksum under a frame that was changed.
func seal(b []byte) []byte {
	return binary.LittleEndian.AppendUint32(b[:len(b)-4:len(b)-4], crc32.ChecksumIEEE(b[:len(b)-4]))
}

func TestModelsSurviveTheRoundTrip(t *testing.T) {
	got, err := gossip.Decode(encode(t, tiny()))
	if err != nil || !reflect.DeepEqual(got, tiny()) {
		t.Errorf("got %+v, %v, want %+v", got, err, tiny())
	}
}

// TestFrameIsTheCommittedOne pins the format: the Python tests read the same file.
func TestFrameIsTheCommittedOne(t *testing.T) {
	const path = "../../testdata/tiny.frame"
	got := encode(t, tiny())
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("the frame changed:\n got %x\nwant %x", got, want)
	}
}

// weight puts the bits of v where the first weight of tiny is.
func weight(b []byte, v float32) []byte {
	binary.LittleEndian.PutUint32(b[24+12+6+7:], math.Float32bits(v))
	return seal(b)
}

func TestBadFramesAreRefused(t *testing.T) {
	for name, c := range map[string]struct {
		frame  func(b []byte) []byte
		reason string
	}{
		"empty":                {func([]byte) []byte { return nil }, gossip.ReasonMalformed},
		"garbage":              {func([]byte) []byte { return []byte(strings.Repeat("garbage ", 50)) }, gossip.ReasonMalformed},
		"another magic":        {func(b []byte) []byte { b[0] = 'X'; return seal(b) }, gossip.ReasonMalformed},
		"version 2":            {func(b []byte) []byte { b[4] = 2; return seal(b) }, gossip.ReasonVersion},
		"a flipped bit":        {func(b []byte) []byte { b[60] ^= 1; return b }, gossip.ReasonChecksum},
		"torn":                 {func(b []byte) []byte { return b[:len(b)-9] }, gossip.ReasonChecksum},
		"torn and sealed":      {func(b []byte) []byte { return seal(b[:len(b)-9]) }, gossip.ReasonMalformed},
		"too long":             {func(b []byte) []byte { return seal(append(b, 0, 0, 0, 0)) }, gossip.ReasonMalformed},
		"oversize":             {func([]byte) []byte { return make([]byte, gossip.MaxFrame+1) }, gossip.ReasonOversize},
		"one layer":            {func(b []byte) []byte { b[7] = 1; return seal(b) }, gossip.ReasonMalformed},
		"255 layers":           {func(b []byte) []byte { b[7] = 255; return seal(b) }, gossip.ReasonMalformed},
		"a layer of 4 G":       {func(b []byte) []byte { copy(b[24:], "\xff\xff\xff\xff"); return seal(b) }, gossip.ReasonMalformed},
		"a layer of nothing":   {func(b []byte) []byte { copy(b[24:], "\x00\x00\x00\x00"); return seal(b) }, gossip.ReasonMalformed},
		"shape of a giant":     {func(b []byte) []byte { copy(b[24:], "\x00\x00\x10\x00"); return seal(b) }, gossip.ReasonOversize},
		"a name from outside":  {func(b []byte) []byte { copy(b[36:], "../../"); return seal(b) }, gossip.ReasonMalformed},
		"a name with newline":  {func(b []byte) []byte { b[37] = '\n'; return seal(b) }, gossip.ReasonMalformed},
		"round of the far end": {func(b []byte) []byte { b[15] = 0xff; return seal(b) }, gossip.ReasonValues},
		"all samples":          {func(b []byte) []byte { b[23] = 0xff; return seal(b) }, gossip.ReasonValues},
		"NaN":                  {func(b []byte) []byte { return weight(b, float32(math.NaN())) }, gossip.ReasonValues},
		"infinity":             {func(b []byte) []byte { return weight(b, float32(math.Inf(1))) }, gossip.ReasonValues},
		"minus infinity":       {func(b []byte) []byte { return weight(b, float32(math.Inf(-1))) }, gossip.ReasonValues},
		"huge":                 {func(b []byte) []byte { return weight(b, 101) }, gossip.ReasonValues},
	} {
		_, err := gossip.Decode(c.frame(encode(t, tiny())))
		var refusal *gossip.Refusal
		if !errors.As(err, &refusal) || refusal.Reason != c.reason {
			t.Errorf("%s: got %v, want a refusal for %s", name, err, c.reason)
		}
	}
}

func TestEncodeRefusesWhatItCouldNotRead(t *testing.T) {
	for name, change := range map[string]func(m *gossip.Model){
		"no name":        func(m *gossip.Model) { m.Peer = "" },
		"a path as name": func(m *gossip.Model) { m.Group = "a/b" },
		"wrong shape":    func(m *gossip.Model) { m.Shape = []int{2, 2} },
		"no shape":       func(m *gossip.Model) { m.Shape = nil },
	} {
		m := tiny()
		change(&m)
		if _, err := gossip.Encode(m); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestFitsComparesGroupAndShape(t *testing.T) {
	for _, c := range []struct {
		group  string
		shape  []int
		reason string
	}{{"fashion", []int{2, 3, 2}, ""}, {"other", []int{2, 3, 2}, gossip.ReasonGroup}, {"fashion", []int{2, 4, 2}, gossip.ReasonShape}} {
		err := gossip.Fits(tiny(), c.group, c.shape)
		var refusal *gossip.Refusal
		if errors.As(err, &refusal); refusal == nil && c.reason != "" || refusal != nil && refusal.Reason != c.reason {
			t.Errorf("group %s, shape %v: got %v, want %q", c.group, c.shape, err, c.reason)
		}
	}
}

func FuzzDecode(f *testing.F) {
	frame := encode(f, tiny())
	f.Add(frame, true)
	f.Add(frame[:40], true)
	f.Add(weight(append([]byte{}, frame...), float32(math.NaN())), false)
	f.Fuzz(func(t *testing.T, b []byte, sealed bool) {
		if sealed && len(b) >= 4 {
			b = seal(b)
		}
		m, err := gossip.Decode(b)
		if err != nil {
			if _, ok := errors.AsType[*gossip.Refusal](err); !ok {
				t.Fatalf("error of another kind: %v", err)
			}
			return
		}
		for _, w := range m.Weights {
			if !(w >= -gossip.MaxWeight && w <= gossip.MaxWeight) {
				t.Fatalf("weight %g was taken", w)
			}
		}
		if again := encode(t, m); !bytes.Equal(again, b) {
			t.Fatalf("what was read is written differently:\n got %x\nwant %x", again, b)
		}
	})
}
