package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// watching is one watcher of the client with its own way to end it.
type watching struct {
	name     string
	ctx      context.Context
	cancel   context.CancelFunc
	channel  clientv3.WatchChan
	buffered []*clientv3.Event
}

// watch starts a watcher and waits until the server has confirmed it.
func (s *session) watch(name, key string, opts ...clientv3.OpOption) *watching {
	ctx, cancel := context.WithCancel(s.ctx)
	w := &watching{name: name, ctx: ctx, cancel: cancel}
	s.catchUp()
	w.channel = s.cli.Watch(ctx, key, append(opts, clientv3.WithCreatedNotify())...)
	created := w.next()
	check(created.Created && len(created.Events) == 0, "%s: the first response is %+v", name, created)
	return w
}

// catchUp brings every member up to date that the client talks to. A watch is served from what its member has
// applied, and another one may have answered the last write. Calls go to the endpoints in turn.
func (s *session) catchUp() {
	if len(s.endpoints) == 1 {
		return
	}
	for range s.endpoints {
		_, err := s.cli.Get(s.ctx, "a linearizable read")
		must("get", err)
	}
}

// next is the next response as it came.
func (w *watching) next() clientv3.WatchResponse {
	select {
	case resp, ok := <-w.channel:
		check(ok, "%s: the watch ended", w.name)
		return resp
	case <-time.After(patience):
		fail("%s: no response within %v", w.name, patience)
	}
	panic("unreachable")
}

// revision is every event of the next revision, however the server cut its responses. It fails when a
// revision is cut in two, because no later response may continue it.
func (w *watching) revision() clientv3.WatchResponse {
	if len(w.buffered) == 0 {
		resp := w.next()
		must(w.name, resp.Err())
		w.buffered = resp.Events
		check(len(w.buffered) > 0, "%s: a response without events", w.name)
	}
	at := w.buffered[0].Kv.ModRevision
	n := 0
	for n < len(w.buffered) && w.buffered[n].Kv.ModRevision == at {
		n++
	}
	resp := clientv3.WatchResponse{Events: w.buffered[:n]}
	w.buffered = w.buffered[n:]
	return resp
}

// expectRevisions reads one revision per expected line.
func (s *session) expectRevisions(w *watching, want ...string) {
	for _, line := range want {
		s.expect(w.name, showEvents(w.revision()), line)
	}
}

func (s *session) delete(key string, opts ...clientv3.OpOption) int64 {
	resp, err := s.cli.Delete(s.ctx, key, opts...)
	must("del "+key, err)
	return resp.Header.Revision
}

// watchNow makes revisions 15 to 18.
func (s *session) watchNow() {
	prefix := s.watch("prefix", "w/", clientv3.WithPrefix())
	defer prefix.cancel()
	single := s.watch("one key", "w/b")
	defer single.cancel()
	s.put("w/a", "1")
	s.put("w/a", "2")
	s.delete("w/a")
	_, err := s.cli.Txn(s.ctx).Then(clientv3.OpPut("w/c", "1"), clientv3.OpPut("w/b", "2"), clientv3.OpPut("w/d", "3")).Commit()
	must("txn", err)
	for _, want := range []string{
		"15: PUT w/a=1(15,15,1)",
		"16: PUT w/a=2(15,16,2)",
		"17: DELETE w/a=(0,17,0)",
		"18: PUT w/c=1(18,18,1); PUT w/b=2(18,18,1); PUT w/d=3(18,18,1)",
	} {
		resp := prefix.next()
		s.expect("prefix", fmt.Sprintf("%d: %s", resp.Header.Revision, showEvents(resp)), want)
	}
	s.expectRevisions(single, "PUT w/b=2(18,18,1)")
}

// watchPast makes revision 19.
func (s *session) watchPast() {
	past := s.watch("from revision 15", "w/", clientv3.WithPrefix(), clientv3.WithRev(15))
	defer past.cancel()
	future := s.watch("from revision 19", "w/", clientv3.WithPrefix(), clientv3.WithRev(19))
	defer future.cancel()
	s.put("w/e", "5")
	s.expectRevisions(past,
		"PUT w/a=1(15,15,1)",
		"PUT w/a=2(15,16,2)",
		"DELETE w/a=(0,17,0)",
		"PUT w/c=1(18,18,1); PUT w/b=2(18,18,1); PUT w/d=3(18,18,1)",
		"PUT w/e=5(19,19,1)")
	s.expectRevisions(future, "PUT w/e=5(19,19,1)")
}

// watchPrevKV makes revisions 20 to 22.
func (s *session) watchPrevKV() {
	w := s.watch("prev-kv", "w/p", clientv3.WithPrevKV())
	defer w.cancel()
	s.put("w/p", "1")
	s.put("w/p", "2")
	s.delete("w/p")
	s.expectRevisions(w,
		"PUT w/p=1(20,20,1)",
		"PUT w/p=2(20,21,2) was w/p=1(20,20,1)",
		"DELETE w/p=(0,22,0) was w/p=2(20,21,2)")
}

