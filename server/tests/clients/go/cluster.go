package main

import (
	"fmt"
	"slices"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/client/v3/concurrency"
)

func (s *session) memberList() {
	resp, err := s.cli.MemberList(s.ctx)
	must("member list", err)
	check(len(resp.Members) == s.members, "%d members", len(resp.Members))
	var urls []string
	for i, member := range resp.Members {
		check(i == 0 || member.ID > resp.Members[i-1].ID, "members are not in the order of their ids")
		check(member.Name != "" && len(member.PeerURLs) == 1 && len(member.ClientURLs) == 1, "member %v", member)
		check(!member.IsLearner, "member %v is a learner", member)
		urls = append(urls, member.ClientURLs[0])
	}
	check(slices.ContainsFunc(resp.Members, func(member *pb.Member) bool { return member.ID == resp.Header.MemberId }),
		"the answering member %x is not among %v", resp.Header.MemberId, resp.Members)
	check(resp.Header.ClusterId != 0, "cluster id 0")
	s.expect("member list", fmt.Sprintf("header revision %d", resp.Header.Revision), "header revision 0")
	// Sync makes the client talk to all advertised URLs.
	must("endpoints from the member list", s.cli.Sync(s.ctx))
	synced := s.cli.Endpoints()
	s.expect("endpoints from the member list", fmt.Sprint(slices.Equal(sorted(synced), sorted(urls))), "true")
	for _, endpoint := range s.endpoints {
		check(slices.Contains(urls, endpoint), "%s is not advertised, only %v", endpoint, urls)
	}
	s.cli.SetEndpoints(s.endpoints...)
}

func sorted(words []string) []string {
	words = slices.Clone(words)
	slices.Sort(words)
	return words
}

func (s *session) endpointStatus() {
	endpoint := s.endpoints[0]
	resp, err := s.cli.Status(s.ctx, endpoint)
	must("endpoint status", err)
	check(strings.HasPrefix(resp.Version, "3."), "version %q", resp.Version)
	check(resp.Leader != 0, "no leader")
	check(s.members > 1 || resp.Leader == resp.Header.MemberId, "leader %x, member %x", resp.Leader, resp.Header.MemberId)
	check(resp.DbSize > 0 && resp.DbSizeInUse <= resp.DbSize, "sizes %d, in use %d", resp.DbSize, resp.DbSizeInUse)
	check(resp.RaftTerm > 0 && resp.RaftTerm == resp.Header.RaftTerm, "terms %d and %d", resp.RaftTerm, resp.Header.RaftTerm)
	check(resp.RaftAppliedIndex > 0 && resp.RaftAppliedIndex <= resp.RaftIndex, "index %d, applied %d", resp.RaftIndex, resp.RaftAppliedIndex)
	check(resp.DbSizeQuota == 2<<30, "quota %d", resp.DbSizeQuota)
	check(resp.DowngradeInfo != nil && !resp.DowngradeInfo.Enabled, "downgrade info %v", resp.DowngradeInfo)
	s.expect("endpoint status", fmt.Sprintf("learner %t errors %v", resp.IsLearner, resp.Errors), "learner false errors []")
	hash, err := s.cli.HashKV(s.ctx, endpoint, 0)
	must("hashkv", err)
	check(hash.Hash != 0 && hash.HashRevision == hash.Header.Revision, "hash %d at %d", hash.Hash, hash.HashRevision)
	_, err = s.cli.Defragment(s.ctx, endpoint)
	must("defragment", err)
	again, err := s.cli.HashKV(s.ctx, endpoint, 0)
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
