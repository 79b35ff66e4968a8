"""A session of the Python client `kubernetes` with a server: python3 session.py KUBERNETES-URL ETCD-URL

Prints a line for each part that went as expected; the first thing that goes otherwise ends it with a traceback.
"""

import base64
import json
import sys
import threading
import urllib.request

from kubernetes import client, dynamic, watch
from kubernetes.client.rest import ApiException

NAMESPACE = "python"


def main():
    url, etcd = sys.argv[1:]
    configuration = client.Configuration(host=url)
    # A proxy of the environment is not meant for the loopback.
    configuration.no_proxy = "127.0.0.1"
    api = client.ApiClient(configuration)
    core = client.CoreV1Api(api)
    core.create_namespace({"metadata": {"name": NAMESPACE}})
    parts = [
        (versions, api),
        (config_maps, core),
        (refusals, core),
        (selectors, core),
        (pages, core),
        (patches, api),
        (apply, api),
        (status_and_scale, api),
        (pods, core),
        (secrets, core),
        (watches, core),
        (watch_from_list, core),
        (watch_of_compacted, (core, etcd)),
        (dynamic_client, api),
        (dynamic_watch, api),
        (collections, core),
        (namespace_goes, core),
    ]
    for part, argument in parts:
        part(argument)
        print("ok", part.__name__, flush=True)
    print("done", len(parts))


def equal(seen, expected):
    assert seen == expected, f"{seen!r} is not {expected!r}"


def status_of(deleted):
    """What a deletion is answered with; some versions of the client leave it as it came."""
    if isinstance(deleted, dict):
        return deleted["status"], deleted["details"]["uid"]
    return deleted.status, deleted.details.uid


def refused(code, reason, call, *words, **named):
    """The Status with which a call is refused."""
    try:
        call(*words, **named)
    except ApiException as error:
        status = json.loads(error.body)
        equal((error.status, status["reason"], status["kind"]), (code, reason, "Status"))
        return status
    raise AssertionError(f"{call.__name__}{words} was not refused")


def config_map(name, data, **metadata):
    return client.V1ConfigMap(metadata=client.V1ObjectMeta(name=name, **metadata), data=data)


def deployment(name):
    container = {"name": "app", "image": "app:1", "ports": [{"containerPort": 80}]}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": {"containers": [container]}},
        },
    }


def versions(api):
    code = client.VersionApi(api).get_code()
    equal((code.major, code.git_version.startswith("v1.")), ("1", True))
    assert "v1" in client.CoreApi(api).get_api_versions().versions
    groups = {group.name for group in client.ApisApi(api).get_api_versions().groups}
    assert {"apps", "batch", "coordination.k8s.io", "policy"} <= groups, groups
    names = {resource.name for resource in client.AppsV1Api(api).get_api_resources().resources}
    assert {"deployments", "deployments/scale", "deployments/status"} <= names, names


def config_maps(core):
    created = core.create_namespaced_config_map(NAMESPACE, config_map("crud", {"a": "1"}))
    assert created.metadata.uid and created.metadata.creation_timestamp
    read = core.read_namespaced_config_map("crud", NAMESPACE)
    equal(read.to_dict(), created.to_dict())
    read.data["a"] = "2"
    replaced = core.replace_namespaced_config_map("crud", NAMESPACE, read)
    equal(replaced.data, {"a": "2"})
    assert int(replaced.metadata.resource_version) > int(created.metadata.resource_version)
    equal(replaced.metadata.uid, created.metadata.uid)
    # Nothing changes: nothing is written.
    again = core.replace_namespaced_config_map("crud", NAMESPACE, replaced)
    equal(again.metadata.resource_version, replaced.metadata.resource_version)
    dry = core.replace_namespaced_config_map("crud", NAMESPACE, config_map("crud", None), dry_run="All")
    equal(dry.data, None)
    equal(core.read_namespaced_config_map("crud", NAMESPACE).data, {"a": "2"})
    deleted = core.delete_namespaced_config_map("crud", NAMESPACE)
    equal(status_of(deleted), ("Success", created.metadata.uid))
    generated = core.create_namespaced_config_map(
        NAMESPACE, {"metadata": {"generateName": "made-"}, "data": {"x": "y"}}
    )
    name = generated.metadata.name
    equal((name[:5], len(name)), ("made-", 10))
    core.delete_namespaced_config_map(name, NAMESPACE)


