// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"
)

//go:embed testdata/crds/*.yaml
var definitions embed.FS

// Sedna gives the resource of a plural of Sedna's group.
func Sedna(plural string) schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: "sedna.io", Version: "v1alpha1", Resource: plural}
}

// Core gives the resource of a plural of the core group.
func Core(plural string) schema.GroupVersionResource {
	return schema.GroupVersionResource{Version: "v1", Resource: plural}
}

func definitionResource() schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}
}

// CreateDefinitions adds the kinds of Sedna with these plurals, all if none is named, and waits until
// they are served.
func (c *Cluster) CreateDefinitions(ctx context.Context, plurals ...string) error {
	files, err := definitions.ReadDir("testdata/crds")
	if err != nil {
		return err
	}
	for _, file := range files {
		plural := strings.TrimSuffix(file.Name(), ".yaml")
		if len(plurals) > 0 && !slices.Contains(plurals, plural) {
			continue
		}
		text, err := definitions.ReadFile("testdata/crds/" + file.Name())
		if err != nil {
			return err
		}
		if err := c.Apply(ctx, definitionResource(), string(text)); err != nil {
			return err
		}
		err = Poll(ctx, func() bool {
			_, err = c.Dynamic.Resource(Sedna(plural)).List(ctx, metav1.ListOptions{Limit: 1})
			return err == nil
		})
		if err != nil {
			return fmt.Errorf("wait for %s: %w", plural, err)
		}
	}
	return nil
}

// DeleteDefinition removes a kind of Sedna with all its objects.
func (c *Cluster) DeleteDefinition(ctx context.Context, plural string) error {
	return c.Dynamic.Resource(definitionResource()).Delete(ctx, plural+".sedna.io", metav1.DeleteOptions{})
}

// Apply creates or changes an object, given as YAML, by server-side apply.
func (c *Cluster) Apply(ctx context.Context, resource schema.GroupVersionResource, text string) error {
	o := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte(text), &o.Object); err != nil {
		return fmt.Errorf("read object: %w", err)
	}
	r := c.Dynamic.Resource(resource)
	options := metav1.ApplyOptions{FieldManager: "test", Force: true}
	var err error
	if namespace := o.GetNamespace(); namespace != "" {
		_, err = r.Namespace(namespace).Apply(ctx, o.GetName(), o, options)
	} else {
		_, err = r.Apply(ctx, o.GetName(), o, options)
	}
	if err != nil {
		return fmt.Errorf("apply %s %s: %w", o.GetKind(), o.GetName(), err)
	}
	return nil
}

// CreateNamespace makes a namespace; that it exists is no error.
func (c *Cluster) CreateNamespace(ctx context.Context, name string) error {
	o := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": name},
	}}
	_, err := c.Dynamic.Resource(Core("namespaces")).Create(ctx, o, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	return err
}

// User makes a user with the rules of a ClusterRole, given as YAML, and gives a kubeconfig for it.
// Calling it again for the same role changes the rules.
func (c *Cluster) User(ctx context.Context, role string) (kubeconfig string, err error) {
	o := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte(role), &o.Object); err != nil {
		return "", fmt.Errorf("read role: %w", err)
	}
	user := o.GetName()
	rbac := schema.GroupVersionResource{Group: "rbac.authorization.k8s.io", Version: "v1", Resource: "clusterroles"}
	if err := c.Apply(ctx, rbac, role); err != nil {
		return "", err
	}
	rbac.Resource = "clusterrolebindings"
	err = c.Apply(ctx, rbac, fmt.Sprintf(`
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: %[1]s}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: %[1]s}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: %[1]s}]
`, user))
	if err != nil {
		return "", err
	}
	// The administrator's token, acting as the user: tokens are fixed when the API server starts.
	path, err := c.writeKubeconfig(user, c.token)
	if err != nil {
		return "", err
	}
	text, err := os.ReadFile(filepath.Clean(path))
	if err != nil {
		return "", err
	}
	text = []byte(strings.Replace(string(text), "user: {token:", fmt.Sprintf("user: {as: %q, token:", user), 1))
	return path, os.WriteFile(path, text, 0o600)
}

// Each calls f for 0 to n-1 from several goroutines, until one call fails.
func Each(ctx context.Context, n, workers int, f func(ctx context.Context, i int) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var next atomic.Int64
	errs := make([]error, workers)
	var wg sync.WaitGroup
	for worker := range workers {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < n && ctx.Err() == nil; i = int(next.Add(1)) - 1 {
				if errs[worker] = f(ctx, i); errs[worker] != nil {
					cancel()
				}
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}
