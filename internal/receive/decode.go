// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package receive

import (
	"encoding/binary"
	"math"
	"net/http"

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

// decodeV1 appends all of a prometheus.WriteRequest: 1 series, 3 metadata.
func (b *batch) decodeV1(message []byte) error {
	return eachField(message, func(num protowire.Number, typ protowire.Type, data []byte, _ uint64) error {
		if num == 4 || num == 5 {
			return mislabelled(messageV1, messageV2)
		}
		if num == 3 && typ == protowire.BytesType {
			return b.metadataV1(data)
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
