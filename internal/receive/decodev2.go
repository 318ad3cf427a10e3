// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package receive

import (
	"encoding/binary"
	"fmt"
	"math"
	"strings"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/labels"
	"google.golang.org/protobuf/encoding/protowire"
)

// symbols is the string table of a 2.0 request: the encoded strings and their keys.
type symbols struct {
	text [][]byte
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
func (b *batch) decodeV2(message []byte, table *symbols) error {
	table.text, table.keys = table.text[:0], table.keys[:0]
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
		return b.seriesV2(data, table)
	})
}

// seriesV2 appends one TimeSeries: 1 label references, 2 samples, 3 histograms, 4 exemplars, 5 metadata.
func (b *batch) seriesV2(message []byte, table *symbols) error {
	refs, rest, err := refRegion(message)
	if err != nil {
		return err
	}
	e, isNew, err := b.entryV2(refs, table)
	if err != nil {
		b.refusals.add(reasonLabels, max(1, countFields(rest, 2, 3)), fmt.Errorf("series %d: %w", b.series, err))
		return nil
	}
	before := b.samples + b.histograms + b.refusals.total
	err = eachField(rest, func(num protowire.Number, typ protowire.Type, data []byte, _ uint64) error {
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
		case 5:
			if isNew { // a known series has been described
				return b.metadataV2(e.labels.Get(model.MetricNameLabel), data, table)
			}
		}
		return nil
	})
	if err == nil && before == b.samples+b.histograms+b.refusals.total {
		b.refusals.add(reasonEmpty, 1, fmt.Errorf("no samples in series %s", abbreviate(e.labels.String())))
	}
	return err
}

// refRegion splits a series or exemplar into its label references, packed, and all the rest. Encoders write
// them first and packed; for one that does not they are gathered into a copy.
func refRegion(message []byte) (refs, rest []byte, err error) {
	const packedTag = 1<<3 | byte(protowire.BytesType)
	rest = message
	if len(message) > 0 && message[0] == packedTag {
		var n int
		if refs, n = protowire.ConsumeBytes(message[1:]); n < 0 {
			return nil, nil, malformed("label references: %w", protowire.ParseError(n))
		}
		rest = message[1+n:]
	}
	more := false
	err = eachField(rest, func(num protowire.Number, typ protowire.Type, data []byte, raw uint64) error {
		if num != 1 {
			return nil
		}
		if !more {
			more, refs = true, append([]byte(nil), refs...)
		}
		switch typ {
		case protowire.BytesType:
			refs = append(refs, data...)
		case protowire.VarintType:
			refs = protowire.AppendVarint(refs, raw)
		}
		return nil
	})
	return refs, rest, err
}

// entryV2 finds the entry of a series, or makes a new one. An error concerns the series' labels.
func (b *batch) entryV2(refs []byte, table *symbols) (e *seriesEntry, isNew bool, err error) {
	key, known := seriesKey{1, 2}, true
	for left := refs; len(left) > 0; {
		ref, n := binary.Uvarint(left)
		if known = n > 0 && ref < uint64(len(table.keys)); !known {
			break
		}
		key, left = key.with(table.keys[ref]), left[n:]
	}
	if known {
		if e := b.r.series.get(key); e != nil {
			return e, false, nil
		}
	}
	ls, err := b.labelsV2(refs, table)
	if err == nil {
		ls, err = b.admitLabels(ls)
	}
	if err != nil {
		return nil, false, err
	}
	e = &seriesEntry{labels: ls}
	b.r.series.put(key, e)
	return e, true, nil
}

// labelsV2 decodes packed label references into labels that own their bytes.
func (b *batch) labelsV2(refs []byte, table *symbols) (labels.Labels, error) {
	b.builder.Reset()
	var (
		name string
		odd  bool
	)
	for len(refs) > 0 {
		ref, n := protowire.ConsumeVarint(refs)
		if n < 0 {
			return labels.EmptyLabels(), fmt.Errorf("label reference: %w", protowire.ParseError(n))
		}
		refs = refs[n:]
		text, err := table.at(ref)
		if err != nil {
			return labels.EmptyLabels(), err
		}
		if odd = !odd; odd {
			name = string(text)
		} else {
			b.builder.Add(name, string(text))
		}
	}
	if odd {
		return labels.EmptyLabels(), fmt.Errorf("label %q has no value", strings.ToValidUTF8(abbreviate(name), "\uFFFD"))
	}
	b.builder.Sort()
	return b.builder.Labels(), nil
}

// exemplarV2 appends an Exemplar of version 2: 1 label references, 2 value, 3 timestamp.
func (b *batch) exemplarV2(e *seriesEntry, message []byte, table *symbols) error {
	var ex exemplar.Exemplar
	refs, rest, err := refRegion(message)
	if err != nil {
		return err
	}
	err = eachField(rest, func(num protowire.Number, typ protowire.Type, _ []byte, raw uint64) error {
		switch {
		case num == 2 && typ == protowire.Fixed64Type:
			ex.Value = math.Float64frombits(raw)
		case num == 3 && typ == protowire.VarintType:
			ex.Ts = int64(raw)
			ex.HasTs = raw != 0
		}
		return nil
	})
	if err != nil {
		return err
	}
	if ex.Labels, err = b.labelsV2(refs, table); err != nil {
		return malformed("exemplar: %w", err)
	}
	b.appendExemplar(e, ex)
	return nil
}
