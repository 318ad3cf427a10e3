// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package manifest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
)

// readAll gives the objects of a manifest as JSON, the lines they begin at, and what was refused.
func readAll(text string, limit int) (objects []string, lines []int, refused int, err error) {
	r := Reader{Limit: limit, Refused: func(int) { refused++ }, Each: func(m Object) error {
		b, err := json.Marshal(m.Object)
		objects, lines = append(objects, string(b)), append(lines, m.Line)
		return err
	}}
	err = r.Read([]byte(text))
	return objects, lines, refused, err
}

const model = `{"apiVersion":"sedna.io/v1alpha1","kind":"Model","metadata":{"name":"%s"}}`

func TestManifestForms(t *testing.T) {
	a, b := fmt.Sprintf(model, "a"), fmt.Sprintf(model, "b")
	tests := []struct {
		name, text string
		want       []string
		lines      []int
	}{
		{"YAML", "apiVersion: sedna.io/v1alpha1\nkind: Model\nmetadata:\n  name: a\n", []string{a}, []int{1}},
		{"JSON", a, []string{a}, []int{1}},
		{"JSON in a row", a + "\n" + b, []string{a, b}, []int{1, 2}},
		{"JSON as YAML documents", a + "\n---\n" + b + "\n", []string{a, b}, []int{1, 3}},
		{"byte order mark", "\ufeff" + a, []string{a}, []int{1}},
		{"YAML documents", "---\n" + a + "\n---\n# nothing\n---\n" + b + "\n...\n", []string{a, b}, []int{2, 6}},
		{"JSON list", `{"items":[` + a + "," + b + `],"kind":"List","apiVersion":"v1"}`, []string{a, b}, []int{1, 1}},
		{"YAML list", "apiVersion: v1\nkind: List\nitems:\n- " + a + "\n- " + b + "\n", []string{a, b}, []int{4, 5}},
		{"list as kubectl writes it", "apiVersion: v1\nitems:\n- apiVersion: sedna.io/v1alpha1\n  kind: Model\n  metadata:\n    name: a\n- " + b + "\nkind: List\nmetadata:\n  resourceVersion: \"\"\n", []string{a, b}, []int{3, 7}},
		{"typed list", "apiVersion: sedna.io/v1alpha1\nkind: ModelList\nitems:\n- " + a + "\n", []string{a}, []int{4}},
		{"a kind that is only called a list", `{"apiVersion":"v1","kind":"AllowList","metadata":{"name":"a"}}`, []string{`{"apiVersion":"v1","kind":"AllowList","metadata":{"name":"a"}}`}, []int{1}},
		{"empty list", "apiVersion: v1\nkind: List\nitems: []\n", nil, nil},
		{"only comments", "# a\n", nil, nil},
		{
			"value types",
			"apiVersion: v1\nkind: A\nmetadata: {name: n, creationTimestamp: 2026-01-02T03:04:05Z}\n" +
				"spec: {i: 7, big: 18446744073709551616, f: 0.5, t: true, n: null, y: yes, hex: 0x10, s: \"1\", list: [1, a]}\n",
			[]string{`{"apiVersion":"v1","kind":"A","metadata":{"creationTimestamp":"2026-01-02T03:04:05Z","name":"n"},"spec":{"big":18446744073709552000,"f":0.5,"hex":16,"i":7,"list":[1,"a"],"n":null,"s":"1","t":true,"y":"yes"}}`},
			[]int{1},
		},
		{"alias", "apiVersion: v1\nkind: A\nmetadata: &m {name: n}\nspec: *m\n", []string{`{"apiVersion":"v1","kind":"A","metadata":{"name":"n"},"spec":{"name":"n"}}`}, []int{1}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, lines, _, err := readAll(tt.text, 1<<20)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(tt.lines, lines); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestManifestFaultsNameTheirLine(t *testing.T) {
	head := "apiVersion: v1\nkind: A\nmetadata: {name: n}\n"
	tests := []struct {
		name, text string
		line       int
	}{
		{"empty", " \n", 0},
		{"cut JSON", "{\n\"apiVersion\": \"v1\",\n\"ki", 3},
		{"bad JSON", "{\n\"a\": tru}", 2},
		{"text behind JSON", fmt.Sprintf(model, "a") + "\nx", 2},
		{"cut YAML", head + "spec: {a: [1\n", 4},
		{"tab", head + "spec:\n\ta: 1\n", 5},
		{"no name", "apiVersion: v1\nkind: A\n", 1},
		{"no kind in document two", head + "---\na: 1\n", 5},
		{"scalar", "just text\n", 1},
		{"list of scalars", "kind: List\nitems:\n- 1\n", 3},
		{"fault in an item", "kind: List\nitems:\n- " + fmt.Sprintf(model, "a") + "\n- apiVersion: v1\n  kind: B\n", 4},
		{"syntax fault in an item", "kind: List\nitems:\n- " + fmt.Sprintf(model, "a") + "\n- a: 1\n  b: [\n", 6},
		{"double key", head + "spec: {}\nspec: {}\n", 5},
		{"not a number", head + "spec: .nan\n", 4},
		{"number as key", head + "spec:\n  [a]: 1\n", 5},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, _, _, err := readAll(tt.text, 1<<20)
			if err == nil {
				t.Fatal("no error")
			}
			if got := lineOf(err); got != tt.line || strings.Contains(err.Error(), "\n") {
				t.Errorf("got line %d (%v), want %d", got, err, tt.line)
			}
		})
	}
}

func TestManifestOfAnySizeIsRefusedNotKept(t *testing.T) {
	big := strings.Repeat("x", 2<<20)
	bomb := "apiVersion: v1\nkind: A\nmetadata: {name: n}\na: &a [x,x,x,x,x,x,x,x,x]\n"
	for c := 'b'; c < 'j'; c++ {
		bomb += fmt.Sprintf("%c: &%c [%s]\n", c, c, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*%c,", c-1), 9), ","))
	}
	good := fmt.Sprintf(model, "good")
	for name, text := range map[string]string{
		"JSON": `{"apiVersion":"v1","kind":"A","metadata":{"name":"n"},"data":"` + big + `"}` + good,
		"YAML": "apiVersion: v1\nkind: A\nmetadata: {name: n}\ndata: " + big + "\n---\n" + good,
		"bomb": bomb + "---\n" + good,
	} {
		got, _, refused, err := readAll(text, 1<<20)
		if err != nil || refused != 1 || len(got) != 1 {
			t.Errorf("%s: got %d objects, %d refused, error %v", name, len(got), refused, err)
		}
	}
}

func FuzzManifest(f *testing.F) {
	f.Add("apiVersion: v1\nkind: A\nmetadata: {name: n}\n---\nkind: List\nitems: [{}, 1]\n")
	f.Add(`{"kind":"List","items":[{"a":1e999}]}{"x":"\ud800"}`)
	f.Add("a: &a [*a]\n<<: {b: 1}\n? [x]\n: y\n")
	f.Add("%YAML 1.1\n--- !!binary\nxx\n")
	f.Fuzz(func(t *testing.T, text string) {
		objects, _, _, err := readAll(text, 1<<16)
		for _, o := range objects {
			again, _, _, err := readAll(o, 1<<20)
			if err != nil || len(again) != 1 {
				// a list inside a list is an object at first and a list at second sight
				if !strings.Contains(o, `List"`) {
					t.Errorf("%s: read back: %d objects, %v", o, len(again), err)
				}
			}
		}
		if l, ok := errors.AsType[*LineError](err); ok && l.Line > 1+strings.Count(text, "\n")+strings.Count(text, "\r")+2 {
			t.Errorf("line %d of %q", l.Line, text)
		}
	})
}

// wholeYAML reads a file without cutting it into pieces.
func wholeYAML(text string) (objects []string, err error) {
	r := Reader{Limit: 1 << 16, Refused: func(int) {}, Each: func(m Object) error {
		b, err := json.Marshal(m.Object)
		objects = append(objects, string(b))
		return err
	}}
	d := yaml.NewDecoder(strings.NewReader(text))
	for {
		var document yaml.Node
		if err := d.Decode(&document); errors.Is(err, io.EOF) {
			return objects, nil
		} else if err != nil {
			return objects, err
		}
		if err := r.document(&document, piece{}); err != nil {
			return objects, err
		}
	}
}

func FuzzPieces(f *testing.F) {
	f.Add("apiVersion: v1\nitems:\n- apiVersion: v1\n  kind: A\n  metadata:\n    name: n\n    x: |\n      - a\n      ---\n- {apiVersion: v1, kind: B, metadata: {name: m}}\nkind: List\nmetadata:\n  resourceVersion: \"\"\n---\n- a\n")
	f.Add("kind: List\nitems:\n- apiVersion: v1\n  kind: A\n  metadata: {name: &a n}\n- *a\n--- # x\n...\n")
	f.Fuzz(func(t *testing.T, text string) {
		want, err := wholeYAML(text)
		if err != nil || strings.HasPrefix(strings.TrimSpace(text), "{") {
			return // what is only wrong around the items may pass in pieces
		}
		got, _, _, err := readAll(text, 1<<16)
		if len(strings.TrimSpace(text)) > 0 && err != nil {
			t.Fatalf("in pieces: %v", err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	})
}

func lineOf(err error) int {
	if l, ok := errors.AsType[*LineError](err); ok {
		return l.Line
	}
	return 0
}
