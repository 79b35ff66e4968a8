package main

import (
	"fmt"
	"strings"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// get reads and compares with the expected printed answer.
func (s *session) get(what, want, key string, opts ...clientv3.OpOption) {
	resp, err := s.cli.Get(s.ctx, key, opts...)
	must(what, err)
	s.expect(what, showGet(resp), want)
}

// put writes and returns the revision.
func (s *session) put(key, value string, opts ...clientv3.OpOption) int64 {
	resp, err := s.cli.Put(s.ctx, key, value, opts...)
	must("put "+key, err)
	return resp.Header.Revision
}

// puts leaves the store at revision 9 with a..e under k/.
func (s *session) puts() {
	s.get("empty store", "revision 1 count 0 []", "k/a")
	resp, err := s.cli.Put(s.ctx, "k/a", "5")
	must("first put", err)
	s.expect("first put", fmt.Sprintf("revision %d prev %s", resp.Header.Revision, showKV(resp.PrevKv)), "revision 2 prev none")
	s.put("k/b", "4")
	s.put("k/c", "3")
	s.put("k/d", "2")
	s.put("k/e", "1")
	resp, err = s.cli.Put(s.ctx, "k/a", "6", clientv3.WithPrevKV())
	must("put --prev-kv", err)
	s.expect("put --prev-kv", fmt.Sprintf("revision %d prev %s", resp.Header.Revision, showKV(resp.PrevKv)), "revision 7 prev k/a=5(2,2,1)")
	resp, err = s.cli.Put(s.ctx, "k/new", "n", clientv3.WithPrevKV())
	must("put --prev-kv of a new key", err)
	s.expect("put --prev-kv of a new key", showKV(resp.PrevKv), "none")
	resp, err = s.cli.Put(s.ctx, "k/b", "", clientv3.WithIgnoreValue())
	must("put --ignore-value", err)
	s.expect("put --ignore-value", fmt.Sprintf("revision %d", resp.Header.Revision), "revision 9")
	_, err = s.cli.Put(s.ctx, "absent", "", clientv3.WithIgnoreValue())
	s.expect("put --ignore-value of an absent key", showErr(err), "InvalidArgument: etcdserver: key not found")
	_, err = s.cli.Put(s.ctx, "k/a", "x", clientv3.WithIgnoreValue())
	s.expect("put --ignore-value with a value", showErr(err), "InvalidArgument: etcdserver: value is provided")
	_, err = s.cli.Put(s.ctx, "", "x")
	s.expect("put of the empty key", showErr(err), "InvalidArgument: etcdserver: key is not provided")
	_, err = s.cli.Put(s.ctx, "k/a", "x", clientv3.WithLease(12345))
	s.expect("put with an unknown lease", showErr(err), "NotFound: etcdserver: requested lease not found")
}

func (s *session) gets() {
	s.get("get", "revision 9 count 1 [k/a=6(2,7,2)]", "k/a")
	s.get("get absent", "revision 9 count 0 []", "absent")
	s.get("prefix", "revision 9 count 6 [k/a=6(2,7,2) k/b=4(3,9,2) k/c=3(4,4,1) k/d=2(5,5,1) k/e=1(6,6,1) k/new=n(8,8,1)]",
		"k/", clientv3.WithPrefix())
	s.get("range", "revision 9 count 2 [k/b=4(3,9,2) k/c=3(4,4,1)]", "k/b", clientv3.WithRange("k/d"))
	s.get("range of end < key", "revision 9 count 0 []", "k/d", clientv3.WithRange("k/b"))
	s.get("from key", "revision 9 count 2 [k/e=1(6,6,1) k/new=n(8,8,1)]", "k/e", clientv3.WithFromKey())
	s.get("every key", "revision 9 count 6 []", "\x00", clientv3.WithFromKey(), clientv3.WithCountOnly())
	s.get("limit", "revision 9 count 6 [k/a=6(2,7,2) k/b=4(3,9,2)] more", "k/", clientv3.WithPrefix(), clientv3.WithLimit(2))
	s.get("limit of all", "revision 9 count 2 [k/b=4(3,9,2) k/c=3(4,4,1)]", "k/b", clientv3.WithRange("k/d"), clientv3.WithLimit(2))
	s.get("count only", "revision 9 count 6 []", "k/", clientv3.WithPrefix(), clientv3.WithCountOnly(), clientv3.WithLimit(1))
	s.get("keys only", "revision 9 count 2 [k/b=(3,9,2) k/c=(4,4,1)]", "k/b", clientv3.WithRange("k/d"), clientv3.WithKeysOnly())
	s.get("serializable", "revision 9 count 1 [k/c=3(4,4,1)]", "k/c", clientv3.WithSerializable())

	order := func(what string, target clientv3.SortTarget, direction clientv3.SortOrder, want string) {
		resp, err := s.cli.Get(s.ctx, "k/", clientv3.WithPrefix(), clientv3.WithSort(target, direction))
		must(what, err)
		keys := make([]string, len(resp.Kvs))
		for i, kv := range resp.Kvs {
			keys[i] = strings.TrimPrefix(string(kv.Key), "k/")
		}
		s.expect(what, strings.Join(keys, " "), want)
	}
	order("by key, descending", clientv3.SortByKey, clientv3.SortDescend, "new e d c b a")
	order("by create revision, descending", clientv3.SortByCreateRevision, clientv3.SortDescend, "new e d c b a")
	order("by mod revision, ascending", clientv3.SortByModRevision, clientv3.SortAscend, "c d e a new b")
	order("by mod revision, descending", clientv3.SortByModRevision, clientv3.SortDescend, "b new a e d c")
	order("by value, ascending", clientv3.SortByValue, clientv3.SortAscend, "e d c b a new")
	s.get("by version, descending, limit 1 of one", "revision 9 count 1 [k/a=6(2,7,2)]", "k/a",
		clientv3.WithSort(clientv3.SortByVersion, clientv3.SortDescend), clientv3.WithLimit(1))
	s.get("last revision", "revision 9 count 6 [k/b=4(3,9,2)] more", "k/", append(clientv3.WithLastRev(), clientv3.WithPrefix())...)
	s.get("first create", "revision 9 count 6 [k/a=6(2,7,2)] more", "k/", append(clientv3.WithFirstCreate(), clientv3.WithPrefix())...)

	s.get("min mod revision", "revision 9 count 6 [k/b=4(3,9,2) k/new=n(8,8,1)]", "k/", clientv3.WithPrefix(), clientv3.WithMinModRev(8))
	s.get("max mod revision", "revision 9 count 6 [k/c=3(4,4,1) k/d=2(5,5,1)]", "k/", clientv3.WithPrefix(), clientv3.WithMaxModRev(5))
	s.get("min create revision", "revision 9 count 6 [k/e=1(6,6,1) k/new=n(8,8,1)]", "k/", clientv3.WithPrefix(), clientv3.WithMinCreateRev(6))
	s.get("max create revision", "revision 9 count 6 [k/a=6(2,7,2) k/b=4(3,9,2)]", "k/", clientv3.WithPrefix(), clientv3.WithMaxCreateRev(3))
	s.get("filter and limit", "revision 9 count 6 [k/c=3(4,4,1)] more", "k/", clientv3.WithPrefix(), clientv3.WithMaxModRev(5), clientv3.WithLimit(1))
	_, err := s.cli.Get(s.ctx, "")
	s.expect("get of the empty key", showErr(err), "InvalidArgument: etcdserver: key is not provided")
}

// streams checks that the concatenated chunks of a RangeStream equal the answer of Range.
func (s *session) streams() {
	stream := func(what, want, key string, opts ...clientv3.OpOption) {
		chunks, err := s.cli.GetStream(s.ctx, key, opts...)
		must(what, err)
		resp, err := clientv3.GetStreamToGetResponse(chunks)
		must(what, err)
		s.expect(what, showGet(resp), want)
	}
	stream("stream of a prefix", "revision 9 count 6 [k/a=6(2,7,2) k/b=4(3,9,2) k/c=3(4,4,1) k/d=2(5,5,1) k/e=1(6,6,1) k/new=n(8,8,1)]",
		"k/", clientv3.WithPrefix())
	stream("stream with limit", "revision 9 count 6 [k/a=6(2,7,2) k/b=4(3,9,2)] more", "k/", clientv3.WithPrefix(), clientv3.WithLimit(2))
	stream("stream at a revision", "revision 9 count 2 [k/a=5(2,2,1) k/b=4(3,3,1)]", "k/", clientv3.WithPrefix(), clientv3.WithRev(3))
	stream("stream of nothing", "revision 9 count 0 []", "absent")
	chunks, err := s.cli.GetStream(s.ctx, "k/", clientv3.WithPrefix(), clientv3.WithRev(99))
	must("stream of the future", err)
	_, err = clientv3.GetStreamToGetResponse(chunks)
	s.expect("stream of the future", showErr(err), "OutOfRange: etcdserver: mvcc: required revision is a future revision")
}

func (s *session) oldRevisions() {
	s.get("at revision 2", "revision 9 count 1 [k/a=5(2,2,1)]", "k/", clientv3.WithPrefix(), clientv3.WithRev(2))
	s.get("at revision 6", "revision 9 count 5 [k/a=5(2,2,1) k/b=4(3,3,1) k/c=3(4,4,1) k/d=2(5,5,1) k/e=1(6,6,1)]",
		"k/", clientv3.WithPrefix(), clientv3.WithRev(6))
	s.get("before the key", "revision 9 count 0 []", "k/new", clientv3.WithRev(7))
	_, err := s.cli.Get(s.ctx, "k/a", clientv3.WithRev(10))
	s.expect("of the future", showErr(err), "OutOfRange: etcdserver: mvcc: required revision is a future revision")
	check(err == rpctypes.ErrFutureRev || rpctypes.Error(err) == rpctypes.ErrFutureRev, "the client does not know its own constant for %v", err)
}

// deletes leaves the store at revision 11 with k/a and k/b.
func (s *session) deletes() {
	resp, err := s.cli.Delete(s.ctx, "absent", clientv3.WithPrevKV())
	must("del absent", err)
	s.expect("del absent", fmt.Sprintf("revision %d deleted %d %s", resp.Header.Revision, resp.Deleted, showKVs(resp.PrevKvs)), "revision 9 deleted 0 []")
	resp, err = s.cli.Delete(s.ctx, "k/new", clientv3.WithPrevKV())
	must("del --prev-kv", err)
	s.expect("del --prev-kv", fmt.Sprintf("revision %d deleted %d %s", resp.Header.Revision, resp.Deleted, showKVs(resp.PrevKvs)),
		"revision 10 deleted 1 [k/new=n(8,8,1)]")
	resp, err = s.cli.Delete(s.ctx, "k/c", clientv3.WithFromKey(), clientv3.WithPrevKV())
	must("del --from-key", err)
	s.expect("del --from-key", fmt.Sprintf("revision %d deleted %d %s", resp.Header.Revision, resp.Deleted, showKVs(resp.PrevKvs)),
		"revision 11 deleted 3 [k/c=3(4,4,1) k/d=2(5,5,1) k/e=1(6,6,1)]")
	s.get("what is left", "revision 11 count 2 [k/a=6(2,7,2) k/b=4(3,9,2)]", "k/", clientv3.WithPrefix())
	s.get("what was there", "revision 11 count 5 [k/a=6(2,7,2) k/b=4(3,9,2) k/c=3(4,4,1) k/d=2(5,5,1) k/e=1(6,6,1)]",
		"k/", clientv3.WithPrefix(), clientv3.WithRev(10))
}

// compaction compacts at the current revision less one.
func (s *session) compaction() {
	now := s.put("c/a", "1")
	s.put("c/a", "2")
	_, err := s.cli.Compact(s.ctx, now+2)
	s.expect("of the future", showErr(err), "OutOfRange: etcdserver: mvcc: required revision is a future revision")
	resp, err := s.cli.Compact(s.ctx, now, clientv3.WithCompactPhysical())
	must("compact", err)
	check(resp.Header.Revision == now+1, "compaction moved the revision to %d", resp.Header.Revision)
	_, err = s.cli.Compact(s.ctx, now)
	s.expect("again", showErr(err), "OutOfRange: etcdserver: mvcc: required revision has been compacted")
	_, err = s.cli.Get(s.ctx, "c/a", clientv3.WithRev(now-1))
	s.expect("read below", showErr(err), "OutOfRange: etcdserver: mvcc: required revision has been compacted")
	get, err := s.cli.Get(s.ctx, "c/a", clientv3.WithRev(now))
	must("read at the compacted revision", err)
	s.expect("read at the compacted revision", string(get.Kvs[0].Value), "1")
	get, err = s.cli.Get(s.ctx, "k/a", clientv3.WithRev(now))
	must("read an older key", err)
	s.expect("read an older key", fmt.Sprintf("%d keys", len(get.Kvs)), "1 keys")
}
