// The etcd server, as its own module gives it: what differential tests compare with.
//
// Nothing is added and nothing is left out, so that it behaves as a released binary of the version in go.mod does.
package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
)

func main() {
	etcdmain.Main(os.Args)
}
