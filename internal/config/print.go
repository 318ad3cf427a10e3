// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"cmp"
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"

	yamlv2 "go.yaml.in/yaml/v2"
	"go.yaml.in/yaml/v3"
)

const hidden = "<secret>"

// secretName matches names of parameters and headers whose values are not printed. It never changes.
var secretName = regexp.MustCompile(`(?i)(token|secret|passw|api[-_]?key|credential|signature|auth|cookie)`)

// String gives the effective configuration as YAML: our sections, then Prometheus' keys, defaults filled in.
// Secrets are printed as <secret>, and what came from the environment as the ${NAME} it came from.
func (c *Config) String() string {
	root := &yaml.Node{Kind: yaml.MappingNode}
	for _, s := range c.sections {
		var value yaml.Node
		if err := value.Encode(s.into); err != nil {
			value = yaml.Node{Kind: yaml.ScalarNode, Value: fmt.Sprintf("<%s>", err)}
		}
		root.Content = append(root.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: s.Key}, &value)
	}
	var prom yaml.Node
	b, err := yamlv2.Marshal(c.Prometheus)
	if err == nil {
		err = yaml.Unmarshal(b, &prom)
	}
	if err != nil {
		return fmt.Sprintf("<the configuration cannot be written: %s>\n", err)
	}
	if prom.Kind == yaml.DocumentNode {
		root.Content = append(root.Content, prom.Content[0].Content...)
	}
	c.mask(root)
	var out strings.Builder
	enc := yaml.NewEncoder(&out)
	enc.SetIndent(2)
	if err := enc.Encode(root); err != nil {
		return fmt.Sprintf("<the configuration cannot be written: %s>\n", err)
	}
	return out.String()
}

// MarshalText is String for encoders.
func (c *Config) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// mask hides the values that must not be printed.
func (c *Config) mask(root *yaml.Node) {
	// Shorter values are everywhere by chance. Longer ones first, as one may be part of another.
	values := slices.SortedFunc(maps.Keys(c.origin.values), func(a, b string) int {
		return cmp.Or(len(b)-len(a), strings.Compare(a, b))
	})
	values = slices.DeleteFunc(values, func(v string) bool { return len(v) < 4 })
	walk(root, nil, func(path []string, _, value *yaml.Node) {
		if value.Kind != yaml.ScalarNode {
			return
		}
		if written, ok := c.origin.written["/"+strings.Join(path, "/")]; ok && value.Value != hidden {
			set(value, written)
			return
		}
		for _, v := range values {
			if strings.Contains(value.Value, v) {
				set(value, strings.ReplaceAll(value.Value, v, c.origin.values[v]))
			}
		}
		if secretPath(path) {
			set(value, hidden)
		}
		if strings.Contains(value.Value, "://") {
			set(value, redactURL(value.Value))
		}
	})
}

func set(n *yaml.Node, s string) {
	if n.Value != s {
		n.Value, n.Tag, n.Style = s, "!!str", 0
	}
}

// secretPath tells whether path leads to a header, parameter or label whose name says that it is a secret.
func secretPath(path []string) bool {
	for i, p := range path[:len(path)-1] {
		switch p {
		case "headers":
			return true
		case "params":
			return secretName.MatchString(path[i+1])
		}
	}
	return false
}

// redactURL hides the password and the secret parameters of a URL.
func redactURL(s string) string {
	u, err := url.Parse(s)
	if err != nil {
		if i, j := strings.Index(s, "://"), strings.LastIndex(s, "@"); j > i {
			return s[:i+3] + hidden + s[j:]
		}
		return s
	}
	changed := false
	if u.User != nil {
		if p, ok := u.User.Password(); ok && p != "xxxxx" {
			u.User, changed = url.UserPassword(u.User.Username(), "xxxxx"), true
		}
	}
	q := u.Query()
	for k, vs := range q {
		if secretName.MatchString(k) && len(vs) > 0 {
			q.Set(k, "xxxxx")
			changed = true
		}
	}
	if !changed {
		return s
	}
	if len(q) > 0 {
		u.RawQuery = q.Encode()
	}
	return u.String()
}