def refusals(core):
    status = refused(404, "NotFound", core.read_namespaced_config_map, "none", NAMESPACE)
    equal(status["message"], 'configmaps "none" not found')
    made = core.create_namespaced_config_map(NAMESPACE, config_map("taken", {"a": "1"}))
    status = refused(
        409, "AlreadyExists", core.create_namespaced_config_map, NAMESPACE, config_map("taken", {})
    )
    equal(status["message"], 'configmaps "taken" already exists')
    core.patch_namespaced_config_map("taken", NAMESPACE, {"data": {"a": "2"}})
    made.data = {"a": "3"}
    status = refused(409, "Conflict", core.replace_namespaced_config_map, "taken", NAMESPACE, made)
    assert "the object has been modified" in status["message"], status
    bad = config_map("Not_A_Name", {})
    status = refused(422, "Invalid", core.create_namespaced_config_map, NAMESPACE, bad)
    equal(status["details"]["causes"][0]["field"], "metadata.name")
    refused(400, "BadRequest", core.list_namespaced_config_map, NAMESPACE, label_selector="a in (")
    refused(400, "BadRequest", core.list_namespaced_config_map, NAMESPACE, field_selector="no.such=1")
    core.delete_namespaced_config_map("taken", NAMESPACE)


def selectors(core):
    for number in range(6):
        labels = {"kind": "even" if number % 2 == 0 else "odd", "number": str(number)}
        core.create_namespaced_config_map(NAMESPACE, config_map(f"sel-{number}", {}, labels=labels))

    def selected(**how):
        found = core.list_namespaced_config_map(NAMESPACE, **how).items
        return "".join(item.metadata.name[4:] for item in found if item.metadata.name.startswith("sel-"))

    equal(selected(label_selector="kind=even"), "024")
    equal(selected(label_selector="kind!=even,number"), "135")
    equal(selected(label_selector="number in (1,2,9)"), "12")
    equal(selected(label_selector="number notin (1,2),kind==odd"), "35")
    equal(selected(label_selector="!kind"), "")
    equal(selected(field_selector="metadata.name=sel-3"), "3")
    everywhere = core.list_config_map_for_all_namespaces(field_selector="metadata.namespace=" + NAMESPACE)
    assert len(everywhere.items) >= 6


def pages(core):
    whole = core.list_namespaced_config_map(NAMESPACE)
    names = [item.metadata.name for item in whole.items]
    paged, token = [], None
    while token != "":
        page = core.list_namespaced_config_map(NAMESPACE, limit=4, _continue=token)
        paged += [item.metadata.name for item in page.items]
        token = page.metadata._continue or ""
        # Not seen by a list that was begun before.
        if len(paged) == 4:
            equal(page.metadata.remaining_item_count, len(names) - 4)
            core.create_namespaced_config_map(NAMESPACE, config_map("zz-late", {}))
    equal(paged, names)
    refused(400, "BadRequest", core.list_namespaced_config_map, NAMESPACE, limit=4, _continue="rubbish")


