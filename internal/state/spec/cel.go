// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package spec

import (
	"errors"
	"fmt"
	"time"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
	"cel.dev/cel-go/ext"
)

// celCost bounds one evaluation. A step costs about one; the bound is reached after some tens of
// milliseconds.
const celCost = 250_000

// celDepth bounds how deep a result is copied out of CEL.
const celDepth = 32

var errDeep = errors.New("result is nested too deep")

// environment is what expressions are checked against. It is made on first use by a decoder and
// shared by all of its expressions.
func environment() (*cel.Env, error) {
	return cel.NewEnv(
		cel.Variable("object", cel.DynType),
		cel.Variable("value", cel.DynType),
		cel.Variable("key", cel.StringType),
		cel.OptionalTypes(),
		ext.Strings(), ext.Math(), ext.Lists(),
		cel.Function("number", cel.Overload("number_dyn", []*cel.Type{cel.DynType}, cel.DoubleType,
			cel.UnaryBinding(func(v ref.Val) ref.Val {
				n, err := native(v, 0)
				if err != nil {
					return types.WrapErr(err)
				}
				f, err := Number(n)
				if err != nil {
					return types.WrapErr(err)
				}
				return types.Double(f)
			}))),
	)
}

// program is a compiled expression. It is safe for concurrent use.
type program struct {
	source string
	prog   cel.Program
	// constant is set for expressions that look at nothing.
	constant any
	fixed    bool
}

func compileCEL(env *cel.Env, source string) (*program, error) {
	ast, issues := env.Compile(source)
	if issues.Err() != nil {
		return nil, celFault(issues)
	}
	prog, err := env.Program(ast, cel.EvalOptions(cel.OptOptimize), cel.CostLimit(celCost))
	if err != nil {
		return nil, fmt.Errorf("cel: %w", err)
	}
	p := &program{source: source, prog: prog}
	if out, _, err := prog.Eval(cel.NoVars()); err == nil {
		if c, err := native(out, 0); err == nil {
			p.constant, p.fixed = c, true
		}
	}
	return p, nil
}

// celFault gives the first issue in one line; the others mostly follow from it.
func celFault(issues *cel.Issues) error {
	for _, e := range issues.Errors() {
		return fmt.Errorf("cel: character %d: %w", e.Location.Column()+1, errors.New(e.Message))
	}
	return fmt.Errorf("cel: %w", issues.Err())
}

func (p *program) eval(object map[string]any, v any, key string) (any, error) {
	if p.fixed {
		return p.constant, nil
	}
	out, _, err := p.prog.Eval(map[string]any{"object": object, "value": v, "key": key})
	if err != nil {
		return nil, fmt.Errorf("cel: %w", err)
	}
	return native(out, 0)
}

// native turns a result into the types objects are made of.
func native(v ref.Val, depth int) (any, error) {
	if depth > celDepth {
		return nil, errDeep
	}
	switch v := v.(type) {
	case types.Null:
		return nil, nil
	case types.String, types.Bool, types.Int, types.Double:
		return v.Value(), nil
	case types.Uint:
		return float64(v), nil
	case types.Timestamp:
		return v.UTC(), nil
	case types.Duration:
		return v.Duration, nil
	case *types.Optional:
		if !v.HasValue() {
			return nil, nil
		}
		return native(v.GetValue(), depth+1)
	case traits.Mapper:
		return nativeMap(v, depth)
	case traits.Lister:
		return nativeList(v, depth)
	case *types.Err:
		return nil, v
	}
	if t, ok := v.Value().(time.Time); ok {
		return t, nil
	}
	return nil, fmt.Errorf("cel: a result of type %s is of no use", v.Type().TypeName())
}

func nativeMap(v traits.Mapper, depth int) (any, error) {
	if m, ok := v.Value().(map[string]any); ok {
		return m, nil
	}
	m := map[string]any{}
	for it := v.Iterator(); it.HasNext() == types.True; {
		k := it.Next()
		el, err := native(v.Get(k), depth+1)
		if err != nil {
			return nil, err
		}
		m[fmt.Sprint(k.Value())] = el
	}
	return m, nil
}

func nativeList(v traits.Lister, depth int) (any, error) {
	if l, ok := v.Value().([]any); ok {
		return l, nil
	}
	l := []any{}
	for it := v.Iterator(); it.HasNext() == types.True; {
		el, err := native(it.Next(), depth+1)
		if err != nil {
			return nil, err
		}
		l = append(l, el)
	}
	return l, nil
}
