// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package manifest

import (
	"bytes"
	"iter"
	"regexp"

	"github.com/periplus-io/periplus/internal/watch/frame"
)

// piece is a part of a YAML file that can be decoded alone.
type piece struct {
	text []byte
	// line is how many lines are before it.
	line int
	// item says that it is one element of a list's items.
	item bool
}

// tooManyValues guesses, from what separates values, whether decoding would take memory out of all
// proportion. Text in strings counts too, which matters only far beyond what people write.
func (p piece) tooManyValues() bool {
	if len(p.text) < frame.MaxValues {
		return false
	}
	n := 0
	for _, mark := range []string{": ", ":\n", "- ", ", "} {
		n += bytes.Count(p.text, []byte(mark))
	}
	return n > frame.MaxValues
}

var (
	separator = regexp.MustCompile(`(?m)^---(\s|$)`)
	listKind  = regexp.MustCompile(`(?m)^kind: *['"]?[A-Za-z0-9]*List['"]? *\r?$`)
	itemsKey  = regexp.MustCompile(`(?m)^items: *\r?\n(- )`)
	itemStart = regexp.MustCompile(`(?m)^- `)
	topLevel  = regexp.MustCompile(`(?m)^([^\s#-]|-[^\s])`)
	anchor    = regexp.MustCompile(`(?m)(^|[\s\[{,])&[^\s,\[\]{}]+`)
)

// pieces cuts a file into its documents, and lists as kubectl writes them into their items. A parsed
// YAML document takes dozens of times the memory of its text, and a list may have all jobs of a
// cluster in it.
func pieces(data []byte) iter.Seq[piece] {
	return func(yield func(piece) bool) {
		if bytes.HasPrefix(data, []byte("%")) || bytes.Contains(data, []byte("\n%")) { // directives belong to what follows
			yield(piece{text: data})
			return
		}
		line, from := 0, 0
		for _, at := range append(separator.FindAllIndex(data, -1), []int{len(data)}) {
			doc := data[from:at[0]]
			if len(doc) > 0 && !documentPieces(doc, line, yield) {
				return
			}
			line += bytes.Count(doc, []byte("\n"))
			from = at[0]
		}
	}
}

// documentPieces gives the items of a document if it is a plain list, else the document.
func documentPieces(doc []byte, line int, yield func(piece) bool) bool {
	at := itemsKey.FindSubmatchIndex(doc)
	if at == nil || !listKind.Match(doc) || anchor.Match(doc) {
		return yield(piece{text: doc, line: line})
	}
	from := at[2]
	items := doc[from:]
	if end := topLevel.FindIndex(items); end != nil {
		items = items[:end[0]]
	}
	line += bytes.Count(doc[:from], []byte("\n"))
	for len(items) > 0 {
		end := len(items)
		if next := itemStart.FindIndex(items[1:]); next != nil {
			end = 1 + next[0]
		}
		if !yield(piece{text: items[:end], line: line, item: true}) {
			return false
		}
		line += bytes.Count(items[:end], []byte("\n"))
		items = items[end:]
	}
	return true
}
