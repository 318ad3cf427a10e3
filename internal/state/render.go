// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package state

import (
	"math"
	"strconv"
	"strings"
)

// appendLabel adds a label and a comma.
func appendLabel(b []byte, name, value string) []byte {
	b = append(b, name...)
	b = append(b, '=', '"')
	if strings.IndexByte(value, '\\') < 0 && strings.IndexByte(value, '"') < 0 && strings.IndexByte(value, '\n') < 0 {
		b = append(b, value...)
	} else {
		for i := range len(value) {
			switch c := value[i]; c {
			case '\\', '"':
				b = append(b, '\\', c)
			case '\n':
				b = append(b, '\\', 'n')
			default:
				b = append(b, c)
			}
		}
	}
	return append(b, '"', ',')
}

// endLabels closes the labels of the line that begins at start with a name and a brace.
func endLabels(b []byte, name, start int) []byte {
	if len(b) == start+name+1 {
		return b[:start+name] // no labels, no braces
	}
	b[len(b)-1] = '}'
	return b
}

func appendValue(b []byte, v float64) []byte {
	b = append(b, ' ')
	switch {
	case v == 0:
		b = append(b, '0')
	case v == 1:
		b = append(b, '1')
	case math.IsInf(v, 1):
		b = append(b, "+Inf"...)
	case math.IsInf(v, -1):
		b = append(b, "-Inf"...)
	case math.IsNaN(v):
		b = append(b, "NaN"...)
	default:
		b = strconv.AppendFloat(b, v, 'g', -1, 64)
	}
	return append(b, '\n')
}

// rendered is the text of one object in one piece: for each family the number of its series and
// where its lines end, four bytes each, then the lines. A piece of ten thousand objects each is what
// the engine mostly consists of, hence no pointers inside.
type rendered string

func newRendered(ends []uint32, points []point, text []byte) rendered {
	var b strings.Builder
	b.Grow(8*len(ends) + len(text))
	next := 0
	for i, end := range ends {
		count := uint32(0)
		for next < len(points) && points[next].family == i {
			count++
			next++
		}
		for _, n := range [2]uint32{count, end} {
			b.Write([]byte{byte(n), byte(n >> 8), byte(n >> 16), byte(n >> 24)})
		}
	}
	b.Write(text)
	return rendered(b.String())
}

func (r rendered) word(i int) uint32 {
	s := r[4*i : 4*i+4]
	return uint32(s[0]) | uint32(s[1])<<8 | uint32(s[2])<<16 | uint32(s[3])<<24
}

// count is the number of series of a family.
func (r rendered) count(family int) uint32 { return r.word(2 * family) }

// lines gives the text of a family, of so many.
func (r rendered) lines(family, families int) string {
	from := uint32(0)
	if family > 0 {
		from = r.word(2*family - 1)
	}
	return string(r[8*families+int(from) : 8*families+int(r.word(2*family+1))])
}
