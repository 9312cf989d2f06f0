// What prometheus-operator makes of monitors: a v1 List of ServiceMonitors and PodMonitors comes in as JSON, and the
// configuration that it would give to Prometheus goes out, made by its own generator. Nothing is asked of a cluster.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"github.com/prometheus-operator/prometheus-operator/pkg/assets"
	"github.com/prometheus-operator/prometheus-operator/pkg/prometheus"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
)

type list struct {
	Items []json.RawMessage `json:"items"`
}

func main() {
	if err := generate(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func generate(in io.Reader, out io.Writer) error {
	var objects list
	if err := json.NewDecoder(in).Decode(&objects); err != nil {
		return fmt.Errorf("standard input is no List in JSON: %w", err)
	}
	services := map[string]*monitoring.ServiceMonitor{}
	pods := map[string]*monitoring.PodMonitor{}
	for _, item := range objects.Items {
		var kind meta.TypeMeta
		if err := json.Unmarshal(item, &kind); err != nil {
			return err
		}
		switch kind.Kind {
		case "ServiceMonitor":
			monitor := &monitoring.ServiceMonitor{}
			if err := json.Unmarshal(item, monitor); err != nil {
				return err
			}
			services[monitor.Namespace+"/"+monitor.Name] = monitor
		case "PodMonitor":
			monitor := &monitoring.PodMonitor{}
			if err := json.Unmarshal(item, monitor); err != nil {
				return err
			}
			pods[monitor.Namespace+"/"+monitor.Name] = monitor
		default:
			return fmt.Errorf("a %s is no monitor", kind.Kind)
		}
	}
	server := &monitoring.Prometheus{ObjectMeta: meta.ObjectMeta{Name: "prometheus", Namespace: "monitoring"}}
	server.Spec.Version = "v3.5.0"
	generator, err := prometheus.NewConfigGenerator(nil, server, prometheus.WithEndpointSliceSupport())
	if err != nil {
		return err
	}
	secrets := assets.NewTestStoreBuilder() // the monitors refer to none
	text, err := generator.GenerateServerConfiguration(server, services, pods, nil, nil, secrets, nil, nil, nil, nil)
	if err != nil {
		return err
	}
	_, err = out.Write(text)
	return err
}
