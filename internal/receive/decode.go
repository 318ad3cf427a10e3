// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package receive

import (
	"encoding/binary"
	"fmt"
	"math"
	"net/http"
	"strings"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb"
	"google.golang.org/protobuf/encoding/protowire"
)

func malformed(format string, args ...any) error {
	return refuse(http.StatusBadRequest, "protobuf", "decode "+format, args...)
}

// mislabelled refuses a body of the other version. The two use different field numbers on purpose, so such
// a request would otherwise be answered as if it were empty. promtool 3.15 sends some.
func mislabelled(said, is string) error {
	return refuse(http.StatusBadRequest, "protobuf", "the content type says %s, the body is %s", said, is)
}

// eachField calls f with every field of a message. Length-delimited fields give their bytes, the others
// their raw number. data aliases message.
func eachField(message []byte, f func(num protowire.Number, typ protowire.Type, data []byte, raw uint64) error) error {
	for len(message) > 0 {
		num, typ, n := protowire.ConsumeTag(message)
		if n < 0 {
			return malformed("field tag: %w", protowire.ParseError(n))
		}
		message = message[n:]
		var (
			data []byte
			raw  uint64
		)
		switch typ {
		case protowire.BytesType:
			data, n = protowire.ConsumeBytes(message)
		case protowire.VarintType:
			raw, n = protowire.ConsumeVarint(message)
		case protowire.Fixed64Type:
			raw, n = protowire.ConsumeFixed64(message)
		default:
			n = protowire.ConsumeFieldValue(num, typ, message)
		}
		if n < 0 {
			return malformed("field %d: %w", num, protowire.ParseError(n))
		}
		message = message[n:]
		if err := f(num, typ, data, raw); err != nil {
			return err
		}
	}
	return nil
}

// decodeV1 appends all of a prometheus.WriteRequest. Metadata is not kept by this version's receivers.
func (b *batch) decodeV1(message []byte) error {
	return eachField(message, func(num protowire.Number, typ protowire.Type, data []byte, _ uint64) error {
		if num == 4 || num == 5 {
			return mislabelled(messageV1, messageV2)
		}
		if num != 1 || typ != protowire.BytesType {
			return nil
		}
		if err := b.nextSeries(); err != nil {
			return err
		}
		return b.seriesV1(data)
	})
}

// seriesV1 appends one TimeSeries: 1 labels, 2 samples, 3 exemplars, 4 histograms.
func (b *batch) seriesV1(message []byte) error {
	region, rest, err := labelRegion(message)
	if err != nil {
		return err
	}
	key := b.r.series.key(region)
	e := b.r.series.get(key)
	if e == nil {
		ls, err := b.labelsV1(region)
		if err != nil {
			return err
		}
		if ls, err = b.admitLabels(ls); err != nil {
			b.refusals.add(reasonLabels, countFields(rest, 2, 4), err)
			return nil
		}
		e = &seriesEntry{labels: ls}
		b.r.series.put(key, e)
	}
	return eachField(rest, func(num protowire.Number, typ protowire.Type, data []byte, _ uint64) error {
		if typ != protowire.BytesType {
			return nil
		}
		switch num {
		case 2:
			t, v, err := decodeSample(data)
			if err != nil {
				return err
			}
			return b.appendSample(e, t, v)
		case 3:
			var ex prompb.Exemplar
			if err := ex.Unmarshal(data); err != nil {
				return malformed("exemplar: %w", err)
			}
			b.appendExemplar(e, ex.ToExemplar(&b.builder, nil))
		case 4:
			return b.appendHistogram(e, data)
		}
		return nil
	})
}

// labelRegion splits a TimeSeries into its labels in encoded form and all the rest. Encoders write labels
// first and together; for one that does not the label fields are gathered into a copy.
func labelRegion(message []byte) (region, rest []byte, err error) {
	const labelTag = 1<<3 | byte(protowire.BytesType)
	end := 0
	for end < len(message) && message[end] == labelTag {
		_, n := protowire.ConsumeBytes(message[end+1:])
		if n < 0 {
			return nil, nil, malformed("label: %w", protowire.ParseError(n))
		}
		end += 1 + n
	}
	region, rest = message[:end], message[end:]
	if countFields(rest, 1, 1) == 0 {
		return region, rest, nil
	}
	region = append([]byte(nil), region...)
	err = eachField(rest, func(num protowire.Number, typ protowire.Type, data []byte, _ uint64) error {
		if num == 1 && typ == protowire.BytesType {
			region = protowire.AppendBytes(append(region, labelTag), data)
		}
		return nil
	})
	return region, rest, err
}

// countFields counts the length-delimited fields x and y of a message, as far as it is well formed.
func countFields(message []byte, x, y protowire.Number) int {
	count := 0
	_ = eachField(message, func(num protowire.Number, typ protowire.Type, _ []byte, _ uint64) error {
		if typ == protowire.BytesType && (num == x || num == y) {
			count++
		}
		return nil
	})
	return count
}

// labelsV1 decodes a label region into labels that own their bytes.
func (b *batch) labelsV1(region []byte) (labels.Labels, error) {
	b.builder.Reset()
	err := eachField(region, func(_ protowire.Number, _ protowire.Type, label []byte, _ uint64) error {
		var name, value []byte
		err := eachField(label, func(num protowire.Number, typ protowire.Type, data []byte, _ uint64) error {
			switch {
			case typ != protowire.BytesType:
			case num == 1:
				name = data
			case num == 2:
				value = data
			}
			return nil
		})
		b.builder.Add(string(name), string(value))
		return err
	})
	if err != nil {
		return labels.EmptyLabels(), err
	}
	b.builder.Sort()
	return b.builder.Labels(), nil
}