def patches(api):
    apps = client.AppsV1Api(api)
    made = apps.create_namespaced_deployment(NAMESPACE, deployment("patched"))
    equal((made.spec.replicas, made.spec.strategy.type), (1, "RollingUpdate"))
    # Strategic: containers are merged by name.
    side = {"name": "side", "image": "side:1"}
    strategic = {"spec": {"template": {"spec": {"containers": [side]}}}}
    patched = apps.patch_namespaced_deployment("patched", NAMESPACE, strategic)
    images = {container.name: container.image for container in patched.spec.template.spec.containers}
    equal(images, {"app": "app:1", "side": "side:1"})
    equal(patched.metadata.generation, 2)
    merge = "application/merge-patch+json"
    merged = apps.patch_namespaced_deployment("patched", NAMESPACE, strategic, _content_type=merge)
    equal([container.name for container in merged.spec.template.spec.containers], ["side"])
    operations = [
        {"op": "test", "path": "/spec/replicas", "value": 1},
        {"op": "replace", "path": "/spec/replicas", "value": 3},
        {"op": "add", "path": "/metadata/annotations", "value": {"by": "python"}},
    ]
    # A list is sent as a JSON patch by the client itself.
    patched = apps.patch_namespaced_deployment("patched", NAMESPACE, operations)
    equal((patched.spec.replicas, patched.metadata.annotations["by"]), (3, "python"))
    refused(422, "Invalid", apps.patch_namespaced_deployment, "patched", NAMESPACE, operations)
    example = {"_content_type": "application/example+json"}
    status = refused(
        415, "UnsupportedMediaType", apps.patch_namespaced_deployment, "patched", NAMESPACE, {}, **example
    )
    equal(status["message"], "415: Unsupported Media Type")
    old = {"metadata": {"resourceVersion": made.metadata.resource_version}, "spec": {"replicas": 9}}
    refused(409, "Conflict", apps.patch_namespaced_deployment, "patched", NAMESPACE, old)
    apps.delete_namespaced_deployment("patched", NAMESPACE)


def apply(api):
    core = client.CoreV1Api(api)
    kind = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "applied"}}

    def applied(manager, data, **how):
        how = {"field_manager": manager, "_content_type": "application/apply-patch+yaml", **how}
        return core.patch_namespaced_config_map("applied", NAMESPACE, {**kind, "data": data}, **how)

    equal(applied("one", {"a": "1", "b": "1"}).data, {"a": "1", "b": "1"})
    equal(applied("two", {"c": "2"}).data, {"a": "1", "b": "1", "c": "2"})
    status = refused(409, "Conflict", applied, "two", {"a": "2", "c": "2"})
    cause = status["details"]["causes"][0]
    equal((cause["reason"], cause["field"]), ("FieldManagerConflict", ".data.a"))
    equal(applied("two", {"a": "2", "c": "2"}, force=True).data, {"a": "2", "b": "1", "c": "2"})
    # What one no longer applies goes, if it is nobody else's.
    equal(applied("one", {}).data, {"a": "2", "c": "2"})
    managers = core.read_namespaced_config_map("applied", NAMESPACE).metadata.managed_fields
    assert ("two", "Apply") in {(entry.manager, entry.operation) for entry in managers}, managers


def status_and_scale(api):
    apps = client.AppsV1Api(api)
    apps.create_namespaced_deployment(NAMESPACE, deployment("scaled"))
    scale = apps.read_namespaced_deployment_scale("scaled", NAMESPACE)
    equal((scale.kind, scale.spec.replicas, scale.status.selector), ("Scale", 1, "app=scaled"))
    scale.spec.replicas = 5
    apps.replace_namespaced_deployment_scale("scaled", NAMESPACE, scale)
    apps.patch_namespaced_deployment_status(
        "scaled", NAMESPACE, {"spec": {"replicas": 9}, "status": {"replicas": 4}}
    )
    read = apps.read_namespaced_deployment("scaled", NAMESPACE)
    equal((read.spec.replicas, read.status.replicas), (5, 4))
    apps.patch_namespaced_deployment_scale("scaled", NAMESPACE, {"spec": {"replicas": 2}})
    equal(apps.read_namespaced_deployment("scaled", NAMESPACE).spec.replicas, 2)
    apps.delete_namespaced_deployment("scaled", NAMESPACE, propagation_policy="Background")
    refused(404, "NotFound", apps.read_namespaced_deployment, "scaled", NAMESPACE)


