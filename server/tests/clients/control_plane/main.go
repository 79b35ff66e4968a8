// The scheduler and the controllers of Kubernetes, each run as its own main does: the first word says which.
package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	controllers "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
)

func main() {
	var command *cobra.Command
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "scheduler":
			command = scheduler.NewSchedulerCommand()
		case "controllers":
			command = controllers.NewControllerManagerCommand()
		}
	}
	if command == nil {
		fmt.Fprintln(os.Stderr, "scheduler FLAGS or controllers FLAGS")
		os.Exit(2)
	}
	os.Args = os.Args[1:]
	os.Exit(cli.Run(command))
}
