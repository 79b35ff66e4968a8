// Command session runs one fixed session of etcd v3 calls through the official Go client against a
// fresh store and checks every answer. It prints a transcript without ids, ports or times, so that two
// runs print the same bytes, and ends with status 1 at the first answer that is not the expected one.
package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// patience bounds every single wait of the session. Nothing sleeps for it: it only ends a hang.
const patience = 20 * time.Second

// session carries what every part of the session needs.
type session struct {
	cli       *clientv3.Client
	endpoints []string
	members   int
	ctx       context.Context
}

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: session MEMBERS http://HOST:PORT[,...] (of an empty store, and how many members it has)")
		os.Exit(2)
	}
	members, err := strconv.Atoi(os.Args[1])
	must("number of members", err)
	endpoints := strings.Split(os.Args[2], ",")
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	cli, err := clientv3.New(clientv3.Config{
		Endpoints:   endpoints,
		DialTimeout: patience,
		Context:     ctx,
		Logger:      zap.NewNop(), // it would report every error that the session asks for
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, "FAILED: connect:", err)
		os.Exit(1)
	}
	defer cli.Close()
	s := &session{cli: cli, endpoints: endpoints, members: members, ctx: ctx}

	// The order matters: each part knows the revision that the parts before it reached.
	s.part("put", s.puts)
	s.part("get", s.gets)
	s.part("range stream", s.streams)
	s.part("old revisions", s.oldRevisions)
	s.part("del", s.deletes)
	s.part("txn", s.txns)
	s.part("nested txn", s.nestedTxns)
	s.part("watch from now", s.watchNow)
	s.part("watch from the past", s.watchPast)
	s.part("watch prev-kv", s.watchPrevKV)
	s.part("watch filters", s.watchFilters)
	s.part("watch progress", s.watchProgress)
	s.part("watch fragments", s.watchFragments)
	s.part("compaction", s.compaction)
	s.part("watch over a compaction", s.watchCompacted)
	s.part("lease", s.leases)
	s.part("lease keep-alive", s.leaseKeepAlive)
	s.part("lease expiry", s.leaseExpiry)
	s.part("member list", s.memberList)
	s.part("endpoint status", s.endpointStatus)
	s.part("endpoint health", s.endpointHealth)
	s.part("concurrency", s.concurrency)
	s.part("auth", s.auth)
	fmt.Println("session passed")
}

// part prints a heading and runs one part of the session.
func (s *session) part(name string, run func()) {
	fmt.Println("##", name)
	run()
}

// expect prints one answer and ends the program if it is not the expected one.
func (s *session) expect(what, got, want string) {
	fmt.Printf("%s: %s\n", what, got)
	if got != want {
		fail("%s:\n  got  %s\n  want %s", what, got, want)
	}
}

// must ends the program on an error nobody expects.
func must(what string, err error) {
	if err != nil {
		fail("%s: unexpected error: %v", what, err)
	}
}

// check ends the program when a condition that cannot be printed does not hold.
func check(holds bool, format string, args ...any) {
	if !holds {
		fail(format, args...)
	}
}

func fail(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "FAILED: "+format+"\n", args...)
	os.Exit(1)
}