def pods(core):
    body = {"metadata": {"name": "web"}, "spec": {"containers": [{"name": "app", "image": "app"}]}}
    pod = core.create_namespaced_pod(NAMESPACE, body)
    equal((pod.status.phase, pod.spec.restart_policy), ("Pending", "Always"))
    equal(pod.spec.termination_grace_period_seconds, 30)
    target = client.V1ObjectReference(api_version="v1", kind="Node", name="n1")
    binding = client.V1Binding(metadata=client.V1ObjectMeta(name="web"), target=target)
    # The client takes the Status that answers it for a Binding, and misses the target.
    core.create_namespaced_pod_binding("web", NAMESPACE, binding, _preload_content=False)
    equal(core.read_namespaced_pod("web", NAMESPACE).spec.node_name, "n1")
    refused(
        409, "Conflict", core.create_namespaced_pod_binding, "web", NAMESPACE, binding, _preload_content=False
    )
    on_node = core.list_pod_for_all_namespaces(field_selector="spec.nodeName=n1,status.phase!=Running")
    equal([item.metadata.name for item in on_node.items], ["web"])
    going = core.delete_namespaced_pod("web", NAMESPACE)
    assert going.metadata.deletion_timestamp, going
    equal(core.read_namespaced_pod("web", NAMESPACE).metadata.deletion_grace_period_seconds, 30)
    core.delete_namespaced_pod("web", NAMESPACE, grace_period_seconds=0)
    refused(404, "NotFound", core.read_namespaced_pod, "web", NAMESPACE)


def secrets(core):
    body = {"metadata": {"name": "key"}, "stringData": {"word": "sesame"}}
    secret = core.create_namespaced_secret(NAMESPACE, body)
    equal((secret.type, secret.data), ("Opaque", {"word": base64.b64encode(b"sesame").decode()}))
    found = core.list_namespaced_secret(NAMESPACE, field_selector="type=Opaque").items
    equal([item.metadata.name for item in found], ["key"])


def changes(core, prefix):
    """Makes, changes and removes an object."""
    core.create_namespaced_config_map(NAMESPACE, config_map(prefix, {"n": "1"}))
    core.patch_namespaced_config_map(prefix, NAMESPACE, {"data": {"n": "2"}})
    core.delete_namespaced_config_map(prefix, NAMESPACE)


def events_of(call, name, count, **how):
    """The next events about an object: their types and its version."""
    watcher = watch.Watch()
    seen = []
    for event in watcher.stream(call, NAMESPACE, timeout_seconds=20, **how):
        if event["object"].metadata.name == name:
            seen.append((event["type"], int(event["object"].metadata.resource_version)))
            if len(seen) == count:
                watcher.stop()
    versions = [version for _, version in seen]
    equal(versions, sorted(versions))
    return [kind for kind, _ in seen]


def watches(core):
    """Without a version: first what there is."""
    core.create_namespaced_config_map(NAMESPACE, config_map("there", {"n": "0"}))
    writer = threading.Thread(target=changes, args=(core, "watched"))
    watcher = watch.Watch()
    seen = []
    for event in watcher.stream(core.list_namespaced_config_map, NAMESPACE, timeout_seconds=20):
        name = event["object"].metadata.name
        if name == "there":
            equal(event["type"], "ADDED")
            writer.start()
        if name == "watched":
            seen.append((event["type"], event["object"].data["n"]))
            if len(seen) == 3:
                watcher.stop()
    writer.join()
    equal(seen, [("ADDED", "1"), ("MODIFIED", "2"), ("DELETED", "2")])
    # The server ends a watch in time.
    ended = watch.Watch().stream(core.list_namespaced_config_map, NAMESPACE, timeout_seconds=1)
    assert any(event["object"].metadata.name == "there" for event in ended)


def watch_from_list(core):
    version = core.list_namespaced_config_map(NAMESPACE).metadata.resource_version
    changes(core, "later")
    how = {"resource_version": version, "field_selector": "metadata.name=later"}
    equal(
        events_of(core.list_namespaced_config_map, "later", 3, **how), ["ADDED", "MODIFIED", "DELETED"]
    )


