"""A small validator of the structural schemas of CustomResourceDefinitions: what the API server would say of an object. It knows the
keywords that kubernetes/crds uses and refuses any other, so that nothing in a schema is silently not looked at. Unknown fields are errors, as
with `kubectl apply --validate=strict`. CEL rules of has(), !, &&, || and == are evaluated by translation."""
import ipaddress
import re

TYPES = {"object": dict, "array": list, "string": str, "boolean": bool, "integer": int}
KNOWN = {"type", "description", "properties", "required", "items", "enum", "pattern", "maxLength", "minLength", "minimum", "maximum", "maxItems",
         "format", "not", "anyOf", "x-kubernetes-validations", "x-kubernetes-list-type", "x-kubernetes-list-map-keys",
         "x-kubernetes-int-or-string"}
# What the API server allows inside not, anyOf, allOf and oneOf: validations of values, no types and nothing that says what there is.
VALUE_KEYWORDS = {"pattern", "maxLength", "minLength", "minimum", "maximum", "enum", "required", "not", "anyOf", "format"}


def faults(schema, path="schema", junctor=False):
    """-> what makes this no structural schema (apiextensions.k8s.io/v1), a sentence each"""
    found = [f"{path}: {k} is not known to this check" for k in schema if k not in KNOWN]
    if junctor:
        found += [f"{path}: {k} may not stand inside not or anyOf" for k in schema if k in KNOWN - VALUE_KEYWORDS]
    elif "type" not in schema and not schema.get("x-kubernetes-int-or-string"):
        found.append(f"{path}: has no type")
    elif schema.get("type") not in (None, *TYPES):
        found.append(f"{path}: the type {schema['type']} is not known to this check")
    if schema.get("type") == "array" and "items" not in schema:
        found.append(f"{path}: an array without items")
    if "pattern" in schema and re.search(r"\(\?[=!<]", schema["pattern"]):
        found.append(f"{path}: the pattern looks around, which the API server's expressions cannot")
    for name, child in schema.get("properties", {}).items():
        found += faults(child, f"{path}.{name}")
    for name in schema.get("required", []):
        if not junctor and name not in schema.get("properties", {}):
            found.append(f"{path}: requires {name}, which is no property")
    if "items" in schema:
        found += faults(schema["items"], f"{path}[]")
    for i, child in enumerate(schema.get("anyOf", [])):
        found += faults(child, f"{path}.anyOf[{i}]", True)
    if "not" in schema:
        found += faults(schema["not"], f"{path}.not", True)
    # The API server estimates what a rule may cost and refuses a schema whose rules run on lists without a bound.
    if schema.get("type") == "array" and "maxItems" not in schema and has_rules(schema["items"]):
        found.append(f"{path}: its items have CEL rules and it has no maxItems")
    return found


def has_rules(schema):
    return ("x-kubernetes-validations" in schema or any(map(has_rules, schema.get("properties", {}).values()))
            or ("items" in schema and has_rules(schema["items"])))


def holds(rule, value):
    """A CEL rule about the object `value`."""
    text = re.sub(r"has\(self\.(\w+)\)", lambda m: f"({m.group(1)!r} in value)", rule)
    text = text.replace("&&", " and ").replace("||", " or ")
    text = re.sub(r"!(?!=)", " not ", text)
    if re.sub(r"'\w+' in value|\b(and|or|not)\b|==|!=|[()\s]", "", text):
        raise ValueError(f"this check cannot evaluate the rule: {rule}")
    return eval(text, {"__builtins__": {}}, {"value": value})  # noqa: S307: only what the line above let through


def matches_format(kind, text):
    if kind == "cidr":
        try:
            ipaddress.ip_network(text, strict=False)
            return True
        except ValueError:
            return False
    if kind == "date-time":
        return re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", text) is not None
    raise ValueError(f"this check does not know the format {kind}")


def errors(schema, value, path=""):
    """-> what the API server has against `value`, a sentence each; empty for a valid one"""
    found, kind = [], schema.get("type")
    if schema.get("x-kubernetes-int-or-string"):
        return [] if isinstance(value, (int, str)) and not isinstance(value, bool) else [f"{path}: neither a number nor a text"]
    if kind and (not isinstance(value, TYPES[kind]) or (kind == "integer" and isinstance(value, bool))):
        return [f"{path}: no {kind}"]
    if "enum" in schema and value not in schema["enum"]:
        found.append(f"{path}: none of {schema['enum']}")
    if isinstance(value, str):
        if "pattern" in schema and not re.search(schema["pattern"], value, re.ASCII):
            found.append(f"{path}: does not match {schema['pattern']}")
        if "format" in schema and not matches_format(schema["format"], value):
            found.append(f"{path}: no {schema['format']}")
        if not schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", len(value)):
            found.append(f"{path}: its length is {len(value)}")
    if isinstance(value, int) and not isinstance(value, bool) and not schema.get("minimum", value) <= value <= schema.get("maximum", value):
        found.append(f"{path}: out of range")
    if isinstance(value, dict):
        found += [f"{path}.{name}: missing" for name in schema.get("required", []) if name not in value]
        if "properties" in schema:
            found += [f"{path}.{name}: unknown" for name in value if name not in schema["properties"]]
            for name, child in value.items():
                if name in schema["properties"]:
                    found += errors(schema["properties"][name], child, f"{path}.{name}")
        found += [f"{path}: {r['message']}" for r in schema.get("x-kubernetes-validations", []) if not holds(r["rule"], value)]
    if isinstance(value, list):
        if len(value) > schema.get("maxItems", len(value)):
            found.append(f"{path}: too many items")
        for i, child in enumerate(value):
            found += errors(schema["items"], child, f"{path}[{i}]")
        if schema.get("x-kubernetes-list-type") == "map":
            keys = [tuple(str(c.get(k)) for k in schema["x-kubernetes-list-map-keys"]) for c in value if isinstance(c, dict)]
            if len(set(keys)) != len(keys):
                found.append(f"{path}: two items of the same key")
    if "not" in schema and not errors(schema["not"], value, path):
        found.append(f"{path}: is what it may not be")
    if "anyOf" in schema and all(errors(s, value, path) for s in schema["anyOf"]):
        found.append(f"{path}: fits none of anyOf")
    return found
