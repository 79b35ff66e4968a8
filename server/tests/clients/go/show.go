package main

import (
	"fmt"
	"strings"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
)

// showKV prints a pair as key=value(create_revision,mod_revision,version) with a mark for a lease.
func showKV(kv *mvccpb.KeyValue) string {
	if kv == nil {
		return "none"
	}
	lease := ""
	if kv.Lease != 0 {
		lease = ",leased"
	}
	return fmt.Sprintf("%s=%s(%d,%d,%d%s)", kv.Key, short(kv.Value), kv.CreateRevision, kv.ModRevision, kv.Version, lease)
}

// short keeps megabytes out of the transcript.
func short(value []byte) string {
	if len(value) > 64 {
		return fmt.Sprintf("<%d bytes>", len(value))
	}
	return string(value)
}

func showKVs(kvs []*mvccpb.KeyValue) string {
	words := make([]string, len(kvs))
	for i, kv := range kvs {
		words[i] = showKV(kv)
	}
	return "[" + strings.Join(words, " ") + "]"
}

func showGet(resp *clientv3.GetResponse) string {
	text := fmt.Sprintf("revision %d count %d %s", resp.Header.Revision, resp.Count, showKVs(resp.Kvs))
	if resp.More {
		text += " more"
	}
	return text
}

func showEvents(resp clientv3.WatchResponse) string {
	words := make([]string, len(resp.Events))
	for i, event := range resp.Events {
		words[i] = event.Type.String() + " " + showKV(event.Kv)
		if event.PrevKv != nil {
			words[i] += " was " + showKV(event.PrevKv)
		}
	}
	return strings.Join(words, "; ")
}

// showErr prints an error as the client's users see it: the code and the text that the client looked up.
func showErr(err error) string {
	if err == nil {
		return "no error"
	}
	if etcdErr, ok := rpctypes.Error(err).(rpctypes.EtcdError); ok {
		return fmt.Sprintf("%s: %s", codes.Code(etcdErr.Code()), etcdErr.Error())
	}
	return "not an etcd error: " + err.Error()
}
