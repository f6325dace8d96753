// See openapi.h. A unit test holds this text to the routes, the query parameters and every field that answers have:
// change it together with them. In pieces, so that no literal is longer than compilers must take.
#include "api/openapi.h"

#include <string>

namespace casa::api {
namespace {

constexpr std::string_view kPaths = R"json({
"openapi": "3.1.0",
"info": {
  "title": "casad",
  "version": "v1",
  "summary": "What casad enforces on this node, and what it saw.",
  "description": "Reads only. Served on a Unix socket (default /run/casad/casad.sock). Fields that are not known are absent. Errors are RFC 9457 problem details."
},
"servers": [{"url": "http://localhost", "description": "over the Unix socket; the host name is not looked at"}],
"paths": {
  "/v1/status": {"get": {"operationId": "getStatus", "summary": "The daemon, its sources and its generation",
    "responses": {"200": {"$ref": "#/components/responses/Status"}, "400": {"$ref": "#/components/responses/Problem"}}}},
  "/v1/policies": {"get": {"operationId": "listPolicies", "summary": "Policies and what became of them, by namespace and name",
    "parameters": [{"$ref": "#/components/parameters/namespace"}, {"$ref": "#/components/parameters/workload"},
      {"$ref": "#/components/parameters/limit"}, {"$ref": "#/components/parameters/cursor"}],
    "responses": {"200": {"$ref": "#/components/responses/Policies"}, "400": {"$ref": "#/components/responses/Problem"}}}},
  "/v1/workloads": {"get": {"operationId": "listWorkloads", "summary": "Workloads under enforcement, by namespace and name",
    "parameters": [{"$ref": "#/components/parameters/namespace"}, {"$ref": "#/components/parameters/workload"},
      {"$ref": "#/components/parameters/limit"}, {"$ref": "#/components/parameters/cursor"}],
    "responses": {"200": {"$ref": "#/components/responses/Workloads"}, "400": {"$ref": "#/components/responses/Problem"}}}},
  "/v1/endpoints": {"get": {"operationId": "listEndpoints", "summary": "Services that policies name, and what they resolve to",
    "parameters": [{"$ref": "#/components/parameters/namespace"}, {"$ref": "#/components/parameters/workload"},
      {"$ref": "#/components/parameters/limit"}, {"$ref": "#/components/parameters/cursor"}],
    "responses": {"200": {"$ref": "#/components/responses/Endpoints"}, "400": {"$ref": "#/components/responses/Problem"}}}},
  "/v1/flows": {"get": {"operationId": "listFlows", "summary": "Flows and denied attempts, newest first",
    "parameters": [{"$ref": "#/components/parameters/since"}, {"$ref": "#/components/parameters/until"},
      {"$ref": "#/components/parameters/namespace"}, {"$ref": "#/components/parameters/workload"},
      {"$ref": "#/components/parameters/verdict"}, {"$ref": "#/components/parameters/reason"},
      {"$ref": "#/components/parameters/direction"}, {"$ref": "#/components/parameters/limit"},
      {"$ref": "#/components/parameters/cursor"}],
    "responses": {"200": {"$ref": "#/components/responses/Flows"}, "400": {"$ref": "#/components/responses/Problem"}}}},
  "/v1/tokens": {"get": {"operationId": "listTokens", "summary": "Tokens by their SHA-256, the one that was first seen last first",
    "parameters": [{"$ref": "#/components/parameters/since"}, {"$ref": "#/components/parameters/until"},
      {"$ref": "#/components/parameters/namespace"}, {"$ref": "#/components/parameters/workload"},
      {"$ref": "#/components/parameters/limit"}, {"$ref": "#/components/parameters/cursor"}],
    "responses": {"200": {"$ref": "#/components/responses/Tokens"}, "400": {"$ref": "#/components/responses/Problem"}}}},
  "/v1/tokens/{sha256}": {"get": {"operationId": "getToken", "summary": "One token, with its path through the system as a time line",
    "parameters": [{"name": "sha256", "in": "path", "required": true, "schema": {"type": "string"}, "description": "64 hexadecimal digits."}],
    "responses": {"200": {"$ref": "#/components/responses/Token"}, "400": {"$ref": "#/components/responses/Problem"},
      "404": {"$ref": "#/components/responses/Problem"}}}},
  "/v1/alerts": {"get": {"operationId": "listAlerts", "summary": "Alerts, newest first",
    "parameters": [{"$ref": "#/components/parameters/since"}, {"$ref": "#/components/parameters/until"},
      {"$ref": "#/components/parameters/namespace"}, {"$ref": "#/components/parameters/workload"},
      {"$ref": "#/components/parameters/alertKind"},
      {"$ref": "#/components/parameters/limit"}, {"$ref": "#/components/parameters/cursor"}],
    "responses": {"200": {"$ref": "#/components/responses/Alerts"}, "400": {"$ref": "#/components/responses/Problem"}}}},
  "/v1/events": {"get": {"operationId": "streamEvents", "summary": "Flows, sightings and alerts as they happen: server-sent events",
    "description": "Events flow (Flow: it started, ended, changed its verdict, or was denied), sighting (Sighting) and alert (Alert: new, blocked for the first time, or found again after a minute); and lost (Lost), when the client missed some. A comment at least every 15 s. The header Last-Event-ID goes on after that event.",
    "parameters": [{"$ref": "#/components/parameters/namespace"}, {"$ref": "#/components/parameters/workload"},
      {"$ref": "#/components/parameters/eventKind"}],
    "responses": {"200": {"description": "the stream", "content": {"text/event-stream": {"schema": {"type": "string"}}}},
      "400": {"$ref": "#/components/responses/Problem"}, "503": {"$ref": "#/components/responses/Problem"}}}},
  "/v1/stats": {"get": {"operationId": "getStats", "summary": "Counters of the kernel side and of the daemon",
    "responses": {"200": {"$ref": "#/components/responses/Stats"}, "400": {"$ref": "#/components/responses/Problem"}}}},
  "/v1/explain": {"get": {"operationId": "explain", "summary": "May one end call another, by which policy and field, or what is missing; or the baseline",
    "parameters": [{"$ref": "#/components/parameters/from"}, {"$ref": "#/components/parameters/to"},
      {"$ref": "#/components/parameters/protocol"}, {"$ref": "#/components/parameters/baseline"}],
    "responses": {"200": {"$ref": "#/components/responses/Explain"}, "400": {"$ref": "#/components/responses/Problem"},
      "404": {"$ref": "#/components/responses/Problem"}}}},
  "/metrics": {"get": {"operationId": "getMetrics", "summary": "For Prometheus: the text exposition format, version 0.0.4",
    "responses": {"200": {"description": "metrics", "content": {"text/plain": {"schema": {"type": "string"}}}},
      "400": {"$ref": "#/components/responses/Problem"}}}},
  "/healthz": {"get": {"operationId": "getHealth", "summary": "The daemon's loop runs",
    "responses": {"200": {"description": "ok", "content": {"text/plain": {"schema": {"type": "string"}}}}}}},
  "/readyz": {"get": {"operationId": "getReady", "summary": "The first generation is in the kernel",
    "responses": {"200": {"$ref": "#/components/responses/Ready"}, "503": {"$ref": "#/components/responses/NotReady"}}}},
  "/openapi.json": {"get": {"operationId": "getDescription", "summary": "This description",
    "responses": {"200": {"description": "OpenAPI 3.1", "content": {"application/json": {"schema": {"type": "object"}}}}}}}
},
)json";

constexpr std::string_view kComponents = R"json("components": {
"parameters": {
  "since": {"name": "since", "in": "query", "schema": {"type": "string"}, "description": "Rows last seen at or after this time: RFC 3339, or back from now: 90s, 15m, 2h, 1d."},
  "until": {"name": "until", "in": "query", "schema": {"type": "string"}, "description": "Rows last seen before this time; written as since is."},
  "namespace": {"name": "namespace", "in": "query", "schema": {"type": "string"}, "description": "Of the item; of either end of a flow or sighting, of a presenter or destination of a token."},
  "workload": {"name": "workload", "in": "query", "schema": {"type": "string"}, "description": "NAME or NAMESPACE/NAME: the workload itself, a policy's target, one that stands behind an endpoint, either end of a flow or sighting, a presenter or destination of a token."},
  "verdict": {"name": "verdict", "in": "query", "schema": {"$ref": "#/components/schemas/Verdict"}},
  "reason": {"name": "reason", "in": "query", "schema": {"type": "string"}, "description": "One of the words of docs/reasons.md."},
  "direction": {"name": "direction", "in": "query", "schema": {"$ref": "#/components/schemas/Direction"}},
  "alertKind": {"name": "kind", "in": "query", "schema": {"$ref": "#/components/schemas/AlertKind"}},
  "eventKind": {"name": "kind", "in": "query", "schema": {"type": "string"}, "description": "flow, sighting, alert, or several of them with commas between. All by default."},
  "limit": {"name": "limit", "in": "query", "schema": {"type": "integer", "minimum": 1, "maximum": 1000, "default": 100}},
  "cursor": {"name": "cursor", "in": "query", "schema": {"type": "string"}, "description": "nextCursor of the page before, from the same list and run of the daemon. Give the same filters with it."},
  "from": {"name": "from", "in": "query", "schema": {"type": "string"}, "description": "NAMESPACE/NAME of a workload, host, or an address. Needed unless baseline is true."},
  "to": {"name": "to", "in": "query", "schema": {"type": "string"}, "description": "NAMESPACE/NAME:PORT, host:PORT, ADDRESS:PORT, [V6]:PORT or a DNS name with a port. Needed unless baseline is true."},
  "protocol": {"name": "protocol", "in": "query", "schema": {"type": "string", "enum": ["tcp", "udp"], "default": "tcp"}},
  "baseline": {"name": "baseline", "in": "query", "schema": {"type": "boolean", "default": false}, "description": "Answer with what is always allowed instead."}
},
"responses": {
  "Problem": {"description": "what is wrong, in a sentence", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}},
  "NotReady": {"description": "not ready, and why", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/NotReady"}}}},
  "Ready": {"description": "ready", "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Ready"}}}},
  "Status": {"description": "the status", "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Status"}}}},
  "Stats": {"description": "the counters", "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Stats"}}}},
  "Explain": {"description": "the explanation", "content": {"application/json": {"schema": {"oneOf": [{"$ref": "#/components/schemas/Explanation"}, {"$ref": "#/components/schemas/Baseline"}]}}}},
  "Policies": {"description": "a page", "content": {"application/json": {"schema": {"type": "object", "required": ["items"], "properties": {
    "items": {"type": "array", "items": {"$ref": "#/components/schemas/Policy"}}, "nextCursor": {"$ref": "#/components/schemas/NextCursor"}}}}}},
  "Workloads": {"description": "a page", "content": {"application/json": {"schema": {"type": "object", "required": ["items"], "properties": {
    "items": {"type": "array", "items": {"$ref": "#/components/schemas/Workload"}}, "nextCursor": {"$ref": "#/components/schemas/NextCursor"}}}}}},
  "Endpoints": {"description": "a page", "content": {"application/json": {"schema": {"type": "object", "required": ["items"], "properties": {
    "items": {"type": "array", "items": {"$ref": "#/components/schemas/Endpoint"}}, "nextCursor": {"$ref": "#/components/schemas/NextCursor"}}}}}},
  "Tokens": {"description": "a page", "content": {"application/json": {"schema": {"type": "object", "required": ["items"], "properties": {
    "items": {"type": "array", "items": {"$ref": "#/components/schemas/Token"}}, "nextCursor": {"$ref": "#/components/schemas/NextCursor"}}}}}},
  "Token": {"description": "the token", "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Token"}}}},
  "Alerts": {"description": "a page", "content": {"application/json": {"schema": {"type": "object", "required": ["items"], "properties": {
    "items": {"type": "array", "items": {"$ref": "#/components/schemas/Alert"}}, "nextCursor": {"$ref": "#/components/schemas/NextCursor"}}}}}},
  "Flows": {"description": "a page", "content": {"application/json": {"schema": {"type": "object", "required": ["items"], "properties": {
    "items": {"type": "array", "items": {"$ref": "#/components/schemas/Flow"}}, "nextCursor": {"$ref": "#/components/schemas/NextCursor"}}}}}}
},
)json";