def watch_of_compacted(both):
    core, etcd = both
    old = core.list_namespaced_config_map(NAMESPACE).metadata.resource_version
    changes(core, "history")
    new = core.list_namespaced_config_map(NAMESPACE).metadata.resource_version
    body = json.dumps({"revision": new, "physical": True}).encode()
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    opener.open(urllib.request.Request(f"{etcd}/v3/kv/compaction", body)).read()
    # A list of that time is gone for good.
    exact = {"resource_version": old, "resource_version_match": "Exact"}
    status = refused(410, "Expired", core.list_namespaced_config_map, NAMESPACE, **exact)
    equal(status["message"], "The resourceVersion for the provided list is too old.")
    # A watch from the old version may still be answered from what the server remembers; from the first it never is.
    watcher = watch.Watch()
    try:
        how = {"resource_version": "1", "timeout_seconds": 20}
        for event in watcher.stream(core.list_namespaced_config_map, NAMESPACE, **how):
            raise AssertionError(f"{event['type']} from a revision that is compacted")
        raise AssertionError("the watch ended without an error")
    except ApiException as error:
        equal(error.status, 410)
        assert "too old resource version" in str(error.reason), error.reason


def dynamic_client(api):
    found = dynamic.DynamicClient(api)
    resource = found.resources.get(api_version="apps/v1", kind="Deployment")
    equal((resource.name, resource.namespaced), ("deployments", True))
    equal(found.resources.get(api_version="v1", kind="Node").namespaced, False)
    made = resource.create(body=deployment("dyn"), namespace=NAMESPACE)
    equal(made.metadata.generation, 1)
    equal(resource.get(name="dyn", namespace=NAMESPACE).spec.replicas, 1)
    body = {"spec": {"replicas": 4}}
    patched = resource.patch(
        name="dyn", namespace=NAMESPACE, body=body, content_type="application/merge-patch+json"
    )
    equal(patched.spec.replicas, 4)
    applied = resource.server_side_apply(
        name="dyn", namespace=NAMESPACE, body={**deployment("dyn"), "metadata": {"labels": {"l": "1"}}},
        field_manager="python", force_conflicts=True,
    )
    equal(applied.metadata.labels.l, "1")
    equal(resource.scale.get(name="dyn", namespace=NAMESPACE).spec.replicas, 4)
    equal([item.metadata.name for item in resource.get(namespace=NAMESPACE).items], ["dyn"])
    resource.delete(name="dyn", namespace=NAMESPACE)
    equal(resource.get(namespace=NAMESPACE).items, [])


def dynamic_watch(api):
    resource = dynamic.DynamicClient(api).resources.get(api_version="v1", kind="ConfigMap")
    version = resource.get(namespace=NAMESPACE).metadata.resourceVersion
    changes(client.CoreV1Api(api), "dynamic")
    seen = []
    for event in resource.watch(namespace=NAMESPACE, resource_version=version, timeout=20):
        seen.append((event["type"], event["object"].metadata.name))
        if len(seen) == 3:
            break
    equal(seen, [("ADDED", "dynamic"), ("MODIFIED", "dynamic"), ("DELETED", "dynamic")])


def collections(core):
    core.delete_collection_namespaced_config_map(NAMESPACE, label_selector="kind=odd")
    left = core.list_namespaced_config_map(NAMESPACE).items
    equal([item.metadata.name for item in left if item.metadata.name.startswith("sel-")],
          ["sel-0", "sel-2", "sel-4"])
    core.delete_collection_namespaced_config_map(NAMESPACE)
    equal(core.list_namespaced_config_map(NAMESPACE).items, [])


def namespace_goes(core):
    core.delete_namespace(NAMESPACE)
    namespace = core.read_namespace(NAMESPACE)
    equal(namespace.status.phase, "Terminating")
    status = refused(
        403, "Forbidden", core.create_namespaced_config_map, NAMESPACE, config_map("too-late", {})
    )
    equal(status["details"]["causes"][0]["reason"], "NamespaceTerminating")
    namespace.spec.finalizers = []
    core.replace_namespace_finalize(NAMESPACE, namespace)
    refused(404, "NotFound", core.read_namespace, NAMESPACE)


if __name__ == "__main__":
    main()
