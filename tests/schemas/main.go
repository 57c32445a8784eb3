// Reads files as the programs do that they are for, by their own source, and fails at the first field that is not theirs.
package main

import (
	"fmt"
	"os"
	"regexp"
	"strings"

	buildkit "github.com/moby/buildkit/cmd/buildkitd/config"
	openshift "github.com/openshift/api/config/v1"
	"github.com/rancher/wharfie/pkg/registries"
	"github.com/siderolabs/talos/pkg/machinery/config/configpatcher"
	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	policy "k8s.io/api/policy/v1"
	"sigs.k8s.io/yaml"
)

var between = regexp.MustCompile(`(?m)^---$`)

func known(apiVersion, kind string) any {
	switch apiVersion + " " + kind {
	case "v1 ConfigMap":
		return &core.ConfigMap{}
	case "v1 Service":
		return &core.Service{}
	case "v1 ServiceAccount":
		return &core.ServiceAccount{}
	case "apps/v1 StatefulSet":
		return &apps.StatefulSet{}
	case "apps/v1 DaemonSet":
		return &apps.DaemonSet{}
	case "policy/v1 PodDisruptionBudget":
		return &policy.PodDisruptionBudget{}
	case "networking.k8s.io/v1 NetworkPolicy":
		return &networking.NetworkPolicy{}
	case "config.openshift.io/v1 ImageDigestMirrorSet":
		return &openshift.ImageDigestMirrorSet{}
	case "config.openshift.io/v1 ImageTagMirrorSet":
		return &openshift.ImageTagMirrorSet{}
	}
	return nil
}

func check(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if strings.HasSuffix(path, "talos.yaml") {
		_, err := configpatcher.LoadPatch(text)
		return err
	}
	if strings.HasSuffix(path, "buildkitd.toml") {
		// It takes keys that it does not know: what it has understood counts.
		config, err := buildkit.LoadFile(path)
		if err == nil && len(config.Registries["docker.io"].Mirrors) == 0 {
			err = fmt.Errorf("docker.io has no mirror")
		}
		return err
	}
	if strings.HasSuffix(path, "registries.yaml") {
		return yaml.UnmarshalStrict(text, &registries.Registry{})
	}
	documents := 0
	for _, document := range between.Split(string(text), -1) {
		var head struct{ APIVersion, Kind string }
		if err := yaml.Unmarshal([]byte(document), &head); err != nil {
			return err
		}
		if head.Kind == "" {
			continue
		}
		object := known(head.APIVersion, head.Kind)
		if object == nil {
			return fmt.Errorf("%s %s is not known here", head.APIVersion, head.Kind)
		}
		if err := yaml.UnmarshalStrict([]byte(document), object); err != nil {
			return fmt.Errorf("%s: %w", head.Kind, err)
		}
		documents++
	}
	if documents == 0 {
		return fmt.Errorf("no object in it")
	}
	fmt.Printf("%s: %d objects\n", path, documents)
	return nil
}

func main() {
	for _, path := range os.Args[1:] {
		if err := check(path); err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", path, err)
			os.Exit(1)
		}
	}
}