constexpr std::string_view kSchemas = R"json("schemas": {
  "Verdict": {"type": "string", "enum": ["ALLOWED", "DENIED", "AUDIT"], "description": "AUDIT: let pass, and would have been denied."},
  "Direction": {"type": "string", "enum": ["egress", "ingress"], "description": "As seen from the workload whose rules decided."},
  "Time": {"type": "string", "format": "date-time", "description": "RFC 3339, UTC, milliseconds."},
  "Strings": {"type": "array", "items": {"type": "string"}},
  "NextCursor": {"type": "string", "description": "Absent on the last page. Means nothing to a client."},
  "Problem": {"type": "object", "required": ["type", "title", "status", "detail"], "properties": {
    "type": {"type": "string"}, "title": {"type": "string"}, "status": {"type": "integer"}, "detail": {"type": "string"}}},
  "NotReady": {"type": "object", "required": ["type", "title", "status", "detail", "phase", "problems"], "properties": {
    "type": {"type": "string"}, "title": {"type": "string"}, "status": {"type": "integer"}, "detail": {"type": "string"},
    "phase": {"type": "string"}, "problems": {"$ref": "#/components/schemas/Strings"}}},
  "Ready": {"type": "object", "required": ["ready", "phase", "problems"], "properties": {"ready": {"type": "boolean"},
    "phase": {"type": "string", "enum": ["enforcing", "degraded"], "description": "degraded: what is in the kernel is in force, and problems says what is wrong."},
    "problems": {"type": "array", "items": {"type": "string"}}}},
  "Status": {"type": "object", "required": ["version", "started", "ready", "phase", "problems", "generation", "adopted", "sources", "counts", "maps", "features", "enforcementGaps"], "properties": {
    "version": {"type": "string"},
    "started": {"$ref": "#/components/schemas/Time"},
    "ready": {"type": "boolean", "description": "The first generation is in the kernel."},
    "phase": {"type": "string", "description": "starting, enforcing or degraded"},
    "problems": {"$ref": "#/components/schemas/Strings"},
    "generation": {"type": "integer", "description": "0: none yet."},
    "generationTime": {"$ref": "#/components/schemas/Time"},
    "policyDigest": {"type": "string", "description": "SHA-256, hexadecimal: equal digests enforce the same."},
    "cgroupRoot": {"type": "string"},
    "bpffs": {"type": "string"},
    "adopted": {"type": "boolean", "description": "What an earlier run left in the kernel was taken over."},
    "sources": {"type": "array", "items": {"$ref": "#/components/schemas/Source"}},
    "counts": {"type": "object", "additionalProperties": {"type": "integer"}, "description": "How many there are, by what they are."},
    "maps": {"type": "array", "items": {"$ref": "#/components/schemas/MapUse"}},
    "features": {"type": "object", "additionalProperties": {"type": "string"}, "description": "on, or off and why, by feature."},
    "enforcementGaps": {"type": "array", "items": {"$ref": "#/components/schemas/Gap"}, "description": "When the programs were not at the enforcement root, which was removed; the last 16 of this run, oldest first."}}},
  "Gap": {"type": "object", "properties": {
    "from": {"$ref": "#/components/schemas/Time", "description": "When they were last seen there. Absent: before this run."},
    "until": {"$ref": "#/components/schemas/Time", "description": "When they were there again. Absent: not yet."}}},
  "Source": {"type": "object", "required": ["kind", "location", "documents", "objects", "badDocuments"], "properties": {
    "kind": {"type": "string"}, "location": {"type": "string"},
    "problem": {"type": "string", "description": "Absent when all is well."},
    "documents": {"type": "integer"}, "objects": {"type": "integer"}, "badDocuments": {"type": "integer"},
    "lastChange": {"$ref": "#/components/schemas/Time"},
    "lastContact": {"$ref": "#/components/schemas/Time", "description": "Of a server: when it last said anything."},
    "resources": {"type": "array", "items": {"$ref": "#/components/schemas/Resource"}, "description": "Of a server: what is asked for."}}},
  "Resource": {"type": "object", "required": ["name", "state", "objects"], "properties": {
    "name": {"type": "string", "description": "As in Pods of this node."},
    "state": {"type": "string", "enum": ["listing", "watching", "absent", "forbidden", "failing"], "description": "absent: the server does not know it, and is asked again."},
    "objects": {"type": "integer", "description": "Known now."},
    "problem": {"type": "string", "description": "What the server did, while forbidden or failing."}}},
  "MapUse": {"type": "object", "required": ["name", "used", "capacity"], "properties": {
    "name": {"type": "string"}, "used": {"type": "integer"}, "capacity": {"type": "integer"}}},
  "Policy": {"type": "object", "required": ["kind", "namespace", "name", "phase", "allowedEndpoints", "allowedSources"], "properties": {
    "kind": {"type": "string", "description": "CASAPolicy or MultiAgentSystem"},
    "namespace": {"type": "string"}, "name": {"type": "string"},
    "target": {"type": "string", "description": "Kind/name, as in Deployment/agent"},
    "enforcement": {"type": "string", "description": "enforce or audit"},
    "phase": {"type": "string", "description": "Pending, Active or Failed"},
    "message": {"type": "string"},
    "lastSyncTime": {"$ref": "#/components/schemas/Time"},
    "origin": {"type": "string", "description": "The file it came from."},
    "allowedEndpoints": {"$ref": "#/components/schemas/Strings"},
    "allowedSources": {"$ref": "#/components/schemas/Strings"},
    "llmEndpoint": {"type": "string", "description": "fqdn:port"},
    "tokens": {"type": "string", "description": "Of spec.tokens what is not the default: exfiltration: drop, tlsObserver: go"}}},
  "Instance": {"type": "object", "required": ["cgroup", "tokenCoverage"], "properties": {
    "tokenCoverage": {"$ref": "#/components/schemas/Coverage"},
    "cgroup": {"type": "string", "description": "Path below the cgroup2 root."},
    "cgroupId": {"type": "string", "description": "A 64-bit number in decimal."},
    "since": {"$ref": "#/components/schemas/Time"}}},
  "Workload": {"type": "object", "required": ["namespace", "name", "mode", "state", "policies", "instances", "declaredCgroups", "addresses", "tokenCoverage"], "properties": {
    "tokenCoverage": {"$ref": "#/components/schemas/Coverage"},
    "namespace": {"type": "string"}, "name": {"type": "string"}, "kind": {"type": "string"},
    "identity": {"type": "integer"},
    "mode": {"type": "string", "description": "enforce, audit or exempt"},
    "state": {"type": "string", "description": "What holds for it now, for people."},
    "policies": {"$ref": "#/components/schemas/Strings"},
    "instances": {"type": "array", "items": {"$ref": "#/components/schemas/Instance"}},
    "declaredCgroups": {"$ref": "#/components/schemas/Strings"},
    "addresses": {"$ref": "#/components/schemas/Strings"}}},
  "NamedAddress": {"type": "object", "required": ["address", "sources", "secondsLeft"], "properties": {
    "address": {"type": "string"},
    "sources": {"$ref": "#/components/schemas/Strings", "description": "answer: a DNS answer to the workload; resolver: the daemon's own."},
    "secondsLeft": {"type": "integer", "description": "0: new connections find it no more."},
    "workload": {"type": "string", "description": "namespace/name that may use it."}}},
  "Endpoint": {"type": "object", "required": ["port", "protocol", "state", "workloads", "addresses", "usedBy"], "properties": {
    "namespace": {"type": "string"}, "name": {"type": "string"}, "port": {"type": "integer"}, "protocol": {"type": "string"},
    "state": {"type": "string", "description": "resolved, or why not"},
    "pods": {"$ref": "#/components/schemas/Strings", "description": "On a node of a cluster: NAMESPACE/NAME of the Pods that have these addresses."},
    "workloads": {"$ref": "#/components/schemas/Strings"},
    "addresses": {"$ref": "#/components/schemas/Strings"},
    "usedBy": {"$ref": "#/components/schemas/Strings"},
    "fqdn": {"type": "string", "description": "Of an llmEndpoint, which has no namespace and name."},
    "callers": {"$ref": "#/components/schemas/Strings", "description": "Of an FQDN: workloads that may call it."},
    "resolved": {"type": "array", "items": {"$ref": "#/components/schemas/NamedAddress"}, "description": "Of an FQDN."},
    "lastError": {"type": "string", "description": "Of an FQDN: what the daemon's own resolver met last; absent when all is well."}}},
  "Stats": {"type": "object", "required": ["counters", "deniedByReason", "flows", "tokens", "alerts"], "properties": {
    "tokens": {"$ref": "#/components/schemas/TokenStats"},
    "alerts": {"type": "object", "required": ["stored", "total", "forgotten", "byKind"], "properties": {
      "stored": {"type": "integer"}, "total": {"type": "integer"}, "forgotten": {"type": "integer"},
      "byKind": {"type": "object", "additionalProperties": {"type": "integer"}, "description": "Findings, recurrences included."}}},
    "counters": {"type": "object", "additionalProperties": {"type": "integer"}},
    "deniedByReason": {"type": "object", "additionalProperties": {"type": "integer"}},
    "flows": {"type": "object", "required": ["stored", "total", "forgotten"], "properties": {
      "stored": {"type": "integer"}, "total": {"type": "integer"}, "forgotten": {"type": "integer"}}}}},
  "Explanation": {"type": "object", "required": ["verdict", "steps", "suggestions"], "properties": {
    "verdict": {"type": "string", "enum": ["ALLOWED", "DENIED", "AUDIT", "NONE"], "description": "NONE: neither end is under enforcement."},
    "steps": {"type": "array", "items": {"$ref": "#/components/schemas/ExplainStep"}},
    "suggestions": {"$ref": "#/components/schemas/Strings"}}},
  "ExplainStep": {"type": "object", "required": ["where", "verdict"], "properties": {
    "where": {"type": "string"},
    "verdict": {"type": "string", "enum": ["ALLOWED", "DENIED", "AUDIT", "NONE"]},
    "reason": {"type": "string"},
    "policy": {"type": "string", "description": "namespace/name; absent when none decided."},
    "field": {"type": "string", "description": "Of that policy."},
    "text": {"type": "string"}}},
  "Baseline": {"type": "object", "required": ["baseline"], "properties": {"baseline": {"$ref": "#/components/schemas/Strings"}}},
  "Process": {"type": "object", "properties": {
    "pid": {"type": "integer"},
    "comm": {"type": "string", "description": "Chosen by the process itself: do not trust it, do not print it unescaped."}}},
  "Party": {"type": "object", "required": ["kind"], "properties": {
    "namespace": {"type": "string"},
    "workload": {"type": "string", "description": "Name of the workload."},
    "kind": {"type": "string", "description": "A workload's kind (Deployment, StatefulSet, Pod, Unit, Cgroup, or workload where that is not known); else service, host, world, cidr, dns (a trusted resolver), fqdn, nobody (no socket listens there) or unknown."},
    "name": {"type": "string", "description": "Of a peer that is no workload, where it has one."},
    "cidr": {"type": "string", "description": "The prefix of a policy that this peer is in."},
    "fqdn": {"type": "string", "description": "The name that the address was learnt for."},
    "service": {"type": "string", "description": "The Service that it was reached by."},
    "process": {"$ref": "#/components/schemas/Process"},
    "address": {"type": "string"},
    "port": {"type": "integer"}}},
  "Counter": {"type": "object", "required": ["sent", "received"], "properties": {
    "sent": {"type": "integer", "description": "From source to destination."},
    "received": {"type": "integer", "description": "And back."}}},
  "Flow": {"type": "object", "required": ["id", "time", "lastSeen", "state", "direction", "protocol", "count", "source", "destination"], "properties": {
    "id": {"type": "string", "description": "Of this run of the daemon; larger is newer."},
    "time": {"$ref": "#/components/schemas/Time"},
    "lastSeen": {"$ref": "#/components/schemas/Time"},
    "state": {"type": "string", "enum": ["open", "closed"]},
    "verdict": {"$ref": "#/components/schemas/Verdict"},
    "reason": {"type": "string", "description": "One of the words of docs/reasons.md."},
    "direction": {"$ref": "#/components/schemas/Direction"},
    "protocol": {"type": "string", "description": "tcp, udp, icmp, icmpv6, sctp, raw, or the IP protocol number"},
    "appProtocol": {"type": "string", "enum": ["http", "http2", "tls", "other"], "description": "What the first bytes are; absent when nobody looked, or nothing was sent yet."},
    "unread": {"$ref": "#/components/schemas/Unread"},
    "count": {"type": "integer", "description": "Attempts that this row stands for."},
    "source": {"$ref": "#/components/schemas/Party", "description": "Who opened the conversation."},
    "destination": {"$ref": "#/components/schemas/Party"},
    "policy": {"type": "string", "description": "namespace/name whose rule decided; absent when none did."},
    "askedName": {"type": "string", "description": "Of a denial: the DNS name that was asked for, or the server name in the first bytes. Labels longer than 24 are told by their length only, as (52)."},
    "bytes": {"$ref": "#/components/schemas/Counter"},
    "packets": {"$ref": "#/components/schemas/Counter"},
    "token": {"type": "object", "required": ["sha256", "event"], "description": "The last one that was seen and hashed.", "properties": {
      "sha256": {"$ref": "#/components/schemas/Sha256"}, "event": {"$ref": "#/components/schemas/Event"}}},
    "tokens": {"type": "integer", "description": "Requests with a token that were seen; absent when there was none."}}},
)json";

