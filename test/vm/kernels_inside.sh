#!/bin/sh
# Runs in the emulated machine, as all its user space, with busybox: can this kernel enforce, and does it? Prints
# `pass NAME` or `fail NAME: why` for each case; exit status 1 when one failed.
failed=0
root=/sys/fs/cgroup
ok() { # NAME COMMAND...
  name=$1
  shift
  if "$@" >/tmp/last 2>&1; then echo "pass $name"; else
    echo "fail $name: $(tail -n 3 /tmp/last | tr '\n' ' ')"
    failed=1
  fi
}
in_cgroup() { # CGROUP COMMAND...
  cgroup=$root/$1
  shift
  mkdir -p "$cgroup"
  (sh -c "echo \$\$ >$cgroup/cgroup.procs; exec \"\$@\"" - "$@")
}
listen() { # CGROUP PORT...: answers, and goes on; both address families
  cgroup=$1
  shift
  for port; do in_cgroup "$cgroup" nc -ll -p "$port" -e true >/dev/null 2>&1 & done
}
calls() { # CGROUP ADDRESS PORT
  in_cgroup "$1" nc -w 3 "$2" "$3" </dev/null
}
refused() {
  if calls "$@" >/tmp/answer 2>&1; then echo "got through" >>/tmp/answer; cat /tmp/answer; return 1; fi
  grep -q 'not permitted' /tmp/answer || { cat /tmp/answer; return 1; }
}
start() {
  casad run --config /policies/none.yaml --policy-dir /policies --api-socket /run/casad.sock --state-dir /run/state >>/tmp/log 2>&1 &
  daemon=$!
  end=$(($(date +%s) + 300))
  while [ "$(date +%s)" -lt $end ]; do
    if casad status --api-socket /run/casad.sock --json 2>/dev/null | grep -q '"ready": *true'; then return 0; fi
    kill -0 $daemon 2>/dev/null || break
    sleep 0.2
  done
  echo "not ready"
  tail -n 5 /tmp/log
  return 1
}
told() { casad flows --api-socket /run/casad.sock --json --verdict DENIED | grep -q "\"reason\": *\"$1\""; }

mkdir -p /policies
: >/tmp/none.yaml
cp /tmp/none.yaml /policies/none.yaml
cat >/policies/agents.yaml <<'Y'
apiVersion: casa.io/v1alpha1
kind: CASAPolicy
metadata: {name: agent, namespace: agents}
spec:
  targetRef: {kind: Deployment, name: agent}
  allowedEndpoints:
    - {name: tool, namespace: tools, port: 8080}
---
apiVersion: casa.io/v1alpha1
kind: CASAPolicy
metadata: {name: tool, namespace: tools}
spec:
  targetRef: {kind: Deployment, name: tool}
Y

# What this kernel's verifier walked for each program, as test/check/budget.py has it for the machine's own.
within_budget() {
  echo "$2 instructions verified, the budget is $budget"
  [ "$2" -gt 0 ] && [ "$2" -le "$budget" ]
}

# Each look loads everything, and verifying takes its time under emulation: one look.
casad doctor --json >/tmp/doctor || true
ok "can enforce" grep -q '"healthy": *true' /tmp/doctor
budget=$(cat /budget)
tr '{' '\n' </tmp/doctor | sed -n 's/^"name":"\(casa_[a-z0-9_]*\)","verifiedInstructions":\([0-9]*\).*/\1 \2/p' >/tmp/programs
ok "all programs load" test "$(wc -l </tmp/programs)" -eq "$(cat /programs)"
while read -r program walked; do
  echo "  $program: $walked instructions verified"
  ok "$program within budget" within_budget "$program" "$walked"
done </tmp/programs
ok starts start
listen tools.slice/tool.service 8080 8081
listen other.slice/other.service 9090
sleep 1
agent=agents.slice/agent.service
ok "allowed, IPv4" calls $agent 127.0.0.1 8080
ok "allowed, IPv6" calls $agent ::1 8080
ok "other port" refused $agent 127.0.0.1 8081
ok "other port, IPv6" refused $agent ::1 8081
ok "IPv4 in IPv6" refused $agent ::ffff:127.0.0.1 8081
ok "other workload" refused $agent 127.0.0.1 9090
ok "a cgroup below" refused $agent/below 127.0.0.1 9090
ok "an undeclared cgroup" refused agents.slice/stray.service 127.0.0.1 8080
ok "from outside" refused other.slice/other.service 127.0.0.1 8080
ok "outside to outside" calls other.slice/other.service 127.0.0.1 9090
ok "told: port" told port_not_allowed
ok "told: peer" told peer_not_allowed
ok "told: cgroup" told undeclared_cgroup
ok "told: source" told source_not_allowed

kill -9 $daemon
wait $daemon 2>/dev/null
ok "killed: allowed" calls $agent 127.0.0.1 8080
ok "killed: refused" refused $agent 127.0.0.1 9090
ok "killed: removed" rmdir $root/$agent/below $root/$agent
ok "killed: a cgroup made anew, refused" refused $agent 127.0.0.1 9090
ok "killed: a cgroup made anew, allowed" calls $agent 127.0.0.1 8080
ok "starts again" start
ok adopts sh -c 'casad status --api-socket /run/casad.sock --json | grep -q "\"adopted\": *true"'
ok "adopted: allowed" calls $agent 127.0.0.1 8080
ok "adopted: refused" refused $agent 127.0.0.1 9090
kill -TERM $daemon
wait $daemon
ok "detaches" casad detach
ok "detached" calls $agent 127.0.0.1 9090
if [ $failed -ne 0 ]; then
  cat /tmp/log
  dmesg | tail -n 5
fi
exit $failed