// decodeSample reads a Sample of either version: 1 value, 2 timestamp.
func decodeSample(data []byte) (t int64, v float64, err error) {
	const valueTag, timeTag = 1<<3 | byte(protowire.Fixed64Type), 2<<3 | byte(protowire.VarintType)
	if len(data) > 10 && data[0] == valueTag && data[9] == timeTag {
		if u, n := binary.Uvarint(data[10:]); n == len(data)-10 {
			return int64(u), math.Float64frombits(binary.LittleEndian.Uint64(data[1:])), nil
		}
	}
	err = eachField(data, func(num protowire.Number, typ protowire.Type, _ []byte, raw uint64) error {
		switch {
		case num == 1 && typ == protowire.Fixed64Type:
			v = math.Float64frombits(raw)
		case num == 2 && typ == protowire.VarintType:
			t = int64(raw)
		}
		return nil
	})
	return t, v, err
}

// symbols is the string table of a 2.0 request: the encoded strings and, once asked for, their keys.
type symbols struct {
	text []([]byte)
	keys []seriesKey
}

func (s *symbols) at(ref uint64) ([]byte, error) {
	if ref >= uint64(len(s.text)) {
		return nil, fmt.Errorf("symbol %d of %d", ref, len(s.text))
	}
	return s.text[ref], nil
}

// decodeV2 appends all of an io.prometheus.write.v2.Request: 4 symbols, 5 series. Symbols are gathered
// first, since nothing obliges an encoder to write them before the series.
func (b *batch) decodeV2(message []byte) error {
	var table symbols
	err := eachField(message, func(num protowire.Number, typ protowire.Type, data []byte, _ uint64) error {
		if num <= 3 {
			return mislabelled(messageV2, messageV1)
		}
		if num == 4 && typ == protowire.BytesType {
			table.text = append(table.text, data)
			table.keys = append(table.keys, b.r.series.key(data))
		}
		return nil
	})
	if err != nil {
		return err
	}
	if len(table.text) > 0 && len(table.text[0]) != 0 {
		return malformed("symbols: the first one must be empty")
	}
	return eachField(message, func(num protowire.Number, typ protowire.Type, data []byte, _ uint64) error {
		if num != 5 || typ != protowire.BytesType {
			return nil
		}
		if err := b.nextSeries(); err != nil {
			return err
		}
		return b.seriesV2(data, &table)
	})
}

// eachRef walks a label reference field, packed or not, in one message.
func eachRef(message []byte, field protowire.Number, f func(ref uint64) error) error {
	return eachField(message, func(num protowire.Number, typ protowire.Type, data []byte, raw uint64) error {
		if num != field {
			return nil
		}
		if typ == protowire.VarintType {
			return f(raw)
		}
		for typ == protowire.BytesType && len(data) > 0 {
			ref, n := protowire.ConsumeVarint(data)
			if n < 0 {
				return malformed("label reference: %w", protowire.ParseError(n))
			}
			data = data[n:]
			if err := f(ref); err != nil {
				return err
			}
		}
		return nil
	})
}

// labelsV2 decodes the label references of a series or exemplar.
func (b *batch) labelsV2(message []byte, table *symbols) (labels.Labels, error) {
	b.builder.Reset()
	var (
		name string
		odd  bool
	)
	err := eachRef(message, 1, func(ref uint64) error {
		text, err := table.at(ref)
		if err != nil {
			return err
		}
		if odd = !odd; odd {
			name = string(text)
		} else {
			b.builder.Add(name, string(text))
		}
		return nil
	})
	if err == nil && odd {
		err = fmt.Errorf("label %q has no value", strings.ToValidUTF8(abbreviate(name), "\uFFFD"))
	}
	b.builder.Sort()
	return b.builder.Labels(), err
}

// entryV2 finds or makes the entry of a series; a nil entry means that its labels were refused.
func (b *batch) entryV2(message []byte, table *symbols) (*seriesEntry, error) {
	key, known := seriesKey{1, 2}, true
	err := eachRef(message, 1, func(ref uint64) error {
		if known = known && ref < uint64(len(table.keys)); known {
			key = key.with(table.keys[ref])
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if known {
		if e := b.r.series.get(key); e != nil {
			return e, nil
		}
	}
	ls, err := b.labelsV2(message, table)
	if err == nil {
		ls, err = b.admitLabels(ls)
	}
	if err != nil {
		b.refusals.add(reasonLabels, max(1, countFields(message, 2, 3)), fmt.Errorf("series %d: %w", b.series, err))
		return nil, nil
	}
	e := &seriesEntry{labels: ls}
	b.r.series.put(key, e)
	return e, nil
}

// seriesV2 appends one TimeSeries: 1 label references, 2 samples, 3 histograms, 4 exemplars, 5 metadata.
func (b *batch) seriesV2(message []byte, table *symbols) error {
	e, err := b.entryV2(message, table)
	if e == nil || err != nil {
		return err
	}
	before := b.samples + b.histograms + b.refusals.total
	err = eachField(message, func(num protowire.Number, typ protowire.Type, data []byte, _ uint64) error {
		if typ != protowire.BytesType {
			return nil
		}
		switch num {
		case 2:
			t, v, err := decodeSample(data)
			if err != nil {
				return err
			}
			return b.appendSample(e, t, v)
		case 3:
			return b.appendHistogram(e, data)
		case 4:
			return b.exemplarV2(e, data, table)
		}
		return nil
	})
	if err == nil && before == b.samples+b.histograms+b.refusals.total {
		b.refusals.add(reasonEmpty, 1, fmt.Errorf("no samples in series %s", abbreviate(e.labels.String())))
	}
	return err
}
