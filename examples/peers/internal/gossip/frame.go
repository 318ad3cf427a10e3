// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

// Package gossip is the protocol in which peers exchange models; PROTOCOL.md describes it for other
// languages. A model travels as one binary frame with its own header and checksum, over HTTP.
//
// Whatever comes from another peer is suspect: [Decode] refuses frames that are too large, torn, of another
// version, or that carry numbers no honest training gives (NaN, infinities, huge weights). A refusal is a
// [*Refusal] with a reason from a short fixed list, so that it can be counted.
package gossip

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"
	"slices"

	"github.com/periplus-io/periplus/examples/peers/internal/roster"
)

// The frame; all numbers are little-endian.
//
//	offset  size
//	0       4     magic "PGSP"
//	4       1     version, 1
//	5       1     P, length of the peer's name
//	6       1     G, length of the group's name
//	7       1     L, number of layer sizes, 2 to 8
//	8       8     round
//	16      8     samples the sender trains on
//	24      4*L   layer sizes
//	...     P     peer
//	...     G     group
//	...     4*N   weights, float32; N follows from the layer sizes
//	...     4     CRC-32 (IEEE) of everything before
const (
	magic   = "PGSP"
	version = 1
	fixed   = 24

	// MaxFrame is the largest frame that is read or written.
	MaxFrame = 1 << 20
	// MaxWeight is the largest absolute weight that is believed.
	MaxWeight = 100

	maxLayers = 8
	maxRound  = 1 << 40
)

// Reasons for which a model is refused.
const (
	ReasonOversize  = "oversize"
	ReasonMalformed = "malformed"
	ReasonVersion   = "version"
	ReasonChecksum  = "checksum"
	ReasonValues    = "values"
	ReasonGroup     = "group"
	ReasonShape     = "shape"
	ReasonStranger  = "stranger"
	ReasonStale     = "stale"
)

// Reasons lists all reasons, for counters that should exist before the first refusal.
func Reasons() []string {
	return []string{
		ReasonOversize, ReasonMalformed, ReasonVersion, ReasonChecksum,
		ReasonValues, ReasonGroup, ReasonShape, ReasonStranger, ReasonStale,
	}
}

// Refusal says why a model was not taken.
type Refusal struct {
	Reason string // one of Reasons
	Detail string
}

func (r *Refusal) Error() string { return "model refused (" + r.Reason + "): " + r.Detail }

func refuse(reason, format string, args ...any) *Refusal {
	return &Refusal{Reason: reason, Detail: fmt.Sprintf(format, args...)}
}

// Model is a peer's model at the end of a round.
type Model struct {
	Peer    string
	Group   string
	Round   uint64
	Samples uint64
	Shape   []int
	Weights []float32
}

// Encode gives the frame of m.
func Encode(m Model) ([]byte, error) {
	n, refusal := count(m.Shape)
	switch {
	case refusal != nil:
		return nil, refusal
	case n != len(m.Weights):
		return nil, fmt.Errorf("encode model: %d weights for shape %v", len(m.Weights), m.Shape)
	case !roster.NameOK(m.Peer) || !roster.NameOK(m.Group):
		return nil, fmt.Errorf("encode model: peer %q or group %q is no name", m.Peer, m.Group)
	}
	b := make([]byte, 0, fixed+4*len(m.Shape)+len(m.Peer)+len(m.Group)+4*n+4)
	b = append(b, magic...)
	b = append(b, version, byte(len(m.Peer)), byte(len(m.Group)), byte(len(m.Shape)))
	b = binary.LittleEndian.AppendUint64(b, m.Round)
	b = binary.LittleEndian.AppendUint64(b, m.Samples)
	for _, s := range m.Shape {
		b = binary.LittleEndian.AppendUint32(b, uint32(s))
	}
	b = append(b, m.Peer...)
	b = append(b, m.Group...)
	for _, w := range m.Weights {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(w))
	}
	return binary.LittleEndian.AppendUint32(b, crc32.ChecksumIEEE(b)), nil
}

// count is the number of weights of a model of the given shape.
func count(shape []int) (int, *Refusal) {
	if len(shape) < 2 || len(shape) > maxLayers {
		return 0, refuse(ReasonMalformed, "%d layers", len(shape))
	}
	n := 0
	for i, s := range shape {
		if s < 1 || s > MaxFrame {
			return 0, refuse(ReasonMalformed, "layer of %d", s)
		}
		if i > 0 {
			n += (shape[i-1] + 1) * s
		}
		if n > MaxFrame/4 {
			return 0, refuse(ReasonOversize, "shape %v", shape[:i+1])
		}
	}
	return n, nil
}

// Decode reads a frame. The model shares nothing with b. Every error is a [*Refusal].
func Decode(b []byte) (Model, error) {
	m, refusal := decode(b)
	if refusal != nil {
		return Model{}, refusal
	}
	return m, nil
}

func decode(b []byte) (Model, *Refusal) {
	if len(b) > MaxFrame {
		return Model{}, refuse(ReasonOversize, "%d bytes", len(b))
	}
	if len(b) < fixed+4 || string(b[:4]) != magic {
		return Model{}, refuse(ReasonMalformed, "no frame")
	}
	if b[4] != version {
		return Model{}, refuse(ReasonVersion, "version %d", b[4])
	}
	body, sum := b[:len(b)-4], binary.LittleEndian.Uint32(b[len(b)-4:])
	if crc32.ChecksumIEEE(body) != sum {
		return Model{}, refuse(ReasonChecksum, "checksum of %d bytes", len(b))
	}
	peerLen, groupLen, layers := int(b[5]), int(b[6]), int(b[7])
	m := Model{Round: binary.LittleEndian.Uint64(b[8:]), Samples: binary.LittleEndian.Uint64(b[16:])}
	rest := body[fixed:]
	if len(rest) < 4*layers+peerLen+groupLen {
		return Model{}, refuse(ReasonMalformed, "header longer than the frame")
	}
	for i := range layers {
		m.Shape = append(m.Shape, int(binary.LittleEndian.Uint32(rest[4*i:])))
	}
	rest = rest[4*layers:]
	m.Peer, rest = string(rest[:peerLen]), rest[peerLen:]
	m.Group, rest = string(rest[:groupLen]), rest[groupLen:]
	n, refusal := count(m.Shape)
	switch {
	case refusal != nil:
		return Model{}, refusal
	case len(rest) != 4*n:
		return Model{}, refuse(ReasonMalformed, "%d bytes of weights for shape %v", len(rest), m.Shape)
	case !roster.NameOK(m.Peer) || !roster.NameOK(m.Group):
		return Model{}, refuse(ReasonMalformed, "names")
	case m.Round > maxRound || m.Samples > maxRound:
		return Model{}, refuse(ReasonValues, "round %d, samples %d", m.Round, m.Samples)
	}
	m.Weights = make([]float32, n)
	for i := range m.Weights {
		w := math.Float32frombits(binary.LittleEndian.Uint32(rest[4*i:]))
		if !(w >= -MaxWeight && w <= MaxWeight) { // also NaN
			return Model{}, refuse(ReasonValues, "weight %d is %g", i, w)
		}
		m.Weights[i] = w
	}
	return m, nil
}

// Fits says whether m can be averaged by a member of group that trains a model of the given shape.
func Fits(m Model, group string, shape []int) error {
	if m.Group != group {
		return refuse(ReasonGroup, "of group %s", m.Group)
	}
	if !slices.Equal(m.Shape, shape) {
		return refuse(ReasonShape, "shape %v", m.Shape)
	}
	return nil
}
