package main

import (
	"fmt"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// auth makes users, switches auth on, and looks at how the client of a user comes by its tokens: it logs in when it is
// made, and again when the server no longer knows or likes the token. It ends with auth off and nobody left.
func (s *session) auth() {
	for _, user := range []string{"root", "alice"} {
		_, err := s.cli.UserAdd(s.ctx, user, "secret of "+user)
		must("user add", err)
	}
	_, err := s.cli.UserGrantRole(s.ctx, "root", "root")
	must("grant root", err)
	_, err = s.cli.RoleAdd(s.ctx, "app")
	must("role add", err)
	kind := clientv3.PermissionType(clientv3.PermReadWrite)
	_, err = s.cli.RoleGrantPermission(s.ctx, "app", "auth/", clientv3.GetPrefixRangeEnd("auth/"), kind)
	must("grant permission", err)
	_, err = s.cli.UserGrantRole(s.ctx, "alice", "app")
	must("grant role", err)
	before, err := s.cli.AuthStatus(s.ctx)
	must("auth status", err)
	s.expect("auth status", fmt.Sprintf("%t %d", before.Enabled, before.AuthRevision), "false 7")
	_, err = s.cli.AuthEnable(s.ctx)
	must("auth enable", err)

	_, err = s.cli.Get(s.ctx, "auth/a")
	s.expect("get without a user", showErr(err), "InvalidArgument: etcdserver: user name is empty")
	_, err = s.as("alice", "wrong")
	s.expect("a wrong password", showErr(err), "InvalidArgument: etcdserver: authentication failed, invalid user ID or password")
	root := s.mustBe("root")
	alice := s.mustBe("alice")
	put := func(key string) string {
		_, err := alice.Put(s.ctx, key, "1")
		return showErr(err)
	}
	s.expect("put", put("auth/a"), "no error")
	s.expect("put elsewhere", put("elsewhere"), "PermissionDenied: etcdserver: permission denied")
	watch := alice.Watch(s.ctx, "elsewhere")
	refused := <-watch
	s.expect("watch elsewhere", fmt.Sprint(refused.Canceled, " ", refused.Err()),
		"true rpc error: code = PermissionDenied desc = etcdserver: permission denied")

	// Any change of users and roles makes a signed token old; a simple one stays.
	_, err = root.RoleAdd(s.ctx, "another")
	must("role add", err)
	s.expect("put after a change", put("auth/b"), "no error")
	_, err = root.UserRevokeRole(s.ctx, "alice", "app")
	must("revoke role", err)
	s.expect("put after the revoke", put("auth/c"), "PermissionDenied: etcdserver: permission denied")
	_, err = root.UserGrantRole(s.ctx, "alice", "app")
	must("grant role", err)
	s.expect("put after the grant", put("auth/c"), "no error")
	lease, err := alice.Grant(s.ctx, 600)
	must("lease grant", err)
	_, err = alice.Put(s.ctx, "auth/d", "1", clientv3.WithLease(lease.ID))
	must("put with a lease", err)
	_, err = alice.KeepAliveOnce(s.ctx, lease.ID)
	must("keep alive", err)
	kept, err := alice.Get(s.ctx, "auth/", clientv3.WithPrefix())
	must("get", err)
	s.expect("keys", fmt.Sprint(kept.Count), "4")

	// With auth off and on again all simple tokens are gone.
	_, err = root.AuthDisable(s.ctx)
	must("auth disable", err)
	_, err = s.cli.AuthEnable(s.ctx)
	must("auth enable", err)
	s.expect("put after auth was off", put("auth/e"), "no error")
	_, err = root.Delete(s.ctx, "auth/", clientv3.WithPrefix())
	must("delete", err)

	_, err = root.AuthDisable(s.ctx)
	must("auth disable", err)
	for _, user := range []string{"root", "alice"} {
		_, err := s.cli.UserDelete(s.ctx, user)
		must("user delete", err)
	}
	for _, role := range []string{"app", "another"} {
		_, err := s.cli.RoleDelete(s.ctx, role)
		must("role delete", err)
	}
	users, err := s.cli.UserList(s.ctx)
	must("user list", err)
	s.expect("users left", fmt.Sprint(len(users.Users)), "0")
}

// as makes a client of a user.
func (s *session) as(user, password string) (*clientv3.Client, error) {
	return clientv3.New(clientv3.Config{
		Endpoints:   s.endpoints,
		DialTimeout: patience,
		Context:     s.ctx,
		Logger:      zap.NewNop(),
		Username:    user,
		Password:    password,
	})
}

func (s *session) mustBe(user string) *clientv3.Client {
	cli, err := s.as(user, "secret of "+user)
	must("log in", err)
	return cli
}
