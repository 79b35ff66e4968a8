package main

import (
	"bytes"
	"fmt"
	"slices"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// grant asks for a lease and checks the granted time to live.
func (s *session) grant(ttl, want int64) clientv3.LeaseID {
	resp, err := s.cli.Grant(s.ctx, ttl)
	must("lease grant", err)
	check(resp.ID > 0, "lease id %d", resp.ID)
	s.expect("granted", fmt.Sprint(resp.TTL), fmt.Sprint(want))
	return resp.ID
}

func (s *session) leases() {
	id := s.grant(600, 600)
	before := s.put("l/a", "1", clientv3.WithLease(id))
	s.put("l/b", "2", clientv3.WithLease(id))
	s.put("l/c", "3", clientv3.WithLease(id))
	get, err := s.cli.Get(s.ctx, "l/a")
	must("get", err)
	check(get.Kvs[0].Lease == int64(id), "lease %x on the key, %x granted", get.Kvs[0].Lease, id)
	s.put("l/c", "detached")
	s.put("l/b", "kept", clientv3.WithIgnoreLease())

	life, err := s.cli.TimeToLive(s.ctx, id, clientv3.WithAttachedKeys())
	must("timetolive --keys", err)
	check(life.TTL > 590 && life.TTL <= 600, "remaining %d s", life.TTL)
	// The order of attached keys is not defined.
	slices.SortFunc(life.Keys, bytes.Compare)
	s.expect("timetolive --keys", fmt.Sprintf("granted %d keys %s", life.GrantedTTL, life.Keys), "granted 600 keys [l/a l/b]")
	life, err = s.cli.TimeToLive(s.ctx, id)
	must("timetolive", err)
	s.expect("timetolive", fmt.Sprintf("granted %d keys %s", life.GrantedTTL, life.Keys), "granted 600 keys []")

	// The client has no call for a chosen id, its stub has.
	stub := pb.NewLeaseClient(s.cli.ActiveConnection())
	given, err := stub.LeaseGrant(s.ctx, &pb.LeaseGrantRequest{ID: 4711, TTL: 1200})
	must("grant of a given id", err)
	s.expect("grant of a given id", fmt.Sprintf("%d for %d s", given.ID, given.TTL), "4711 for 1200 s")
	_, err = stub.LeaseGrant(s.ctx, &pb.LeaseGrantRequest{ID: 4711, TTL: 1200})
	s.expect("grant of the same id", showErr(err), "FailedPrecondition: etcdserver: lease already exists")
	_, err = s.cli.Grant(s.ctx, 9_000_000_001)
	s.expect("grant for ever", showErr(err), "OutOfRange: etcdserver: too large lease TTL")

	list, err := s.cli.Leases(s.ctx)
	must("lease list", err)
	ids := make([]bool, len(list.Leases))
	for i, lease := range list.Leases {
		ids[i] = lease.ID == id || lease.ID == 4711
	}
	s.expect("lease list", fmt.Sprint(ids), "[true true]")

	w := s.watch("revoke", "l/", clientv3.WithPrefix(), clientv3.WithPrevKV())
	defer w.cancel()
	revoked, err := s.cli.Revoke(s.ctx, id)
	must("revoke", err)
	check(revoked.Header.Revision == before+5, "revision %d after the revoke, %d before", revoked.Header.Revision, before)
	resp := w.next()
	keys := ""
	for _, event := range resp.Events {
		check(event.Kv.ModRevision == before+5 && event.PrevKv.Lease == int64(id), "event %v", event)
		keys += fmt.Sprintf("%s %s=%s ", event.Type, event.Kv.Key, event.PrevKv.Value)
	}
	s.expect("revoke", keys, "DELETE l/a=1 DELETE l/b=kept ")
	s.expect("left", s.count("l/"), "1 keys")
	_, err = s.cli.Revoke(s.ctx, id)
	s.expect("revoke again", showErr(err), "NotFound: etcdserver: requested lease not found")
	life, err = s.cli.TimeToLive(s.ctx, id)
	must("timetolive of a revoked lease", err)
	s.expect("timetolive of a revoked lease", fmt.Sprintf("%d of %d", life.TTL, life.GrantedTTL), "-1 of 0")
	_, err = s.cli.Revoke(s.ctx, 4711)
	must("revoke of a lease without keys", err)
}

func (s *session) leaseKeepAlive() {
	id := s.grant(2, 2)
	s.put("ka/a", "1", clientv3.WithLease(id))
	once, err := s.cli.KeepAliveOnce(s.ctx, id)
	must("keep-alive --once", err)
	s.expect("keep-alive --once", fmt.Sprint(once.TTL), "2")
	_, err = s.cli.KeepAliveOnce(s.ctx, 987654321)
	s.expect("keep-alive of an unknown lease", showErr(err), "NotFound: etcdserver: requested lease not found")

	// Three seconds of renewals: longer than the lease would live without them.
	alive, err := s.cli.KeepAlive(s.ctx, id)
	must("keep-alive", err)
	start := time.Now()
	for time.Since(start) < 3*time.Second {
		select {
		case resp := <-alive:
			check(resp != nil && resp.TTL == 2, "keep-alive answered %v", resp)
		case <-time.After(patience):
			fail("no keep-alive answer")
		}
	}
	s.expect("key of a lease kept alive", s.count("ka/"), "1 keys")
	_, err = s.cli.Revoke(s.ctx, id)
	must("revoke", err)
	for range alive {
		// The channel ends once a renewal has met the revoked lease.
	}
	s.expect("key after the revoke", s.count("ka/"), "0 keys")
}

func (s *session) leaseExpiry() {
	w := s.watch("expiry", "x/", clientv3.WithPrefix())
	defer w.cancel()
	start := time.Now()
	id := s.grant(1, 2)
	s.put("x/b", "1", clientv3.WithLease(id))
	at := s.put("x/a", "1", clientv3.WithLease(id))
	w.revision()
	w.revision()
	resp := w.revision()
	life := time.Since(start)
	check(life >= 2*time.Second, "expired after %v", life)
	check(resp.Events[0].Kv.ModRevision == at+1, "expired at revision %d, put at %d", resp.Events[0].Kv.ModRevision, at)
	s.expect("events", fmt.Sprintf("%d: %s %s %s %s", len(resp.Events), resp.Events[0].Type, resp.Events[0].Kv.Key,
		resp.Events[1].Type, resp.Events[1].Kv.Key), "2: DELETE x/a DELETE x/b")
	s.expect("keys after expiry", s.count("x/"), "0 keys")
	answer, err := s.cli.TimeToLive(s.ctx, id)
	must("timetolive of an expired lease", err)
	s.expect("timetolive of an expired lease", fmt.Sprint(answer.TTL), "-1")
}

func (s *session) count(prefix string) string {
	resp, err := s.cli.Get(s.ctx, prefix, clientv3.WithPrefix(), clientv3.WithCountOnly())
	must("count", err)
	return fmt.Sprintf("%d keys", resp.Count)
}
