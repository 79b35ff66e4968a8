package main

import (
	"fmt"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// showOps prints the answers of one branch; a nested txn stands in braces.
func showOps(responses []*pb.ResponseOp) string {
	words := make([]string, len(responses))
	for i, response := range responses {
		switch op := response.Response.(type) {
		case *pb.ResponseOp_ResponsePut:
			words[i] = fmt.Sprintf("put@%d prev %s", op.ResponsePut.Header.Revision, showKV(op.ResponsePut.PrevKv))
		case *pb.ResponseOp_ResponseRange:
			words[i] = fmt.Sprintf("range@%d %s", op.ResponseRange.Header.Revision, showKVs(op.ResponseRange.Kvs))
		case *pb.ResponseOp_ResponseDeleteRange:
			words[i] = fmt.Sprintf("del@%d %d", op.ResponseDeleteRange.Header.Revision, op.ResponseDeleteRange.Deleted)
		case *pb.ResponseOp_ResponseTxn:
			words[i] = fmt.Sprintf("{%t %s}", op.ResponseTxn.Succeeded, showOps(op.ResponseTxn.Responses))
		default:
			words[i] = "nothing"
		}
	}
	return strings.Join(words, ", ")
}

// txn commits and compares with the expected printed answer.
func (s *session) txn(what, want string, txn clientv3.Txn) {
	resp, err := txn.Commit()
	must(what, err)
	s.expect(what, fmt.Sprintf("revision %d %t: %s", resp.Header.Revision, resp.Succeeded, showOps(resp.Responses)), want)
}

// txns starts at revision 11 and leaves the store at revision 13.
func (s *session) txns() {
	s.txn("create if absent", "revision 12 true: put@12 prev none, put@12 prev none, range@12 [t/a=1(12,12,1) t/b=2(12,12,1)]",
		s.cli.Txn(s.ctx).
			If(clientv3.Compare(clientv3.ModRevision("t/a"), "=", 0)).
			Then(clientv3.OpPut("t/a", "1"), clientv3.OpPut("t/b", "2"), clientv3.OpGet("t/", clientv3.WithPrefix())).
			Else(clientv3.OpGet("t/a")))
	s.txn("again, the other branch", "revision 12 false: range@12 [t/a=1(12,12,1)]",
		s.cli.Txn(s.ctx).
			If(clientv3.Compare(clientv3.ModRevision("t/a"), "=", 0)).
			Then(clientv3.OpPut("t/a", "9")).
			Else(clientv3.OpGet("t/a")))
	s.txn("every compare", "revision 12 true: ",
		s.cli.Txn(s.ctx).If(
			clientv3.Compare(clientv3.Value("t/a"), "=", "1"),
			clientv3.Compare(clientv3.Value("t/a"), "<", "2"),
			clientv3.Compare(clientv3.Value("t/a"), ">", "0"),
			clientv3.Compare(clientv3.Value("t/a"), "!=", "2"),
			clientv3.Compare(clientv3.Version("t/a"), "=", 1),
			clientv3.Compare(clientv3.CreateRevision("t/a"), "<", 13),
			clientv3.Compare(clientv3.ModRevision("t/a"), ">", 11),
			clientv3.Compare(clientv3.LeaseValue("t/a"), "=", 0),
			clientv3.Compare(clientv3.ModRevision("t/"), "=", 12).WithPrefix(),
		))
	s.txn("value of an absent key", "revision 12 false: ",
		s.cli.Txn(s.ctx).If(clientv3.Compare(clientv3.Value("absent"), "!=", "x")))
	s.txn("delete and put", "revision 13 true: del@13 2, put@13 prev none, range@13 [t/c=3(13,13,1)]",
		s.cli.Txn(s.ctx).Then(clientv3.OpDelete("t/a", clientv3.WithRange("t/c")), clientv3.OpPut("t/c", "3"),
			clientv3.OpGet("t/", clientv3.WithPrefix())))
	_, err := s.cli.Txn(s.ctx).Then(clientv3.OpPut("t/x", "1"), clientv3.OpPut("t/x", "2")).Commit()
	s.expect("the same key twice", showErr(err), "InvalidArgument: etcdserver: duplicate key given in txn request")
	many := make([]clientv3.Op, 129)
	for i := range many {
		many[i] = clientv3.OpGet(fmt.Sprint("t/", i))
	}
	_, err = s.cli.Txn(s.ctx).Then(many...).Commit()
	s.expect("129 operations", showErr(err), "InvalidArgument: etcdserver: too many operations in txn request")
	_, err = s.cli.Txn(s.ctx).Then(clientv3.OpPut("t/y", "1"), clientv3.OpPut("t/z", "", clientv3.WithIgnoreValue())).Commit()
	s.expect("an operation that fails", showErr(err), "InvalidArgument: etcdserver: key not found")
	s.get("left nothing behind", "revision 13 count 1 [t/c=3(13,13,1)]", "t/", clientv3.WithPrefix())
}

// nestedTxns starts at revision 13 and leaves the store at revision 14.
func (s *session) nestedTxns() {
	absent := func(key string) []clientv3.Cmp {
		return []clientv3.Cmp{clientv3.Compare(clientv3.CreateRevision(key), "=", 0)}
	}
	inner := clientv3.OpTxn(absent("n/a"),
		[]clientv3.Op{clientv3.OpPut("n/b", "inner"), clientv3.OpTxn(absent("n/b"), []clientv3.Op{clientv3.OpPut("n/c", "innermost")}, nil)},
		[]clientv3.Op{clientv3.OpPut("n/d", "wrong branch")})
	s.txn("compares see the state before", "revision 14 true: put@14 prev none, {true put@14 prev none, {true put@14 prev none}}",
		s.cli.Txn(s.ctx).If(absent("n/a")...).Then(clientv3.OpPut("n/a", "outer"), inner))
	s.get("one revision for all", "revision 14 count 3 [n/a=outer(14,14,1) n/b=inner(14,14,1) n/c=innermost(14,14,1)]", "n/", clientv3.WithPrefix())
	s.txn("nested reading takes no revision", "revision 14 false: {false range@14 [n/a=outer(14,14,1)]}",
		s.cli.Txn(s.ctx).If(absent("n/a")...).
			Else(clientv3.OpTxn(absent("n/a"), nil, []clientv3.Op{clientv3.OpGet("n/a")})))
}
