"""Policy objects as the tests write them: short functions that return plain dicts, and one that makes a file's text."""
import json

API = {"CASAPolicy": "casa.io/v1alpha1", "MultiAgentSystem": "casa.io/v1alpha1", "EndpointSlice": "discovery.k8s.io/v1"}


def thing(kind, namespace, name, **rest):
    metadata = {"name": name, **({"namespace": namespace} if namespace else {}), **rest.pop("metadata", {})}
    return {"apiVersion": API.get(kind, "v1"), "kind": kind, "metadata": metadata, **rest}


def policy(who, *endpoints, sources=(), target=None, kind="Deployment", **spec):
    """who: 'namespace/name' of policy and target; endpoints: 'namespace/name:port'; sources: dicts."""
    namespace, name = who.split("/")
    allowed = []
    for endpoint in endpoints:
        peer, port = endpoint.rsplit(":", 1)
        peer_namespace, peer_name = peer.split("/")
        allowed.append({"name": peer_name, "namespace": peer_namespace, "port": int(port)})
    body = {"targetRef": {"kind": kind, "name": target or name}}
    if allowed:
        body["allowedEndpoints"] = allowed
    if sources:
        body["allowedSources"] = list(sources)
    return thing("CASAPolicy", namespace, name, spec={**body, **spec})


def namespace(name, mas=True):
    return thing("Namespace", None, name, metadata={"labels": {"casa.io/injection": "enabled"}} if mas else {})


def pod(who, cgroup=None, labels=None, **annotations):
    ns, name = who.split("/")
    if cgroup:
        annotations["casa.io/cgroup"] = cgroup
    return thing("Pod", ns, name, metadata={"labels": labels or {}, "annotations": annotations})


def service(who, selector, *ports):
    """ports: (port, target port, protocol)"""
    ns, name = who.split("/")
    rows = [{"name": f"p{p}-{protocol.lower()}", "port": p, "targetPort": target, "protocol": protocol}
            for p, target, protocol in ports]
    spec = {"ports": rows, **({"selector": selector} if selector else {})}
    return thing("Service", ns, name, spec=spec)


def endpoint_slice(who, addresses, port, protocol="TCP", port_name="p"):
    ns, name = who.split("/")
    return thing("EndpointSlice", ns, f"{name}-{'v6' if ':' in addresses[0] else 'v4'}-{protocol.lower()}", metadata={"labels": {"kubernetes.io/service-name": name}},
                 addressType="IPv6" if ":" in addresses[0] else "IPv4",
                 endpoints=[{"addresses": list(addresses)}],
                 ports=[{"name": port_name, "port": port, "protocol": protocol}])


def text(*objects):
    """One file of many documents; JSON is YAML in flow style."""
    return "\n---\n".join(json.dumps(o) for o in objects) + "\n"
