#!/bin/bash
# Runs inside the container that systemd.sh boots, as root: the unit as installed, from the first start to `casad detach`.
# Prints `pass NAME` or `fail NAME: why` for each case, like test/check, and what the journal says when one failed.
set -u
failed=0
api=/run/casad/casad.sock
pins=/sys/fs/bpf/casad/abi-$(casad version | sed "s/.*ABI \([0-9]*\).*/\1/")/links

ok() { # NAME COMMAND...: passes when the command succeeds
  local name=$1
  shift
  if "$@" >/tmp/last 2>&1; then echo "pass systemd/$name"; else
    echo "fail systemd/$name: $(tail -n 3 /tmp/last | tr '\n' ' ')"
    failed=1
  fi
}
get() { curl -sf --max-time 5 --unix-socket $api "http://localhost$1"; }
status_is() { get /v1/status | python3 -c "import json,sys; s=json.load(sys.stdin); print(s); sys.exit(0 if ($1) else 1)"; }
property() { [ "$(systemctl show -P "$1" casad)" = "$2" ] || { systemctl show -p "$1" casad; return 1; }; }
within() { # SECONDS COMMAND...
  local end=$((SECONDS + $1))
  shift
  while ! "$@"; do [ $SECONDS -lt $end ] || return 1; sleep 0.1; done
}
# What a process of unit $1 in agents.slice gets when it calls port $2 of this host: ok, or the name of the error.
call() {
  systemd-run -q --wait --pipe --collect --slice=agents.slice --unit="$1" python3 -c '
import errno, socket, sys
try:
    socket.create_connection(("127.0.0.1", int(sys.argv[1])), 3).close()
    print("ok")
except OSError as e:
    print(errno.errorcode.get(e.errno, str(e)))' "$2"
}
gets() { # UNIT PORT ANSWER
  local answer
  answer=$(call "$1" "$2")
  [[ $answer =~ ^($3)$ ]] || { echo "$1 calling port $2 got '$answer', expected $3"; return 1; }
}

cat >/etc/casad/policies.d/agents.yaml <<'Y'
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
server='import socket,sys,threading
def serve(port):
    s=socket.socket(); s.setsockopt(socket.SOL_SOCKET,socket.SO_REUSEADDR,1); s.bind(("127.0.0.1",port)); s.listen()
    while True: s.accept()[0].close()
for p in sys.argv[2:]: threading.Thread(target=serve,args=(int(p),),daemon=True).start()
serve(int(sys.argv[1]))'

ok sysusers getent group casad
ok tmpfiles test -d /etc/casad/policies.d
# As the comment in the unit advises: an agent brings casad up before itself.
mkdir -p /etc/systemd/system/agent.service.d
sed -nE 's/^#   (\[Unit\]|[A-Z].*=.*)$/\1/p' /usr/lib/systemd/system/casad.service >/etc/systemd/system/agent.service.d/casad.conf
ok "the unit's advice" test "$(wc -l </etc/systemd/system/agent.service.d/casad.conf)" -eq 4
systemctl daemon-reload
ok "casad is not up yet" property ActiveState inactive
systemd-run -q --collect --slice=tools.slice --unit=tool python3 -c "$server" 8080 8081
ok "an agent brings casad up first, and may call what its policy names" within 5 gets agent 8080 ok
ok active property ActiveState active
# After casad: who listens is known, so the answer to a call is EPERM and not a connection that ends.
systemd-run -q --collect --slice=system.slice --unit=other python3 -c "$server" 9090
sleep 1
ok "ready means enforcing" status_is 's["ready"] and s["generation"] >= 1 and s["phase"] == "enforcing"'
# The tool is older than casad: who listens is found at the first packet, and then the connection is ended.
ok "another port is refused" gets agent 8081 'EPERM|ECONNABORTED'
ok "another workload is refused" gets agent 9090 EPERM
ok "an undeclared unit of the slice is refused" gets stranger 8080 EPERM
ok "refusals are told" bash -c "curl -sf --unix-socket $api 'http://localhost/v1/flows?verdict=DENIED' | grep -q port_not_allowed"
ok "the socket is the group's" bash -c "[ \"\$(stat -c '%a %U %G' $api)\" = '660 root casad' ] || { stat $api; exit 1; }"

pid=$(systemctl show -P MainPID casad)
# CAP_NET_ADMIN (12), CAP_PERFMON (38), CAP_BPF (39) and no other.
ok "three capabilities" grep -q '^CapEff:[[:space:]]*000000c000001000$' "/proc/$pid/status"
ok "no new privileges" grep -q '^NoNewPrivs:[[:space:]]*1$' "/proc/$pid/status"
ok "a second daemon is refused" bash -c '! timeout 10 casad run --api-socket /tmp/second.sock'
ok "it still serves" status_is 's["ready"]'

began=$(date +%s%N)
systemctl stop casad
took=$((($(date +%s%N) - began) / 1000000))
ok "stops within 2 s" test $took -lt 2000
ok "stop says that enforcement stays" bash -c 'journalctl -q -u casad --no-pager | grep -q "enforcement stays"'
ok "stop leaves the pins" test -e $pins/casa_egress
# Masked, or the next agent would bring it up again.
systemctl mask -q --runtime casad
ok "stopped: still refused" gets agent 9090 EPERM
ok "stopped: still allowed" gets agent 8080 ok
ok "stopped: nobody answers" bash -c "! curl -sf --unix-socket $api http://localhost/healthz"
systemctl unmask -q --runtime casad
systemctl start casad
ok "start adopts" status_is 's["adopted"] and s["ready"]'

old=$(systemctl show -P MainPID casad)
kill -KILL "$old"
ok "killed: refused at once" gets agent 9090 EPERM
ok "killed: comes back" within 10 bash -c "systemctl is-active -q casad && [ \$(systemctl show -P MainPID casad) != $old ]"
ok "killed: adopts" within 5 status_is 's["adopted"] and s["ready"]'

mkdir -p /run/systemd/system/casad.service.d
printf '[Service]\nWatchdogSec=2\n' >/run/systemd/system/casad.service.d/fast.conf
systemctl daemon-reload
systemctl restart casad
old=$(systemctl show -P MainPID casad)
sleep 3
ok "the watchdog is fed" property MainPID "$old"
kill -STOP "$old"
ok "a hung daemon is replaced" within 15 bash -c "p=\$(systemctl show -P MainPID casad); [ \$p != $old ] && [ \$p != 0 ] && systemctl is-active -q casad"

echo 'garbage: [' >/etc/casad/policies.d/half.yaml
ok "a half-written file is a problem, not an outage" within 5 status_is 's["phase"] == "degraded" and s["ready"]'
rm /etc/casad/policies.d/half.yaml
systemctl stop casad
systemctl mask -q --runtime casad
ok "detach ends enforcement" casad detach
ok "detached: the pins are gone" bash -c "! test -e $pins"
ok "detached: an agent does not start" bash -c "! systemd-run -q --wait --collect --slice=agents.slice --unit=agent true"
systemctl unmask -q --runtime casad
systemctl start casad
ok "after detach it starts anew" status_is 's["ready"] and not s["adopted"]'

if [ $failed -ne 0 ]; then
  systemctl --no-pager -l status casad
  journalctl -q --no-pager -u casad -n 200
fi
exit $failed
