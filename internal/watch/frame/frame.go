// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

// Package frame cuts what an API server sends into objects without decoding all of it: watch events
// from an endless stream, items from a list. An object of any length costs no more memory than the cap.
package frame

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	kjson "sigs.k8s.io/json"

	"github.com/periplus-io/periplus/internal/resource"
)

// ErrTooLarge means that one JSON value was longer than the cap, or has more than [MaxValues] values. Reading can go on behind it.
var ErrTooLarge = errors.New("object is longer than max_object_size or has too many values")

// Envelope is how much longer a watch frame may be than the object in it.
const Envelope = 4 << 10

// Reader cuts a stream of concatenated JSON objects into single ones without decoding them, so
// that an object of any length costs no more memory than the cap.
type Reader struct {
	r   *bufio.Reader
	max int
	buf []byte
}

// NewReader makes a reader of r with a cap in bytes.
func NewReader(r io.Reader, limit int) *Reader {
	return &Reader{r: bufio.NewReaderSize(r, 64<<10), max: limit}
}

// Next gives the bytes of the next object; they are valid until the following call. With
// ErrTooLarge it gives the first bytes of the object, the rest has been skipped.
func (f *Reader) Next() ([]byte, error) {
	f.buf = f.buf[:0]
	if cap(f.buf) > 1<<20 {
		f.buf = nil // one giant must not be paid for for ever
	}
	var s scanner
	tooLarge := false
	for {
		window, err := f.window()
		if err != nil {
			if errors.Is(err, io.EOF) && s.started {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
		n, done, err := s.scan(window)
		if err != nil {
			_, _ = f.r.Discard(n)
			return nil, err
		}
		if len(f.buf)+n > f.max {
			tooLarge = true
			n0 := max(0, min(n, Envelope-len(f.buf)))
			f.buf = append(f.buf, window[:n0]...)
		} else {
			f.buf = append(f.buf, window[:n]...)
		}
		_, _ = f.r.Discard(n) // n bytes are buffered
		if done && tooLarge {
			return f.buf, ErrTooLarge
		}
		if done {
			return bytes.TrimSpace(f.buf), nil
		}
	}
}

// window gives what is buffered, and reads if nothing is.
func (f *Reader) window() ([]byte, error) {
	if f.r.Buffered() == 0 {
		if _, err := f.r.Peek(1); err != nil {
			return nil, err
		}
	}
	return f.r.Peek(f.r.Buffered())
}

// scanner finds the end of one JSON object or array over several windows of bytes.
type scanner struct {
	depth    int
	started  bool
	inString bool
	escaped  bool
}

// scan reads on in b. done means that the value ended with byte n.
func (s *scanner) scan(b []byte) (n int, done bool, err error) {
	for i := 0; i < len(b); i++ {
		if s.inString {
			i = s.scanString(b, i)
			continue
		}
		switch b[i] {
		case '"':
			s.inString = true
		case '{', '[':
			s.depth++
			s.started = true
		case '}', ']':
			s.depth--
			if s.depth == 0 {
				return i + 1, true, nil
			}
		case ' ', '\t', '\r', '\n':
			continue
		}
		if s.depth <= 0 {
			return i, false, fmt.Errorf("unexpected byte %q between JSON objects", b[i])
		}
	}
	return len(b), false, nil
}

// scanString reads on inside a string and gives the index of the last byte it used.
func (s *scanner) scanString(b []byte, i int) int {
	if s.escaped {
		s.escaped = false
		return i
	}
	for ; i < len(b); i++ {
		switch b[i] {
		case '"':
			s.inString = false
			return i
		case '\\':
			if i+1 == len(b) {
				s.escaped = true
				return i
			}
			i++
		}
	}
	return i
}

// Event is one watch event as it is sent: type and undecoded object.
type Event struct {
	Type   string          `json:"type"`
	Object json.RawMessage `json:"object"`
}

// ParseEvent splits an event. API servers write type before object and nothing else, so the common
// case needs no JSON parser.
func ParseEvent(b []byte) (Event, error) {
	for _, kind := range [...]string{"MODIFIED", "ADDED", "BOOKMARK", "DELETED", "ERROR"} {
		rest, ok := bytes.CutPrefix(b, []byte(`{"type":"`+kind+`","object":{`))
		if ok && len(rest) > 1 && rest[len(rest)-1] == '}' {
			from := len(b) - len(rest) - 1
			return Event{kind, b[from : len(b)-1]}, nil
		}
	}
	var f Event
	if err := json.Unmarshal(b, &f); err != nil {
		return Event{}, fmt.Errorf("decode watch event: %w", err)
	}
	return f, nil
}

// MaxValues is how many values an object may have. Decoded, a value costs many times its text.
const MaxValues = 500_000

// Decode decodes one object the way [resource.Object] promises it.
func Decode(b []byte) (resource.Object, error) {
	if len(b) > MaxValues && tooManyValues(b) {
		return nil, fmt.Errorf("%w: more than %d values", ErrTooLarge, MaxValues)
	}
	var o map[string]any
	if err := kjson.UnmarshalCaseSensitivePreserveInts(b, &o); err != nil {
		return nil, fmt.Errorf("decode object: %w", err)
	}
	if o == nil {
		return nil, errors.New("decode object: null")
	}
	return o, nil
}

// tooManyValues counts what separates values, outside of strings.
func tooManyValues(b []byte) bool {
	n := 0
	var s scanner
	for i := 0; i < len(b); i++ {
		if s.inString {
			i = s.scanString(b, i)
			continue
		}
		switch b[i] {
		case '"':
			s.inString = true
		case ',', '{', '[':
			n++
		}
	}
	return n > MaxValues
}

// Identity is what is needed of an object that is too large to be decoded.
type Identity struct {
	Namespace, Name, Version string
}

// String gives NAMESPACE/NAME.
func (id Identity) String() string {
	if id.Namespace == "" {
		return id.Name
	}
	return id.Namespace + "/" + id.Name
}

// Peek finds metadata in the first bytes of an object; what it does not find stays empty.
func Peek(b []byte) (id Identity) {
	at := bytes.Index(b, []byte(`"metadata":{`))
	if at < 0 {
		return id
	}
	d := json.NewDecoder(bytes.NewReader(b[at+len(`"metadata":`):]))
	depth, key := 0, ""
	for {
		t, err := d.Token()
		if err != nil {
			return id
		}
		switch v := t.(type) {
		case json.Delim:
			if v == '{' || v == '[' {
				depth++
			} else if depth--; depth == 0 {
				return id
			}
			key = ""
		case string:
			if depth != 1 || key == "" {
				key = v
				continue
			}
			switch key {
			case "namespace":
				id.Namespace = v
			case "name":
				id.Name = v
			case "resourceVersion":
				id.Version = v
			}
			key = ""
		default:
			key = ""
		}
	}
}

// ListMeta is what a list says about itself.
type ListMeta struct {
	ResourceVersion string `json:"resourceVersion"`
	Continue        string `json:"continue"`
}

// ReadList decodes a list item by item, whatever the order of its fields, and hands each undecoded
// item on. Memory is that of one item.
func ReadList(r io.Reader, each func(raw []byte) error) (meta ListMeta, err error) {
	d := json.NewDecoder(r)
	if err := expect(d, '{'); err != nil {
		return meta, err
	}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return meta, fmt.Errorf("decode list: %w", err)
		}
		switch key {
		case "metadata":
			err = d.Decode(&meta)
		case "items":
			err = readItems(d, each)
		default:
			var skip json.RawMessage
			err = d.Decode(&skip)
		}
		if err != nil {
			return meta, fmt.Errorf("decode list: %w", err)
		}
	}
	return meta, expect(d, '}')
}

func readItems(d *json.Decoder, each func(raw []byte) error) error {
	t, err := d.Token()
	if err != nil || t == nil { // an empty list may be null
		return err
	}
	if t != json.Delim('[') {
		return fmt.Errorf("items is %v, not a list", t)
	}
	var raw json.RawMessage
	for d.More() {
		raw = raw[:0]
		if err := d.Decode(&raw); err != nil {
			return err
		}
		if err := each(raw); err != nil {
			return err
		}
	}
	return expect(d, ']')
}

func expect(d *json.Decoder, want json.Delim) error {
	t, err := d.Token()
	if err != nil {
		return fmt.Errorf("decode list: %w", err)
	}
	if t != want {
		return fmt.Errorf("decode list: found %v in place of %v", t, want)
	}
	return nil
}

// Unread gives how many bytes have been read from the source but not used.
func (f *Reader) Unread() int { return f.r.Buffered() }