// watchFilters makes revisions 23 to 26.
func (s *session) watchFilters() {
	noPut := s.watch("no put", "w/f", clientv3.WithFilterPut())
	defer noPut.cancel()
	noDelete := s.watch("no delete", "w/f", clientv3.WithFilterDelete())
	defer noDelete.cancel()
	for range 2 {
		s.put("w/f", "1")
		s.delete("w/f")
	}
	s.expectRevisions(noPut, "DELETE w/f=(0,24,0)", "DELETE w/f=(0,26,0)")
	s.expectRevisions(noDelete, "PUT w/f=1(23,23,1)", "PUT w/f=1(25,25,1)")
}

// watchProgress makes revisions 27 and 28.
func (s *session) watchProgress() {
	w := s.watch("progress", "w/q")
	defer w.cancel()
	s.put("w/q", "1")
	s.expectRevisions(w, "PUT w/q=1(27,27,1)")
	now := s.put("elsewhere", "1")
	// A server may drop a request while a watcher is catching up, so it is repeated until it is answered.
	deadline := time.Now().Add(patience)
	for {
		must("request progress", s.cli.RequestProgress(w.ctx))
		select {
		case resp := <-w.channel:
			check(resp.IsProgressNotify(), "not a progress notification: %+v", resp)
			if resp.Header.Revision == now {
				s.expect("progress", fmt.Sprint(resp.Header.Revision), "28")
				return
			}
			check(resp.Header.Revision < now, "progress at %d, the store is at %d", resp.Header.Revision, now)
		case <-time.After(100 * time.Millisecond):
			check(time.Now().Before(deadline), "no progress notification")
		}
	}
}

// watchFragments makes revisions 29 to 31 of 1 MiB each and reads them back whole and in fragments.
func (s *session) watchFragments() {
	value := strings.Repeat("x", 1<<20)
	first := s.put("big/a", value)
	s.put("big/b", value)
	s.put("big/c", value)

	merged := s.watch("merged by the client", "big/", clientv3.WithPrefix(), clientv3.WithRev(first), clientv3.WithFragment())
	defer merged.cancel()
	s.expectRevisions(merged,
		"PUT big/a=<1048576 bytes>(29,29,1)",
		"PUT big/b=<1048576 bytes>(30,30,1)",
		"PUT big/c=<1048576 bytes>(31,31,1)")
	s.expect("with fragments", s.rawWatch(first, true), "fragment 1 events, fragment 1 events, 1 events")
	s.expect("without", s.rawWatch(first, false), "3 events")
}

// rawWatch shows how the server cuts its responses, which the client hides.
func (s *session) rawWatch(from int64, fragment bool) string {
	ctx, cancel := context.WithTimeout(s.ctx, patience)
	defer cancel()
	stream, err := pb.NewWatchClient(s.cli.ActiveConnection()).Watch(ctx)
	must("raw watch", err)
	must("raw create", stream.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: &pb.WatchCreateRequest{
		Key: []byte("big/"), RangeEnd: []byte("big0"), StartRevision: from, Fragment: fragment,
	}}}))
	created, err := stream.Recv()
	must("raw created", err)
	check(created.Created && created.WatchId == 0, "created: %v", created)
	var words []string
	for events := 0; events < 3; {
		resp, err := stream.Recv()
		must("raw receive", err)
		events += len(resp.Events)
		word := fmt.Sprintf("%d events", len(resp.Events))
		if resp.Fragment {
			word = "fragment " + word
		}
		words = append(words, word)
	}
	return strings.Join(words, ", ")
}

// watchCompacted watches from below, at and above the compacted revision.
func (s *session) watchCompacted() {
	now := s.put("c/b", "1")
	_, err := s.cli.Compact(s.ctx, now)
	must("compact", err)
	below := s.watch("from below", "c/", clientv3.WithPrefix(), clientv3.WithRev(now-1))
	defer below.cancel()
	resp := below.next()
	check(resp.CompactRevision == now, "compact revision %d, compacted at %d", resp.CompactRevision, now)
	s.expect("from below", fmt.Sprintf("canceled %t: %s", resp.Canceled, showErr(resp.Err())),
		"canceled true: OutOfRange: etcdserver: mvcc: required revision has been compacted")
	check(resp.Err() == rpctypes.ErrCompacted, "the client does not know its own constant for %v", resp.Err())
	_, open := <-below.channel
	s.expect("the channel is open", fmt.Sprint(open), "false")

	at := s.watch("at the compacted revision", "c/", clientv3.WithPrefix(), clientv3.WithRev(now))
	defer at.cancel()
	next := s.put("c/b", "2")
	first, second := at.revision(), at.revision()
	check(first.Events[0].Kv.ModRevision == now && second.Events[0].Kv.ModRevision == next,
		"revisions %d and %d", first.Events[0].Kv.ModRevision, second.Events[0].Kv.ModRevision)
	s.expect("at the compacted revision", fmt.Sprintf("%s %s", first.Events[0].Kv.Value, second.Events[0].Kv.Value), "1 2")
}
