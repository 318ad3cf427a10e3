// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package receive

import (
	"math"

	"github.com/prometheus/prometheus/model/exemplar"
	"google.golang.org/protobuf/encoding/protowire"
)

// exemplarV2 appends an Exemplar of version 2: 1 label references, 2 value, 3 timestamp.
func (b *batch) exemplarV2(e *seriesEntry, message []byte, table *symbols) error {
	var ex exemplar.Exemplar
	err := eachField(message, func(num protowire.Number, typ protowire.Type, _ []byte, raw uint64) error {
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
	if ex.Labels, err = b.labelsV2(message, table); err != nil {
		return malformed("exemplar: %w", err)
	}
	b.appendExemplar(e, ex)
	return nil
}
