// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package receive

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"sync"

	"github.com/golang/snappy"
	"github.com/prometheus/prometheus/tsdb"
)

const (
	messageV1 = "prometheus.WriteRequest"
	messageV2 = "io.prometheus.write.v2.Request"
)

// httpError is a refusal of the whole request.
type httpError struct {
	status int
	reason string // label value of requests_refused_total; empty is not counted
	err    error
}

func (e *httpError) Error() string { return e.err.Error() }

func refuse(status int, reason, format string, args ...any) *httpError {
	return &httpError{status, reason, fmt.Errorf(format, args...)}
}

// buffers is the memory that one request needs; it is reused.
type buffers struct {
	body    bytes.Buffer
	decoded []byte
	table   symbols
}

// maxPooled keeps a rare huge request from pinning its memory.
const maxPooled = 8 << 20

func bufferPool() *sync.Pool { return &sync.Pool{New: func() any { return new(buffers) }} }

func (r *Receiver) serveWrite(w http.ResponseWriter, req *http.Request) {
	version, err := writeMessage(req)
	if err != nil {
		r.fail(w, err)
		return
	}
	buf := r.pool.Get().(*buffers)
	defer func() {
		if buf.body.Cap() <= maxPooled && cap(buf.decoded) <= maxPooled && cap(buf.table.text) <= maxPooled/24 {
			clear(buf.table.text) // they point into decoded, which may be replaced
			r.pool.Put(buf)
		}
	}()
	message, err := r.readSnappy(w, req, buf)
	if err != nil {
		r.fail(w, err)
		return
	}
	r.metrics.bytes.WithLabelValues(protocolWrite).Add(float64(len(message)))

	b := newBatch(r, req.Context())
	if version == messageV2 {
		err = b.decodeV2(message, &buf.table)
	} else {
		err = b.decodeV1(message)
	}
	if err = b.finish(err); err != nil {
		r.fail(w, err)
		return
	}
	if version == messageV2 {
		h := w.Header()
		h.Set("X-Prometheus-Remote-Write-Samples-Written", strconv.Itoa(b.samples))
		h.Set("X-Prometheus-Remote-Write-Histograms-Written", strconv.Itoa(b.histograms))
		h.Set("X-Prometheus-Remote-Write-Exemplars-Written", strconv.Itoa(b.exemplars))
	}
	if b.refusals.total > 0 {
		http.Error(w, b.refusals.Error(), http.StatusBadRequest)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// writeMessage finds the remote-write message that a request says it carries. As Prometheus does, it takes
// a request that says nothing for 1.0.
func writeMessage(req *http.Request) (string, error) {
	if enc := req.Header.Get("Content-Encoding"); enc != "" && enc != "snappy" {
		return "", refuse(http.StatusUnsupportedMediaType, "encoding", "content encoding %q is not supported, only snappy", enc)
	}
	contentType := req.Header.Get("Content-Type")
	if contentType == "" {
		return messageV1, nil
	}
	media, params, err := mime.ParseMediaType(contentType)
	if err != nil || media != "application/x-protobuf" {
		return "", refuse(http.StatusUnsupportedMediaType, "content_type", "content type %q is not supported, only application/x-protobuf", contentType)
	}
	switch message := params["proto"]; message {
	case "", messageV1:
		return messageV1, nil
	case messageV2:
		return messageV2, nil
	default:
		return "", refuse(http.StatusUnsupportedMediaType, "content_type", "message %q is not supported, only %s and %s", message, messageV1, messageV2)
	}
}

// readSnappy reads and decompresses the body within the limits. The result is valid until buf is reused.
func (r *Receiver) readSnappy(w http.ResponseWriter, req *http.Request, buf *buffers) ([]byte, error) {
	buf.body.Reset()
	if req.ContentLength > r.limits.MaxBody {
		return nil, refuse(http.StatusRequestEntityTooLarge, "too_large", "request of %d bytes exceeds the limit of %d", req.ContentLength, r.limits.MaxBody)
	}
	if _, err := buf.body.ReadFrom(http.MaxBytesReader(w, req.Body, r.limits.MaxBody)); err != nil {
		return nil, readError(err, r.limits.MaxBody)
	}
	size, err := snappy.DecodedLen(buf.body.Bytes())
	if err != nil {
		return nil, refuse(http.StatusBadRequest, "snappy", "decompress request: %w", err)
	}
	if int64(size) > r.limits.MaxDecoded {
		return nil, refuse(http.StatusRequestEntityTooLarge, "too_large", "request of %d bytes after decompression exceeds the limit of %d", size, r.limits.MaxDecoded)
	}
	if cap(buf.decoded) < size {
		// A liar's claim costs at most what snappy can expand to, about 64 times what was really sent.
		if size > 64*buf.body.Len()+64 {
			return nil, refuse(http.StatusBadRequest, "snappy", "decompress request: %d bytes cannot hold the %d claimed", buf.body.Len(), size)
		}
		buf.decoded = make([]byte, size)
	}
	message, err := snappy.Decode(buf.decoded[:cap(buf.decoded)], buf.body.Bytes())
	if err != nil {
		return nil, refuse(http.StatusBadRequest, "snappy", "decompress request: %w", err)
	}
	return message, nil
}

func readError(err error, limit int64) error {
	if tooLarge := new(http.MaxBytesError); errors.As(err, &tooLarge) {
		return refuse(http.StatusRequestEntityTooLarge, "too_large", "request exceeds the limit of %d bytes", limit)
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return refuse(http.StatusBadRequest, "truncated", "read request: %w", err)
	}
	return refuse(http.StatusBadRequest, "read", "read request: %w", err)
}

// fail answers an error that concerns the whole request.
func (r *Receiver) fail(w http.ResponseWriter, err error) {
	var refused *httpError
	switch {
	case errors.As(err, &refused):
		r.metrics.lost.WithLabelValues(refused.reason).Inc()
		http.Error(w, refused.Error(), refused.status)
	case errors.Is(err, tsdb.ErrNotReady):
		w.Header().Set("Retry-After", "5")
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
	default:
		r.log.Error("store pushed samples", "err", err)
		http.Error(w, err.Error(), http.StatusInternalServerError)
	}
}