constexpr std::string_view kTokenSchemas =
    R"json(  "Sha256": {"type": "string", "description": "Of the token as it stands behind Bearer, 64 hexadecimal digits, lower case."},
  "Event": {"type": "string", "enum": ["issuance", "exchange", "introspection", "use"], "description": "What the request is to the token: docs/tokens.md."},
  "Via": {"type": "string", "enum": ["wire", "tls"], "description": "Read from packets, or by an observer of a TLS library."},
  "Signature": {"type": "string", "enum": ["unverified", "valid", "invalid", "expired", "unknown_key"]},
  "Unread": {"type": "string", "enum": ["start", "opaque", "truncated", "ambiguous"], "description": "Why a connection is not read (any more): older than the programs; not HTTP in clear text; a head or token longer than is read, or out of step; HTTP that two readers would read in two ways. Absent: nothing was missed."},
  "AlertKind": {"type": "string", "enum": ["token_unexpected_destination", "token_replay", "token_invalid_signature", "token_alg_none", "duplicate_authorization", "ambiguous_http", "object_conflict"]},
  "Coverage": {"type": "object", "required": ["connections", "unread", "kinds"], "description": "How far requests could be read. What was not seen may have happened all the same: see docs/tokens.md.", "properties": {
    "connections": {"type": "object", "required": ["http", "http2", "tls", "other"], "description": "By what their first bytes are.", "properties": {
      "http": {"type": "integer"}, "http2": {"type": "integer"}, "tls": {"type": "integer"}, "other": {"type": "integer"}}},
    "unread": {"type": "object", "required": ["start", "opaque", "truncated", "ambiguous"], "description": "Connections that are not read (any more), by why.", "properties": {
      "start": {"type": "integer"}, "opaque": {"type": "integer"}, "truncated": {"type": "integer"}, "ambiguous": {"type": "integer"}}},
    "kinds": {"$ref": "#/components/schemas/Strings", "description": "wire (HTTP/1), wire-h2, tls-uprobe: what was read; opaque: something was not. Empty: there was nothing yet."}}},
  "Counts": {"type": "object", "required": ["issuances", "exchanges", "introspections", "uses", "refused", "perMinute", "distinctTokens", "distinctTokensEstimated"], "properties": {
    "namespace": {"type": "string"}, "workload": {"type": "string"},
    "cgroup": {"type": "string", "description": "Of an instance, below the cgroup2 root."},
    "cgroupId": {"type": "string"},
    "issuances": {"type": "integer"}, "exchanges": {"type": "integer"}, "introspections": {"type": "integer"}, "uses": {"type": "integer"},
    "refused": {"type": "integer", "description": "Requests with a token that the kernel stopped; in none of the four."},
    "perMinute": {"type": "integer", "description": "Events in the last 60 seconds."},
    "distinctTokens": {"type": "integer"},
    "distinctTokensEstimated": {"type": "boolean", "description": "There were more than 1024: distinctTokens is an estimate, with a standard error of 1.6 %."}}},
  "ManyCounts": {"type": "array", "items": {"$ref": "#/components/schemas/Counts"}},
  "TokenStats": {"type": "object", "required": ["total", "byNamespace", "byWorkload", "byInstance", "ledger", "instancesForgotten", "withoutRoom"], "description": "Events of tokens since the daemon started.", "properties": {
    "total": {"$ref": "#/components/schemas/Counts"},
    "byNamespace": {"$ref": "#/components/schemas/ManyCounts"},
    "byWorkload": {"$ref": "#/components/schemas/ManyCounts"},
    "byInstance": {"$ref": "#/components/schemas/ManyCounts", "description": "The 4096 that were heard of last."},
    "ledger": {"type": "object", "required": ["stored", "total", "forgotten"], "properties": {
      "stored": {"type": "integer"}, "total": {"type": "integer"}, "forgotten": {"type": "integer"}}},
    "instancesForgotten": {"type": "integer"},
    "withoutRoom": {"type": "integer", "description": "News of workloads beyond the 16384 that have counts of their own."}}},
  "Place": {"type": "object", "required": ["kind"], "properties": {
    "namespace": {"type": "string"}, "workload": {"type": "string"},
    "kind": {"type": "string", "description": "As of a flow's end."},
    "name": {"type": "string"}, "cidr": {"type": "string"}, "fqdn": {"type": "string"}, "service": {"type": "string"},
    "address": {"type": "string", "description": "Of an end that its name does not tell from others."},
    "port": {"type": "integer", "description": "Of a destination."}}},
  "Visit": {"type": "object", "required": ["kind", "firstSeen", "lastSeen", "count"], "properties": {
    "namespace": {"type": "string"}, "workload": {"type": "string"}, "kind": {"type": "string"},
    "name": {"type": "string"}, "cidr": {"type": "string"}, "fqdn": {"type": "string"}, "service": {"type": "string"},
    "address": {"type": "string"}, "port": {"type": "integer"},
    "firstSeen": {"$ref": "#/components/schemas/Time"}, "lastSeen": {"$ref": "#/components/schemas/Time"},
    "count": {"type": "integer", "description": "Sightings."}}},
  "Step": {"type": "object", "required": ["time", "event", "source", "destination", "direction", "via", "signature"], "properties": {
    "time": {"$ref": "#/components/schemas/Time"},
    "event": {"$ref": "#/components/schemas/Event"},
    "request": {"type": "string", "description": "Method and class of the path: no query, {id} for segments that look like an id or could be a secret."},
    "source": {"$ref": "#/components/schemas/Place"},
    "destination": {"$ref": "#/components/schemas/Place"},
    "direction": {"$ref": "#/components/schemas/Direction"},
    "verdict": {"$ref": "#/components/schemas/Verdict", "description": "On the request."},
    "reason": {"type": "string", "description": "One of the words of docs/reasons.md."},
    "policy": {"type": "string", "description": "namespace/name whose rule decided."},
    "instance": {"type": "string", "description": "The cgroup in which it was seen, below the cgroup2 root."},
    "flow": {"type": "string", "description": "id of its row in /v1/flows, which may be forgotten by now."},
    "via": {"$ref": "#/components/schemas/Via"},
    "signature": {"$ref": "#/components/schemas/Signature", "description": "As it was known then."},
    "duplicate": {"type": "boolean", "description": "true: not from the first Authorization header of its request."}}},
  "Token": {"type": "object", "required": ["sha256", "shape", "length", "algNone", "signature", "firstSeen", "lastSeen", "counts", "presenters", "destinations", "sightings"], "properties": {
    "sha256": {"$ref": "#/components/schemas/Sha256"},
    "shape": {"type": "string", "enum": ["jwt", "opaque-bearer"]},
    "length": {"type": "integer", "description": "Bytes of the token."},
    "algNone": {"type": "boolean", "description": "Its header says that it is not signed."},
    "signature": {"$ref": "#/components/schemas/Signature"},
    "firstSeen": {"$ref": "#/components/schemas/Time"},
    "lastSeen": {"$ref": "#/components/schemas/Time"},
    "counts": {"type": "object", "required": ["issuance", "exchange", "introspection", "use", "refused", "duplicate"], "description": "Requests that carried it, each in one of them.", "properties": {
      "issuance": {"type": "integer"}, "exchange": {"type": "integer"}, "introspection": {"type": "integer"}, "use": {"type": "integer"},
      "refused": {"type": "integer", "description": "Stopped in the kernel."},
      "duplicate": {"type": "integer", "description": "It stood in another than the first Authorization header: no use."}}},
    "firstPresenter": {"$ref": "#/components/schemas/Place"},
    "presenters": {"type": "array", "items": {"$ref": "#/components/schemas/Visit"}, "description": "By whom, the first one first; 32 at most."},
    "destinations": {"type": "array", "items": {"$ref": "#/components/schemas/Visit"}, "description": "To where, the first one first; 32 at most."},
    "morePresenters": {"type": "integer", "description": "Sightings by others than those that are listed."},
    "moreDestinations": {"type": "integer", "description": "Sightings to others than those that are listed."},
    "sightings": {"type": "integer"},
    "path": {"type": "array", "items": {"$ref": "#/components/schemas/Step"}, "description": "Of one token: its first 64 and last 192 sightings, oldest first."},
    "stepsForgotten": {"type": "integer", "description": "Sightings between those."}}},
  "Sighting": {"type": "object", "required": ["time", "event", "request", "source", "destination", "direction", "via"], "description": "One request that carried a token, or a request to a token endpoint.", "properties": {
    "time": {"$ref": "#/components/schemas/Time"},
    "event": {"$ref": "#/components/schemas/Event"},
    "request": {"type": "string", "description": "As of a step."},
    "sha256": {"$ref": "#/components/schemas/Sha256", "description": "Absent: there was no token, or it was not hashed."},
    "shape": {"type": "string", "enum": ["jwt", "opaque-bearer", "unhashed"], "description": "Absent: there was no token."},
    "length": {"type": "integer"}, "algNone": {"type": "boolean"},
    "signature": {"$ref": "#/components/schemas/Signature"},
    "source": {"$ref": "#/components/schemas/Party"},
    "destination": {"$ref": "#/components/schemas/Party"},
    "direction": {"$ref": "#/components/schemas/Direction"},
    "verdict": {"$ref": "#/components/schemas/Verdict"},
    "reason": {"type": "string"}, "policy": {"type": "string"}, "instance": {"type": "string"}, "flow": {"type": "string"},
    "appProtocol": {"type": "string", "enum": ["http", "http2", "tls", "other"]},
    "via": {"$ref": "#/components/schemas/Via"},
    "duplicate": {"type": "boolean"}}},
  "Lost": {"type": "object", "properties": {
    "count": {"type": "integer", "description": "Events of all kinds that the client missed. Absent: its last one was of another run of the daemon."}}},
  "Alert": {"type": "object", "required": ["id", "kind", "severity", "message", "time", "lastSeen", "count", "blocked", "workload", "destination", "evidence"], "properties": {
    "id": {"type": "string", "description": "Of this run of the daemon; larger is newer."},
    "kind": {"$ref": "#/components/schemas/AlertKind"},
    "severity": {"type": "string", "enum": ["medium", "high", "critical"]},
    "message": {"type": "string", "description": "One sentence, for people."},
    "time": {"$ref": "#/components/schemas/Time"},
    "lastSeen": {"$ref": "#/components/schemas/Time", "description": "When it was found last."},
    "count": {"type": "integer", "description": "How often it was found."},
    "blocked": {"type": "boolean", "description": "The kernel stopped the request, once at least."},
    "sha256": {"$ref": "#/components/schemas/Sha256", "description": "Absent: the token was not hashed, or none is meant."},
    "workload": {"$ref": "#/components/schemas/Place", "description": "Who sent the request."},
    "destination": {"$ref": "#/components/schemas/Place"},
    "evidence": {"type": "object", "required": ["flows"], "properties": {
      "flows": {"$ref": "#/components/schemas/Strings", "description": "ids of rows in /v1/flows, 8 at most."},
      "firstSighting": {"$ref": "#/components/schemas/Step", "description": "The token's first one of all."},
      "sighting": {"$ref": "#/components/schemas/Step", "description": "The last one that the alert is about."}}}}}
}
}
}
)json";

}  // namespace

std::string_view openapi_json() {
  static const std::string text =
      std::string(kPaths) + std::string(kComponents) + std::string(kSchemas) + std::string(kTokenSchemas);
  return text;
}

}  // namespace casa::api
