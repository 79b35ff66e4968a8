package main

import (
	"fmt"
	"strings"

	"go.etcd.io/etcd/client/v3/concurrency"
)

func (s *session) memberList() {
	resp, err := s.cli.MemberList(s.ctx)
	must("member list", err)
	check(len(resp.Members) == 1, "%d members", len(resp.Members))
	member := resp.Members[0]
	check(member.ID != 0 && member.ID == resp.Header.MemberId, "member %x, header says %x", member.ID, resp.Header.MemberId)
	check(resp.Header.ClusterId != 0, "cluster id 0")
	check(len(member.ClientURLs) == 1 && member.ClientURLs[0] == s.endpoint, "client URLs %v, not %s", member.ClientURLs, s.endpoint)
	check(len(member.PeerURLs) == 1, "peer URLs %v", member.PeerURLs)
	s.expect("member", fmt.Sprintf("name %s learner %t header revision %d", member.Name, member.IsLearner, resp.Header.Revision),
		"name default learner false header revision 0")
	// Sync makes the client talk to the advertised URLs from here on.
	must("endpoints from the member list", s.cli.Sync(s.ctx))
	s.expect("endpoints from the member list", fmt.Sprint(s.cli.Endpoints()[0] == s.endpoint), "true")
}

func (s *session) endpointStatus() {
	resp, err := s.cli.Status(s.ctx, s.endpoint)
	must("endpoint status", err)
	check(strings.HasPrefix(resp.Version, "3."), "version %q", resp.Version)
	check(resp.Leader == resp.Header.MemberId, "leader %x, member %x", resp.Leader, resp.Header.MemberId)
	check(resp.DbSize > 0 && resp.DbSizeInUse <= resp.DbSize, "sizes %d, in use %d", resp.DbSize, resp.DbSizeInUse)
	check(resp.RaftTerm > 0 && resp.RaftTerm == resp.Header.RaftTerm, "terms %d and %d", resp.RaftTerm, resp.Header.RaftTerm)
	check(resp.RaftAppliedIndex > 0 && resp.RaftAppliedIndex <= resp.RaftIndex, "index %d, applied %d", resp.RaftIndex, resp.RaftAppliedIndex)
	check(resp.DbSizeQuota == 2<<30, "quota %d", resp.DbSizeQuota)
	check(resp.DowngradeInfo != nil && !resp.DowngradeInfo.Enabled, "downgrade info %v", resp.DowngradeInfo)
	s.expect("endpoint status", fmt.Sprintf("learner %t errors %v", resp.IsLearner, resp.Errors), "learner false errors []")
	hash, err := s.cli.HashKV(s.ctx, s.endpoint, 0)
	must("hashkv", err)
	check(hash.Hash != 0 && hash.HashRevision == hash.Header.Revision, "hash %d at %d", hash.Hash, hash.HashRevision)
	_, err = s.cli.Defragment(s.ctx, s.endpoint)
	must("defragment", err)
	again, err := s.cli.HashKV(s.ctx, s.endpoint, 0)
	must("hashkv", err)
	s.expect("the same hash after defragment", fmt.Sprint(again.Hash == hash.Hash), "true")
}

// endpointHealth does what `etcdctl endpoint health` does: a linearizable read and a look at the alarms.
func (s *session) endpointHealth() {
	_, err := s.cli.Get(s.ctx, "health")
	must("linearizable get", err)
	alarms, err := s.cli.AlarmList(s.ctx)
	must("alarm list", err)
	s.expect("alarms", fmt.Sprint(len(alarms.Alarms)), "0")
}

// concurrency runs the client's own recipes, built on leases, txns and watches.
func (s *session) concurrency() {
	holder, err := concurrency.NewSession(s.cli, concurrency.WithTTL(60))
	must("first session", err)
	waiter, err := concurrency.NewSession(s.cli, concurrency.WithTTL(60))
	must("second session", err)
	held := concurrency.NewMutex(holder, "lock")
	must("lock", held.Lock(s.ctx))
	wanted := concurrency.NewMutex(waiter, "lock")
	s.expect("lock held by another", fmt.Sprint(wanted.TryLock(s.ctx)), concurrency.ErrLocked.Error())
	locked := make(chan error, 1)
	go func() { locked <- wanted.Lock(s.ctx) }()
	must("unlock", held.Unlock(s.ctx))
	must("lock after unlock", <-locked)
	s.expect("lock passed on", fmt.Sprint(strings.HasPrefix(wanted.Key(), "lock/")), "true")

	election := concurrency.NewElection(waiter, "election")
	must("campaign", election.Campaign(s.ctx, "me"))
	leader, err := election.Leader(s.ctx)
	must("leader", err)
	s.expect("leader", string(leader.Kvs[0].Value), "me")
	must("close", waiter.Close())
	must("close", holder.Close())
	_, err = election.Leader(s.ctx)
	s.expect("no leader after its session", fmt.Sprint(err), concurrency.ErrElectionNoLeader.Error())
}
