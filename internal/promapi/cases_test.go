// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package promapi_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the answers into the recorded cases")

func float64FromBits(b uint64) float64 { return math.Float64frombits(b) }

// volatile are the parts of answers that differ from run to run.
var volatile = regexp.MustCompile(`"(startTime|serverTime|hostname|lastConfigTime|chunkCount|minTime|maxTime|[A-Za-z]+Time)": ?("[^"]*"|-?[\d.e-]+)`)

// Each recorded case is a file: a request line, an optional form body, "---", status and body of the answer.
func TestRecordedCases(t *testing.T) {
	files, err := filepath.Glob("testdata/http/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no cases", err)
	}
	s := newSite(t, nil).fill()
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			request, want, _ := strings.Cut(string(text), "---\n")
			line, body, _ := strings.Cut(request, "\n")
			method, target, _ := strings.Cut(line, " ")
			var header []string
			if body = strings.TrimSpace(body); body != "" {
				header = []string{"Content-Type", "application/x-www-form-urlencoded"}
			}
			status, _, answer := s.do(method, target, strings.NewReader(body), header...)
			got := fmt.Sprintf("%d %s\n%s", status, http.StatusText(status), indent(answer))
			if *update {
				if err := os.WriteFile(file, []byte(request+"---\n"+got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", line, diff)
			}
		})
	}
}

func indent(answer string) string {
	var buf bytes.Buffer
	if err := json.Indent(&buf, []byte(answer), "", "  "); err != nil {
		return answer
	}
	return volatile.ReplaceAllString(strings.TrimSpace(buf.String()), `"$1": "*"`) + "\n"
}

// Every line of the table in docs/http.md names its recorded case, and every case is in the table.
func TestDocumentedRoutesHaveRecordedCases(t *testing.T) {
	doc, err := os.ReadFile("../../docs/http.md")
	if err != nil {
		t.Fatal(err)
	}
	section, _, _ := strings.Cut(string(doc), "## Learning API")
	var documented []string
	for _, m := range regexp.MustCompile(`(?m)^\|.*\| case ([a-z0-9-]+) \|$`).FindAllStringSubmatch(section, -1) {
		documented = append(documented, m[1])
	}
	files, err := filepath.Glob("testdata/http/*.txt")
	if err != nil {
		t.Fatal(err)
	}
	recorded := make([]string, len(files))
	for n, f := range files {
		recorded[n] = strings.TrimSuffix(filepath.Base(f), ".txt")
	}
	slices.Sort(documented)
	slices.Sort(recorded)
	if diff := cmp.Diff(recorded, slices.Compact(documented)); diff != "" {
		t.Errorf("docs/http.md and testdata/http differ (-recorded +documented):\n%s", diff)
	}
}
