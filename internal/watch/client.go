// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/periplus-io/periplus/internal/resource"
)

// client reads from an API server. Connection, credentials and their renewal are client-go's; bodies
// are left undecoded so that they can be read piece by piece.
type client struct {
	base string
	http *http.Client
}

// requestTimeout bounds requests that are answered at once, and the wait for the head of the others.
const requestTimeout = 30 * time.Second

func newClient(cfg *rest.Config) (*client, error) {
	cfg = rest.CopyConfig(cfg)
	cfg.UserAgent = "periplus"
	cfg.Timeout = 0
	httpClient, err := rest.HTTPClientFor(cfg)
	if err != nil {
		return nil, fmt.Errorf("kubeconfig: %w", err)
	}
	base, _, err := rest.DefaultServerUrlFor(cfg)
	if err != nil {
		return nil, fmt.Errorf("kubeconfig: %w", err)
	}
	return &client{base: strings.TrimSuffix(base.String(), "/"), http: httpClient}, nil
}

func (c *client) close() { c.http.CloseIdleConnections() }

// acceptMetadata asks for objects without spec and status.
const acceptMetadata = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"

// get sends a request and gives the body of the answer. The error has the API server's reason.
func (c *client) get(ctx context.Context, path string, query url.Values, accept string) (io.ReadCloser, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	timer := time.AfterFunc(requestTimeout, func() { cancel(errors.New("no answer from the API server")) })
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+path+"?"+query.Encode(), nil)
	if err != nil {
		cancel(nil)
		return nil, fmt.Errorf("make request: %w", err)
	}
	req.Header.Set("Accept", accept)
	resp, err := c.http.Do(req) //nolint:bodyclose // wrapped below, the caller closes it
	timer.Stop()
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		cancel(nil)
		if u, ok := errors.AsType[*url.Error](err); ok {
			err = u.Err // the address is in the status; parameters only make every message different
		}
		return nil, err
	}
	body := &cancelBody{resp.Body, cancel}
	if resp.StatusCode == http.StatusOK {
		return body, nil
	}
	defer closeBody(body)
	return nil, answerError(resp)
}

// cancelBody ends the request's context with the body.
type cancelBody struct {
	io.ReadCloser
	cancel context.CancelCauseFunc
}

func (b *cancelBody) Close() error {
	b.cancel(nil)
	return b.ReadCloser.Close()
}

// answerError makes an error of an answer that is not 200.
func answerError(resp *http.Response) error {
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	var status metav1.Status
	if json.Unmarshal(text, &status) != nil || status.Kind != "Status" {
		status = metav1.Status{Message: fmt.Sprintf("API server: %s", resp.Status)}
	}
	status.Code = int32(resp.StatusCode)
	return &apierrors.StatusError{ErrStatus: status}
}

// closeBody ends an answer that was read as far as wanted; that it was cut off is no error then.
func closeBody(b io.Closer) { _ = b.Close() }

// getJSON decodes a short answer.
func (c *client) getJSON(ctx context.Context, path string, v any) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	body, err := c.get(ctx, path, nil, "application/json")
	if err != nil {
		return err
	}
	defer closeBody(body)
	if err := json.NewDecoder(body).Decode(v); err != nil {
		return fmt.Errorf("decode %s: %w", path, err)
	}
	return nil
}

// groupPath is the root of a group and version.
func groupPath(group, version string) string {
	if group == "" {
		return "/api/" + version
	}
	return "/apis/" + group + "/" + version
}

// kindPath is the collection of a kind, in one namespace if that is not empty.
func kindPath(kind resource.Kind, namespace string) string {
	path := groupPath(kind.Group, kind.Version)
	if namespace != "" {
		path += "/namespaces/" + namespace
	}
	return path + "/" + kind.Plural
}

// statusCode is the HTTP status in err, or 0.
func statusCode(err error) int {
	if s, ok := errors.AsType[*apierrors.StatusError](err); ok {
		return int(s.ErrStatus.Code)
	}
	return 0
}
