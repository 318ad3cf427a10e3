// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"
)

// reference matches ${NAME}, ${NAME:-default} and the escape $${. Names begin with a letter, so the ${1} of a
// relabelling rule is left alone. It never changes.
var reference = regexp.MustCompile(`\$\$\{|\$\{([A-Za-z_][A-Za-z0-9_]*)(:-([^}]*))?\}`)

// origin remembers where text from the environment went, so that it is never printed.
type origin struct {
	// written maps the path of a value to what the user wrote there.
	written map[string]string
	// values maps what was put in to its reference.
	values map[string]string
}

// expander replaces references to environment variables in the values of a tree. It works on parsed scalars, so
// a variable's content is always the content of one value and never structure.
type expander struct {
	lookup func(string) (string, bool)
	origin *origin
	fault  func(line int, format string, args ...any)
	done   map[*yaml.Node]bool
}

func (e *expander) node(n *yaml.Node, path string, external bool, groups map[string]bool) {
	if e.done[n] {
		return // An anchored node is met once for each alias.
	}
	e.done[n] = true
	switch n.Kind {
	case yaml.AliasNode:
		e.node(n.Alias, path, external, groups)
	case yaml.SequenceNode:
		for i, c := range n.Content {
			e.node(c, fmt.Sprintf("%s/%d", path, i), external, groups)
		}
	case yaml.MappingNode:
		groups = captureGroups(n)
		for _, p := range pairs(n) {
			e.node(p.value, path+"/"+p.key.Value, external || p.key.Value == "external_labels", groups)
		}
	case yaml.ScalarNode:
		e.scalar(n, path, external, groups)
	}
}

// captureGroups gives the named groups of a relabelling rule: ${name} means such a group in its replacement.
func captureGroups(n *yaml.Node) map[string]bool {
	re := child(n, "regex")
	if re == nil || !strings.Contains(re.Value, "(?") {
		return nil
	}
	groups := map[string]bool{}
	if compiled, err := regexp.Compile(re.Value); err == nil {
		for _, name := range compiled.SubexpNames() {
			groups[name] = true
		}
	}
	return groups
}

// scalar expands one value. Prometheus expands external labels by itself and reads $$ as $ there, so in these
// the escape stays and what is put in is escaped.
func (e *expander) scalar(n *yaml.Node, path string, external bool, groups map[string]bool) {
	if !strings.Contains(n.Value, "${") {
		return
	}
	written, used := n.Value, false
	n.Value = reference.ReplaceAllStringFunc(written, func(s string) string {
		m := reference.FindStringSubmatch(s)
		name := m[1]
		switch {
		case s == "$${" && external, groups[name] && name != "":
			return s
		case s == "$${":
			return "${"
		}
		v, ok := e.lookup(name)
		if m[2] != "" && v == "" {
			v, ok = m[3], true
		} else if ok {
			used = true
			e.origin.values[v] = "${" + name + "}"
		}
		if !ok {
			e.fault(n.Line, "environment variable %s is not set (write ${%s:-default} to give a default, $${%s} for the text itself)", name, name, name)
		}
		if external {
			v = strings.ReplaceAll(v, "$", "$$")
		}
		return v
	})
	if used {
		e.origin.written[path] = written
	}
}
