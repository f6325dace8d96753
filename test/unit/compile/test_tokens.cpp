// spec.tokens: flags of the subject, wishes for observers, and policies that this node cannot hold.
#include "world.h"

using casa::compile::Phase;
using casa::policy::TlsObserver;
using casa::test::World;

namespace {

std::string policy(const std::string& name, const std::string& rest, const std::string& target = "agent") {
  return "---\napiVersion: casa.io/v1alpha1\nkind: CASAPolicy\nmetadata: {name: " + name +
         ", namespace: a}\nspec:\n  targetRef: {kind: Deployment, name: " + target + "}\n" + rest;
}

std::string tokens(const std::string& fields) { return "  tokens: {" + fields + "}\n"; }

constexpr std::uint32_t kDrop = CASA_SUBJECT_TOKEN_DROP, kValid = CASA_SUBJECT_TOKEN_VALID;

std::uint32_t flags(const World& w, const char* name) { return w.compiled.image.subjects.at(w.id("a", name)); }

bool has(const std::string& text, const char* part) { return text.find(part) != std::string::npos; }

}  // namespace

TEST_CASE("tokens: drop is a flag of the subject, alert is none") {
  World w(policy("p", tokens("exfiltration: drop")) + policy("q", tokens("requireValidSignature: drop"), "b") +
          policy("r", tokens("exfiltration: alert, requireValidSignature: alert"), "c") + policy("s", "", "d"));
  w.compile();
  CHECK(flags(w, "agent") == (CASA_SUBJECT_MANAGED | kDrop));
  CHECK(flags(w, "b") == (CASA_SUBJECT_MANAGED | kValid));
  CHECK(flags(w, "c") == CASA_SUBJECT_MANAGED);
  CHECK(flags(w, "d") == CASA_SUBJECT_MANAGED);
  CHECK(w.compiled.tls_observers.empty());
  CHECK(w.report("p").tokens == "exfiltration: drop");
  CHECK(w.report("r").tokens.empty());
}

TEST_CASE("tokens: of several policies the strictest wins, and all observers are wished for") {
  World w(policy("p1", tokens("exfiltration: drop, tlsObserver: go")) +
          policy("p2", tokens("exfiltration: alert, requireValidSignature: drop, tlsObserver: node")) +
          policy("p3", "") + policy("q", tokens("tlsObserver: auto"), "b"));
  w.compile();
  CHECK(flags(w, "agent") == (CASA_SUBJECT_MANAGED | kDrop | kValid));
  CHECK(w.compiled.tls_observers ==
        std::map<std::uint32_t, std::set<TlsObserver>>{{w.id("a", "agent"), {TlsObserver::kNode, TlsObserver::kGo}},
                                                       {w.id("a", "b"), {TlsObserver::kAuto}}});
  CHECK(w.report("p1").tokens == "exfiltration: drop, tlsObserver: go");
  CHECK(w.report("p2").tokens == "requireValidSignature: drop, tlsObserver: node");
}

TEST_CASE("tokens: audit keeps the flags, so that what would be dropped is told") {
  World w(policy("p", "  enforcement: audit\n" + tokens("exfiltration: drop")));
  w.compile();
  CHECK(flags(w, "agent") == (CASA_SUBJECT_MANAGED | CASA_SUBJECT_AUDIT | kDrop));
}

TEST_CASE("tokens: an exempt workload has neither flags nor observers") {
  World w(policy("p", tokens("exfiltration: drop, tlsObserver: auto")) +
          "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: a, annotations: {casa.io/enforcement: disabled}}\n");
  w.compile();
  CHECK(flags(w, "agent") == (CASA_SUBJECT_MANAGED | CASA_SUBJECT_EXEMPT));
  CHECK(w.compiled.tls_observers.empty());
}

TEST_CASE("tokens: the digest tells drop from alert") {
  World alert(policy("p", tokens("exfiltration: alert"))), drop(policy("p", tokens("exfiltration: drop")));
  alert.compile();
  drop.compile();
  CHECK(casa::compile::digest(alert.compiled.image) != casa::compile::digest(drop.compiled.image));
}

TEST_CASE("tokens: a kernel that cannot read requests fails policies that drop because of them, and those only") {
  World w(policy("p", tokens("exfiltration: drop")) + policy("q", tokens("requireValidSignature: drop"), "b") +
          policy("r", tokens("exfiltration: alert, tlsObserver: openssl"), "c"));
  w.tokens().read = false;
  w.compile();
  for (const char* name : {"p", "q"}) {
    CHECK(w.report(name).phase == Phase::kFailed);
    CHECK(has(w.report(name).message, "drop needs the kernel to read requests"));
    CHECK(has(w.report(name).message, "its workload is denied everything"));
  }
  CHECK(has(w.report("p").message, "tokens.exfiltration"));
  CHECK(has(w.report("q").message, "tokens.requireValidSignature"));
  CHECK(flags(w, "agent") & CASA_SUBJECT_INVALID);
  CHECK(flags(w, "b") & CASA_SUBJECT_INVALID);
  CHECK(w.report("r").phase != Phase::kFailed);
  CHECK(flags(w, "c") == CASA_SUBJECT_MANAGED);
  CHECK(w.compiled.tls_observers.contains(w.id("a", "c")));
}

TEST_CASE("tokens: requireValidSignature: drop without keys fails") {
  World w(policy("p", tokens("requireValidSignature: drop")) + policy("q", tokens("exfiltration: drop"), "b") +
          policy("r", tokens("requireValidSignature: alert"), "c"));
  w.tokens().verified = false;
  w.compile();
  CHECK(w.report("p").phase == Phase::kFailed);
  CHECK(has(w.report("p").message, "set tokens.signature in the config; its workload is denied everything"));
  CHECK(flags(w, "agent") & CASA_SUBJECT_INVALID);
  CHECK(w.report("q").phase != Phase::kFailed);
  CHECK(w.report("r").phase != Phase::kFailed);
}
