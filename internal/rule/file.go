// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package rule

import (
	"log/slog"
	"strings"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
)

// CheckFile gives every fault of the rule file at path. Each begins with its place in the file where
// that is known.
func CheckFile(path string) []error {
	_, errs := rulefmt.ParseFile(path, false, model.UTF8Validation, parser.NewParser(parser.Options{}), slog.New(slog.DiscardHandler))
	for i, err := range errs {
		if rest, ok := strings.CutPrefix(err.Error(), path+": "); ok {
			errs[i] = placed(rest)
		}
	}
	return errs
}

// placed is an error whose text begins with its place in a file that the caller names.
type placed string

// Error implements error.
func (p placed) Error() string { return string(p) }
